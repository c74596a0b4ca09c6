"""A training that was killed, stopped or damaged resumes to the same weights as an uninterrupted one."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from processes import are_gone
from training_runs import Command, assert_equal, last_checkpoint, recipe_file, steps_saved

from panscape import zoo

OPTIONS = ("--device", "cpu", "--threads", 1, "--workers", 2, "--checkpoint-every", 2, "--log-every", 1)
EXPRESSION = "TINY"


def started(folder: Path, out: Path, *more: object) -> Command:
    file = recipe_file(folder / "recipe.py", EXPRESSION)
    return Command(folder / "log", "train", file, "--out", out, *OPTIONS, "--image-every", 0, *more)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("reference")
    command = started(folder, folder / "out", "--profile")
    assert command.end() == 0, command.text
    text = command.text
    assert "bfloat16" not in text
    assert "wait for data" in text  # the table of --profile
    assert "ms per sample: read" in text
    assert "of the maximum" in text
    return folder / "out"


def losses(out: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: line[k] for k in ("step", "losses", "grad_norm", "rate")} for line in lines if "losses" in line]


def assert_same_result(out: Path, reference: Path) -> None:
    assert last_checkpoint(out)[0] == 24
    assert_equal(last_checkpoint(out), last_checkpoint(reference))
    for name in ("model.safetensors", "evaluation.json"):
        assert (out / name).read_bytes() == (reference / name).read_bytes(), name
    assert losses(out) == losses(reference)
    assert [line["step"] for line in losses(out)] == list(range(1, 25))


def test_killed_at_any_moment(reference: Path, tmp_path: Path) -> None:
    out, chance = tmp_path / "out", random.Random(5)
    lives = 0
    workers: list[int] = []
    # At the start, before the first checkpoint; in the midst of writing one, twice; anywhere, twice.
    for moment in ("start", "writing", "anywhere", "writing", "anywhere"):
        before = max(steps_saved(out), default=0)
        command = started(tmp_path, out, "--resume")
        if moment == "start":
            came = command.wait_until((out / "run.json").exists)
        elif moment == "writing":
            command.wait_until(lambda before=before: max(steps_saved(out), default=0) > before)
            came = command.wait_until(lambda: any((out / "checkpoints").glob(".step_*")))
        else:
            came = command.wait_until(lambda before=before: max(steps_saved(out), default=0) > before)
            time.sleep(chance.uniform(0, 0.5))
        assert came, command.text
        workers += command.children()
        if command.is_alive():
            os.kill(command.pid, signal.SIGKILL)
        lives += command.end() == -signal.SIGKILL
        assert "Traceback" not in command.text
    assert lives >= 4  # the last may have been done
    assert are_gone(workers)
    assert len(workers) >= 4
    command = started(tmp_path, out, "--resume")
    assert command.end() == 0, command.text
    assert_same_result(out, reference)
    assert not list((out / "checkpoints").glob(".step_*"))


def test_stopped_twice_and_then_damaged(reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stopped_at = []
    for number, is_for_all in ((signal.SIGTERM, True), (signal.SIGINT, True), (signal.SIGTERM, False)):
        command = started(tmp_path, out, "--resume")
        at_first = max(steps_saved(out), default=0) + 1
        assert command.wait_until(lambda at_first=at_first: max(steps_saved(out), default=0) > at_first)
        workers = command.children()
        if is_for_all:
            command.signal_all(number)
        else:
            os.kill(command.pid, number)
        assert command.end() == 130, command.text
        stopped_at.append(last_checkpoint(out)[0])
        *_, note, last = command.text.splitlines()
        assert note == f"stopped after step {stopped_at[-1]}; add --resume to continue"
        assert last == "panscape: interrupted"
        assert are_gone(workers)
    average = last_checkpoint(out)[1]["average"]
    assert_equal(zoo.load(out).state_dict(), average)  # until it is complete, a run is the model of its checkpoint
    assert stopped_at == sorted(set(stopped_at))
    assert stopped_at[-1] < 24

    newest = out / "checkpoints" / f"step_{stopped_at[-1]:08d}.ckpt"
    newest.write_bytes(newest.read_bytes()[:-1000])
    before = steps_saved(out)[-2]
    command = started(tmp_path, out, "--resume")
    assert command.end() == 0, command.text
    damaged, going_on = command.text.splitlines()[:2]
    assert damaged.startswith(f"panscape: warning: checkpoint {newest.name} is damaged (expected ")
    assert damaged.endswith(f"; using step_{before:08d}.ckpt")
    assert going_on == f"resuming after step {before} of 24"
    assert_same_result(out, reference)


def test_a_finished_run_is_evaluated_again_and_stays_what_it_is(reference: Path, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in reference.rglob("*") if p.is_file() and p.name != "run.json"}
    file = recipe_file(tmp_path / "recipe.py", EXPRESSION)
    command = Command(tmp_path / "log", "train", file, "--out", reference, *OPTIONS, "--resume")
    assert command.end() == 0, command.text
    first, second, result = command.text.splitlines()
    assert first == "this run is complete: 24 of 24 steps; evaluating and saving its model again"
    assert second.startswith("step 24: val PQ ")
    assert result.startswith("val PQ ")
    assert result.endswith(f"; model in {reference / 'model.safetensors'}")
    assert {p: p.read_bytes() for p in reference.rglob("*") if p.is_file() and p.name != "run.json"} == before
