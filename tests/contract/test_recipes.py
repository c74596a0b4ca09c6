"""What every recipe promises: it trains. A new recipe joins by its line in the table of recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import trees

import panscape
from panscape import LabelSpace
from panscape.errors import InvalidArgumentError
from panscape.images import load_image
from panscape.recipes import get_recipe, list_recipes
from panscape.recipes.data_options import (
    AerialData,
    BsbData,
    CamVidData,
    CityscapesData,
    CocoPanopticData,
    FolderData,
    TownData,
    VistasData,
)
from panscape.recipes.model_options import DenseDetectionsOptions, PanopticDeepLabOptions, SwiftNetOptions
from panscape.training.recipe import Recipe
from panscape.training.run import run
from panscape.training.run_options import RunOptions


def both(write: Callable[..., Any], **options: Any) -> Callable[[Path], None]:
    def write_both(root: Path) -> None:
        for split in ("train", "val"):
            write(root, split=split, **options)

    return write_both


# A small data set in the layout of the real one, for each kind of data.
TREES: dict[type, Callable[[Path], Any]] = {
    AerialData: both(trees.category_masks, labels=LabelSpace.load("aerial")),
    BsbData: both(trees.bsb),
    CamVidData: both(trees.category_masks, labels=LabelSpace.load("camvid"), void=11),
    CityscapesData: both(trees.cityscapes),
    CocoPanopticData: both(trees.coco_2017, labels=LabelSpace.load("coco_panoptic")),
    FolderData: trees.own_coco,
    TownData: lambda root: None,
    VistasData: both(trees.vistas),
}

# What makes the network of a recipe small, for each family.
SMALL: dict[type, dict[str, Any]] = {
    SwiftNetOptions: {"width": 8},
    DenseDetectionsOptions: {"box_width": 8, "semantic_width": 8, "fpn_width": 8, "tower_depth": 1},
    PanopticDeepLabOptions: {
        "decoder_width": 8,
        "instance_width": 8,
        "pyramid_width": 8,
        "head_width": 8,
        "output_stride": 16,
        "size_divisibility": 64,
        "projections": (8, 8),
    },
}


def tiny(recipe: Recipe) -> Recipe:
    """The recipe for two small steps of a small network; how it trains stays."""
    data = recipe.data
    if isinstance(data, TownData):
        data = replace(data, size=(48, 64), length=4, val_length=1)
    model: Any = replace(cast(Any, recipe.model), backbone="residual_xs", pretrained=False, **SMALL[type(recipe.model)])
    relations = getattr(model, "relations", None)
    if hasattr(relations, "key_width"):
        model = replace(model, relations=replace(relations, key_width=8))
    augmentation = replace(recipe.augmentation, crop=(64, 64))
    if augmentation.shortest_sides:
        augmentation = replace(augmentation, shortest_sides=(48, 64, 80))
    return replace(
        recipe,
        model=model,
        data=data,
        augmentation=augmentation,
        steps=2,
        batch_size=2,
        eval_every=0,
    )


@pytest.mark.parametrize("kind", [kind for kind in TREES if kind is not TownData], ids=lambda kind: kind.__name__)
def test_images_of_a_split_are_those_of_its_samples(kind: type, tmp_path: Path) -> None:
    TREES[kind](tmp_path)
    data = kind()
    for split in ("train", "val"):
        dataset, images = data.load(tmp_path, split), data.images(tmp_path, split)
        assert [image.name for image in images] == [dataset[i].name for i in range(len(dataset))]
        for i, image in enumerate(images):
            assert torch.equal(load_image(image.path), dataset[i].image)
    with pytest.raises(InvalidArgumentError, match=r"expected split as one of train, val.* got 'nowhere'"):
        data.images(tmp_path, "nowhere")


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_trains_two_steps(name: str, tmp_path: Path) -> None:
    recipe = tiny(get_recipe(name))
    TREES[type(recipe.data)](tmp_path / "data")
    root = None if isinstance(recipe.data, TownData) else tmp_path / "data"
    report = run(recipe, RunOptions(tmp_path / "out", root, device="cpu", workers=0, pictures_every=0))
    labels = recipe.data.load(root, "val").labels
    assert list(report.panoptic.per_category) == [category.name for category in labels]
    model = panscape.load(str(tmp_path / "out" / "model.safetensors"))
    assert model.labels == labels
    assert model.representation == recipe.model.representation
