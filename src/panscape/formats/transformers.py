"""Arrays with ``segments_info``, as returned by the image processors of the transformers library.

``post_process_panoptic_segmentation`` returns ``segmentation``, an id for every pixel, and ``segments_info``, for each
segment ``id``, ``label_id``, ``score`` and, in most processors, ``was_fused``. Void is 0 or -1, depending on the
processor. After segments of a category were fused, numbering continues from the fused id, so later segments may get ids
that are already in use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidAnnotationError, InvalidArgumentError, listed, shown
from panscape.formats.segments_info import SegmentInfo, map_from_id_image
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap

UNFUSED = (
    "their pixels are indistinguishable; write the result again without fusing (label_ids_to_fuse=set()), which gives "
    "every segment an id of its own; segments of one stuff category are merged when they are read"
)


class SegmentIssue(NamedTuple):
    """An issue with the descriptions of one id.

    Attributes:
        kind: "form" for an invalid description, "collision" if several segments share the id, "category" if the
            category is not in the label space.
        what: the message, with the remedy.
    """

    kind: Literal["form", "collision", "category"]
    what: str


def from_transformers(
    segmentation: NDArray[Any] | Tensor,
    segments_info: Sequence[Mapping[str, Any]],
    labels: LabelSpace | None = None,
    *,
    use_source_ids: bool = False,
) -> PanopticMap:
    """Convert the result of transformers for one image to a map.

    Negative ids are void, and so is 0 unless it is described. Several descriptions of one id are one segment if all
    have ``was_fused`` and the same category; its score is their maximum. Other duplicates raise an error, as their
    pixels are indistinguishable. With ``labels``, all segments of one stuff category are merged, with their maximum
    score, as fusing does, since a map has at most one segment of each::

        result = processor.post_process_panoptic_segmentation(outputs, target_sizes=[size])[0]
        prediction = from_transformers(result["segmentation"], result["segments_info"], labels)

    Args:
        segmentation: integers [H, W], of any integer or floating type.
        segments_info: ``id`` and ``label_id`` of each segment, optionally ``was_fused`` and ``score``.
        labels: the categories; without them, ``label_id`` may be any number from 0 on.
        use_source_ids: ``label_id`` is the category id of the dataset files instead of the position in ``labels``.

    Returns:
        A map with segments in the order of their first descriptions.

    Raises:
        InvalidArgumentError: ``segmentation`` is not integers [H, W].
        InvalidAnnotationError: an id is not described, described twice, or its category is not in ``labels``.
    """
    numbers = to_integer_ids(segmentation)
    segments, issues = parse_segments_info(segments_info, labels, use_source_ids=use_source_ids)
    if issues:
        raise InvalidAnnotationError("; ".join(issue.what for issue in issues.values()))
    numbers, segments = merge_stuff_segments(numbers, segments, labels)
    panoptic, undescribed = map_from_id_image(numbers, segments)
    if undescribed:
        raise InvalidAnnotationError(
            f"expected a description of every id in the segmentation, but {undescribed[0]} (one of "
            f"{len(undescribed)}) is not in segments_info; describe it, or set its pixels to void, -1"
        )
    return replace(panoptic, labels=labels)


def to_transformers(panoptic: PanopticMap) -> dict[str, Any]:
    """Convert a map to the result of ``post_process_panoptic_segmentation`` for one image.

    Returns:
        ``segmentation``, int32 [H, W] with -1 for void, and ``segments_info``: ``id``, ``label_id`` (category id),
        ``was_fused`` (whether it is stuff, whose segments are one) and ``score`` (1.0 for a map without scores).
        Segments without pixels are left out.
    """
    segments = [
        {
            "id": segment.id,
            "label_id": segment.category,
            "was_fused": segment.is_thing is False,
            "score": 1.0 if segment.score is None else segment.score,
        }
        for segment in panoptic
        if segment.area
    ]
    ids = panoptic.ids
    return {"segmentation": torch.where(ids == 0, -1, ids), "segments_info": segments}


def to_integer_ids(segmentation: NDArray[Any] | Tensor) -> NDArray[np.int64]:
    """Return a segmentation as integers.

    Raises:
        InvalidArgumentError: it is not integers [H, W].
    """
    values = segmentation.detach().cpu().numpy() if isinstance(segmentation, Tensor) else np.asarray(segmentation)
    is_suitable = values.ndim == 2 and values.dtype.kind in "iuf"
    if is_suitable and values.size and values.dtype.kind != "i":
        # Floats: an empty result of transformers is 0.0 - 1. Values beyond int64 are not segment ids.
        is_suitable = bool(((values >= -(2**31)) & (values < _TOO_LARGE) & (values == np.floor(values))).all())
    if not is_suitable:
        raise InvalidArgumentError(
            f"expected a segmentation of integers [H, W], got {values.dtype} {list(values.shape)}; pass the "
            "'segmentation' of one image as returned"
        )
    return values.astype(np.int64)


def parse_segments_info(
    segments_info: Sequence[Any], labels: LabelSpace | None, *, use_source_ids: bool = False
) -> tuple[list[SegmentInfo], dict[int | None, SegmentIssue]]:
    """Validate the descriptions of segments.

    Args:
        segments_info: see :func:`from_transformers`; its content may be anything.
        labels: see :func:`from_transformers`.
        use_source_ids: see :func:`from_transformers`.

    Returns:
        The valid segments, and the issues of the others by id; None for descriptions without an id.
    """
    described: dict[int, list[Mapping[str, Any]]] = {}
    issues: dict[int | None, SegmentIssue] = {}
    for segment in segments_info:
        number, label = (_integer(segment.get(key)) if isinstance(segment, Mapping) else None for key in _NEEDED)
        if number is None or label is None:
            what = f"expected integers 'id' and 'label_id' of every segment, got {shown(segment)}"
            issues[number] = SegmentIssue("form", what)
        else:
            described.setdefault(number, []).append({**segment, "label_id": label})
    segments: list[SegmentInfo] = []
    for number, same in described.items():
        named = sorted({d["label_id"] for d in same})
        if number in issues:
            continue
        if number < 0:
            what = f"id {number}: expected ids from 0 on, as negative numbers are void; renumber the segment"
            issues[number] = SegmentIssue("form", what)
        elif len(same) > 1 and not (len(named) == 1 and all(d.get("was_fused") is True for d in same)):
            what = f"{len(same)} segments of label_id {', '.join(map(str, named))} share the id {number}"
            issues[number] = SegmentIssue("collision", f"{what}; {UNFUSED}")
        else:
            category = _category(named[0], labels, use_source_ids)
            if isinstance(category, str):
                issues[number] = SegmentIssue("category", f"id {number}: {category}")
            else:
                segments.append(SegmentInfo(number, category, _highest_score(same)))
    return segments, issues


def merge_stuff_segments(
    numbers: NDArray[np.int64], segments: Sequence[SegmentInfo], labels: LabelSpace | None
) -> tuple[NDArray[np.int64], list[SegmentInfo]]:
    """Merge the segments of each stuff category into the first one, with the maximum of their scores.

    Args:
        numbers: segmentation, int64 [H, W].
        segments: described segments with unique numbers.
        labels: the label space, which separates things from stuff; without it nothing is merged.

    Returns:
        The new numbers, and the remaining segments in their order.
    """
    if labels is None:
        return numbers, list(segments)
    groups: dict[tuple[str, int], list[SegmentInfo]] = {}
    for segment in segments:
        is_thing = labels[segment.category].is_thing
        key = ("thing", segment.number) if is_thing else ("stuff", segment.category)
        groups.setdefault(key, []).append(segment)
    merged, numbers = [], numbers.copy()
    for first, *others in groups.values():
        scores = [segment.score for segment in (first, *others) if segment.score is not None]
        is_scored = len(scores) == 1 + len(others)
        merged.append(first._replace(score=max(scores) if is_scored else None))
        if others:
            numbers[np.isin(numbers, [segment.number for segment in others])] = first.number
    return numbers, merged


_NEEDED = ("id", "label_id")
_TOO_LARGE = 2**53  # floating segmentations represent integers exactly up to here


def _integer(value: object) -> int | None:
    is_usable = isinstance(value, int | np.integer) and not isinstance(value, bool) and abs(int(value)) < _TOO_LARGE
    return int(value) if is_usable else None  # type: ignore[call-overload]


def _category(label: int, labels: LabelSpace | None, use_source_ids: bool) -> int | str:
    """Return the category of a label, or an error message."""
    if labels is None:
        return label if label >= 0 else f"expected a label_id from 0 on, got {label}"
    if use_source_ids:
        category = labels.id_of_source.get(label)
        known = listed(sorted(number for number in labels.id_of_source if number >= 0))
        what = f"expected a label_id of label space {labels.name!r} ({known}), got {label}"
        return what if category is None else category
    if 0 <= label < len(labels):
        return label
    hint = "; it is a source id: use use_source_ids=True" if label in labels.id_of_source else ""
    return (
        f"expected a label_id in 0..{len(labels) - 1}, the positions in label space {labels.name!r}, got {label}{hint}"
    )


def _highest_score(descriptions: Sequence[Mapping[str, Any]]) -> float | None:
    scores = [d.get("score") for d in descriptions]
    usable = [
        float(s) for s in scores if isinstance(s, int | float | np.floating) and not isinstance(s, bool) and 0 <= s <= 1
    ]
    return max(usable) if len(usable) == len(scores) else None
