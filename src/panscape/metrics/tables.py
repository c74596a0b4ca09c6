"""Formatting of reports as text tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from panscape.errors import escape_control_chars


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Return ``rows`` as aligned lines; the first column is left-aligned, the others are right-aligned."""
    rows = [[escape_control_chars(cell) for cell in row] for row in rows]  # names come from files
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


def format_count(number: int, noun: str) -> str:
    """Return a number of things in words, such as "1 image" and "1,200 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
