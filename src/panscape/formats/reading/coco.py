"""Reader of COCO panoptic format, as written by panopticapi, detectron2, mmdetection, EoMT and panscape: JSON and PNGs.

Results often lack ``images``, ``categories`` and ``area``, and may be the plain list of annotations. The content of
these files is untrusted and validated before use.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeGuard

from panscape.errors import InvalidAnnotationError, InvalidLabelSpaceError, UnreadableFileError, listed, shown
from panscape.formats import SegmentInfo, coco_ids, labels_from_coco, load_coco_png, map_from_id_image
from panscape.formats.problems import IssueKind, Problem, escape_control_chars
from panscape.formats.reading.base import (
    Entry,
    Reading,
    Source,
    city_key_of,
    inside,
    key_of,
    require_file,
    require_png,
    unreadable,
)
from panscape.geometry import Size
from panscape.labels import LabelSpace

_FORM = "COCO panoptic format"
_LARGEST_ID = 256**3 - 1
_MOST_TRIED = 100
_LARGEST_AREA = 2**53


class _Content(NamedTuple):
    """The content of an annotation."""

    png: object
    segments: list[Any]


def open_coco(json_path: Path, pngs: Path | None = None) -> Source:
    """Return the source of the maps of a JSON in COCO panoptic format.

    Args:
        json_path: the JSON with ``annotations``, or a list of them.
        pngs: folder of the PNGs; by default the one named like the JSON without its suffix, or that of the JSON.

    Raises:
        UnreadableFileError: the JSON or the folder is missing, or the file is not JSON.
        InvalidAnnotationError: it is not COCO panoptic format, or its categories are inconsistent.
    """
    content = read_json(json_path)
    annotations = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(annotations, list) or not any(_is_annotation(a) for a in annotations):
        raise InvalidAnnotationError(
            f"{json_path}: expected COCO panoptic JSON, 'annotations' with image_id, file_name and segments_info each, "
            "or a list of them; COCO instance or detection files have no segments_info"
        )
    images = _images(content)
    folder = _folder(json_path, pngs, annotations)
    entries, problems = _entries(json_path, folder, annotations, images)
    known = {entry.keys[0] for entry in entries}
    for key, image in images.items():
        if key not in known:
            problems.append(
                Problem(
                    str(json_path),
                    IssueKind.MISSING_TRUTH,
                    f"expected an annotation of image {shown(image)}, found none",
                )
            )
    return Source(json_path, _FORM, entries, _labels(json_path, content), problems, partial(_read, folder))


def read_json(path: Path) -> Any:
    """Read a JSON with any content.

    Raises:
        UnreadableFileError: it is missing or not JSON.
    """
    require_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableFileError(path, f"expected JSON, but {error}") from error


def _is_annotation(annotation: object) -> bool:
    return isinstance(annotation, dict) and "segments_info" in annotation


def _images(content: object) -> dict[str, str]:
    """Return the usable file names in ``images`` by the key of their ids."""
    entries = content.get("images") if isinstance(content, dict) else None
    images = {}
    for entry in entries if isinstance(entries, list) else []:
        key = key_of(entry.get("id")) if isinstance(entry, dict) else None
        if key is not None:
            name = entry.get("file_name")
            images[key] = name if isinstance(name, str) else key
    return images


def _entries(
    json_path: Path, folder: Path, annotations: list[Any], images: Mapping[str, str]
) -> tuple[list[Entry], list[Problem]]:
    times = Counter(key_of(a.get("image_id")) for a in annotations if isinstance(a, dict))
    entries: dict[str, Entry] = {}
    problems: list[Problem] = []
    for position, annotation in enumerate(annotations):
        key = key_of(annotation.get("image_id")) if isinstance(annotation, dict) else None
        if key is None:
            what = f"annotation {position}: expected an object with image_id, file_name and segments_info, got "
            problems.append(Problem(str(json_path), IssueKind.SHAPE, what + shown(annotation)))
            continue
        if key in entries:
            continue
        png, segments = annotation.get("file_name"), annotation.get("segments_info")
        name = _stem(png) or key
        fault = None
        if times[key] > 1:
            what = f"expected one annotation of image {shown(annotation['image_id'])}, got {times[key]}; keep one"
            fault = Problem(str(json_path), IssueKind.DUPLICATE, what)
        elif not isinstance(segments, list):
            what = f"image {shown(annotation['image_id'])}: expected a list as segments_info, got {shown(segments)}"
            fault = Problem(str(json_path), IssueKind.SHAPE, what)
        stems = (_stem(png), _stem(images.get(key)))
        keys = (key, *(key_of(stem) for stem in stems), _first(map(city_key_of, (key, *stems))))
        file = (
            f"{folder}/{shown(png)[1:-1]}"
            if isinstance(png, str)
            else f"{json_path}, image {shown(annotation['image_id'])}"
        )
        entries[key] = Entry(shown(name)[1:-1], file, keys, _Content(png, segments or []), fault)
    return list(entries.values()), problems


def _stem(name: object) -> str | None:
    """Return a file name without suffix, including folders, as images of two folders may share a name."""
    return str(PurePosixPath(name).with_suffix("")) if isinstance(name, str) and PurePosixPath(name).name else None


def _first(values: Any) -> str | None:
    return next((value for value in values if value is not None), None)


def _folder(json_path: Path, pngs: Path | None, annotations: list[Any]) -> Path:
    if pngs is not None:
        if not pngs.is_dir():
            raise UnreadableFileError(pngs, f"no such folder; expected the PNGs of {json_path}")
        return pngs
    beside = json_path.with_suffix("")
    places = [place for place in (beside, json_path.parent) if place.is_dir()]
    for place in places:
        for annotation in annotations[:_MOST_TRIED]:
            path = inside(place, annotation.get("file_name")) if isinstance(annotation, dict) else ""
            if isinstance(path, Path) and path.is_file():
                return place
    return places[0]


def _labels(json_path: Path, content: object) -> LabelSpace | None:
    """Return the label space of the JSON; the categories of COCO get the name of the bundled label space."""
    categories = content.get("categories") if isinstance(content, dict) else None
    if not categories:
        return None
    usable = isinstance(categories, list) and all(
        isinstance(c, dict)
        and isinstance(c.get("name"), str)
        and _is_integer(c.get("id"))
        and c.get("isthing") in (0, 1)
        for c in categories
    )
    if not usable:
        raise InvalidAnnotationError(
            f"{json_path}: expected 'categories' with an integer id, a name, and isthing 0 or 1 each; fix them, or "
            "set a label space with --labels"
        )
    plain = [
        {
            "id": c["id"],
            "name": escape_control_chars(c["name"]),
            "isthing": c["isthing"],
            "color": _color(c.get("color")),
        }
        for c in categories
    ]
    try:
        found = labels_from_coco(json_path.stem, plain)
    except InvalidLabelSpaceError as error:
        raise InvalidAnnotationError(f"{json_path}: {error}") from error
    coco = LabelSpace.load("coco_panoptic")
    return coco if _without_colors(coco) == _without_colors(found) else found


def _without_colors(labels: LabelSpace) -> list[tuple[str, bool, int]]:
    return [(c.name, c.is_thing, c.source_id) for c in labels]


def _color(color: object) -> list[int] | None:
    is_color = isinstance(color, list) and len(color) == 3 and all(_is_integer(c) and 0 <= c <= 255 for c in color)
    return color if is_color else None  # type: ignore[return-value]


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _read(folder: Path, entry: Entry, labels: LabelSpace, size: Size | None = None) -> Reading:
    if entry.fault is not None:
        return Reading(None, (entry.fault,))
    path = inside(folder, entry.content.png)
    if isinstance(path, str):
        return Reading(None, (Problem(entry.file, IssueKind.PATH, path),))
    try:
        require_png(path, size)
        numbers = coco_ids(load_coco_png(path))
    except UnreadableFileError as error:
        return unreadable(entry, error)
    segments, ambiguous, problems = described_segments(entry.file, entry.content.segments, labels)
    panoptic, undescribed = map_from_id_image(numbers, segments, {0, *ambiguous})
    if undescribed:
        what = f"expected a description of every id in the PNG, but segments_info lacks {listed(undescribed)}"
        problems.append(Problem(entry.file, IssueKind.UNDESCRIBED, what))
    return Reading(panoptic, tuple(problems), tuple(s.number for s in segments), tuple(s.area for s in segments))


def described_segments(
    file: str, descriptions: list[Any], labels: LabelSpace
) -> tuple[list[SegmentInfo], set[int], list[Problem]]:
    """Return the valid segments of ``segments_info``, the ambiguous ids, and the issues."""
    segments: dict[int, SegmentInfo] = {}
    ambiguous: set[int] = set()
    wrong: dict[IssueKind, list[object]] = {}
    for description in descriptions:
        number = description.get("id") if isinstance(description, dict) else None
        if not _is_integer(number) or not 0 < number <= _LARGEST_ID or not _is_integer(description.get("category_id")):
            wrong.setdefault(IssueKind.SHAPE, []).append(shown(description))
            if _is_integer(number):
                ambiguous.add(number)
            continue
        category = labels.id_of_source.get(description["category_id"])
        if category is None:
            ambiguous.add(number)
            wrong.setdefault(IssueKind.CATEGORY, []).append(f"{shown(description['category_id'])} (id {number})")
        elif number in segments or number in ambiguous:
            ambiguous.add(number)
            wrong.setdefault(IssueKind.DUPLICATE, []).append(number)
        else:
            segments[number] = _segment(number, category, description)
    _check_scores(descriptions, wrong)
    sentences = {
        IssueKind.SHAPE: f"expected integers 'id' in 1..{_LARGEST_ID} and 'category_id' for every segment, got {{}}",
        IssueKind.CATEGORY: f"expected category_ids of label space {labels.name!r}, got {{}}",
        IssueKind.DUPLICATE: "expected one description of each id, got several for {}",
        IssueKind.SCORE: "expected a score in 0..1 for every segment or for none, got {}; scores are ignored",
    }
    problems = [Problem(file, kind, sentences[kind].format(listed(values))) for kind, values in wrong.items()]
    return [s for s in segments.values() if s.number not in ambiguous], ambiguous, problems


def _segment(number: int, category: int, description: Mapping[str, Any]) -> SegmentInfo:
    area = description.get("area")
    return SegmentInfo(
        number,
        category,
        description.get("score") if _is_score(description.get("score")) else None,
        description.get("iscrowd") in (1, True),
        int(area) if _is_number(area) and abs(area) < _LARGEST_AREA else None,
    )


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # not nan


def _is_score(value: object) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _check_scores(descriptions: list[Any], wrong: dict[IssueKind, list[object]]) -> None:
    scores = [d.get("score") for d in descriptions if isinstance(d, dict)]
    bad = [shown(score) for score in scores if not _is_score(score)]
    if bad and any(score is not None for score in scores):
        wrong[IssueKind.SCORE] = list(bad)
