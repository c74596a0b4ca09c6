"""Several processes train like one, and end together."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from training_runs import Command, last_checkpoint, recipe_file, steps_saved, torchrun

OPTIONS = ("--device", "cpu", "--threads", 1, "--workers", 0, "--log-every", 1, "--image-every", 0)


def difference(some: Path, other: Path) -> float:
    """The maximum difference of weights and running statistics."""
    (a, x), (b, y) = last_checkpoint(some), last_checkpoint(other)
    assert a == b
    return max(float((x["model"][k].double() - y["model"][k].double()).abs().max()) for k in x["model"])


def metrics(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


# In double precision, as torch's own norms are coarse in single precision: in the first step they give a gradient of
# norm 240.754 where double precision, and ours over two processes, give 240.688. Adam makes steps of the rate's size
# out of gradients that are nothing but rounding; eps=1 keeps it from that.
EXACT = (
    "replace(WHOLE, model=Net(is_double=True{}), optimizer=replace(WHOLE.optimizer, eps=1.0), eval_every=1, "
    "early_stopping=STOPPING)"
)


@pytest.mark.parametrize("options", ["", ", relations=PISR(4, key_width=8)"], ids=["plain", "relations"])
def test_two_processes_learn_what_one_does(options: str, tmp_path: Path) -> None:
    file = recipe_file(tmp_path / "recipe.py", EXACT.format(options))
    one, two = tmp_path / "one", tmp_path / "two"
    alone = Command(tmp_path / "log", "train", file, "--out", one, *OPTIONS)
    assert alone.end() == 0, alone.text
    both = torchrun(tmp_path / "both", 2, "train", file, "--out", two, *OPTIONS)
    assert [c.end() for c in both] == [0, 0], both[0].text + both[1].text
    assert both[1].text == ""
    assert difference(one, two) < 1e-10
    # Both stop at one step, with one validation loss.
    losses = [[line["val_losses"] for line in metrics(out) if "val_losses" in line] for out in (one, two)]
    assert len(losses[0]) == len(losses[1]) == last_checkpoint(one)[0] == 4
    for mine, theirs in zip(*losses, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6)
    assert len(json.loads((two / "run.json").read_text())["starts"]) == 1


def test_an_error_of_one_ends_both(tmp_path: Path) -> None:
    # Of the first batch, images 2 and 3 in the epoch's order go to the second process.
    file = recipe_file(tmp_path / "recipe.py", "replace(WHOLE, data=Drawn(bad=(0,)))")
    both = torchrun(tmp_path / "bad", 2, "train", file, "--out", tmp_path / "bad_out", *OPTIONS)
    assert [c.end() for c in both] == [2, 0], both[0].text + both[1].text
    assert both[0].text.splitlines()[-1].startswith("panscape: error: /data/0.png: expected a whole image; repair")
    assert both[1].text == ""


def test_a_signal_to_one_stops_both_at_one_step_and_a_death_ends_both(tmp_path: Path) -> None:
    file = recipe_file(tmp_path / "recipe.py", "replace(WHOLE, steps=400, eval_every=0)")
    command = ("train", file, "--out", tmp_path / "out", *OPTIONS, "--checkpoint-every", 2, "--resume")
    first, second = torchrun(tmp_path / "stop", 2, *command)
    assert first.wait_until(lambda: steps_saved(tmp_path / "out")), first.text + second.text
    os.kill(second.pid, signal.SIGTERM)
    assert (first.end(), second.end()) == (130, 0), first.text + second.text
    step = last_checkpoint(tmp_path / "out")[0]
    assert first.text.splitlines()[-2:] == [
        f"stopped after step {step}; add --resume to continue",
        "panscape: interrupted",
    ]

    first, second = torchrun(tmp_path / "death", 2, *command)
    assert first.wait_until(lambda: max(steps_saved(tmp_path / "out")) > step), first.text + second.text
    os.kill(second.pid, signal.SIGKILL)
    assert (first.end(), second.end()) == (2, -signal.SIGKILL), first.text
    assert first.text.splitlines()[-1].startswith("panscape: error: another process of this training has ended")
