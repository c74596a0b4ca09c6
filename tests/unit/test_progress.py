"""The progress bar of all commands."""

from __future__ import annotations

import io
import logging
import re
import sys

import pytest

from panscape.progress import ProgressBar, TimeLeft, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def shown(bar: ProgressBar) -> list[str]:
    """Return the lines that the bar shows now."""
    stream = bar._console.file
    stream.seek(0)
    stream.truncate()
    bar._live.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", stream.getvalue())
    return [line for line in text.splitlines() if line.strip()]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    return Terminal()


def test_the_time_left_is_estimated_from_the_second_step_without_the_first(terminal: Terminal) -> None:
    clock = Clock()
    with ProgressBar("images", stream=terminal, clock=clock) as bar:
        assert "left" not in shown(bar)[0]
        clock.now += 30  # start-up
        bar.update(1, 100)
        assert shown(bar)[0].split()[0] == "images"
        assert shown(bar)[0].split()[-3:] == ["1/100", "1", "%"]
        clock.now += 2
        bar.update(2, 100)
        assert shown(bar)[0].endswith("  2/100   2 % 3 min left")
        clock.now += 3 * 4
        bar.update(5, 100)
        assert shown(bar)[0].rstrip().endswith(f"  5/100   5 % {duration(14 / 4 * 95)} left")
        assert duration(14 / 4 * 95) == "6 min"


def test_sixty_columns_hold_everything_but_long_details(terminal: Terminal) -> None:
    clock = Clock()
    with ProgressBar("images timed", 140_000, stream=terminal, clock=clock) as bar:
        for step in (99_990, 99_991):
            bar.update(step)
            clock.now += 2.1
        bar.update(99_992)
        bar.show("semantic 1.250, center 0.250, offset 0.062, total 1.562; and more than fits")
        line, details = shown(bar)
    assert line.startswith("images timed ━")
    assert line.endswith("  99992/140000  71 % 23 h 20 min left")
    assert len(line) == len(details) == 60
    assert details.endswith("…")


def test_text_appears_above_the_bar_and_the_bar_disappears(terminal: Terminal) -> None:
    with ProgressBar("images", 3, stream=terminal) as bar:
        bar.rename("[training]")
        assert shown(bar)[0].startswith("[training] ")
        bar.print("a note [of] some kind" + 60 * "x")
        assert f"a note [of] some kind{60 * 'x'}\n" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")  # erases the line


def test_log_lines_appear_above_the_bar(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal)
    logger, handler = logging.getLogger("panscape"), logging.StreamHandler()  # as logging.basicConfig makes it
    logger.addHandler(handler)
    try:
        with ProgressBar("images", 3):
            logger.warning("a note [of] some kind")
            assert "\x1b[2Ka note [of] some kind\n" in terminal.getvalue()  # the bar is erased first
        assert handler.stream is terminal
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("options", [{"stream": io.StringIO()}, {"stream": Terminal(), "is_hidden": True}])
def test_without_a_terminal_only_printed_text_appears(options: dict[str, object]) -> None:
    with ProgressBar("images", 3, **options) as bar:
        bar.update(1)
        bar.rename("training")
        bar.show("details")
        bar.print("text [of] some kind")
    assert not bar.is_shown
    assert options["stream"].getvalue() == "text [of] some kind\n"


def test_steps_that_start_anew_are_estimated_anew() -> None:
    left = TimeLeft()
    assert left.seconds(10) is None
    left.update(0, 5.0)
    assert left.seconds(10) is None
    left.update(4, 7.0)
    assert left.seconds(10) == 3.0
    left.update(0, 20.0)
    assert left.seconds(10) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (2460, "41 min"),
        (3569, "59 min"),
        (3571, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (86_360, "23 h 59 min"),
        (86_399, "1 d 0 h"),
        (300_000, "3 d 11 h"),
    ],
)
def test_times_have_two_units_at_most(seconds, text):
    assert duration(seconds) == text
