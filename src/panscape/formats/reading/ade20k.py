"""Reader of ADE20K with 150 categories: PNGs of the semantic map and, of the same names, of the objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from panscape.errors import InvalidAnnotationError, UnreadableFileError
from panscape.formats import decode_ade20k, load_coco_png, load_label_image
from panscape.formats.issues import Issue, IssueKind
from panscape.formats.keys import key_of
from panscape.formats.reading.base import AnnotationSource, Entry, Reading, require_png, unreadable
from panscape.geometry import Size
from panscape.labels import LabelSpace


def open_ade20k(
    folder: Path, semantic: Mapping[str, Path], instances: Mapping[str, Path], labels: LabelSpace
) -> AnnotationSource:
    """Return the source of annotations of ADE20K.

    Args:
        folder: of the semantic maps.
        semantic: their files by name.
        instances: files of the objects by name; without one, each category of an image is one segment.
        labels: the 150 categories.
    """
    entries = [Entry(name, str(path), (key_of(name),), (path, instances.get(name))) for name, path in semantic.items()]
    return AnnotationSource(folder, "annotations of ADE20K", entries, labels, (), _read)


def _read(entry: Entry, labels: LabelSpace, size: Size | None = None) -> Reading:
    semantic, instances = entry.content
    try:
        require_png(semantic, size)
        objects = None if instances is None else load_coco_png(instances)
        return Reading(decode_ade20k(load_label_image(semantic), objects, labels))
    except UnreadableFileError as error:
        return unreadable(entry, error)
    except InvalidAnnotationError as error:
        return Reading(None, (Issue(entry.file, IssueKind.SHAPE, str(error)),))
