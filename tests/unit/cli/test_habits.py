"""Options and commands of other tools are named in errors, with what they are here."""

from __future__ import annotations

import re

import pytest

from panscape.cli import main
from panscape.cli.habits import _HABITS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train town --out x --lr=3", "unknown option --lr=3; use --optimizer.learning-rate"),
        (
            "train town --out x --num_epochs 3",
            "unknown option --num_epochs; use --steps; an epoch has as many steps as",
        ),
        ("train town --out x --imgsz 640", "unknown option --imgsz; use --augmentation.crop HEIGHT WIDTH"),
        ("train town --out x --model street", "unknown option --model; use --init-from MODEL; options of its network"),
        ("train data=my_data epochs=3", 'unexpected argument data=my_data; options begin with "--" here: --NAME VALUE'),
        ("train town epochs=3 --out x", 'unexpected argument epochs=3; options begin with "--" here: --NAME VALUE'),
        ("predict --source a.jpg --weights b", "unknown option --source --weights; use the files and folders as"),
        ("evaluate --model my_run", "unknown option --model; use the model as the first argument: panscape evaluate"),
        ("tune --gpu", "unknown option --gpu; use --device cuda"),
        ("benchmark street --channels-last", "unknown option --channels-last; use --memory-format channels-last"),
        ("benchmark --weights street", "use the model as the first argument: panscape benchmark MODEL"),
        ("models --gpu", "unknown option --gpu; see panscape models --help"),
        ("val my_run", "unknown command 'val'; use panscape evaluate"),
        ("weights --epochs 3", "expected one of"),
    ],
)
def test_hints(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [["train", "town"], ["predict"], ["evaluate"], ["tune"]])
def test_every_hint_is_an_option_and_no_option_has_one(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main([*command, "--help-all"])
    options = {f"--{name}" for name in re.findall(r"(?:^|[\s,])--([\w.-]+)", capsys.readouterr().out)}
    habits = _HABITS[command[0]] | _HABITS[""]
    assert len(options) > 10
    for words, hint in habits.items():
        named = [name for name in re.findall(r"--([\w.-]+)", hint) if not name.endswith((".", "help", "NAME"))]
        assert {f"--{name}" for name in named if not name.startswith("data.")} <= options, hint
        assert options.isdisjoint(f"--{word}" for word in words.split())
