"""The usual arguments of predict mean the same without tyro."""

from __future__ import annotations

import pytest

from panscape.cli import predict
from panscape.cli.parser import parse
from panscape.cli.predict import Predict
from panscape.cli.short_predict import parse_short


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.jpg"],
        ["a.jpg", "b c.png", "--model", "street", "--out", "x/y"],
        ["--out", "x", "a.jpg", "b.jpg", "--json", "--overwrite", "--no-legend"],
        ["--overwrite", "--model", "a=b.onnx", "a.jpg"],
    ],
)
def test_short_commands_are_those_of_tyro(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = parse_short(["predict", *arguments])
    expected = parse(Predict, arguments, program="panscape predict")
    assert found is not None
    assert vars(found) == vars(expected)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["predict"],
        ["predict", "--help"],
        ["predict", "a.jpg", "--out"],
        ["predict", "a.jpg", "--out", "--json"],
        ["predict", "a.jpg", "--out=x"],
        ["predict", "a.jpg", "--out", "x", "--out", "y"],
        ["predict", "a.jpg", "--json", "b.jpg"],
        ["predict", "a.jpg", ""],
        ["predict", "--json"],
        ["predict", "a.jpg", "--runtime", "torch"],
        ["predict", "a.jpg", "--device", "cpu"],
        ["predict", "a.jpg", "-o", "x"],
        ["evaluate", "a.jpg"],
    ],
)
def test_all_others_are_for_tyro(arguments: list[str]) -> None:
    assert parse_short(arguments) is None
    assert predict.Predict.__module__ == "panscape.cli.predict"
