"""Recipes have the published values, build their networks, and differ from each other."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import pytest
import torch
from maps import SHAPES

from panscape import LabelSpace, create_model
from panscape.errors import InvalidArgumentError, UnknownNameError
from panscape.nn.pisr import PISR
from panscape.nn.pisr_baselines import OCR, Concatenation, ElementwiseProduct
from panscape.nn.pisr_instances import CenterInstanceMaps
from panscape.recipes import describe_recipes, get_recipe, list_recipes
from panscape.recipes.data_options import BsbData, CityscapesData, CocoPanopticData, VistasData
from panscape.recipes.model_options import PanopticDeepLabOptions
from panscape.recipes.published import published_results, results_of
from panscape.recipes.table import TABLE, replace_fields
from panscape.training.config import Recipe
from panscape.training.run_folder import recipe_to_dict

NAMES = list(list_recipes())
PREFIXES = ("swiftnet_r18_", "dense_r50_", "deeplab_", "seamless_", "fpn_", "maskformer_", "upernet_", "yolo_")
CITY_SIDES = (512, 640, 704, 832, 896, 1024, 1152, 1216, 1344, 1408, 1536)
COCO_SIDES = (320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960)
VISTAS_SIDES = (
    960, 1024, 1088, 1152, 1216, 1280, 1344, 1408, 1472, 1536, 1600, 1664, 1728, 1792, 1856, 1920, 1984, 2048, 2112,
)  # fmt: skip

# Released configurations; BSB Aerial: Sections 2.3 (sigma) and 3.1. Learning rate, its end, warm-up, steps, batch,
# crop, sides, longest side in training and at test, sigma, share of pixels in the semantic loss, window of centres,
# stuff area.
PUBLISHED = {
    "cityscapes_pyrx3": (1e-4, 0, 0, 90_000, 8, (1024, 2048), CITY_SIDES, 4096, 2048, 10, 0.2, 7, 2048),
    "coco": (4e-4, 0, 1000, 200_000, 48, (640, 640), COCO_SIDES, 960, 640, 8, 1, 41, 4096),
    "vistas": (5e-4, 0, 1000, 200_000, 16, (1024, 1024), VISTAS_SIDES, 4096, 2048, 10, 1, 7, 4096),
    "bsb": (3e-4, 1e-7, 0, 120_000, 24, (512, 512), (), 4096, 512, 5, 1, 7, 512),
}


@pytest.mark.parametrize("row", PUBLISHED)
def test_published_settings(row):
    recipe = get_recipe(f"swiftnet_r18_{row}")
    representation = recipe.model.representation
    assert PUBLISHED[row] == (
        recipe.optimizer.learning_rate,
        recipe.schedule.min_lr,
        recipe.schedule.warmup_steps,
        recipe.steps,
        recipe.batch_size,
        recipe.augmentation.crop,
        recipe.augmentation.shortest_sides,
        recipe.augmentation.longest_side,
        recipe.model.longest_side,
        representation.sigma,
        representation.hard_pixel_fraction,
        representation.decoding.nms_kernel,
        representation.decoding.stuff_area,
    )


def test_options_shared_by_all_published_rows():
    for name in NAMES:
        if not name.startswith("swiftnet_r18_"):
            continue
        recipe = get_recipe(name)
        model, optimizer = recipe.model, recipe.optimizer
        assert (model.backbone, model.width, model.pretrained) == ("resnet18.tv_in1k", 256, True)
        assert (optimizer.name, optimizer.betas, optimizer.eps) == ("adam", (0.9, 0.999), 1e-8)
        assert (optimizer.weight_decay, optimizer.norm_weight_decay, optimizer.grad_clip_norm) == (0, 0, 0)
        assert (optimizer.backbone_lr_mult, recipe.ema_decay, recipe.sync_batch_norm) == (1, 0, True)
        assert (recipe.schedule.kind, recipe.schedule.power, recipe.schedule.warmup_factor) == ("poly", 0.9, 1e-3)
        assert (recipe.augmentation.flip, recipe.augmentation.color_jitter, recipe.augmentation.copy_paste) == (
            0.5,
            0,
            0,
        )
        representation = model.representation
        assert (representation.small_area, representation.small_weight) == (4096, 3)
        assert (representation.semantic_loss_weight, representation.center_loss_weight) == (1, 200)
        assert (representation.decoding.threshold, representation.decoding.top_k) == (0.1, 200)
        assert representation.compat == "released"
        assert representation.offset_loss_weight is None, "0.0025 with weights, 0.01 without"


# Paper: learning rate, where it falls, steps, batch, weight of the semantic loss; UPSNet: smallest stuff.
PUBLISHED_BOXES = {
    "cityscapes": (0.013, (36_000, 44_000), 48_000, 8, 1.0, 2048),
    "coco": (0.01, (120_000, 160_000), 180_000, 16, 0.4, 4096),
}


@pytest.mark.parametrize("data", PUBLISHED_BOXES)
def test_published_settings_of_dense_detections(data):
    for row in ("", "_weak"):
        recipe = get_recipe(f"dense_r50_{data}{row}")
        representation = recipe.model.representation
        assert PUBLISHED_BOXES[data] == (
            recipe.optimizer.learning_rate,
            recipe.schedule.milestones,
            recipe.steps,
            recipe.batch_size,
            representation.semantic_loss_weight,
            representation.decoding.fusion.stuff_area,
        )


def test_options_shared_by_all_published_rows_of_dense_detections():
    names = [name for name in NAMES if name.startswith("dense_r50_")]
    assert len(names) == 7
    for name in names:
        recipe = get_recipe(name)
        model, optimizer, schedule = recipe.model, recipe.optimizer, recipe.schedule
        assert (model.backbone, model.pretrained, model.frozen_norm) == ("resnet50.tv_in1k", True, True)
        assert (model.box_width, model.semantic_width, model.fpn_width, model.tower_depth) == (256, 128, 256, 4)
        assert (model.compat, model.initial_distance) == (None, 1)
        assert (optimizer.name, optimizer.momentum, optimizer.bias_lr_mult) == ("sgd", 0.9, 2)
        assert (optimizer.weight_decay, optimizer.norm_weight_decay, optimizer.grad_clip_norm) == (1e-4, 0, 0)
        assert (schedule.kind, schedule.gamma, schedule.warmup_steps) == ("steps", 0.1, 500)
        assert (optimizer.backbone_lr_mult, recipe.ema_decay) == (1, 0)
        assert (recipe.augmentation.flip, recipe.augmentation.color_jitter, recipe.augmentation.copy_paste) == (
            0.5,
            0,
            0,
        )
        representation = model.representation
        assert (representation.level_ends, representation.finest_stride) == ((64, 128, 256, 512), 8)
        assert (representation.hard_pixel_fraction, representation.decoding.compat) == (0.3, "released")


# detectron2's configurations: learning rate, steps, batch, crop, longest side in training and at test, sigma, share of
# pixels in the semantic loss, window of centres, stuff area.
PUBLISHED_DEEPLAB = {
    "cityscapes": (1e-3, 90_000, 32, (512, 1024), 4096, 2048, 10, 0.2, 7, 2048),
    "coco": (5e-4, 200_000, 64, (640, 640), 960, 640, 8, 1, 41, 4096),
}
DEEPLAB = {name: get_recipe(name) for name in NAMES if name.startswith("deeplab_")}


def test_published_settings_of_panoptic_deeplab():
    assert len(DEEPLAB) == 31
    for name, recipe in DEEPLAB.items():
        representation, optimizer, schedule = recipe.model.representation, recipe.optimizer, recipe.schedule
        data = name.split("_")[2]
        assert PUBLISHED_DEEPLAB[data] == (
            optimizer.learning_rate,
            recipe.steps,
            recipe.batch_size,
            recipe.augmentation.crop,
            recipe.augmentation.longest_side,
            recipe.model.longest_side,
            representation.sigma,
            representation.hard_pixel_fraction,
            representation.decoding.nms_kernel,
            representation.decoding.stuff_area,
        )
        assert (optimizer.name, optimizer.betas, optimizer.weight_decay) == ("adam", (0.9, 0.999), 0)
        assert (schedule.kind, schedule.power, schedule.min_lr) == ("poly", 0.9, 0)
        assert (schedule.warmup_steps, schedule.warmup_factor) == (1000, 1e-3)
        assert (representation.boundary_alphas, representation.offset_loss_weight) == ((), None), "0.01 without weights"
        assert (representation.small_area, representation.small_weight) == (4096, 3)
        assert (representation.decoding.threshold, representation.decoding.top_k) == (0.1, 200)
        sides = recipe.augmentation.shortest_sides
        assert sides == ((*CITY_SIDES, 1664, 1728, 1856, 1920, 2048) if data == "cityscapes" else COCO_SIDES)


def test_the_rows_of_relations_differ_in_the_part_alone():
    for data in ("cityscapes", "coco"):
        for network in ("r52", "r103", "hrnet48"):
            base = DEEPLAB.get(f"deeplab_{network}_{data}")
            for name, recipe in DEEPLAB.items():
                if name.startswith(f"deeplab_{network}_{data}_"):
                    assert replace(base, name=name, model=recipe.model) == recipe
                    assert replace(recipe.model, relations=None, instance_maps=None) == base.model
    kinds = {name: recipe.model.relations for name, recipe in DEEPLAB.items() if "r52_cityscapes" in name}
    row = "deeplab_r52_cityscapes"
    assert kinds == {
        row: None,
        f"{row}_concatenation": Concatenation(),
        f"{row}_product": ElementwiseProduct(),
        f"{row}_ocr": OCR(),
        f"{row}_without_reweighting": PISR(reweighting=False),
        f"{row}_relations": PISR(num_instances=50),
        f"{row}_relations_k10": PISR(num_instances=10),
        f"{row}_relations_k20": PISR(num_instances=20),
        f"{row}_relations_k100": PISR(num_instances=100),
        **{f"{row}_without_reweighting_k{k}": PISR(num_instances=k, reweighting=False) for k in (10, 20, 100)},
        f"{row}_relations_key64": PISR(key_width=64),
        f"{row}_relations_key128": PISR(key_width=128),
        f"{row}_relations_key512": PISR(key_width=512),
    }


@pytest.mark.parametrize(
    ("name", "base", "relations"),
    [
        (f"{base}_relations", base, PISR(num_instances=100, key_width=128))
        for base in ("fpn_r50_coco", "maskformer_r50_ade20k", "maskformer_r101_ade20k", "upernet_swin_l_coco")
    ]
    + [
        (f"town_hosts_{host}_pisr", f"town_hosts_{host}", PISR(num_instances=20, key_width=32))
        for host in ("maskformer", "upernet", "panoptic_fpn")
    ],
)
def test_other_networks_differ_in_relations_alone(name, base, relations):
    related, alone = get_recipe(name), get_recipe(base)
    assert related.model.relations == relations
    assert replace(related, name=base, model=replace(related.model, relations=None)) == alone


def test_options_of_panoptic_deeplab_begin_with_its_own_targets_losses_and_decoding():
    options = {"backbone": "residual_xs", "decoder_width": 8, "instance_width": 8, "pyramid_width": 8}
    built = create_model("panoptic_deeplab", SHAPES, **options).representation
    assert PanopticDeepLabOptions(**options).create(SHAPES).representation == built


def test_small_recipes_of_panoptic_deeplab_differ_in_the_network():
    for base in ("town", "street"):
        swiftnet, alone, related = (get_recipe(base + suffix) for suffix in ("", "_deeplab", "_deeplab_relations"))
        assert replace(alone, name=base, model=swiftnet.model) == swiftnet
        assert replace(related, name=alone.name, model=alone.model) == alone
        assert replace(related.model, relations=None, instance_maps=None) == alone.model
        for field in ("backbone", "longest_side", "test_scale"):
            assert getattr(alone.model, field) == getattr(swiftnet.model, field)
        assert alone.model.representation.decoding == swiftnet.model.representation.decoding


def test_the_rows_of_table_5_differ_in_relations():
    base, other = get_recipe("town_relations_base"), get_recipe("town_l1")
    assert replace(base, name=other.name, model=other.model) == other
    assert base.model.representation == other.model.representation
    pisr = get_recipe("town_relations_pisr").model.relations
    assert (pisr.num_instances, pisr.reweighting) == (20, True)
    expected = {
        "concatenation": Concatenation(num_instances=20),
        "product": ElementwiseProduct(num_instances=20),
        "ocr": OCR(num_instances=20, key_width=pisr.key_width),
        "without_reweighting": replace(pisr, reweighting=False),
        "pisr": pisr,
        "k10": replace(pisr, num_instances=10),
        "k50": replace(pisr, num_instances=50),
    }
    for row, relations in expected.items():
        name = f"town_relations_{row}"
        instance_maps = None if row == "ocr" else CenterInstanceMaps()
        model = replace(base.model, relations=relations, instance_maps=instance_maps)
        assert get_recipe(name) == replace(base, name=name, model=model)


def test_which_relations_a_recipe_has_is_written_down():
    described = recipe_to_dict(get_recipe("town_relations_product"))["model"]["relations"]
    assert described == {"type": "ElementwiseProduct", "num_instances": 20, "detach_guidance": False}
    assert recipe_to_dict(get_recipe("town_relations_base"))["model"]["relations"] is None


def test_networks_of_panoptic_deeplab_have_the_published_size():
    sizes = {}
    for name, labels in (("r52_cityscapes", "cityscapes"), ("r52_coco", "coco_panoptic")):
        with torch.device("meta"):
            network = replace(DEEPLAB[f"deeplab_{name}"].model, pretrained=False).create(LabelSpace.load(labels))
        sizes[name] = sum(p.numel() for p in network.parameters())
    assert sizes == {"r52_cityscapes": 30_271_350, "r52_coco": 30_300_648}


def test_coco_images_are_enlarged_for_prediction():
    model = get_recipe("dense_r50_coco").model
    with torch.device("meta"):
        network = replace(model, backbone="residual_xs", pretrained=False, frozen_norm=False).create(SHAPES)
    assert network.inference_size((480, 640)) == (1000, 1333)
    assert network.inference_size((640, 427)) == (1333, 889)
    assert network.inference_size((1333, 2000)) == (888, 1333)


def test_panoptic_deeplab_sees_images_of_coco_at_640x640_as_detectron2_does():
    for name, recipe in DEEPLAB.items():
        labels = LabelSpace.load("coco_panoptic" if "coco" in name else "cityscapes")
        with torch.device("meta"):
            network = replace(
                recipe.model, backbone="residual_xs", pretrained=False, relations=None, instance_maps=None
            )
            network = network.create(labels)
        if "coco" in name:
            for size, inference_size in (((480, 640), (480, 640)), ((375, 500), (480, 640)), ((1280, 960), (640, 480))):
                assert network.inference_size(size) == inference_size
                assert network.preprocess(torch.zeros(1, 3, *inference_size, device="meta")).shape[2:] == (640, 640)
        else:
            assert network.inference_size((1024, 2048)) == (1024, 2048)
            assert network.preprocess(torch.zeros(1, 3, 1024, 2048, device="meta")).shape[2:] == (1024, 2048)


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


def test_the_rows_of_table_3_differ_in_towers_levelness_and_mask_loss():
    for base in ("dense_r50_cityscapes", "town_boxes_mask_loss"):
        full = get_recipe(base)
        assert (full.model.towers, full.model.levelness) == (2, True)
        assert (full.model.representation.mask_loss_weight, full.model.representation.supervision) == (1, "masks")
        for row, towers, levelness, supervision in (
            ("one_tower", 1, False, "masks"),
            ("two_towers", 2, False, "masks"),
            ("levelness", 2, True, "masks"),
            ("weak", 2, True, "boxes"),
        ):
            name = f"{base.removesuffix('_mask_loss')}_{row}"
            representation = replace(full.model.representation, mask_loss_weight=0, supervision=supervision)
            model = replace(full.model, towers=towers, levelness=levelness, representation=representation)
            assert get_recipe(name) == replace(full, name=name, model=model)


def test_the_light_network_has_one_tower_as_wide_as_the_semantic_one():
    full, light = get_recipe("town_boxes_mask_loss"), get_recipe("town_boxes_light")
    width = full.model.semantic_width
    model = replace(full.model, towers=1, box_width=width, fpn_width=width)
    assert light == replace(full, name="town_boxes_light", model=model)


def test_small_recipes_of_boxes_differ_in_the_network():
    for base in ("town", "street", "aerial"):
        centers, boxes = get_recipe(base), get_recipe(f"{base}_boxes")
        assert replace(boxes, name=base, model=centers.model) == centers
        for field in ("backbone", "longest_side", "test_scale"):
            assert getattr(boxes.model, field) == getattr(centers.model, field)
    row, boxes = get_recipe("town_pyrx3"), get_recipe("town_boxes_mask_loss")
    assert replace(boxes, name=row.name, model=row.model) == row
    assert boxes.model.backbone == row.model.backbone


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


def test_the_network_of_dense_detections_has_the_published_size():
    model = replace(get_recipe("dense_r50_cityscapes").model, pretrained=False)
    with torch.device("meta"):
        # Fixed norms have no parameters; those of ResNet-50 have 53,120.
        assert sum(p.numel() for p in model.create(LabelSpace.load("cityscapes")).parameters()) == 30_624_107


SCALES = ("full", "crop", "cabb", "isus", "cabb_isus")


def kinds_of(recipe):
    return recipe.model.representation.box_loss, recipe.sampling.kind


@pytest.mark.parametrize(
    "prefix",
    [f"seamless_{b}_{d}" for b in ("hrnet48", "r50") for d in ("vistas", "idd", "cityscapes")] + ["town_scales"],
)
def test_rows_of_all_scales_differ_in_crops_box_loss_and_sampling(prefix):
    full, *crops = (get_recipe(f"{prefix}_{row}") for row in SCALES)
    assert [kinds_of(recipe) for recipe in (full, *crops)] == [
        ("ordinary", "categories"),
        ("ordinary", "categories"),
        ("crop_aware", "categories"),
        ("ordinary", "scales"),
        ("crop_aware", "scales"),
    ]
    crop = crops[0]
    for other in crops[1:]:
        representation = replace(other.model.representation, box_loss="ordinary")
        ordinary = replace(other, name=crop.name, sampling=crop.sampling)
        assert replace(ordinary, model=replace(other.model, representation=representation)) == crop
    as_crop = replace(full, name=crop.name, augmentation=crop.augmentation, sampling=crop.sampling)
    assert replace(as_crop, model=crop.model) == crop
    assert kinds_of(full) == kinds_of(crop)


def test_published_settings_of_all_scales():
    # Section 4.1: crops; the rest from the configurations of Seamless, where Vistas has 18,000 images and 85 epochs,
    # Cityscapes 2975 and 130.
    for data, crop, steps, milestones in (
        ("vistas", 1024, 191_000, (144_000, 176_000)),
        ("cityscapes", 512, 48_000, (36_000, 44_000)),
    ):
        recipe = get_recipe(f"seamless_hrnet48_{data}_crop")
        assert recipe.augmentation.crop == recipe.model.window == (crop, crop)
        assert (recipe.steps, recipe.schedule.milestones, recipe.batch_size) == (steps, milestones, 8)
        optimizer = recipe.optimizer
        assert (optimizer.learning_rate, optimizer.momentum, optimizer.weight_decay) == (0.01, 0.9, 1e-4)
        assert optimizer.nesterov
    assert get_recipe("seamless_r50_vistas_crop").model.representation.anchors.num_shapes == 5
    assert get_recipe("seamless_r50_idd_crop").model.representation.anchors.strides == (4, 8, 16, 32, 64)


@pytest.mark.parametrize(
    ("name", "labels", "size"),
    [
        ("seamless_r50_vistas_crop", "vistas_v1.2", 52_206_969),
        ("seamless_r50_cityscapes_crop", "cityscapes", 51_434_387),
        ("fpn_r50_coco", "coco_panoptic", 45_973_990),
    ],
)
def test_networks_of_two_stages_have_the_published_size(name, labels, size):
    model = replace(get_recipe(name).model, pretrained=False)
    with torch.device("meta"):
        assert sum(p.numel() for p in model.create(LabelSpace.load(labels)).parameters()) == size


# Learning rate and weight decay, factor of the backbone, batch, steps, warm-up, crop.
PUBLISHED_QUERIES = {
    "maskformer_r50_coco": (1e-4, 1e-4, 0.1, 64, 554_400, 0, (1088, 1088)),
    "maskformer_swin_t_coco": (6e-5, 0.01, 1, 64, 554_400, 1500, (1088, 1088)),
    "maskformer_r50_ade20k": (1e-4, 1e-4, 0.1, 16, 720_000, 0, (640, 640)),
    "upernet_swin_l_coco": (6e-5, 0.01, 1, 64, 554_400, 1500, (1088, 1088)),
    "upernet_semantic_swin_t_ade20k": (6e-5, 0.01, 1, 16, 160_000, 1500, (512, 512)),
}


@pytest.mark.parametrize("name", PUBLISHED_QUERIES)
def test_published_settings_of_mask_classification_and_upernet(name):
    recipe = get_recipe(name)
    optimizer, schedule, augmentation = recipe.optimizer, recipe.schedule, recipe.augmentation
    assert PUBLISHED_QUERIES[name] == (
        optimizer.learning_rate,
        optimizer.weight_decay,
        optimizer.backbone_lr_mult,
        recipe.batch_size,
        recipe.steps,
        schedule.warmup_steps,
        augmentation.crop,
    )
    assert (optimizer.name, optimizer.norm_weight_decay, optimizer.decay_biases) == ("adamw", 0, True)
    assert recipe.model.frozen_norm == ("_r50_" in name) if "maskformer" in name else True
    if "semantic" in name:
        assert (schedule.kind, schedule.power, optimizer.grad_clip_norm) == ("poly", 1, 0)
        assert recipe.model.representation.auxiliary_loss_weight == 0.4
        return
    assert optimizer.grad_clip_norm == 0.01
    assert (recipe.model.num_queries, recipe.model.decoder_layers, recipe.model.dropout) == (100, 6, 0.1)
    assert recipe.model.representation.decoding.score_threshold == (0.7 if "ade20k" in name else 0.8)
    if "coco" in name:  # DETR's augmentation
        assert (augmentation.random_size_crop, augmentation.shortest_sides[::10]) == (0.5, (480, 800))
        assert (schedule.kind, schedule.milestones) == ("steps", (369_600,))
    else:
        assert augmentation.shortest_sides == tuple(range(320, 1281, 64))
        assert (schedule.kind, schedule.power) == ("poly", 0.9)


def family_of(name):
    if "boxes" in name or name.startswith("dense_"):
        return "DenseDetectionsOptions"
    if "scales" in name or name.startswith("seamless_"):
        return "SeamlessOptions"
    if name.startswith(("fpn_", "town_hosts_panoptic_fpn")):
        return "PanopticFPNOptions"
    if "maskformer" in name:
        return "MaskFormerOptions"
    if "upernet" in name:
        return "UPerNetSemanticOptions" if "semantic" in name else "UPerNetOptions"
    if "yolo_panoptic" in name:
        return "YoloPanopticOptions"
    if name.endswith("_yolo"):
        return "YoloPanopticLightOptions"
    is_deeplab = "deeplab" in name or name.startswith("town_relations_")
    return "PanopticDeepLabOptions" if is_deeplab else "SwiftNetOptions"


@functools.cache
def created(options, labels):
    """Return a network without memory; many recipes share one."""
    with torch.device("meta"):
        return options.create(labels)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_builds_and_has_a_summary(name):
    recipe = get_recipe(name)
    assert isinstance(recipe, Recipe)
    assert recipe.name == name
    assert recipe == get_recipe(name)
    described = recipe_to_dict(recipe)
    assert json.loads(json.dumps(described)) == described
    assert described["model"]["type"] == family_of(name)
    # A detector of COCO's categories needs some of its things.
    labels = LabelSpace.load("cityscapes") if getattr(recipe.model, "detector", None) else SHAPES
    model = created(replace(recipe.model, pretrained=False), labels)
    assert model.labels == labels
    assert model.longest_side == recipe.model.longest_side
    assert model.representation == recipe.model.representation
    assert all(side % 32 == 0 for side in recipe.augmentation.crop)


def test_no_two_recipes_are_the_same():
    assert len(NAMES) == sum(len(family.rows) for family in TABLE), "a name is used twice"
    described = {}
    for name in NAMES:
        settings = json.dumps(recipe_to_dict(replace(get_recipe(name), name="")))
        assert described.setdefault(settings, name) == name


def test_summaries_name_the_tables_of_the_paper():
    summaries = list_recipes()
    assert summaries["swiftnet_r18_cityscapes_pyrx3"] == "Cityscapes, three levels (Tables 3, 6 and 8)."
    assert (
        summaries["deeplab_r52_cityscapes_relations"] == "Cityscapes, PISR with 50 instances (PISR, Tables 1, 4 and 5)."
    )
    assert summaries["deeplab_r52_cityscapes_relations_k10"] == "Cityscapes, PISR with 10 instances (PISR, Figure 9)."
    assert summaries["deeplab_r103_cityscapes_relations"] == "Cityscapes, PISR on ResNet-101 (not in the paper)."
    assert summaries["street_boxes"] == "CamVid (street scenes), dense detections."


def test_published_rows_have_results_and_hours_and_others_have_none():
    unpublished = {"deeplab_r103_cityscapes_relations", "dense_r50_coco_weak", "upernet_swin_l_coco_centers"}
    unpublished |= {f"seamless_r50_vistas_{row}" for row in ("full", "cabb", "isus")}
    unpublished |= {f"seamless_hrnet48_{data}_{row}" for data in ("idd", "cityscapes") for row in ("cabb", "isus")}
    unpublished |= {name for name in NAMES if name.startswith(("seamless_r50_idd", "seamless_r50_cityscapes"))}
    for info in describe_recipes():
        is_row = info.name.startswith(PREFIXES)
        assert bool(info.published) == (is_row and info.name not in unpublished), info.name
        assert (info.hours is not None, info.num_devices > 0) == (is_row, is_row), info.name
    assert {result.recipe for result in published_results()} - {None} <= set(NAMES)


def test_published_results_are_consistent():
    for result in published_results():
        metrics = dict(result.metrics)
        assert all(0 < value <= 100 for metric, value in metrics.items() if metric != "ms"), result
        if {"things", "stuff"} <= metrics.keys():  # the mean over categories is between the two groups
            assert min(metrics["things"], metrics["stuff"]) < metrics["PQ"] < max(metrics["things"], metrics["stuff"])
        # Means of products exceed products of means here, by at most 4 %. The PQ of YOLO-based networks is the product.
        if {"SQ", "RQ"} <= metrics.keys():
            assert -0.2 * (result.paper == "YOLO-based") <= metrics["PQ"] - metrics["SQ"] * metrics["RQ"] / 100 < 4, (
                result
            )


def test_ablations_change_what_the_row_of_the_paper_changes():
    rows = {row.name: row for family in TABLE for row in family.rows}
    ablations = [row for row in rows.values() if row.ablation_of]
    assert len(ablations) == 34
    for row in ablations:
        assert row.changes == rows[row.ablation_of].changes
        assert results_of(row.ablation_of), "a row of the paper"


def test_fields_are_replaced_by_path():
    base = get_recipe("swiftnet_r18_coco")
    changed = replace_fields(base, {"steps": 7, "model.levels": 2, "model.representation.decoding.top_k": 3})
    decoding = replace(base.model.representation.decoding, top_k=3)
    representation = replace(base.model.representation, decoding=decoding)
    assert changed == replace(base, steps=7, model=replace(base.model, levels=2, representation=representation))
    with pytest.raises(AttributeError):
        replace_fields(base, {"model.no_field.top_k": 1})


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown recipe 'swiftnet_coco'; did you mean swiftnet_r18_coco"):
        get_recipe("swiftnet_coco")
