"""What commands print: JSON, and text that fits the terminal.

Pipes and files receive every line whole, so that other programs can search them.
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from typing import Any

from panscape.errors import escape_control_chars
from panscape.serialization import to_plain

_GAP = 2  # spaces between the columns of a table


def say(text: str) -> None:
    """Print text on standard output; control characters and those that it cannot encode are escaped.

    All commands print through this function, as names of files and texts in them may contain escape sequences.
    """
    encoding = sys.stdout.encoding or "utf-8"
    print(escape_control_chars(text, keep="\n").encode(encoding, "backslashreplace").decode(encoding), flush=True)


def print_json(content: Any) -> None:
    """Print a JSON object on one line; nan becomes null, and paths become strings."""
    print(json.dumps(to_plain(content), allow_nan=False), flush=True)


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


def fitted(text: str) -> str:
    """Return a text with tables that fits the terminal: prose is wrapped, wide tables continue below.

    Args:
        text: blocks separated by empty lines; a block of several lines with a common gap is a table.
    """
    columns = terminal_columns()
    if columns is None:
        return text
    return "\n\n".join(_fitted_block(block.splitlines(), columns) for block in text.split("\n\n"))


def _fitted_block(lines: list[str], columns: int) -> str:
    if max(map(len, lines), default=0) <= columns:
        return "\n".join(lines)
    starts = _column_starts(lines)
    if len(lines) == 1:
        return wrapped(lines[0], hanging=0)
    if len(starts) < 3:
        return "\n".join(wrapped(line, hanging=2 + len(line) - len(line.lstrip())) for line in lines)
    width = max(map(len, lines))
    cells = [[line[a:b] for line in lines] for a, b in zip(starts, [*starts[1:], width], strict=True)]
    cells = [[cell.ljust(max(map(len, column))) for cell in column] for column in cells]
    first, parts, part = cells[0], [], [cells[0]]
    for column in cells[1:]:
        if len(part) > 1 and sum(len(each[0]) for each in [*part, column]) > columns:
            parts.append(part)
            part = [first]
        part.append(column)
    return "\n\n".join("\n".join("".join(row).rstrip() for row in zip(*part, strict=True)) for part in [*parts, part])


def _column_starts(lines: list[str]) -> list[int]:
    """Return the positions after which the columns of a table begin: gaps that all lines share."""
    width = max(map(len, lines))
    is_blank = [all(line[i : i + 1] in ("", " ") for line in lines) for i in range(width)]
    starts = [0]
    for i in range(_GAP, width):
        if not is_blank[i] and all(is_blank[i - _GAP : i]):
            gap = next(j for j in range(i, 0, -1) if not is_blank[j - 1])  # the first blank of the gap
            starts.append(gap)
    return starts


def agrees(question: str) -> bool:
    """Ask a question on standard error; without a terminal, or without an answer, the user does not agree."""
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
