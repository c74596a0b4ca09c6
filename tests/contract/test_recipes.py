"""What every recipe promises: it trains. A new recipe joins by its line in the table of recipes.

Of recipes that differ in numbers alone, the first one is trained; the networks of the others are saved and loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import trees
from maps import SHAPES

import panscape
from panscape import LabelSpace, zoo
from panscape.errors import InvalidArgumentError
from panscape.images import load_image
from panscape.recipes import get_recipe, list_recipes
from panscape.recipes.data_options import (
    Ade20kData,
    AerialData,
    BsbData,
    CamVidData,
    CityscapesData,
    CocoPanopticData,
    FolderData,
    IddData,
    TownData,
    VistasData,
)
from panscape.recipes.model_options import (
    DenseDetectionsOptions,
    MaskFormerOptions,
    PanopticDeepLabOptions,
    PanopticFPNOptions,
    SeamlessOptions,
    SwiftNetOptions,
    UPerNetOptions,
    UPerNetSemanticOptions,
    YoloPanopticLightOptions,
    YoloPanopticOptions,
)
from panscape.training.config import Recipe
from panscape.training.run import run
from panscape.training.run_folder import recipe_to_dict
from panscape.training.run_options import RunOptions


def both(write: Callable[..., Any], **options: Any) -> Callable[[Path], None]:
    def write_both(root: Path) -> None:
        for split in ("train", "val"):
            write(root, split=split, **options)

    return write_both


# A small data set in the layout of the real one, for each kind of data.
TREES: dict[type, Callable[[Path], Any]] = {
    Ade20kData: both(trees.ade20k),
    AerialData: both(trees.category_masks, labels=LabelSpace.load("aerial")),
    BsbData: both(trees.bsb),
    CamVidData: both(trees.category_masks, labels=LabelSpace.load("camvid"), void=11),
    CityscapesData: both(trees.cityscapes),
    CocoPanopticData: both(trees.coco_2017, labels=LabelSpace.load("coco_panoptic")),
    FolderData: trees.own_coco,
    IddData: both(trees.idd),
    TownData: lambda root: None,
    VistasData: both(trees.vistas),
}

SMALL_QUERIES = {"width": 16, "num_queries": 6, "decoder_layers": 2, "hidden_width": 16, "num_heads": 4}

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
    SeamlessOptions: {"width": 16, "window": (64, 64)},
    PanopticFPNOptions: {"width": 8, "semantic_width": 8},
    MaskFormerOptions: {**SMALL_QUERIES, "encoder_layers": 1},
    UPerNetOptions: {**SMALL_QUERIES, "decoder_width": 16},
    UPerNetSemanticOptions: {"decoder_width": 8, "auxiliary_width": 8},
    YoloPanopticOptions: {"backbone": "darknet_xs", "pyramid_width": 8, "mask_width": 8, "detector": None},
    YoloPanopticLightOptions: {"width": 16, "fine_width": 8, "num_prototypes": 4},
}


def tiny(recipe: Recipe) -> Recipe:
    """The recipe for two small steps of a small network; how it trains stays."""
    data = recipe.data
    if isinstance(data, TownData):
        data = replace(data, size=(48, 64), length=4, val_length=1)
    small = {"backbone": "residual_xs", "pretrained": False} | SMALL[type(recipe.model)]
    model: Any = replace(cast(Any, recipe.model), **small)
    relations = getattr(model, "relations", None)
    if hasattr(relations, "key_width"):
        model = replace(model, relations=replace(relations, key_width=8))
    augmentation = replace(recipe.augmentation, crop=(64, 64))
    if augmentation.shortest_sides:
        augmentation = replace(augmentation, shortest_sides=(48, 64, 80))
    sampling = recipe.sampling
    if sampling.shortest_side:
        sampling = replace(sampling, shortest_side=64)
    return replace(
        recipe,
        model=model,
        data=data,
        augmentation=augmentation,
        sampling=sampling,
        steps=2,
        batch_size=2,
        eval_every=2 if recipe.early_stopping.patience else 0,
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


def choices_of(value: Any, path: str = "") -> Iterator[str]:
    """Give what is chosen by name or switched on; of numbers, whether they are zero."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from choices_of(part, f"{path}.{key}")
    elif isinstance(value, str) or value is None:
        yield f"{path}={value}"
    else:
        yield f"{path} is {'set' if value else 'off'}"


def with_choices_of_their_own() -> list[str]:
    """Return the recipes with a family on a kind of data, or a choice in a family, that no recipe before has."""
    chosen: list[str] = []
    seen: set[tuple[str, str]] = set()
    for name in list_recipes():
        described = recipe_to_dict(get_recipe(name))
        del described["name"], described["model"]["backbone"]
        new = {(described["model"]["type"], choice) for choice in choices_of(described)} - seen
        seen |= new
        if new:
            chosen.append(name)
    return chosen


TRAINED = with_choices_of_their_own()


def test_every_family_trains_on_every_kind_of_data_that_it_has_a_recipe_for() -> None:
    def kinds(names: Iterator[str] | list[str]) -> set[tuple[type, type]]:
        return {(type(recipe.model), type(recipe.data)) for recipe in map(get_recipe, names)}

    assert kinds(TRAINED) == kinds(list(list_recipes()))
    assert {kind for _, kind in kinds(TRAINED)} == set(TREES)


@pytest.mark.parametrize("name", [name for name in list_recipes() if name not in TRAINED])
def test_the_network_of_every_other_recipe_is_saved_and_loaded(name: str, tmp_path: Path) -> None:
    recipe = tiny(get_recipe(name))
    zoo.save(recipe.model.create(SHAPES), tmp_path / "model.safetensors")
    assert zoo.load(tmp_path / "model.safetensors").representation == recipe.model.representation


@pytest.mark.parametrize("name", TRAINED)
def test_recipes_train_two_steps(name: str, tmp_path: Path) -> None:
    recipe = tiny(get_recipe(name))
    TREES[type(recipe.data)](tmp_path / "data")
    root = None if isinstance(recipe.data, TownData) else tmp_path / "data"
    labels = recipe.data.load(root, "val").labels
    options = RunOptions(tmp_path / "out", root, device="cpu", workers=0, image_every=0)
    network = recipe.model.create(labels)
    if not all(parameter.requires_grad for parameter in network.parameters()):  # frozen layers need weights
        with pytest.raises(InvalidArgumentError, match=r"^expected weights for all frozen layers.* got none for "):
            run(recipe, options)
        zoo.save(network, tmp_path / "start.safetensors")
        options = replace(options, init_from=str(tmp_path / "start.safetensors"))
    report = run(recipe, options)
    assert list(report.panoptic.per_category) == [category.name for category in labels]
    model = panscape.load(str(tmp_path / "out" / "model.safetensors"))
    assert model.labels == labels
    assert model.representation == recipe.model.representation
