"""Reader of IDD: ``DRIVE/NAME_gtFine_polygons.json``, or the ``_gtFine_instancelevel3Ids.png`` made of them."""

from __future__ import annotations

from pathlib import Path

from panscape.errors import InvalidAnnotationError, UnreadableFileError, in_one_line, listed
from panscape.formats import decode_idd, load_label_image
from panscape.formats.cityscapes import category_number, map_of_instance_ids
from panscape.formats.idd import idd_size
from panscape.formats.issues import Issue, IssueKind
from panscape.formats.keys import key_of
from panscape.formats.reading.base import AnnotationSource, Entry, Reading, require_png, require_size, unreadable
from panscape.formats.segments_info import IdRuns
from panscape.geometry import Size
from panscape.image_files import require_within_limit
from panscape.input_files import find_files, load_json
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap

POLYGONS, INSTANCES = "_gtFine_polygons", "_gtFine_instancelevel3Ids"
_VOID = 255


def find_idd(folder: Path) -> list[Path]:
    """Return the annotations of a folder and its subfolders, sorted by path: instance images if there are any."""
    return find_files(folder, {".png"}, INSTANCES) or find_files(folder, {".json"}, POLYGONS)


def open_idd(folder: Path, files: list[Path]) -> AnnotationSource:
    """Return the source of the files found by :func:`find_idd`, named DRIVE_NAME, as names repeat between drives."""
    entries: dict[str, Entry] = {}
    for path in files:
        ending = INSTANCES if path.suffix.lower() == ".png" else POLYGONS
        stem = path.relative_to(folder).with_suffix("").as_posix()[: -len(ending)]
        name, fault = stem.replace("/", "_"), None
        if name in entries:
            what = f"expected one file for {name}, got {entries[name].file} as well; remove one"
            fault = Issue(str(path), IssueKind.DUPLICATE, what)
        entries[name] = Entry(name, str(path), (key_of(name), key_of(stem)), path, fault)
    return AnnotationSource(folder, "annotations of IDD", list(entries.values()), LabelSpace.load("idd_26"), (), _read)


def _read(entry: Entry, labels: LabelSpace, size: Size | None = None) -> Reading:
    if entry.fault is not None:
        return Reading(None, (entry.fault,))
    path: Path = entry.content
    try:
        if path.suffix.lower() == ".png":
            return _read_instances(entry, labels, size)
        return Reading(_read_polygons(path, labels, size))
    except UnreadableFileError as error:
        return unreadable(entry, error)
    except InvalidAnnotationError as error:
        return Reading(None, (Issue(entry.file, IssueKind.SHAPE, in_one_line(error)),))


def _read_polygons(path: Path, labels: LabelSpace, size: Size | None) -> PanopticMap:
    annotation = load_json(path)
    if not isinstance(annotation, dict):
        raise InvalidAnnotationError("expected an object with imgHeight, imgWidth and objects")
    found = idd_size(annotation)
    require_size(path, found, size)
    require_within_limit(path, *found)
    return decode_idd(annotation, labels)


def _read_instances(entry: Entry, labels: LabelSpace, size: Size | None) -> Reading:
    require_png(entry.content, size)
    runs = IdRuns.of(load_label_image(entry.content))
    ids = {category_number(value): value for value in runs.numbers.tolist()}
    unknown = [value for category, value in ids.items() if category != _VOID and category not in labels.id_of_source]
    issues = []
    if unknown:
        what = f"expected level-3 instance ids of IDD, id or 1000 times id plus number, got {listed(unknown)}"
        issues.append(Issue(entry.file, IssueKind.CATEGORY, what))
    return Reading(map_of_instance_ids(runs, labels), tuple(issues))
