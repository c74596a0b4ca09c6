"""Dense detections from the command line: trained, killed and gone on with, evaluated, predicted, by two as by one."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from training_runs import Command, last_checkpoint, recipe_file, steps_saved, torchrun

import panscape
from panscape import zoo
from panscape.cli import main

RECIPE = "replace(TINY, model=BoxNet(), steps=4, eval_every=0)"
OPTIONS = ("--device", "cpu", "--threads", "1", "--workers", "0", "--log-every", "1", "--image-every", "0")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and a run of it."""
    folder = tmp_path_factory.mktemp("trained")
    file = recipe_file(folder / "recipe.py", RECIPE)
    assert main(["train", str(file), "--out", str(folder / "run"), *OPTIONS]) == 0
    return folder


def test_a_run_that_is_killed_goes_on_to_the_same_weights(trained: Path, tmp_path: Path) -> None:
    command = ["train", str(trained / "recipe.py"), "--out", str(tmp_path / "run"), *OPTIONS, "--checkpoint-every", "1"]
    process = Command(tmp_path / "log", *command)
    assert process.wait_until(lambda: steps_saved(tmp_path / "run")), process.text
    process.signal_all(signal.SIGKILL)
    process.end()
    assert main([*command, "--resume"]) == 0
    for name in ("model.safetensors", "evaluation.json"):
        assert (tmp_path / "run" / name).read_bytes() == (trained / "run" / name).read_bytes(), name
    lines = [json.loads(line) for line in (trained / "run" / "metrics.jsonl").read_text().splitlines()]
    assert set(lines[0]["losses"]) == {"box", "centerness", "category", "levelness", "semantic", "mask"}
    assert lines[0]["losses"]["mask"] > 0


def test_a_trained_network_is_evaluated_with_true_parts(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate = ["evaluate", str(trained / "run"), "--recipe", str(trained / "recipe.py"), "--device", "cpu"]
    quality: dict[str, Any] = {}
    for parts in ("", "boxes", "semantic", "semantic,boxes"):
        options = ["--oracle", parts] if parts else []
        assert main([*evaluate, "--workers", "0", "--json", *options]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["oracle"] == [part for part in parts.split(",") if part]
        quality[parts] = report["panoptic"]["all"]["pq"]
    assert quality["semantic"] > quality[""]
    assert quality["semantic,boxes"] > 0.99  # but for objects that no location meets
    assert main([*evaluate, "--oracle", "centers"]) == 2
    assert "unknown oracle 'centers'; known: boxes, semantic" in capsys.readouterr().err


def test_a_trained_network_predicts_and_is_saved(trained: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (70, 45), (200, 30, 90)).save(photo)
    out = tmp_path / "out"
    predict = ["predict", str(photo), "--model", str(trained / "run"), "--device", "cpu"]
    assert main([*predict, "--save-outputs", "--out", str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        *("panoptic", "panoptic.json", "photo.jpg", "photo_panels.jpg", "predictions.jsonl")
    ]
    model = panscape.load(trained / "run")
    zoo.save(model, tmp_path / "again.safetensors")
    again = panscape.load(tmp_path / "again.safetensors")
    assert again.representation == model.representation
    assert again.predict(photo).equals(model.predict(photo))
    images = torch.rand(1, 3, 45, 70)
    for some, other in zip(again(images), model(images), strict=True):
        assert torch.equal(some, other)


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    # In double precision, and with eps=1, as in the test of centers. The mask loss is among the losses.
    recipe = (
        "replace(WHOLE, model=BoxNet(is_double=True), steps=3, eval_every=0, "
        "optimizer=replace(WHOLE.optimizer, eps=1.0))"
    )
    file = recipe_file(tmp_path / "recipe.py", recipe)
    assert main(["train", str(file), "--out", str(tmp_path / "one"), *OPTIONS]) == 0
    both = torchrun(tmp_path / "log", 2, "train", file, "--out", tmp_path / "two", *OPTIONS)
    assert [process.end() for process in both] == [0, 0], "".join(process.text for process in both)
    (step, one), (other_step, two) = last_checkpoint(tmp_path / "one"), last_checkpoint(tmp_path / "two")
    assert step == other_step == 3
    for name, tensor in one["model"].items():
        torch.testing.assert_close(two["model"][name], tensor, rtol=0, atol=1e-8, msg=name)
