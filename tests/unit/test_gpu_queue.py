"""The queue of GPU benchmarks with fake entries: order, limits, resuming and merging."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "gpu"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    for name in ("queue_options", "run_queue", "merge_results"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return loaded("run_queue")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def fakes(monkeypatch: pytest.MonkeyPatch, queue: ModuleType, clock: Clock) -> Callable[..., list[tuple[Any, ...]]]:
    """Return a function that gives entries their duration in minutes and exit code, and lists the calls."""
    calls: list[tuple[Any, ...]] = []

    def given(**durations: tuple[float, int]) -> list[tuple[Any, ...]]:
        def run_limited(command: list[str], log: int, seconds: float, extra: dict[str, str]) -> int | None:
            name = command[1]
            calls.append((name, round(seconds / 60, 2), *(w for w in command if w == "--carried")))
            os.write(log, f"{name} ran\nlast line of {name}\n".encode())
            minutes, code = durations[name]
            clock.now += 60 * min(minutes, seconds / 60)
            return None if minutes > seconds / 60 else code

        monkeypatch.setattr(queue, "run_limited", run_limited)
        calls.clear()
        return calls

    return given


def test_most_valuable_first_within_limits_and_on_where_the_last_call_stopped(
    queue: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue.Queue, "_obstacle", lambda self, entry: "absent" if entry.name == "missing" else None)
    clock, entry = Clock(), queue.Entry
    entries = [
        entry("tests", "Tests", ("tests",), 3, "nothing"),
        entry("missing", "Missing", ("missing",), 1),
        entry("hangs", "Hangs", ("hangs",), 2),
        entry("fails", "Fails", ("fails",), 1),
        entry("long", "Long", ("long",), 7),
        entry("training", "Training", ("training",), None, "slot"),
        entry("last", "Last", ("last",), 1),
    ]
    given = fakes(monkeypatch, queue, clock)
    first = queue.Queue(tmp_path / "first", 8.0, work=tmp_path / "work", clock=clock)
    calls = given(tests=(1, 0), hangs=(99, 0), fails=(0.5, 1), training=(4, queue.UNFINISHED))
    statuses = {name: outcome.status for name, outcome in first.run(entries).items()}
    # 8 minutes: after 3.5 of them, "long" does not fit, and the training takes the rest but for half a minute
    assert calls == [("tests", 3.0), ("hangs", 2.0), ("fails", 1.0), ("training", 4.5)]
    assert statuses == {
        "tests": "done",
        "missing": "absent",
        "hangs": "over its limit",
        "fails": "failed",
        "long": "waiting",
        "training": "unfinished",
        "last": "waiting",
    }
    (tmp_path / "first" / "training" / "work.tar.0").write_bytes(b"checkpoint")
    second = queue.Queue(tmp_path / "second", 8.0, tmp_path / "first", tmp_path / "elsewhere", clock=clock)
    calls = given(long=(5, 0), training=(2.9, 0), last=(0.1, 0))
    statuses = {name: outcome.status for name, outcome in second.run(entries).items()}
    assert calls == [("long", 7.0), ("training", 3.0, "--carried")]
    assert (statuses["long"], statuses["training"], statuses["last"]) == ("done", "done", "waiting")
    calls = given(last=(0.1, 0))
    third = queue.Queue(tmp_path / "second", 0.5, work=tmp_path / "elsewhere", clock=clock)
    found = third.run(entries)
    assert calls == [("last", 0.5)]  # the first one starts, however little time is left
    assert found["training"].minutes == pytest.approx(6.9)
    assert (tmp_path / "second" / "tests" / "log.txt").read_text().endswith("last line of tests\n")


def test_an_entry_that_the_end_of_a_call_cuts_off_runs_again(
    queue: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue.Queue, "_obstacle", lambda self, entry: None)
    clock = Clock()
    entries = [queue.Entry("long", "Long", ("long",), 7)]
    calls = fakes(monkeypatch, queue, clock)(long=(5, 0))
    assert queue.Queue(tmp_path, 2.0, clock=clock).run(entries)["long"].status == "unfinished"
    assert queue.Queue(tmp_path, 8.0, clock=clock).run(entries)["long"].status == "done"
    assert calls == [("long", 2.0), ("long", 7.0)]
    assert queue.Queue(tmp_path, 8.0, clock=clock).run(entries)["long"].status == "done"
    assert len(calls) == 2
    again = queue.Queue(tmp_path, 8.0, clock=clock)
    again.forget(["long"])
    again.run(entries)
    assert len(calls) == 3


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


_OVERRUN = """
import os
import sys
import run_queue

run_queue._GRACE_SECONDS = 0.2
signal_group = os.killpg

def require_owner(group, sent):
    # Fails if the process was reaped, whose number another group may have by now.
    os.waitid(os.P_PID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    signal_group(group, sent)

os.killpg = require_owner
stubborn = "trap '' TERM; (trap '' TERM; echo $BASHPID; sleep 100 & wait; wait) & wait; wait"
with open(sys.argv[1], "wb") as log:
    print(run_queue.run_limited(["bash", "-c", stubborn], log.fileno(), 0.5, {}))
    print(run_queue.run_limited(["bash", "-c", "exit $X"], log.fileno(), 60, {"X": "7"}))
"""


def test_an_overrun_is_killed_with_its_children(tmp_path: Path) -> None:
    # In a process of its own, as the queue: it sends signals to groups of processes.
    log = tmp_path / "log"
    environment = {**os.environ, "PYTHONPATH": str(FOLDER)}
    command = [sys.executable, "-c", _OVERRUN, str(log)]
    started = time.monotonic()
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stdout.split()) == (0, ["None", "7"]), found.stderr
    child = int(log.read_text())
    while is_alive(child):  # until the system has ended it
        assert time.monotonic() - started < 60


def test_commands_have_their_folders_and_slots_their_time(queue: ModuleType, tmp_path: Path) -> None:
    made = queue.Queue(tmp_path, 8, device="cpu", work=tmp_path / "work", data={"camvid": "/data"})
    entries = {entry.name: entry for entry in queue.ENTRIES}
    assert len(entries) == len(queue.ENTRIES)
    assert next(iter(entries)) == "tests"
    found = made._command(entries["train_street"], tmp_path / "o", 7.0)[1:]
    assert found == [
        "benchmarks/gpu/train.py", "street", "--data", "/data", "--out", str(tmp_path / "o"), "--device", "cpu",
        "--work", str(tmp_path / "work" / "train_street"), "--minutes", "6.00",
    ]  # fmt: skip
    assert str(tmp_path / "o" / "benchmark.md") in made._command(entries["benchmark"], tmp_path / "o", 2.0)
    assert "{" not in " ".join(made._command(entries["loader"], tmp_path / "o", 2.0))
    assert made._obstacle(entries["train_street"]) is None
    assert made._obstacle(entries["train_aerial"]) == "no data"
    assert made._obstacle(queue.Entry("x", "X", ("benchmarks/gpu/nothing.py",), 1)) == "absent"
    assert {made._obstacle(entry) for entry in queue.ENTRIES} <= {None, "no data", "absent"}


def test_results_land_in_their_blocks_once(queue: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merge = loaded("merge_results")
    outcomes = {
        "tests": queue.Outcome("done", "Tests", "-m pytest", "cuda", 1.0),
        "speed": queue.Outcome("unfinished", "Speed", "speed.py", "cuda", 2.0),
        "late": queue.Outcome("waiting", "Late", "late.py", "cuda"),
        "new": queue.Outcome("done", "New", "new.py", "cuda:1"),
        "tried": queue.Outcome("done", "Tried", "tried.py", "quick"),
    }
    queue.Queue(tmp_path, 1)._write(outcomes)
    for name, files in {
        "tests": {"log.txt": "a\n9 passed\n"},
        "speed": {"speed.md": "| \\1 |\n"},
        "new": {"n.md": "x"},
    }.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    page = (
        "# P\n\n"
        + "".join(
            f"<!-- gpu: {name} -->\nold\n<!-- end of gpu: {name} -->\n" for name in ("speed", "tests", "late", "tried")
        )
        + "after\n"
    )
    (tmp_path / "page.md").write_text(page)
    monkeypatch.setattr(sys, "argv", ["merge_results.py", str(tmp_path), "--page", str(tmp_path / "page.md")])
    for _ in range(2):
        assert merge.main() == 1  # "new" has no block
        assert (tmp_path / "page.md").read_text() == (
            "# P\n\n<!-- gpu: speed -->\n\n### Speed\n\n`python3 speed.py`. Unfinished; results so far.\n\n| \\1 |\n\n"
            "<!-- end of gpu: speed -->\n<!-- gpu: tests -->\n\n### Tests\n\n`python3 -m pytest`\n\n`9 passed`\n\n"
            "<!-- end of gpu: tests -->\n<!-- gpu: late -->\nold\n<!-- end of gpu: late -->\n"
            "<!-- gpu: tried -->\nold\n<!-- end of gpu: tried -->\nafter\n"
        )


def test_every_entry_has_a_block_on_the_page(queue: ModuleType) -> None:
    page = loaded("merge_results").PAGE.read_text(encoding="utf-8")
    for entry in queue.ENTRIES:
        assert page.count(f"<!-- gpu: {entry.name} -->\n") == page.count(f"<!-- end of gpu: {entry.name} -->\n") == 1


def test_a_call_with_nothing_carried_is_refused(queue: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"expected queue.json in .*; give a copy of the --out of the last call"):
        queue.Queue(tmp_path / "out", 1, tmp_path).run([])
    queue.Queue(tmp_path / "out", 1).run([])
    assert json.loads((tmp_path / "out" / "queue.json").read_text()) == {}
