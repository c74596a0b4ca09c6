"""Reader of Cityscapes instance ids: ``CITY_SEQUENCE_FRAME*_instanceIds.png``, in one folder or in several."""

from __future__ import annotations

from pathlib import Path

from panscape.errors import UnreadableFileError, listed
from panscape.formats import load_label_image
from panscape.formats.cityscapes import category_number, map_of_instance_ids
from panscape.formats.issues import Issue, IssueKind
from panscape.formats.keys import city_key_of, key_of
from panscape.formats.reading.base import AnnotationSource, Entry, Reading, require_png, unreadable
from panscape.formats.segments_info import IdRuns
from panscape.geometry import Size
from panscape.input_files import find_files
from panscape.labels import LabelSpace

_FORM = "instance ids of Cityscapes"
_ENDING = "_instanceIds"
_LARGEST_LABEL = 33  # of Cityscapes; categories that are not evaluated are void


def find_instance_ids(folder: Path) -> list[Path]:
    """Return the ``*_instanceIds.png`` of a folder and its subfolders, sorted by name."""
    return find_files(folder, {".png"}, _ENDING)


def open_cityscapes(folder: Path, files: list[Path]) -> AnnotationSource:
    """Return the source of the files found by :func:`find_instance_ids`."""
    entries: dict[str, Entry] = {}
    for path in files:
        stem = path.stem[: -len(_ENDING)]
        name = city_key_of(stem) or stem.removesuffix("_gtFine")
        if name in entries:
            what = f"expected one file for {name}, got {entries[name].file} as well; remove one"
            fault = Issue(str(path), IssueKind.DUPLICATE, what)
            first = entries[name]
            entries[name] = Entry(name, first.file, first.keys, first.content, fault)
            continue
        entries[name] = Entry(name, str(path), (key_of(name), key_of(stem), None, city_key_of(stem)), path)
    return AnnotationSource(folder, _FORM, list(entries.values()), LabelSpace.load("cityscapes"), (), _read)


def _read(entry: Entry, labels: LabelSpace, size: Size | None = None) -> Reading:
    if entry.fault is not None:
        return Reading(None, (entry.fault,))
    try:
        require_png(entry.content, size)
        runs = IdRuns.of(load_label_image(entry.content))
    except UnreadableFileError as error:
        return unreadable(entry, error)
    unknown = [
        value
        for value in runs.numbers.tolist()
        if (category := category_number(value)) > _LARGEST_LABEL and category not in labels.id_of_source
    ]
    issues = []
    if unknown:
        what = (
            f"expected instance ids of Cityscapes for {labels.name!r}, label id or 1000 times label id plus number, "
            f"got {listed(unknown)}"
        )
        issues.append(Issue(entry.file, IssueKind.CATEGORY, what))
    return Reading(map_of_instance_ids(runs, labels), tuple(issues))
