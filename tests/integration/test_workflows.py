"""`panscape.train`, `evaluate` and `evaluate_files`: the whole command as one call in Python."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trees
from PIL import Image
from training_runs import TINY

import panscape
from panscape.cli import main
from panscape.errors import InvalidArgumentError, UnknownNameError
from panscape.metrics import EvaluationReport
from panscape.recipes.data_options import FolderData
from panscape.training.config import Recipe

QUICK: dict[str, Any] = {"device": "cpu", "workers": 0, "image_every": 0, "steps": 2, "eval_every": 0}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def head_iou(report: EvaluationReport) -> float:
    """Return the mIoU of the semantic head, which is above 0 from the start."""
    assert report.semantic_head is not None
    assert report.semantic_head.mean_iou > 0
    return report.semantic_head.mean_iou


def test_a_recipe_is_trained_with_options_by_name(tmp_path: Path) -> None:
    result = panscape.train(TINY, out=tmp_path / "run", optimizer={"learning_rate": 1e-3}, seed=3, **QUICK)
    saved = json.loads((tmp_path / "run/run.json").read_text())["recipe"]
    assert (saved["steps"], saved["optimizer"]["learning_rate"]) == (2, 1e-3)
    assert saved["optimizer"]["weight_decay"] == TINY.optimizer.weight_decay  # fields that were not given are kept
    assert result.folder == tmp_path / "run"
    assert not result.model.training
    assert result.model.card["seed"] == 3
    # What is saved is what was evaluated; the data are those of the recipe.
    for model in (result.model, result.folder, str(result.folder / "model.safetensors")):
        again = panscape.evaluate(model, TINY, device="cpu", workers=0)
        assert head_iou(again) == pytest.approx(head_iou(result.report), abs=1e-6)
    assert str(result).startswith(str(tmp_path / "run"))


def test_a_folder_of_ones_own_is_trained_and_evaluated(tmp_path: Path) -> None:
    tree = trees.own_masks(tmp_path / "data")
    result = panscape.train(data=tmp_path / "data", out=str(tmp_path / "run"), batch_size=2, **QUICK)
    assert result.model.labels == tree.labels
    report = panscape.evaluate(result.model, data=str(tmp_path / "data"), workers=0, ap=True, limit=1)
    assert report.instances is not None
    whole = panscape.evaluate(result.model, panscape.datasets.from_folder(tmp_path / "data", "val"), workers=0)
    assert head_iou(whole) == pytest.approx(head_iou(result.report), abs=1e-6)


def test_a_run_is_evaluated_on_its_own_held_out_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """With the default data options, void 11 would be no category, and images of training would be evaluated."""
    folder, out = tmp_path / "mine", tmp_path / "run"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for i in range(12):
        Image.fromarray(np.full((64, 64, 3), 20 * i, np.uint8)).save(folder / f"images/{i:02}.png")
        Image.fromarray(np.repeat(np.array([0, 1, 2, 11], np.uint8), 16)[:, None].repeat(64, 1)).save(
            folder / f"labels/{i:02}.png"
        )
    names = [("road", False), ("car", True), ("sky", False)]
    categories = [{"name": name, "is_thing": thing, "source_id": i} for i, (name, thing) in enumerate(names)]
    (folder / "categories.json").write_text(json.dumps({"name": "mine", "categories": categories}))
    result = panscape.train(data=folder, out=out, void=11, hold_out=4, batch_size=2, **QUICK)
    report = panscape.evaluate(out)
    assert head_iou(report) == pytest.approx(head_iou(result.report), abs=1e-6)
    assert main(["evaluate", str(out), "--json", "--device", "cpu", "--workers", "0"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["recipe"], printed["images"]) == ("from_folder", 3)
    assert main(["evaluate", str(out), "--recipe", "from_folder", "--data", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 3
    assert main(["evaluate", str(out), "--data.hold-out", "3", "--device", "cpu", "--workers", "0"]) == 2
    assert (
        f"expected images that {out} was not trained on, but 3 of 4 images of the split 'val' were in its training "
        f"({folder}/images/02.png, {folder}/images/05.png, {folder}/images/08.png); use the data options of the run"
    ) in capsys.readouterr().err
    other = Recipe("other", TINY.model, FolderData(void=11, hold_out=3))
    with pytest.raises(InvalidArgumentError, match=r"but 3 of 4 images of the split 'val' were in its training"):
        panscape.evaluate(out, other, data=folder)
    assert main(["evaluate", str(out), "--split", "train", "--device", "cpu", "--workers", "0"]) == 0
    assert "run on 9 images of from_folder train" in capsys.readouterr().out
    again = panscape.evaluate(out, "from_folder", data=folder)
    assert head_iou(again) == pytest.approx(head_iou(result.report), abs=1e-6)
    shutil.copy(folder / "images/00.png", folder / "images/03.png")  # the same image in both splits
    panscape.evaluate(out)
    assert caplog.messages[-1] == (
        f"{out}: 1 of 3 images of the split 'val' were in its training ({folder}/images/03.png), so that the metrics "
        "say little; remove them from one of the splits"
    )
    Image.fromarray(np.full((64, 64, 3), 60, np.uint8)).save(folder / "images/03.png")
    # A model without its run directory needs the options again.
    copy = str(shutil.copy(out / "model.safetensors", tmp_path / "copy.safetensors"))
    options = ["--data.void", "11", "--data.hold-out", "4", "--device", "cpu", "--workers", "0", "--json"]
    assert main(["evaluate", copy, "--data", str(folder), *options]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["semantic_head"]["mean_iou"] == pytest.approx(head_iou(result.report), abs=1e-6)
    assert main(["evaluate", str(out), "--data.hold", "3"]) == 2
    assert "unknown option --data.hold; did you mean --data.hold-out or --data.void?" in capsys.readouterr().err
    record = json.loads((out / "run.json").read_text())
    record["recipe"]["data"]["type"] = "MyData"
    (out / "run.json").write_text(json.dumps(record))
    with pytest.raises(InvalidArgumentError, match="data options that this version of panscape does not have"):
        panscape.evaluate(out)


def test_a_folder_with_the_name_of_a_recipe_hides_no_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("town").mkdir()
    report = panscape.evaluate("town", "town", limit=1, workers=0, device="cpu")
    assert report.panoptic.all.pq > 0.3


def test_files_are_evaluated_with_options_by_name(tmp_path: Path) -> None:
    tree = trees.own_coco(tmp_path)
    truth = next(path for path in (tmp_path / "annotations").glob("*train*.json"))
    pngs = str(truth.with_suffix(""))
    scores = panscape.evaluate_files(truth, str(truth), boundary=True, threads=1, gt_dir=pngs)
    assert scores.num_images == len(tree.images)
    assert scores.report.panoptic.all.pq == 1
    assert scores.report.boundary is not None
    assert math.isclose(scores.report.boundary.all.pq, 1)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda folder: panscape.train("town", out=folder / "run", stepps=3),
            UnknownNameError,
            r"unknown option of train 'stepps'; did you mean steps\b",
        ),
        (
            lambda folder: panscape.train("town", out=folder / "run", optimizer={"learning_rat": 1}),
            UnknownNameError,
            r"unknown field of Optimizer 'learning_rat'; did you mean learning_rate\b",
        ),
        (
            lambda folder: panscape.train("twon", out=folder / "run"),
            UnknownNameError,
            r"unknown recipe 'twon'; did you mean .*town",
        ),
        (
            lambda folder: panscape.train("town", out=folder / "run", steps=0),
            InvalidArgumentError,
            r"expected steps of 1 or more, got 0",
        ),
        (
            lambda folder: panscape.train(folder, out=folder / "run"),
            InvalidArgumentError,
            r"expected a recipe, got the folder .*; give a folder of your own as data$",
        ),
        (
            lambda folder: panscape.train(out=folder / "run"),
            InvalidArgumentError,
            r"expected the folder of your images and their annotations, got none; give --data DIR",
        ),
        (
            lambda folder: panscape.evaluate("town", folder),
            InvalidArgumentError,
            r"expected a dataset or a recipe, got the folder .*; give a folder of your own as data$",
        ),
        (
            lambda folder: panscape.evaluate("town", "town", limitt=2),
            UnknownNameError,
            r"unknown option of evaluate 'limitt'; did you mean limit\b",
        ),
        (
            lambda folder: panscape.evaluate_files(folder, folder, protocoll="coco"),
            UnknownNameError,
            r"unknown option of evaluate_files 'protocoll'; did you mean protocol\b",
        ),
    ],
)
def test_wrong_names_and_folders_are_one_clear_error(
    call: Callable[[Path], Any], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        call(tmp_path)
    assert not (tmp_path / "run").exists()
