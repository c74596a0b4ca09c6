from __future__ import annotations

import io
import json
import math
import sys

import pytest

from panscape.cli.printing import fitted, print_json, say
from panscape.metrics.tables import format_table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


ROWS = [["", "PQ", "SQ", "RQ", "TP", "FP", "FN", "PQ†", "PC", "map IoU", "head IoU"]]
ROWS += [[name, *(f"{10 * i}.5" for i in range(10))] for name in ("traffic light", "car", "a")]


def test_nan_becomes_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"pq": math.nan, "values": (1, 2.5)})
    assert json.loads(capsys.readouterr().out) == {"pq": None, "values": [1, 2.5]}


def test_wide_tables_continue_below_with_their_first_column(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"a title of one line, {60 * 'x'}\n\n{format_table(ROWS)}\n\n{format_table([row[:3] for row in ROWS])}"
    assert fitted(text) == text  # no terminal
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "200")
    assert fitted(text) == text
    monkeypatch.setenv("COLUMNS", "60")
    title, *parts, narrow = fitted(text).split("\n\n")
    assert title.splitlines()[0] == "a title of one line,"
    assert narrow == format_table([row[:3] for row in ROWS])
    assert max(len(line) for part in parts for line in part.splitlines()) <= 60
    cells = [[] for _ in ROWS]
    for part in parts:
        for row, line in zip(cells, part.splitlines(), strict=True):
            row += line[len("traffic light") :].split()
            assert line.startswith(ROWS[len(cells) - 1][0] if row is cells[-1] else "")
    assert [" ".join(row) for row in cells] == [" ".join(row[1:]) for row in ROWS]


def test_long_lines_of_several_are_wrapped_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "20")
    assert fitted("no value is better than the own\nsaved") == "no value is better\n  than the own\nsaved"


def test_characters_that_the_output_cannot_encode_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, "ascii"))
    say("stra\xdfe\nand \x1b[31m")
    assert content.getvalue() == b"stra\\xdfe\nand \\x1b[31m\n"
