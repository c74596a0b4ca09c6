from __future__ import annotations

import io
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from panscape.cli.console import ResultPrinter
from panscape.cli.messages import on_stderr
from panscape.inference.results import FileError, FileResult, Timings
from panscape.inference.sources import SourceFile

DONE = FileResult("shots/a.jpg", "a", 360, 480, 1, 23, 9, Timings(1.25, 20.0, 3.0, 4.0), "out/a.png")
RIDE = FileResult("shots/ride.mp4", "ride", 360, 480, 12, 23.5, 9.25, Timings(1.25, 33.0, 3.0, 4.0), "out/ride.mp4")
FAILED = FileError("shots/b.jpg", "no such image")
SOURCES = [
    SourceFile(Path("shots/a.jpg"), "a"),
    SourceFile(Path("shots/b.jpg"), "b"),
    SourceFile(Path("shots/ride.mp4"), "ride"),
]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def report_all(level=logging.INFO, **options):
    with on_stderr(level), ResultPrinter(SOURCES, **options) as reporter:
        reporter.on_result(DONE)
        reporter.on_result(FAILED)
        for index in range(1, 13):
            reporter.on_frame(SOURCES[2], index, 12)
        reporter.on_result(RIDE)
    return reporter


def test_times_are_means_over_images_and_frames_and_with_verbose_of_each(capsys):
    reporter = report_all(level=logging.DEBUG)
    err = capsys.readouterr().err
    assert err.splitlines()[0] == "  ms: read 1.2, network 20.0, post-process 3.0, write 4.0"
    assert err.splitlines()[-1] == "  ms: read 1.2, network 33.0, post-process 3.0, write 4.0 a frame"
    assert reporter.times == "ms: read 1, network 32, post-process 3, write 4"  # (20 + 12 * 33) / 13


def test_lines_fit_a_terminal_of_60_columns(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "60")
    long = SourceFile(Path("shots/" + 50 * "x"), "x")
    with ResultPrinter([SOURCES[0], long]) as reporter:
        reporter.on_result(replace(DONE, source=str(long.path)))
    assert sys.stdout.getvalue() == f"...{32 * 'x'}    360x480   23 segments\n"


def test_text_has_a_line_for_each_source(capsys):
    report_all()
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert " ".join(first.split()) == "shots/a.jpg 360x480 23 segments"
    assert second.endswith("12 frames, 23.5 segments")
    assert first.index("360x480") == second.index("360x480")
    assert err == "panscape: error: shots/b.jpg: no such image\n"


def test_json_lines_hold_successes_and_failures(capsys):
    report_all(as_json=True)
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines == [DONE.to_dict(), FAILED.to_dict(), RIDE.to_dict()]
    assert err == ""


@pytest.mark.parametrize("shared", [True, False])
def test_a_terminal_gets_a_bar_and_the_same_lines(monkeypatch, shared):
    out, err = (Terminal() if shared else io.StringIO()), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    report_all()
    assert "sources" in (out if shared else err).getvalue()
    assert "no such image" in (out if shared else err).getvalue()
    assert "shots/a.jpg    " in out.getvalue()
    assert "12 frames, 23.5 segments" in out.getvalue()
    if not shared:
        assert len(out.getvalue().splitlines()) == 2
        assert "\x1b" not in out.getvalue()


def test_one_photo_and_json_on_a_terminal_have_no_bar(monkeypatch):
    for sources, as_json in (([SOURCES[0]], False), (SOURCES, True)):
        out, err = Terminal(), Terminal()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        with ResultPrinter(sources, as_json=as_json) as reporter:
            reporter.on_result(DONE)
        assert len(out.getvalue().splitlines()) == 1
        assert "\x1b" not in out.getvalue() + err.getvalue()


def test_escape_sequences_of_names_do_not_reach_the_terminal(monkeypatch, capsys):
    name = "shots/\x1b[31m\nred\udcff\x9b.png"
    shown = r"shots/\x1b[31m\nred\udcff\x9b.png"
    with on_stderr(logging.DEBUG), ResultPrinter(SOURCES) as reporter:
        reporter.on_result(replace(DONE, source=name))
        reporter.on_result(FileError(name, "no such \x1b[image"))
        logging.getLogger("panscape.part").warning("of %s", name[:10])
    out, err = capsys.readouterr()
    assert out.split()[0] == shown
    assert err.splitlines()[1:] == [
        f"panscape: error: {shown}: no such \\x1b[image",
        r"panscape: warning: of shots/\x1b[31",
    ]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    with ResultPrinter(SOURCES) as reporter:
        reporter.on_frame(SourceFile(Path(name), "x"), 1, 2)
        reporter.on_result(replace(DONE, source=name))
    assert "\x1b[31m" not in terminal.getvalue()
    assert shown in terminal.getvalue()


def test_results_of_earlier_runs_are_counted_and_listed_as_json_only(capsys):
    with ResultPrinter(SOURCES) as reporter:
        reporter.on_result(replace(DONE, is_earlier=True))
    assert (reporter.num_earlier, reporter.times, capsys.readouterr().out) == (1, "", "")
    with ResultPrinter(SOURCES, as_json=True) as reporter:
        reporter.on_result(replace(DONE, is_earlier=True))
    assert json.loads(capsys.readouterr().out)["is_earlier"] is True
