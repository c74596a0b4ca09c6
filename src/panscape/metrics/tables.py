"""Formatting of reports as text tables and JSON values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Return ``rows`` as aligned lines; the first column is left-aligned, the others are right-aligned."""
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
    """Replace every nan in the values of dicts by None, in place, as JSON has no nan."""
    for entry in entries:
        entry.update({key: None for key, value in entry.items() if math.isnan(value)})
