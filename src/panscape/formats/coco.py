"""COCO panoptic format: segment ids as colours of a PNG, and their descriptions.

Source: the COCO data format, section "Panoptic Segmentation" (https://cocodataset.org/#format-data).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidAnnotationError, InvalidArgumentError, escape_control_chars, listed, shown
from panscape.formats.coco_arrays import LARGEST_ID, coco_arrays
from panscape.formats.issues import IssueKind
from panscape.formats.segments_info import IdRuns, SegmentInfo, map_from_id_image
from panscape.input_files import is_flag, to_integer
from panscape.labels import Category, LabelSpace, generated_color
from panscape.panoptic import PanopticMap

_LARGEST_AREA = 2**53


def encode_coco(panoptic: PanopticMap, labels: LabelSpace | None = None) -> tuple[Tensor, list[dict[str, Any]]]:
    """Convert a map to COCO panoptic format.

    Segments keep their ids; those without pixels are left out, as panopticapi rejects them.

    Args:
        panoptic: the map.
        labels: the label space, for the ``category_id`` of the dataset files; without it, the category is written.

    Returns:
        uint8 [H, W, 3], the id of every pixel as red + 256 green + 65536 blue, 0 for void; and for each segment ``id``,
        ``category_id``, ``area`` in pixels, ``bbox`` as x, y, width, height, ``iscrowd`` 0 or 1, and ``score`` if the
        map has scores.

    Raises:
        InvalidArgumentError: a category is not in ``labels``, or there are more segments than ids in the format.
    """
    rgb, segments = coco_arrays(panoptic.arrays(), labels)
    return torch.from_numpy(rgb), segments


def decode_coco(
    rgb: NDArray[np.uint8] | Tensor, segments_info: Sequence[Mapping[str, Any]], labels: LabelSpace | None = None
) -> PanopticMap:
    """Convert COCO panoptic format to a map; row ``i`` is ``segments_info[i]``.

    Args:
        rgb: uint8 [H, W, 3], the id of every pixel as red + 256 green + 65536 blue; 0 is void.
        segments_info: ``id`` and ``category_id`` of each segment, optionally ``iscrowd`` and ``score``. ``area`` and
            ``bbox`` are ignored. A segment may have no pixels.
        labels: the label space whose source ids are the ``category_id``; without it, they are categories.

    Raises:
        InvalidArgumentError: ``rgb`` has another type or shape.
        InvalidAnnotationError: pixels and descriptions contradict each other, or a category is not in ``labels``.
    """
    runs = coco_runs(rgb)
    described = parse_coco_segments(segments_info, labels)
    for message in described.issues.values():
        raise InvalidAnnotationError(message)
    panoptic, undescribed = map_from_id_image(runs, described.segments)
    if undescribed:
        raise InvalidAnnotationError(undescribed_ids(undescribed))
    return replace(panoptic, labels=labels)


class CocoSegments(NamedTuple):
    """The content of ``segments_info``.

    Attributes:
        segments: the valid ones, with unique ids.
        ambiguous: ids that are not described, or not clearly.
        issues: a message for each kind of issue.
    """

    segments: list[SegmentInfo]
    ambiguous: set[int]
    issues: dict[IssueKind, str]


def parse_coco_segments(segments_info: Sequence[object], labels: LabelSpace | None) -> CocoSegments:
    """Return the segments that ``segments_info`` describes, whatever it contains.

    Ids may be floats without fraction, as some tools write every number; text is no number.

    Args:
        segments_info: from a JSON.
        labels: the label space whose source ids are the ``category_id``; without it, they are categories.
    """
    segments: dict[int, SegmentInfo] = {}
    ambiguous: set[int] = set()
    wrong: dict[IssueKind, list[object]] = {}
    for description in segments_info:
        fault = _fault_of(description)
        fields = description if isinstance(description, Mapping) else {}
        number, source = to_integer(fields.get("id")), to_integer(fields.get("category_id"))
        if fault is not None or number is None or source is None:
            wrong.setdefault(IssueKind.SHAPE, []).append(fault)
            ambiguous.update(() if number is None else (number,))
            continue
        category = source if labels is None else labels.id_of_source.get(source)
        if category is None:
            ambiguous.add(number)
            wrong.setdefault(IssueKind.CATEGORY, []).append(f"{shown(source)} (id {number})")
        elif number in segments or number in ambiguous:
            ambiguous.add(number)
            wrong.setdefault(IssueKind.DUPLICATE, []).append(number)
        else:
            score, area = fields.get("score"), fields.get("area")
            segments[number] = SegmentInfo(
                number,
                category,
                score if _is_score(score) else None,
                bool(fields.get("iscrowd", 0)),
                int(area) if _is_number(area) and abs(area) < _LARGEST_AREA else None,
            )
    scores = [d.get("score") for d in segments_info if isinstance(d, Mapping)]
    if any(score is not None for score in scores) and not all(map(_is_score, scores)):
        wrong[IssueKind.SCORE] = [shown(score) for score in scores if not _is_score(score)]
    space = ""
    if labels is not None:  # negative ids stand for categories without one in another numbering
        known = sorted(number for number in labels.id_of_source if number >= 0)
        space = f" of label space {labels.name!r} ({listed(known)})"
    sentences = {
        IssueKind.SHAPE: f"expected integers 'id' in 1..{LARGEST_ID} (0 is void) and 'category_id', and 'iscrowd' 0 "
        "or 1, for every segment, got",
        IssueKind.CATEGORY: f"expected category_ids{space}, got",
        IssueKind.DUPLICATE: "expected one description of each id, got several for",
        IssueKind.SCORE: "expected a score in 0..1 for every segment or for none, else they are ignored, got",
    }
    issues = {kind: f"{sentences[kind]} {listed(values)}" for kind, values in wrong.items()}
    return CocoSegments([s for s in segments.values() if s.number not in ambiguous], ambiguous, issues)


def _fault_of(description: object) -> str | None:
    """Return the first field of a description with an invalid value; None if all are valid."""
    if not isinstance(description, Mapping):
        return shown(description)
    number = to_integer(description.get("id"))
    valid = {
        "id": number is not None and 0 < number <= LARGEST_ID,
        "category_id": to_integer(description.get("category_id")) is not None,
        "iscrowd": is_flag(description.get("iscrowd", 0)),
    }
    for key, is_valid in valid.items():
        if not is_valid:
            value = f"{key!r} {shown(description[key])}" if key in description else f"no {key!r}"
            return f"{value} in {shown(dict(description))}"
    return None


def undescribed_ids(numbers: Sequence[int]) -> str:
    """Return the message about ids of a PNG that ``segments_info`` lacks."""
    return (
        f"expected a description of every id in the PNG, but segments_info lacks {listed(numbers)}; describe them, or "
        "set them to 0 (void)"
    )


def coco_ids(rgb: NDArray[np.uint8] | Tensor) -> NDArray[np.int32]:
    """Return the segment id of every pixel, int32 [H, W].

    Args:
        rgb: uint8 [H, W, 3], red + 256 green + 65536 blue.

    Raises:
        InvalidArgumentError: ``rgb`` has another type or shape.
    """
    runs = coco_runs(rgb)
    return runs.filled(runs.numbers)


def coco_runs(rgb: NDArray[np.uint8] | Tensor) -> IdRuns:
    """Return the runs of equal segment ids; see :func:`coco_ids`."""
    pixels = rgb.cpu().numpy() if isinstance(rgb, Tensor) else np.asarray(rgb)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InvalidArgumentError(
            f"expected segment ids as uint8 [H, W, 3], got {pixels.dtype} {list(pixels.shape)}; "
            "read the PNG with panscape.formats.load_coco"
        )
    return IdRuns.of(pixels)


def labels_from_coco(name: str, categories: object) -> LabelSpace:
    """Build a label space from the ``categories`` of a COCO panoptic JSON, in their order.

    Args:
        name: of the label space.
        categories: a list, each with ``id``, ``name`` and ``isthing``; an unusable ``color`` is generated.

    Raises:
        InvalidAnnotationError: a category lacks a field, or a field has the wrong type.
        InvalidLabelSpaceError: there is no category, or a name or id occurs twice.
    """
    if not isinstance(categories, Sequence):
        raise InvalidAnnotationError(f"expected 'categories' as a list, got {shown(categories)}")
    found = [_category(position, category) for position, category in enumerate(categories)]
    return LabelSpace(name, tuple(found))


def bundled_if_same(labels: LabelSpace, *names: str) -> LabelSpace:
    """Return the first bundled label space of ``names`` that ``labels`` equals except for colors, else ``labels``.

    A model for the bundled label space then fits the dataset, whatever colors its JSON lists; that of COCO has none.
    """
    for bundled in map(LabelSpace.load, names):
        fields = [[(c.name, c.is_thing, c.source_id) for c in space] for space in (labels, bundled)]
        if fields[0] == fields[1]:
            return bundled
    return labels


def _category(position: int, fields: object) -> Category:
    if not isinstance(fields, Mapping):
        raise InvalidAnnotationError(f"expected 'categories' with id, name and isthing each, got {shown(fields)}")
    source, name, is_thing = to_integer(fields.get("id")), fields.get("name"), fields.get("isthing")
    if source is None:
        raise _wrong_field(fields, "id", "an integer")
    if not isinstance(name, str) or not name:
        raise _wrong_field(fields, "name", "text")
    if not is_flag(is_thing):
        raise _wrong_field(fields, "isthing", "1 for countable objects, else 0")
    given = fields.get("color")
    rgb = [to_integer(c) for c in given] if isinstance(given, Sequence) else []
    color = [c for c in rgb if c is not None and 0 <= c <= 255]
    red, green, blue = color if len(color) == len(rgb) == 3 else generated_color(position)
    return Category(escape_control_chars(name), bool(is_thing), source, (red, green, blue))


def _wrong_field(fields: Mapping[str, Any], key: str, expected: str) -> InvalidAnnotationError:
    got = f"got {shown(fields[key])} in" if key in fields else "but it is missing in"
    return InvalidAnnotationError(
        f"expected {key!r} of every category as {expected}, {got} {shown(dict(fields))}; fix it, or set a label space"
    )


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # not nan


def _is_score(value: object) -> TypeGuard[int | float]:
    return _is_number(value) and 0 <= value <= 1
