"""Lines that fit the terminal. Pipes and files receive every line whole, so that other programs can search them."""

from __future__ import annotations

import shutil
import sys
import textwrap


def terminal_columns() -> int | None:
    """Return the width of the terminal; None if standard output is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def wrapped(line: str, hanging: int) -> str:
    """Break a line between words to fit the terminal.

    Args:
        line: the text, with its indent.
        hanging: indent of the lines after the first.
    """
    columns = terminal_columns()
    if columns is None:
        return line
    indent = " " * hanging
    return textwrap.fill(line, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
