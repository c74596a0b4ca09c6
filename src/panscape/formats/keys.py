"""Pair files of the same image by their names: predictions with ground truth, images with labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from panscape.errors import shown
from panscape.input_files import to_integer

_CITYSCAPES_NAME = re.compile(r"([^\W\d_][^\W_]*(?:-[^\W_]+)*_\d{6}_\d{6})(?:_\w+)?")

Keys: TypeAlias = tuple[str | None, ...]
"""Names of one image that other files may use, the most reliable first; None for unavailable ones."""


def key_of(name: object) -> str | None:
    r"""Return the normalized name for comparing images; None for invalid names.

    Numbers lose leading zeros and a fraction of zero, and ``\`` becomes ``/``.
    """
    number = to_integer(name)
    if number is None and not isinstance(name, str):
        return None
    text = str(name) if number is None else str(number) if abs(number) < 10**18 else shown(number)
    text = text.replace("\\", "/")
    return text.lstrip("0") or "0" if text.isascii() and text.isdigit() else text


def city_key_of(name: object) -> str | None:
    """Return the prefix ``city_sequence_frame`` of a Cityscapes file name; None for other names."""
    found = _CITYSCAPES_NAME.fullmatch(name) if isinstance(name, str) else None
    return found[1] if found else None


def match_keys(wanted: Sequence[Keys], known: Sequence[Keys]) -> list[int | None]:
    """Return for each of ``wanted`` the position of the same image in ``known``; None if there is none.

    One kind of key decides for all: the one that matches most. If it matches nothing, names are compared without case.
    """
    best: list[int | None] = []
    for fold in (str, str.casefold):
        places = _places(known, fold)
        ranks = range(max(map(len, wanted), default=0))
        matches = [[places.get(fold(keys[rank] or "")) for keys in wanted] for rank in ranks]
        best = max(matches, key=lambda match: sum(place is not None for place in match), default=[])
        if any(place is not None for place in best):
            break
    return best


def _places(known: Sequence[Keys], fold: Callable[[str], str]) -> dict[str, int]:
    """Return the positions by key; a key that two have belongs to the one where it is more reliable, or to none."""
    places: dict[str, int] = {}
    for rank in range(max(map(len, known), default=0)):
        found: dict[str, list[int]] = {}
        for place, keys in enumerate(known):
            key = fold(keys[rank] or "")
            if key and key not in places:
                found.setdefault(key, []).append(place)
        places.update({key: same[0] for key, same in found.items() if len(same) == 1})
    return places
