"""Messages of the command line on standard error, and the logging of the library behind them."""

from __future__ import annotations

import ast
import io
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from image_writers import file_of, tiff
from maps import SHAPES

import panscape
from panscape import zoo
from panscape.cli import main
from panscape.cli.messages import on_stderr, split_verbosity
from panscape.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def log_at_all_levels() -> None:
    for name in ("panscape.part", "other.part"):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            logging.getLogger(name).log(level, "%s of level %d", name, level)


@pytest.mark.parametrize(
    ("arguments", "rest", "level"),
    [
        (["predict", "a.jpg"], ["predict", "a.jpg"], logging.INFO),
        (["-v", "predict", "a.jpg"], ["predict", "a.jpg"], logging.DEBUG),
        (["predict", "--verbose", "a.jpg"], ["predict", "a.jpg"], logging.DEBUG),
        (["predict", "a.jpg", "-q"], ["predict", "a.jpg"], logging.WARNING),
        (["--quiet", "predict", "-v"], ["predict"], logging.DEBUG),
    ],
)
def test_verbosity_may_stand_anywhere(arguments: list[str], rest: list[str], level: int) -> None:
    assert split_verbosity(arguments) == (rest, level)


OURS = [
    "panscape.part of level 10",
    "panscape.part of level 20",
    "panscape: warning: panscape.part of level 30",
    "panscape: error: panscape.part of level 40",
]


@pytest.mark.parametrize(
    ("level", "lines"),
    [
        (logging.DEBUG, [*OURS, "other.part: other.part of level 30", "other.part: other.part of level 40"]),
        (logging.INFO, OURS[1:]),
        (logging.WARNING, OURS[2:]),
    ],
)
def test_levels_have_one_style_each(level: int, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with on_stderr(level):
        log_at_all_levels()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == lines


def test_afterwards_logging_is_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    root, ours, show = logging.getLogger(), logging.getLogger("panscape"), warnings.showwarning
    before = (list(root.handlers), ours.level)
    with on_stderr(logging.DEBUG):
        assert (list(root.handlers), ours.level) != before
    assert (list(root.handlers), ours.level) == before
    assert warnings.showwarning is show
    assert main(["models", "--nope", "-q"]) == 2
    assert capsys.readouterr().err == "panscape: error: unknown option --nope; see panscape models --help\n"
    assert (list(root.handlers), ours.level) == before


def test_lines_appear_above_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with on_stderr(logging.INFO), ProgressBar("images", 3) as bar:
        assert bar.is_shown
        logging.getLogger("panscape.part").info("a note [of] some kind")
        assert "a note [of] some kind\n" in terminal.getvalue()


def test_quiet_hides_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with on_stderr(logging.WARNING), ProgressBar("images", 3) as bar:
        bar.update(1)
    assert terminal.getvalue() == ""


def test_a_full_disk_or_a_closed_pipe_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    with on_stderr(logging.INFO):
        log_at_all_levels()


@pytest.fixture
def odd_image(tmp_path: Path) -> Iterator[Path]:
    """An image of which Pillow warns, as a tag has two values; warnings are shown as in a program."""
    path = file_of(tmp_path, tiff(np.full((30, 40, 3), 200, np.uint8), tags={284: (3, [1, 1])}))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield path


@pytest.mark.parametrize(("option", "is_shown"), [("-v", True), ("-q", False), (None, False)])
def test_warnings_of_other_libraries_are_details(
    option: str | None,
    is_shown: bool,
    odd_image: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tmp_path / "m.safetensors"
    zoo.save(panscape.create_model("swiftnet", SHAPES, backbone="residual_xs", levels=1, width=8), model)
    arguments = ["predict", str(odd_image), "--model", str(model), "--out", str(tmp_path / "out")]
    assert main([*arguments, *([option] if option else [])]) == 0
    out, err = capsys.readouterr()
    assert ("Metadata Warning, tag 284" in err) == is_shown
    assert (f"model {model} from {model}" in err) == is_shown
    assert ("exit code 0 after " in err) == is_shown
    assert is_shown or err == ""
    assert f"1 of 1 predicted; results in {tmp_path / 'out'}" in out


def test_verbose_errors_have_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "/nowhere.png", "-v"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("panscape: error: /nowhere.png: no such file")
    assert "Traceback (most recent call last)" in err
    assert main(["predict", "/nowhere.png"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", [[], ["predict"], ["evaluate"], ["tune"], ["train"], ["train", "town"], ["models"]])
def test_every_help_explains_verbosity(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "-v, --verbose also prints details; -q, --quiet prints only results, warnings and errors." in words


def test_all_that_is_printed_passes_where_names_are_escaped() -> None:
    """Commands print with say and print_json; only messages and progress bars write to a stream themselves."""
    source = Path(panscape.__file__).parent
    printing = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    interrupted = "cli/__init__.py"  # a constant
    assert printing == {"cli/messages.py", "cli/printing.py", "progress.py", interrupted}


@pytest.mark.parametrize("command", [["recipes"], ["models"], ["weights", "show", "street"]])
def test_lists_fit_a_terminal_of_sixty_columns_and_stay_whole_in_a_pipe(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main(command) == 0
    piped = capsys.readouterr().out
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(command) == 0
    shown = terminal.getvalue()
    assert max(map(len, piped.splitlines())) > 60
    assert max(map(len, shown.splitlines())) <= 60
    # Tables that are too wide continue below, and that of models has no systems then.
    if command == ["models"]:
        assert set(shown.split()) < set(piped.split())
        assert piped.count("Panoptic SwiftNet") == 6
        assert "SwiftNet" not in shown
    else:
        assert shown.split() == piped.split()
    assert "\x1b" not in shown


@pytest.mark.parametrize("no_color", ["", "1"])
def test_no_color_is_respected_in_help_and_bars(no_color: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with pytest.raises(SystemExit):
        main(["models", "--help"])
    with ProgressBar("images", 3) as bar:
        bar.update(1)
    assert "--json" in out.getvalue()
    color = re.compile(r"\x1b\[(?:[\d;]*;)?[349]\d(?:;[\d;]*)?m")  # foreground or background
    assert bool(color.search(out.getvalue())) == (no_color == "")
    assert bool(color.search(err.getvalue())) == (no_color == "")
