"""The usual arguments of ``panscape predict``, parsed at once; all others are for :mod:`panscape.cli.parser`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from panscape.cli.predict import Predict

_VALUES = {"--model": str, "--out": Path}
_FLAGS = {"--overwrite", "--json", "--no-legend"}


def parse_short(arguments: Sequence[str]) -> Predict | None:
    """Return the command of arguments that are sources and few options, whose meaning is beyond doubt; else None.

    Args:
        arguments: of the program.
    """
    if not arguments or arguments[0] != "predict":
        return None
    sources: list[str] = []
    options: dict[str, Any] = {}
    is_complete = False  # an option follows the sources
    rest = iter(arguments[1:])
    for word in rest:
        is_complete = is_complete or (bool(sources) and word.startswith("-"))
        if word in _FLAGS:
            options[word[2:].replace("-", "_")] = True
        elif word in _VALUES and word[2:] not in options:
            value = next(rest, "")
            if not value or value.startswith("-"):
                return None
            options[word[2:]] = _VALUES[word](value)
        elif word.startswith("-") or not word or is_complete:
            return None
        else:
            sources.append(word)
    if not sources:
        return None
    from panscape.cli.predict import Predict

    return Predict(tuple(sources), **options)
