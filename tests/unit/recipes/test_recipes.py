"""Recipes say what was published, build their networks, and can be told apart."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace

import pytest
import torch
from maps import SHAPES

from panscape import LabelSpace
from panscape.errors import InvalidArgumentError, UnknownNameError
from panscape.recipes import get_recipe, list_recipes
from panscape.recipes import panoptic_swiftnet as published
from panscape.recipes.data_options import BsbData, CityscapesData, CocoPanopticData, VistasData
from panscape.training.recipe import Recipe
from panscape.training.run_folder import recipe_to_dict

NAMES = list(list_recipes())
CITY_SIDES = (512, 640, 704, 832, 896, 1024, 1152, 1216, 1344, 1408, 1536)
COCO_SIDES = (320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960)
VISTAS_SIDES = (
    960, 1024, 1088, 1152, 1216, 1280, 1344, 1408, 1472, 1536, 1600, 1664, 1728, 1792, 1856, 1920, 1984, 2048, 2112,
)  # fmt: skip

# Released configurations; BSB Aerial: Section 3.1. Learning rate, its end, warm-up, steps, batch, crop, sides, longest
# side in training and at test, sigma, share of pixels in the semantic loss, window of centres, stuff area.
PUBLISHED = {
    "cityscapes_pyrx3": (1e-4, 0, 0, 90_000, 8, (1024, 2048), CITY_SIDES, 4096, 2048, 10, 0.2, 7, 2048),
    "coco": (4e-4, 0, 1000, 200_000, 48, (640, 640), COCO_SIDES, 960, 640, 8, 1, 41, 4096),
    "vistas": (5e-4, 0, 1000, 200_000, 16, (1024, 1024), VISTAS_SIDES, 4096, 2048, 10, 1, 7, 4096),
    "bsb": (3e-4, 1e-7, 0, 120_000, 24, (512, 512), (), 4096, 512, 8, 1, 7, 512),
}


@pytest.mark.parametrize("row", PUBLISHED)
def test_published_settings(row):
    recipe = get_recipe(f"swiftnet_r18_{row}")
    representation = recipe.model.representation
    assert PUBLISHED[row] == (
        recipe.optimizer.learning_rate,
        recipe.schedule.end,
        recipe.schedule.warmup_steps,
        recipe.steps,
        recipe.batch_size,
        recipe.augmentation.crop,
        recipe.augmentation.shortest_sides,
        recipe.augmentation.longest_side,
        recipe.model.longest_side,
        representation.sigma,
        representation.semantic_fraction,
        representation.decoding.nms_kernel,
        representation.decoding.stuff_area,
    )


def test_what_all_published_rows_share():
    for name in NAMES:
        if not name.startswith("swiftnet_r18_"):
            continue
        recipe = get_recipe(name)
        model, optimizer = recipe.model, recipe.optimizer
        assert (model.backbone, model.width, model.pretrained) == ("resnet18.tv_in1k", 256, True)
        assert (optimizer.name, optimizer.betas, optimizer.eps) == ("adam", (0.9, 0.999), 1e-8)
        assert (optimizer.weight_decay, optimizer.norm_weight_decay, optimizer.clip_norm) == (0, 0, 0)
        assert (optimizer.backbone_factor, recipe.average_decay, recipe.sync_batch_norm) == (1, 0, True)
        assert (recipe.schedule.decay, recipe.schedule.power, recipe.schedule.warmup_factor) == ("poly", 0.9, 1e-3)
        assert (recipe.augmentation.flip, recipe.augmentation.recolor, recipe.augmentation.copy_paste) == (0.5, 0, 0)
        representation = model.representation
        assert (representation.small_area, representation.small_weight) == (4096, 3)
        assert (representation.semantic_loss_weight, representation.center_loss_weight) == (1, 200)
        assert (representation.decoding.threshold, representation.decoding.top_k) == (0.1, 200)
        assert (representation.boundary_thresholds, representation.offset_divisor) == ("released", "weights")
        assert representation.offset_loss_weight is None, "0.0025 with weights, 0.01 without"


def test_rare_categories_are_drawn_more_often_on_vistas_alone():
    rare = {
        name: (get_recipe(name).sampling.repeat_threshold, get_recipe(name).augmentation.rare_crop) for name in NAMES
    }
    assert {name: values for name, values in rare.items() if values != (0, 0)} == {"swiftnet_r18_vistas": (0.1, 0.5)}


def test_the_rows_of_table_6_differ_in_scales_and_context():
    base = get_recipe("swiftnet_r18_cityscapes_pyrx3")
    for row, levels, context in (("pyrx1", 1, "pyramid"), ("spp", 1, "spp"), ("pyrx2", 2, "pyramid")):
        expected = replace(base, name=f"swiftnet_r18_cityscapes_{row}")
        expected = replace(expected, model=replace(base.model, levels=levels, context=context))
        assert get_recipe(f"swiftnet_r18_cityscapes_{row}") == expected
    assert (base.model.levels, base.model.context) == (3, "pyramid")


def test_the_rows_of_table_8_differ_in_offset_weights():
    for family in ("swiftnet_r18_cityscapes_", "town_"):
        alphas = {
            row: get_recipe(family + row).model.representation.boundary_alphas
            for row in ("l1", "regions3", "pyrx3", "regions8")
        }
        assert alphas == {
            "l1": (),
            "regions3": (8, 4, 1),
            "pyrx3": (8, 4, 2, 1),
            "regions8": (8, 7, 6, 5, 4, 3, 2, 1),
        }


def test_the_rows_of_table_2_differ_in_rotation():
    base = get_recipe("swiftnet_r18_bsb")
    assert base.augmentation.rotation == "none"
    for row, rotation in (("_right_angles", "right_angles"), ("_any_angle", "any")):
        augmentation = replace(base.augmentation, rotation=rotation)
        assert get_recipe(f"swiftnet_r18_bsb{row}") == replace(
            base, name=f"{base.name}{row}", augmentation=augmentation
        )


def test_data_of_published_rows():
    kinds = {"cityscapes_l1": CityscapesData, "coco": CocoPanopticData, "vistas": VistasData, "bsb": BsbData}
    for row, kind in kinds.items():
        assert isinstance(get_recipe(f"swiftnet_r18_{row}").data, kind)
        with pytest.raises(InvalidArgumentError, match=r"expected the folder of .*, got none; give --data DIR"):
            get_recipe(f"swiftnet_r18_{row}").data.load(None, "train")


def test_cityscapes_networks_have_the_published_size():
    labels = LabelSpace.load("cityscapes")
    sizes = {}
    for row in ("pyrx1", "spp", "pyrx2", "pyrx3"):
        options = replace(get_recipe(f"swiftnet_r18_cityscapes_{row}").model, pretrained=False)
        with torch.device("meta"):
            sizes[row] = sum(p.numel() for p in options.create(labels).parameters())
    assert sizes == {"pyrx1": 13_201_366, "spp": 13_401_044, "pyrx2": 14_048_982, "pyrx3": 14_896_598}


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_builds_and_tells_what_it_is(name):
    recipe = get_recipe(name)
    assert isinstance(recipe, Recipe)
    assert recipe.name == name
    assert recipe == get_recipe(name)
    described = recipe_to_dict(recipe)
    assert json.loads(json.dumps(described)) == described
    assert described["model"]["type"] == "SwiftNetOptions"
    with torch.device("meta"):
        model = replace(recipe.model, pretrained=False).create(SHAPES)
    assert model.labels == SHAPES
    assert model.longest_side == recipe.model.longest_side
    assert model.representation == recipe.model.representation
    assert all(side % 32 == 0 for side in recipe.augmentation.crop)


def test_the_table_is_what_the_modules_say():
    for module in ("panoptic_swiftnet", "small", "own_folder"):
        content = vars(importlib.import_module(f"panscape.recipes.{module}"))
        for name, function in content.items():
            documented = getattr(function, "__doc__", None)
            if name in list_recipes() and getattr(function, "__module__", "").endswith(module):
                assert documented.splitlines()[0] == list_recipes()[name]
                assert f"panscape train {name} " in documented
    functions = {n for n, f in vars(published).items() if n.startswith("swiftnet_r18_") and callable(f)}
    assert functions == {name for name in NAMES if name.startswith("swiftnet_r18_")}


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown recipe 'swiftnet_coco'; did you mean swiftnet_r18_coco"):
        get_recipe("swiftnet_coco")
