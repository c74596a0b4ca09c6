"""Reader of COCO panoptic format, as written by panopticapi, detectron2, mmdetection, EoMT and panscape: JSON and PNGs.

Results often lack ``images``, ``categories`` and ``area``, and may be the plain list of annotations. The content of
these files is untrusted and validated before use.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from posixpath import splitext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from panscape.errors import InvalidAnnotationError, UnreadableFileError, in_one_line, listed, shown
from panscape.formats.coco import coco_runs, parse_coco_segments, undescribed_ids
from panscape.formats.coco_files import load_coco_png
from panscape.formats.coco_json import CocoAnnotation, CocoImage, CocoJson, load_coco_json
from panscape.formats.issues import Issue, IssueKind
from panscape.formats.keys import city_key_of, key_of
from panscape.formats.reading.base import AnnotationSource, Entry, Reading, require_png, unreadable
from panscape.formats.segments_info import IdRuns, SegmentInfo, map_from_id_image
from panscape.geometry import Size
from panscape.image_files import open_image
from panscape.input_files import FileFolder, to_integer
from panscape.labels import LabelSpace

COCO_FORM = "COCO panoptic format"
"""Display name of the format."""
_MOST_TRIED = 100
_MOST_OPENED = 10
_MANY_IDS, _MANY_IDS_AREA = 50, 20  # more undescribed ids, with fewer pixels each on average, are no segments


class _Content(NamedTuple):
    """What an entry is read from."""

    folder: FileFolder
    json_path: Path
    annotation: CocoAnnotation
    size: Size | None  # of the image, according to the JSON


def open_coco(json_path: Path, pngs: Path | None = None) -> AnnotationSource:
    """Return the source of the maps of a JSON in COCO panoptic format, in the order of its ``images``, if listed.

    Args:
        json_path: the JSON with ``annotations``, or a list of them.
        pngs: folder of the PNGs; by default the one named like the JSON without its suffix, or that of the JSON.

    Raises:
        UnreadableFileError: the JSON or the folder is missing, or the file is not JSON.
        InvalidAnnotationError: it is not COCO panoptic format.
    """
    return coco_source(load_coco_json(json_path), pngs)


def coco_source(
    content: CocoJson, pngs: Path | None = None, *, follow_links: bool = False, undescribed_area: int = 0
) -> AnnotationSource:
    """Return the source of the maps of a JSON that has been read; see :func:`open_coco`.

    Args:
        content: the JSON.
        pngs: see :func:`open_coco`.
        follow_links: also read PNGs that links in their folder point to outside of it; only for the user's own data.
        undescribed_area: in pixels; undescribed segments of a PNG are void without an issue if none is larger.
    """
    content.require_panoptic()
    images = {
        key: image for image in content.images if isinstance(image, CocoImage) and (key := key_of(image.id)) is not None
    }
    folder = FileFolder(_folder(content, pngs), follow_links=follow_links)
    entries, issues = _entries(content, folder, images)
    for key, image in images.items():
        if key not in entries:
            named = shown(key if image.file_name is None else image.file_name)
            what = f"expected an annotation of image {named}, found none; add it, or remove the image"
            issues.append(Issue(str(content.path), IssueKind.MISSING_TRUTH, what))
    position = {key: n for n, key in enumerate(images)}
    ordered = sorted(entries, key=lambda key: position.get(key, len(position)))
    labels, labels_fault = None, None
    try:
        labels = content.labels()
    except InvalidAnnotationError as error:
        labels_fault = error
    if labels is not None and not labels.things:
        issues += _without_things(content, labels)
    read = partial(_read, undescribed_area)
    found = [entries[key] for key in ordered]
    return AnnotationSource(content.path, COCO_FORM, found, labels, issues, read, labels_fault)


def _name(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _entries(
    content: CocoJson, folder: FileFolder, images: dict[str, CocoImage]
) -> tuple[dict[str, Entry], list[Issue]]:
    """Return the entries by the key of their image, and the issues of annotations that belong to no image."""
    json_path = content.path
    times = Counter(key_of(a.image_id) for a in content.annotations if isinstance(a, CocoAnnotation))
    entries: dict[str, Entry] = {}
    issues: list[Issue] = []
    for position, annotation in enumerate(content.annotations):
        key = key_of(annotation.image_id) if isinstance(annotation, CocoAnnotation) else None
        if not isinstance(annotation, CocoAnnotation) or key is None:
            what = f"annotation {position}: expected an object with image_id, file_name and segments_info, got "
            issues.append(Issue(str(json_path), IssueKind.SHAPE, what + _described(annotation)))
            continue
        if key in entries:
            continue
        listed_image = images.get(key, CocoImage())
        png, image = _name(annotation.file_name), _name(listed_image.file_name)
        fault = None
        if times[key] > 1:
            what = f"expected one annotation of image {shown(annotation.image_id)}, got {times[key]}; keep one"
            fault = Issue(str(json_path), IssueKind.DUPLICATE, what)
        elif not annotation.is_valid:
            fault = Issue(str(json_path), IssueKind.SHAPE, _why_no_list(annotation, json_path))
        stems = (_stem(png), _stem(image))
        keys = (key, *(key_of(stem) for stem in stems), next(filter(None, map(city_key_of, (key, *stems))), None))
        file = (
            f"{json_path}, image {shown(annotation.image_id)}" if png is None else f"{folder.path}/{shown(png)[1:-1]}"
        )
        name = shown(stems[0] or key)[1:-1]
        read_from = _Content(folder, json_path, annotation, size_of(listed_image))
        entries[key] = Entry(name, file, keys, read_from, fault, image)
    return entries, issues


def size_of(image: CocoImage) -> Size | None:
    """Return the size of an image according to the JSON; None if it does not state one."""
    height, width = to_integer(image.height), to_integer(image.width)
    return None if height is None or width is None else Size(height, width)


def _without_things(content: CocoJson, labels: LabelSpace) -> list[Issue]:
    """Report categories without a thing if images have several segments of one category, which only things have."""
    for annotation in content.annotations[:_MOST_TRIED]:
        try:
            described = annotation.segments(content.path) if isinstance(annotation, CocoAnnotation) else []
        except (UnreadableFileError, InvalidAnnotationError):  # reported for this image
            continue
        segments = parse_coco_segments(described, labels).segments
        several = [labels[c].name for c, count in Counter(s.category for s in segments).items() if count > 1]
        if several:
            what = (
                f"expected 'isthing' 1 for countable categories, got 0 for all {len(labels)}, but an image has several "
                f"segments of {listed(several)}; tools such as Datumaro lose these flags; set the label space with "
                "--labels, or fix 'categories'"
            )
            return [Issue(str(content.path), IssueKind.FLAGS, what)]
    return []


def _why_no_list(annotation: CocoAnnotation, json_path: Path) -> str:
    try:
        annotation.segments(json_path)
    except (InvalidAnnotationError, UnreadableFileError) as error:
        return in_one_line(error, str(json_path))
    return ""


def _described(annotation: object) -> str:
    if isinstance(annotation, CocoAnnotation):
        return shown({"image_id": annotation.image_id, "file_name": annotation.file_name})
    return shown(annotation)


def _stem(name: str | None) -> str | None:
    """Return a file name without suffix, including folders, as images of two folders may share a name."""
    path = (name or "").replace("\\", "/").removeprefix("./")
    return splitext(path)[0] or None


def _folder(content: CocoJson, pngs: Path | None) -> Path:
    if pngs is not None:
        if not pngs.is_dir():
            raise UnreadableFileError(pngs, f"no such folder; expected the PNGs of {content.path}")
        return pngs
    places = [place for place in (content.path.with_suffix(""), content.path.parent) if place.is_dir()]
    for place in map(FileFolder, places):
        for annotation in content.annotations[:_MOST_TRIED]:
            if isinstance(annotation, CocoAnnotation) and _has(place, annotation.file_name):
                return place.path
    return places[0]


def _has(folder: FileFolder, name: object) -> bool:
    try:
        return folder.find(name).is_file()
    except (UnreadableFileError, OSError, ValueError):
        return False


def _read(undescribed_area: int, entry: Entry, labels: LabelSpace, size: Size | None = None) -> Reading:
    if entry.fault is not None:
        return Reading(None, (entry.fault,))
    content: _Content = entry.content
    try:
        descriptions = coco_segments(entry)
    except UnreadableFileError as error:
        place, what = f"{content.json_path}, image {shown(content.annotation.image_id)}", str(content.json_path)
        return Reading(None, (Issue(place, IssueKind.UNREADABLE, in_one_line(error, what)),), error=error)
    try:
        path = content.folder.find(content.annotation.file_name)
        require_png(path, size)
        runs = coco_runs(load_coco_png(path))
    except UnreadableFileError as error:
        return unreadable(entry, error)
    described = parse_coco_segments(descriptions, labels)
    issues = [Issue(entry.file, kind, what) for kind, what in described.issues.items()]
    panoptic, undescribed = map_from_id_image(runs, described.segments, {0, *described.ambiguous})
    if undescribed and (areas := _areas(runs, undescribed)).max() > undescribed_area:
        what = _cause(areas, undescribed, described.segments) or undescribed_ids(undescribed)
        issues.append(Issue(entry.file, IssueKind.UNDESCRIBED, what))
    segments = described.segments
    if segments and not undescribed and not {s.number for s in segments}.intersection(runs.numbers.tolist()):
        what = (
            f"expected the pixels of {len(segments)} described segments, got only 0 (void); write each id as red + 256 "
            "green + 65536 blue"
        )
        return Reading(None, (*issues, Issue(entry.file, IssueKind.WITHOUT_PIXELS, what)))
    issues += _notes(entry, segments, labels, panoptic.size)
    return Reading(panoptic, tuple(issues), tuple(s.number for s in segments), tuple(s.area for s in segments))


def _cause(areas: NDArray[np.int64], undescribed: list[int], segments: list[SegmentInfo]) -> str | None:
    """Return the cause of undescribed ids of these areas if the whole PNG is wrong; None if the descriptions are."""
    described = {segment.number for segment in segments}
    swapped = {(number & 255) << 16 | number & 0xFF00 | number >> 16 for number in undescribed}
    if swapped and swapped <= described:
        return (
            "expected ids as red + 256 green + 65536 blue, got blue + 256 green + 65536 red for "
            f"{len(undescribed)} ids; write the PNG in the order RGB (OpenCV writes BGR)"
        )
    if len(undescribed) > _MANY_IDS and areas.sum() <= _MANY_IDS_AREA * len(undescribed):
        return (
            f"expected the ids of {len(segments)} described segments, got {len(undescribed)} others of few pixels "
            "each, as after interpolation or JPEG; resize ids with nearest neighbor, and write PNG"
        )
    return None


def _notes(entry: Entry, segments: list[SegmentInfo], labels: LabelSpace, size: Size) -> list[Issue]:
    """Return the notes on one image: stuff in several segments, and another size than the JSON states."""
    notes = []
    times = Counter(segment.category for segment in segments)
    pieces = [labels[c].name for c, count in times.items() if count > 1 and not labels[c].is_thing]
    if pieces and labels.things:
        what = f"expected one segment of each stuff category, got several of {listed(pieces)}; each counts; merge them"
        notes.append(Issue(entry.file, IssueKind.PIECES, what))
    stated = entry.content.size
    if stated is not None and stated != size:
        what = (
            f"expected {stated.height}x{stated.width} pixels as height and width in the JSON, got "
            f"{size.height}x{size.width}; the pixels are used; fix the JSON"
        )
        notes.append(Issue(entry.file, IssueKind.STATED_SIZE, what))
    return notes


def coco_notes(source: AnnotationSource, labels: LabelSpace) -> list[Issue]:
    """Return the notes on a source of :func:`coco_source` and on its first images, one of each kind.

    The descriptions of 100 images are checked, and the headers of the PNGs of 10.
    """
    found = [issue for issue in source.issues if issue.is_note]
    for place, entry in enumerate(source.entries[:_MOST_TRIED]):
        content: _Content = entry.content
        size = content.size or Size(0, 0)
        try:
            if content.size is not None and place < _MOST_OPENED:
                with open_image(content.folder.find(content.annotation.file_name)) as image:
                    size = Size(image.height, image.width)
            segments = parse_coco_segments(coco_segments(entry), labels).segments
        except (UnreadableFileError, InvalidAnnotationError):  # raised when this image is read
            continue
        found += _notes(entry, segments, labels, size)
    return list({issue.kind: issue for issue in reversed(found)}.values())[::-1]


def _areas(runs: IdRuns, chosen: list[int]) -> NDArray[np.int64]:
    """Return the areas of the chosen ids in pixels; int64, ascending by id."""
    return runs.areas()[np.isin(runs.numbers, chosen)]


def file_name_of(entry: Entry) -> object:
    """Return the ``file_name`` of an entry of :func:`open_coco`."""
    content: _Content = entry.content
    return content.annotation.file_name


def coco_segments(entry: Entry) -> list[Any]:
    """Return the ``segments_info`` of an entry of :func:`open_coco`; see :meth:`CocoAnnotation.segments`."""
    content: _Content = entry.content
    return content.annotation.segments(content.json_path)
