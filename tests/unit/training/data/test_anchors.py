"""Anchors from training images: their sizes, and that a run keeps them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from maps import SHAPES
from training_runs import TINY, assert_equal, last_checkpoint

import panscape
from panscape import PanopticMap
from panscape.datasets.base import Sample
from panscape.errors import InvalidArgumentError
from panscape.recipes.model_options import SwiftNetOptions, YoloPanopticLightOptions, YoloPanopticOptions
from panscape.representations.masked_boxes import MaskedBoxRepresentation
from panscape.training.config import Augmentation, DataOptions, Recipe, Sampling
from panscape.training.data.anchors import anchors_for, has_anchors_from_data
from panscape.training.run import run
from panscape.training.run_options import RunOptions

# Nine widths and heights; an object of each is in three images.
SIDES = [(8, 10), (12, 30), (30, 16), (20, 40), (50, 20), (40, 40), (40, 60), (100, 40), (80, 64)]
GROUND, DISC, BOX = 1, 2, 3


class Objects:
    """Images of 64x100 pixels with one segment each: width, height, category, and whether it is a crowd."""

    labels = SHAPES

    def __init__(self, segments: list[tuple[int, int, int, bool]]) -> None:
        self.segments = segments

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, index: int) -> Sample:
        width, height, category, is_crowd = self.segments[index]
        ids = torch.zeros(64, 100, dtype=torch.int32)
        ids[64 - height :, :width] = 1
        truth = PanopticMap(ids, torch.tensor([category]), None, torch.tensor([is_crowd]))
        return Sample((ids[None] * 99).to(torch.uint8).repeat(3, 1, 1), truth, f"image{index}")


OTHERS = [(7, 7, GROUND, False)] * 40 + [(9, 9, DISC, True)] * 40
TRAIN = [(width, height, DISC if i % 2 else BOX, False) for i, (width, height) in enumerate(SIDES * 3)] + OTHERS


@dataclass(frozen=True)
class ObjectsData(DataOptions):
    def load(self, root: Path | None, split: str) -> Objects:
        return Objects(TRAIN if split == "train" else TRAIN[:1])


NET = YoloPanopticOptions(pyramid_width=8, mask_width=8, representation=MaskedBoxRepresentation(anchors_from_data=True))
RECIPE = replace(
    TINY,
    model=NET,
    data=ObjectsData(),
    augmentation=Augmentation(crop=(96, 128), scale=(0.5, 1.5)),
    steps=2,
    batch_size=2,
    eval_every=0,
)


def sides_of(anchors: Any) -> list[tuple[float, float]]:
    assert len(anchors) == 3
    return [side for stride in anchors for side in stride]


@pytest.mark.parametrize(
    ("augmentation", "expected"),
    [
        (Augmentation(crop=(96, 128), scale=(0.5, 1.5)), SIDES),
        (Augmentation(crop=(200, 256), scale=(0.5, 3.5)), [(2 * w, 2 * h) for w, h in SIDES]),
        (
            Augmentation(crop=(96, 180), scale=(0.5, 8.0), scale_distribution="log_uniform"),
            [(2 * w, 2 * h) for w, h in SIDES[:6]] + [(80, 96), (180, 80), (160, 96)],
        ),
        (
            Augmentation(crop=(200, 256), scale=(1.0, 1.0), multi_scale=(100, 200, 600)),
            SIDES,
        ),
        (
            Augmentation(crop=(200, 256), scale=(1.0, 1.0), multi_scale=(50, 100, 120)),
            [(w / 2, h / 2) for w, h in SIDES],
        ),
    ],
    ids=["mean", "larger", "cut", "multi_scale", "smaller"],
)
def test_anchors_are_the_sizes_of_things_where_they_enter_the_network(
    augmentation: Augmentation, expected: list[tuple[float, float]]
) -> None:
    recipe = replace(RECIPE, augmentation=augmentation)
    assert sides_of(anchors_for(recipe, Objects(TRAIN))) == expected


def test_there_are_as_many_anchors_as_the_network_has(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "panscape")
    light: Any = YoloPanopticLightOptions()
    light = replace(light, representation=replace(light.representation, anchors_from_data=True))
    recipe = replace(RECIPE, model=light)
    assert has_anchors_from_data(recipe)
    assert [len(stride) for stride in anchors_for(recipe, Objects(TRAIN))] == [1, 1, 1]
    assert caplog.messages[-1].startswith("anchors from 27 objects, with a mean IoU of 0.")
    assert not has_anchors_from_data(replace(RECIPE, model=SwiftNetOptions()))
    assert not has_anchors_from_data(replace(RECIPE, model=YoloPanopticOptions()))


def with_augmentation(**changes: Any) -> Recipe:
    return replace(RECIPE, augmentation=replace(RECIPE.augmentation, **changes))


@pytest.mark.parametrize(
    ("recipe", "dataset", "message"),
    [
        (RECIPE, Objects(OTHERS), r"got none of a thing category of shapes in 80 training images; add images with "),
        (
            RECIPE,
            Objects(TRAIN[:8] + OTHERS),
            r"at least 9 different sizes for 9 anchors, got 8; use more images",
        ),
        (
            with_augmentation(shortest_sides=(48, 64)),
            Objects(TRAIN),
            r"augmentation.shortest_sides \(48, 64\); use",
        ),
        (
            replace(RECIPE, sampling=Sampling("scales")),
            Objects(TRAIN),
            r'got sampling.kind "scales", sampling',
        ),
    ],
)
def test_data_that_give_no_anchors_are_an_error(recipe: Recipe, dataset: Objects, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        anchors_for(recipe, dataset)


def test_a_detector_that_is_not_trained_has_its_anchors() -> None:
    with pytest.raises(InvalidArgumentError, match=r"expected anchors_from_data False with train_detector False, got"):
        MaskedBoxRepresentation(anchors_from_data=True, train_detector=False)


def test_a_run_estimates_its_anchors_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = RunOptions(tmp_path / "out", device="cpu", workers=0, image_every=0, checkpoint_every=1)
    run(RECIPE, options)
    model = panscape.load(tmp_path / "out" / "model.safetensors")
    assert isinstance(model.representation, MaskedBoxRepresentation)
    assert sides_of(model.representation.anchors) == SIDES
    recorded = json.loads((tmp_path / "out" / "run.json").read_text())["recipe"]["model"]["representation"]
    assert sides_of([tuple(map(tuple, stride)) for stride in recorded["anchors"]]) == SIDES
    _, whole = last_checkpoint(tmp_path / "out")

    monkeypatch.setattr("panscape.training.run.anchors_for", None)  # resuming does not estimate
    (tmp_path / "out" / "checkpoints" / "step_00000002.ckpt").unlink()
    (tmp_path / "out" / "model.safetensors").unlink()
    run(RECIPE, replace(options, resume=True))
    assert_equal(last_checkpoint(tmp_path / "out"), (2, whole))
    given: Any = replace(RECIPE, model=replace(NET, representation=MaskedBoxRepresentation()))
    with pytest.raises(InvalidArgumentError, match=r"contains a different run: model\.representation\.anchors: "):
        run(given, replace(options, resume=True))
