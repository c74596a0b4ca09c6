"""Category ids of another numbering than that of the ground truth: positions, or the ids of another label space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from panscape.errors import InvalidArgumentError, UnknownNameError, listed
from panscape.formats.reading.base import AnnotationSource, Entry, Reader, Reading
from panscape.formats.reading.coco import COCO_FORM
from panscape.geometry import Size
from panscape.labels import LabelSpace
from panscape.notes import note_once

INDEX, FROM_ONE, DATASET, NAMES = "index", "index1", "dataset", "names"
NUMBERINGS = {
    INDEX: "positions in the label space, from 0",
    FROM_ONE: "positions in the label space, from 1",
    DATASET: "ids of the ground truth",
    NAMES: "ids of the categories that the predictions list, which correspond by name",
}
"""The values of ``--label-ids`` besides label spaces, with their meaning."""


def in_numbering(source: AnnotationSource, labels: LabelSpace, numbering: str | None) -> AnnotationSource:
    """Return a source whose maps have the categories of ``labels``, read from ids of another numbering.

    Args:
        source: the files.
        labels: the label space of the maps.
        numbering: one of :data:`NUMBERINGS`, or a label space with names of ``labels``: a bundled one, or the path of
            one as JSON. None for that of the format: positions in arrays, else the ids of ``labels``.

    Raises:
        InvalidArgumentError: the files list no categories for ``"names"``, or no name is in both label spaces.
        UnknownNameError: there is no such numbering or label space.
    """
    return with_ids(source, renumbered(labels, numbering or (INDEX if source.is_indexed else DATASET), source.labels))


def with_ids(source: AnnotationSource, ids: LabelSpace) -> AnnotationSource:
    """Return a source that is always read in the label space ``ids``."""
    return replace(source, read=partial(_read, source.read, ids))


def _read(read: Reader, ids: LabelSpace, entry: Entry, labels: LabelSpace, size: Size | None = None) -> Reading:
    return read(entry, ids, size)


def listed_ids(source: AnnotationSource, labels: LabelSpace) -> LabelSpace:
    """Return ``labels`` with the ids of the categories that a JSON lists, with a note if these are others.

    Args:
        source: the files; only a JSON in COCO panoptic format lists categories.
        labels: the label space to read it in.
    """
    if source.form != COCO_FORM or source.labels is None:
        return labels
    others = [
        f"{labels[i].name} {source.labels[same].source_id} instead of {labels[i].source_id}"
        for i, same in same_names(labels, source.labels).items()
        if labels[i].source_id != source.labels[same].source_id
    ]
    if not others:
        return labels
    what = f"its categories have other ids than label space {labels.name!r} ({listed(others)}); they are read by name"
    note_once(source.path, what)
    return renumbered(labels, NAMES, source.labels)


def renumbered(labels: LabelSpace, numbering: str, listed_in_files: LabelSpace | None) -> LabelSpace:
    """Return ``labels`` with source ids of another numbering; see :func:`in_numbering`."""
    if numbering == DATASET:
        return labels
    if numbering in (INDEX, FROM_ONE):
        first = int(numbering == FROM_ONE)
        return _with_ids(labels, range(first, first + len(labels)))
    if numbering == NAMES and listed_in_files is None:
        raise InvalidArgumentError(
            f"expected predictions that list 'categories' for --label-ids {NAMES}, got none; add them to the JSON, or "
            "give the label space of their ids"
        )
    other = listed_in_files if numbering == NAMES else None
    if other is None:
        try:
            other = LabelSpace.load(numbering)
        except UnknownNameError as error:
            known = [*NUMBERINGS, *LabelSpace.bundled(), "the path of a label space as JSON"]
            raise UnknownNameError("value of --label-ids", numbering, known, list_all=True) from error
    same = same_names(labels, other)
    if not same:
        raise InvalidArgumentError(
            f"expected predictions with categories of {labels.name!r}, such as {listed(labels.names)}, got those of "
            f"{other.name!r}, of which none has the same name: {listed(other.names)}"
        )
    return _with_ids(labels, [other[same[i]].source_id if i in same else None for i in range(len(labels))])


def same_names(labels: LabelSpace, other: LabelSpace) -> dict[int, int]:
    """Return for the categories of ``labels`` those of ``other`` with the same name, by position.

    Case and the characters between words do not matter: "Traffic Light" is "traffic-light".
    """
    places = {_plain(category.name): place for place, category in enumerate(other)}
    found = {place: places.get(_plain(category.name)) for place, category in enumerate(labels)}
    return {place: same for place, same in found.items() if same is not None}


def _plain(name: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in name.casefold()).split()) or name


def _with_ids(labels: LabelSpace, ids: Sequence[int | None]) -> LabelSpace:
    """Return a label space with other source ids; categories without one get negative ids, which no file has."""
    # Categories cannot share an id, and every one needs one.
    categories = [
        replace(category, source_id=-1 - place if number is None else number)
        for place, (category, number) in enumerate(zip(labels, ids, strict=True))
    ]
    return LabelSpace(labels.name, tuple(categories))
