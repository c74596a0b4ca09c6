"""`panscape.train`, `evaluate` and `evaluate_files`: the whole command as one call in Python."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import trees
from training_runs import TINY

import panscape
from panscape.errors import InvalidArgumentError, UnknownNameError
from panscape.metrics import EvaluationReport

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
