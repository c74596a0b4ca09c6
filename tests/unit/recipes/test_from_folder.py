"""What follows from a folder of one's own."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import trees
from maps import SHAPES
from PIL import Image

import panscape
from panscape import create_model
from panscape.datasets import from_folder
from panscape.errors import BadSampleError, UnknownNameError
from panscape.nn.backbones import create_backbone
from panscape.nn.pretrained import weights_of
from panscape.recipes import get_recipe
from panscape.recipes.data_options import FolderData
from panscape.recipes.from_folder import derive, recipe_for
from panscape.representations.queries import QueryRepresentation
from panscape.zoo import load_partial
from panscape.zoo.transfer import unique_state_dict


@pytest.fixture(autouse=True)
def cached(monkeypatch):
    """The ImageNet weights in the cache of the hub; none unless a test puts a path there."""
    found = []
    monkeypatch.setattr("panscape.recipes.from_folder.cached_file", lambda *_: found[0] if found else None)
    return found


@pytest.mark.parametrize("is_given", [True, False])
def test_imagenet_weights_are_used_where_they_are(is_given, cached, tmp_path):
    trees.own_coco(tmp_path)
    without = derive(tmp_path)
    assert without.notes[-2].startswith("all weights start at random, as the cache has no ImageNet weights; ")
    assert not without.recipe.model.pretrained
    file = Path("features.safetensors")
    if not is_given:
        cached.append(file)
    recipe, notes, _ = derive(tmp_path, backbone_weights=file if is_given else None)
    assert notes[-2] == "the backbone starts from ImageNet weights, features.safetensors"
    assert notes[-1].startswith(
        "derived defaults: Panoptic SwiftNet with backbone tf_efficientnet_lite0.in1k and width 64"
    )
    assert (recipe.model.pretrained, recipe.model.levels, recipe.optimizer.backbone_lr_mult) == (True, 1, 0.15)
    assert weights_of(create_backbone(recipe.model.backbone)).repository == "timm/tf_efficientnet_lite0.in1k"
    started = derive(tmp_path, init_from="street")
    assert not started.recipe.model.pretrained
    assert not any("ImageNet" in note for note in started.notes)


def test_small_images_are_cityscapes_scaled_down():
    # 480x360 pixels are 1 / 12.14 of Cityscapes' area and 1 / 3.48 of its lengths.
    recipe = recipe_for(num_images=367, height=360, width=480)
    representation = recipe.model.representation
    assert recipe.augmentation.crop == (352, 480)
    assert recipe.augmentation.scale == (0.5, 2.0)
    assert recipe.model.longest_side == 640
    assert representation.sigma == 4.0, "not below 4: a centre must outlive a quarter of the resolution"
    assert representation.small_area == round(4096 / 12.136)
    assert representation.decoding.stuff_area == round(2048 / 12.136)
    assert representation.offset_loss_weight == pytest.approx(0.0025 * 3.484, abs=1e-4)
    assert recipe.steps == 13_800  # 300 epochs of 367 images, 8 a step: 13 762


def test_large_images_are_learnt_at_the_size_they_are_predicted_at():
    recipe = recipe_for(num_images=2000, height=3000, width=4096)
    assert recipe.model.longest_side == 2048
    assert recipe.augmentation.scale == (0.25, 1.0)
    assert recipe.augmentation.crop == (512, 512)
    assert (
        recipe.model.representation.small_area == round(4096 * 1500 / 1024) or recipe.model.representation.sigma == 10
    )
    assert recipe.steps == 40_000


@pytest.mark.parametrize("size", [(20, 30), (64, 2000), (500, 500), (10_000, 10)])
@pytest.mark.parametrize("count", [1, 29, 30, 10**6])
def test_any_folder_gives_a_usable_recipe(size, count):
    recipe = recipe_for(count, *size)
    assert 1000 <= recipe.steps <= 40_000
    assert all(64 <= side <= 512 and side % 32 == 0 for side in recipe.augmentation.crop)
    assert recipe.schedule.warmup_steps < recipe.steps
    assert 0 < recipe.eval_every <= recipe.steps
    recipe.model.create(SHAPES)


def test_the_layout_found_is_reported(tmp_path):
    trees.category_masks(tmp_path / "masks")
    derived = derive(tmp_path / "masks")
    # Of 48x72, 36x48 and 24x60 the last is held out.
    assert derived.notes[0] == (
        f"{tmp_path / 'masks'}: semantic masks, 4 categories (0 things), 2 train and 1 val images, typical size 42x60"
    )
    assert derived.notes[1] == "no val split: every 10th image is held out for validation"
    assert derived.notes[2].startswith("no categories.json: categories are named by their ids and all are stuff")
    assert derived.notes[4] == (
        "derived defaults: Panoptic SwiftNet with backbone residual_xs and width 64, crops of 64x64, 1000 steps, "
        "targets with sigma 4.0 and small objects below 64 pixels"
    )
    trees.own_coco(tmp_path / "coco")
    notes = derive(tmp_path / "coco").notes
    assert len(notes) == 3
    assert "COCO panoptic format, 4 categories (2 things), 3 train and 3 val images" in notes[0]


@pytest.mark.parametrize(
    ("start", "new"),
    [
        (
            "street",
            "semantic.2.bias ([11] there, [4] here), semantic.2.weight ([11, 96, 1, 1] there, ",
        ),
        ("street_boxes", "head.box_category.bias ([4] there, [2] here)"),
    ],
)
def test_the_network_is_that_of_the_model_to_start_from(start, new, tmp_path):
    labels = trees.own_masks(tmp_path).labels
    derived = derive(tmp_path, init_from=start)
    alone = derive(tmp_path).recipe
    options, model = derived.recipe.model, panscape.load(start)
    backbone = {"street": "tf_efficientnet_lite0.in1k", "street_boxes": "residual_s"}[start]
    assert f"the network of {start}, {options.factory} with backbone {backbone}" in derived.notes[-1]
    assert options.longest_side == alone.model.longest_side != model.longest_side
    if start == "street":
        assert options.width == model.spec.options["width"]
        assert options.representation == replace(
            alone.model.representation, decoding=replace(alone.model.representation.decoding, resize="outputs")
        )
    line = load_partial(options.create(labels), start).line
    number = {"street": 2, "street_boxes": 4}[start]
    num = len(unique_state_dict(model))
    assert line.startswith(f"started from {start}.safetensors: {num - number} of {num} tensors; {number} new, as of ")
    assert f"as of another shape: {new}" in line


def test_a_backbone_to_start_from_has_no_network(tmp_path):
    trees.own_masks(tmp_path)
    torch.save({}, tmp_path / "backbone.pth")
    assert derive(tmp_path, init_from=str(tmp_path / "backbone.pth")).recipe == derive(tmp_path).recipe
    with pytest.raises(UnknownNameError, match="did you mean street"):
        derive(tmp_path, init_from="stret")


def test_likely_mistakes_in_the_data_are_noted(tmp_path):
    def inspected():
        return FolderData().inspect(*(from_folder(tmp_path, split) for split in ("train", "val")), on_error="raise")

    trees.own_masks(tmp_path)
    assert len(derive(tmp_path).notes) == 3
    assert inspected() == ()
    names = [{"id": c.source_id, "name": c.name, "isthing": 0, "color": [9, 9, 9]} for c in SHAPES]
    (tmp_path / "categories.json").write_text(json.dumps([*names, {"id": 99, "name": "pole", "isthing": 0}]))
    _, no_things, _, _ = derive(tmp_path).notes
    one_color, *absent = inspected()
    assert no_things.startswith("no category is a thing, so there are no objects; set isthing")
    assert one_color == "categories of one color, which look alike in images of maps: sky = ground = disc = box"
    assert absent == [f"no pixel in 3 of 3 {split} maps: pole" for split in ("train", "val")]


def test_without_a_folder_it_is_a_typical_one():
    assert get_recipe("from_folder") == recipe_for(1000, 480, 640)


def test_an_unreadable_image_does_not_stop_the_others(tmp_path):
    tree = trees.category_masks(tmp_path)
    images = sorted((tmp_path / "images").rglob("*.*"))
    assert len(images) == len(tree.truths) == 3
    images[0].write_bytes(b"no image")
    assert "typical size 36x48" in derive(tmp_path).notes[0], "of 48x72 and 36x48, which are to train on"
    images[1].write_bytes(b"no image")
    with pytest.raises(BadSampleError, match=f"^{re.escape(str(images[0]))}"):
        derive(tmp_path)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("damage", ["mask", "size", "image"])
def test_what_cannot_be_used_is_found_before_the_training(tmp_path, split, damage):
    trees.own_masks(tmp_path)
    image, mask = (min((tmp_path / kind / split).iterdir()) for kind in ("images", "labels"))
    if damage == "size":
        Image.new("L", (4, 4), SHAPES[0].source_id).save(mask)
    else:
        (mask if damage == "mask" else image).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    splits = [from_folder(tmp_path, name) for name in ("train", "val")]
    name = (image if damage == "image" else mask).name
    with pytest.raises(BadSampleError, match=f"{split}/{name}: .*; repair or remove it, or skip"):
        FolderData().inspect(*splits, on_error="raise")
    notes = FolderData().inspect(*splits, on_error="skip")
    assert notes[0].startswith(f"1 of 3 {split} images inspected cannot be used: {tmp_path}/")


def test_queries_keep_their_representation_on_other_data(tmp_path):
    trees.own_masks(tmp_path)
    start = create_model("upernet", SHAPES, backbone="residual_xs", decoder_width=8, width=8, num_heads=4)
    start.save(tmp_path / "start.safetensors")
    options = derive(tmp_path, init_from=str(tmp_path / "start.safetensors")).recipe.model
    assert (options.factory, options.width) == ("upernet", 8)
    assert options.representation == QueryRepresentation()
