"""Reader of semantic masks: an image of category numbers for each image, in one folder or in several."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from panscape.errors import InvalidAnnotationError, InvalidLabelSpaceError, UnreadableFileError
from panscape.formats.issues import Issue, IssueKind
from panscape.formats.label_images import load_label_image
from panscape.formats.reading.base import (
    AnnotationSource,
    Entry,
    Reading,
    entries_of_files,
    require_png,
    require_size,
    unreadable,
)
from panscape.formats.segments_info import unique_ids
from panscape.formats.semantic_masks import (
    USUAL_VOID,
    describe_unknown,
    from_semantic_mask,
    unknown_numbers,
    void_number,
)
from panscape.geometry import Size
from panscape.image_files import open_image
from panscape.input_files import find_files
from panscape.labels import LabelSpace

MASK_SUFFIXES = frozenset({".bmp", ".png", ".tif", ".tiff"})
"""File name suffixes of masks, in lower case: formats that preserve numbers."""

CATEGORIES = "categories.json"
"""Name of the file with the label space of a folder of masks."""

_FORM = "semantic masks"
_NUM_INSPECTED = 20


def find_masks(folder: Path) -> list[Path]:
    """Return the masks of a folder and its subfolders, sorted by path."""
    return find_files(folder, MASK_SUFFIXES)


def open_masks(folder: Path, files: list[Path], *, min_area: int = 50, void: int | None = None) -> AnnotationSource:
    """Return the source of the files found by :func:`find_masks`.

    The label space is that of a ``categories.json`` in the folder or in one of the two above it, as in
    ``ROOT/labels/val``.

    Args:
        folder: of the masks.
        files: the masks in it.
        min_area: see :func:`panscape.formats.from_semantic_mask`.
        void: see :func:`panscape.formats.semantic_masks.void_number`.
    """
    entries = entries_of_files(folder, files)
    labels, labels_fault = _labels_near(folder)
    return AnnotationSource(folder, _FORM, entries, labels, [], partial(_read, min_area, void), labels_fault)


def _labels_near(folder: Path) -> tuple[LabelSpace | None, InvalidAnnotationError | None]:
    """Return the label space of a folder, or the reason why it is invalid."""
    for place in (folder, *folder.absolute().parents[:2]):
        if (place / CATEGORIES).exists():
            try:
                return LabelSpace.load(place / CATEGORIES), None
            except (InvalidLabelSpaceError, UnreadableFileError) as error:
                return None, InvalidAnnotationError(str(error))
    return None, None


def void_notes(source: AnnotationSource, labels: LabelSpace, void: int | None) -> list[Issue]:
    """Return a note if the masks of a source have one number and that of void only, which then may be a category.

    Args:
        source: of any form; the first masks are read.
        labels: the categories.
        void: as for :func:`open_masks`; if it is given, it is no mistake.
    """
    if source.form != _FORM or void is not None or USUAL_VOID in labels.id_of_source:
        return []
    numbers: set[int] = set()
    for entry in source.entries[:_NUM_INSPECTED]:
        with suppress(UnreadableFileError):  # an issue of its own
            numbers.update(unique_ids(load_label_image(entry.content)))
    if len(numbers) != 2 or USUAL_VOID not in numbers:
        return []
    what = (
        f"expected masks with the numbers of {labels.name!r}, got only {min(numbers)} and {USUAL_VOID}, which is void; "
        f"if it is a category, give that the source_id {USUAL_VOID}"
    )
    return [Issue(str(source.path), IssueKind.VOID, what)]


def _read(min_area: int, void: int | None, entry: Entry, labels: LabelSpace, size: Size | None = None) -> Reading:
    if entry.fault is not None:
        return Reading(None, (entry.fault,))
    try:
        if entry.content.suffix.lower() == ".png":
            require_png(entry.content, size)
        else:
            with open_image(entry.content) as image:  # reads no pixels
                found = Size(image.height, image.width)
            require_size(entry.content, found, size)
        numbers = load_label_image(entry.content)
    except UnreadableFileError as error:
        return unreadable(entry, error)
    issues: tuple[Issue, ...] = ()
    void = void_number(labels, void)
    unknown = unknown_numbers(numbers, labels, void)
    if unknown:
        issues = (Issue(entry.file, IssueKind.CATEGORY, describe_unknown(numbers, labels, void, unknown)),)
        numbers = np.where(np.isin(numbers, unknown), void, numbers.astype(np.int64))
    return Reading(from_semantic_mask(numbers, labels, min_area=min_area, void=void), issues)
