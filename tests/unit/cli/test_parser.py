"""Help in two lengths and errors in one line, for every command."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import pytest
import tyro

from panscape.cli import main
from panscape.cli.parser import RARE, parse
from panscape.errors import InvalidArgumentError


@dataclass(frozen=True)
class Part:
    """Values of the part."""

    often: int = 1
    """An option of the part."""

    seldom: int = field(default=2, metadata=RARE)
    """A rare option of the part."""


@dataclass(frozen=True)
class Command:
    """Does something."""

    name: str
    """A name."""

    part: Part = field(default_factory=Part)
    """The part."""

    kind: Literal["a", "b"] = "a"
    """A choice."""

    size: tuple[int, int] = field(default=(1, 2), metadata=RARE)
    """A rare pair."""


def options(*arguments: str, **settings: object) -> Command:
    return parse(Command, arguments, program="program", **settings)


def help_text(capsys: pytest.CaptureFixture[str], *arguments: str, **settings: object) -> str:
    with pytest.raises(SystemExit) as end:
        options(*arguments, **settings)
    assert end.value.code == 0
    return capsys.readouterr().out


def test_rare_options_are_parsed_but_only_the_full_help_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    found = options("--name", "x", "--size", "3", "4", "--part.seldom", "5")
    assert found == Command("x", Part(seldom=5), size=(3, 4))
    assert type(found) is Command
    short, full = help_text(capsys, "-h"), help_text(capsys, "--help-all")
    assert "Does something. --help-all lists all options." in short
    assert "--help-all" not in full
    for text in (short, full):
        assert "An option of the part. (default: 1)" in text
    for option in ("--size", "--part.seldom"):
        assert option not in short
        assert option in full


def test_values_of_an_instance_are_the_defaults_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    default = Command(tyro.MISSING, Part(often=7))
    assert "An option of the part. (default: 7)" in help_text(capsys, "--help", default=default)
    assert options("--name", "x", default=default) == Command("x", Part(often=7))


def test_rare_options_can_be_set_by_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_text(capsys, "--help", is_rare=lambda kind, field: kind is Command and field.name == "part")
    assert "--part" not in text
    assert "--size" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "missing from program: --name STR; see program --help"),
        (["--nam", "x"], "unknown option --nam; see program --help"),
        (["--name", "x", "--part.oftn", "3"], "unknown option --part.oftn; did you mean --part.often?"),
        (["--name", "x", "y", "z"], "unexpected argument y z; see program --help"),
        (["--name", "x", "--colour", "red"], "unknown option --colour; see program --help"),
        (["--name", "x", "--kind", "c"], "expected --kind as one of 'a', 'b', got 'c'; see program --help"),
        (["--name", "x", "--part.often", "y"], "expected a whole number for --part.often, got 'y'; see program --help"),
        (["--name", "x", "--size", "3"], "expected 2 values after --size, got fewer; see program --help"),
        (["--name"], "expected a value after --name, got none; see program --help"),
    ],
)
def test_an_error_is_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns in ("60", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        with pytest.raises(InvalidArgumentError) as error:
            options(*arguments)
        assert str(error.value) == message
        assert capsys.readouterr() == ("", "")


COMMANDS = ["predict", "demo", "evaluate", "tune", "benchmark", "train", "recipes", "models", "weights"]


@pytest.mark.parametrize("command", [[name] for name in COMMANDS] + [["weights", "convert"], ["weights", "show"]])
def test_the_help_of_every_command_fits_on_two_screens(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(max(1, math.ceil(len(line) / 100)) for line in lines) <= 80
    assert "-q, --quiet" in " ".join(lines)
    assert "--json" in " ".join(lines) or command == ["weights"]


def test_suggestions_are_of_the_same_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--recip", "x"]) == 2  # an option of other commands
    assert capsys.readouterr().err == "panscape: error: unknown option --recip; see panscape models --help\n"
