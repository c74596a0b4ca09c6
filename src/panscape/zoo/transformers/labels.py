"""Which label space a network of transformers has: by number and names of its categories."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from panscape.errors import InvalidArgumentError, listed
from panscape.labels import LabelSpace

_logger = logging.getLogger(__name__)

# Label spaces of the published networks, and a word in the names of their repositories.
_PUBLISHED = {"coco_panoptic": "coco", "cityscapes": "cityscapes", "ade20k_150": "ade", "vistas_v1.2": "vistas"}
_MIN_SHARE = 0.75  # of names that must be equal; lists of ADE20K have different synonyms
_UNNAMED = re.compile(r"LABEL_\d+|N/A|", re.IGNORECASE)
_SUFFIXES = re.compile(r"-(merged|other|stuff)\b")  # of categories of COCO, which some lists omit
_SWAPPED = {"building", "sidewalk"}


class NetworkLabels(NamedTuple):
    """The label space of a network.

    Attributes:
        labels: the label space.
        source: index of each category among the network's.
    """

    labels: LabelSpace
    source: list[int]


def labels_of(
    names: Sequence[str], path: object, given: LabelSpace | None = None, *, uses_source_ids: bool = False
) -> NetworkLabels:
    """Return the label space of a network with these categories.

    COCO panoptic, Cityscapes, ADE20K and Mapillary Vistas 1.2 are recognised by the number of the categories and at
    least three quarters of the names, none of which may be that of another category; or all names are there in another
    order. If the categories have no names, the name of the repository or folder must be that of the dataset.

    Args:
        names: of the network's categories, without "no object".
        path: its folder or repository.
        given: label space for networks of other categories; with the same names for networks that have names.
        uses_source_ids: published networks of this family have a category for each id in the files of COCO.

    Raises:
        InvalidArgumentError: the categories are those of no published dataset, and no label space was given, or one of
            other names or of another number of categories.
    """
    found = _recognised(names, path, given, uses_source_ids=uses_source_ids)
    if found is None:
        return _in_order_of(given, names, path)
    if given is not None and found.labels != given:
        _logger.info(
            "%s: its categories are those of label space %r, which is used instead of %r",
            path,
            found.labels.name,
            given.name,
        )
    return found


def _recognised(
    names: Sequence[str], path: object, given: LabelSpace | None, *, uses_source_ids: bool
) -> NetworkLabels | None:
    spaces = [LabelSpace.load(name) for name in _PUBLISHED]
    found = _of_source_ids(names, spaces[0]) if uses_source_ids else None
    for space in spaces:
        if found is None and len(names) == len(space):
            found = _in_order(names, space) or _reordered(names, space)
            if found is None and _are_unnamed(names) and _PUBLISHED[space.name] in _words(path):
                found = NetworkLabels(space, list(range(len(names))))
    return found or (None if given is None else _reordered(names, given))


def _in_order_of(given: LabelSpace | None, names: Sequence[str], path: object) -> NetworkLabels:
    """Return a given label space for categories without names, in its order."""
    if given is None:
        raise InvalidArgumentError(
            f"expected the categories of {', '.join(_PUBLISHED)}, by number and names, got {len(names)} in {path}: "
            f"{listed(names)}; write their label space as labels.json into the folder of the network, or give "
            'labels="NAME" or "FILE.json" in Python'
        )
    if len(given) != len(names):
        raise InvalidArgumentError(
            f"expected a label space of the {len(names)} categories of {path}, {listed(names)}, got {given.name!r} "
            f"with {len(given)}; give the label space that the network was trained for"
        )
    if not _are_unnamed(names):
        raise InvalidArgumentError(
            f"expected a label space with the categories of {path}, {listed(names)}, got {given.name!r} with "
            f"{listed(given.names)}; give each the name that it has in id2label of config.json"
        )
    return NetworkLabels(given, list(range(len(names))))


def _are_unnamed(names: Sequence[str]) -> bool:
    return all(_UNNAMED.fullmatch(name) for name in names)


def _words(path: object) -> list[str]:
    """Return the words in the name of a repository or folder."""
    return re.findall("[a-z]+", Path(str(path)).name.lower())


def _of_source_ids(names: Sequence[str], space: LabelSpace) -> NetworkLabels | None:
    """Return the label space if the categories are the ids of its files, with names or without."""
    source = [category.source_id for category in space]
    if len(names) <= max(source):
        return None
    named = [(names[i], category.name) for i, category in zip(source, space, strict=True)]
    is_same = all(_UNNAMED.fullmatch(name) or _synonyms(name) & _synonyms(own) for name, own in named)
    return NetworkLabels(space, source) if is_same else None


def _in_order(names: Sequence[str], space: LabelSpace) -> NetworkLabels | None:
    """Return the label space if most names are those of its categories, in its order, and no name is elsewhere."""
    own, found = ([_synonyms(name) for name in some] for some in (space.names, names))
    others = [i for i, (one, other) in enumerate(zip(found, own, strict=True)) if not one & other]
    if len(others) > (1 - _MIN_SHARE) * len(names):
        return None
    moved = [names[i] for i in others if any(found[i] & other for other in own)]
    if moved and not _is_known_swap(space, moved):
        return None
    return NetworkLabels(space, list(range(len(names))))


def _reordered(names: Sequence[str], space: LabelSpace) -> NetworkLabels | None:
    """Return the label space if the names are those of its categories, in any order."""
    index = {_plain(name): i for i, name in enumerate(names)}
    wanted = [_plain(name) for name in space.names]
    if len(index) != len(names) or index.keys() != set(wanted) or len(names) != len(wanted):
        return None
    return NetworkLabels(space, [index[name] for name in wanted])


def _is_known_swap(space: LabelSpace, moved: Sequence[str]) -> bool:
    """Return whether only the list of names is wrong: OneFormer's of Cityscapes has two in the other's place."""
    return space.name == "cityscapes" and {_plain(name) for name in moved} == _SWAPPED


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _synonyms(name: str) -> set[str]:
    """Return the names of a category in a list like that of ADE20K, without case, punctuation and COCO's suffixes."""
    return {plain for part in re.split("[,;]", name) if (plain := _plain(_SUFFIXES.sub("", part.casefold())))}
