"""Reports as text that lines up."""

from __future__ import annotations

import math
from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return ``rows`` as lines; the first column is flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if position == 0 else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def percent(fraction: float) -> str:
    """Return a fraction in percent with one decimal; a dash for nan."""
    return "-" if math.isnan(fraction) else f"{100 * fraction:.1f}"
