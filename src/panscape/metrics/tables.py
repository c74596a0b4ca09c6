"""Reports as text that lines up, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Return ``rows`` as lines; the first column is flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if position == 0 else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def format_percent(fraction: float) -> str:
    """Return a fraction in percent with one decimal; a dash for nan."""
    return "-" if math.isnan(fraction) else f"{100 * fraction:.1f}"


def nan_to_none(*entries: dict[str, Any]) -> None:
    """Put None in place of every nan among the numbers of some dicts, as JSON has no nan."""
    for entry in entries:
        entry.update({key: None for key, value in entry.items() if math.isnan(value)})
