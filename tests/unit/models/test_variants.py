from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError
from importlib import import_module
from typing import Any

import pytest
from maps import SHAPES

from panscape.errors import InvalidArgumentError
from panscape.models import list_models
from panscape.models.dense_detections import dense_detections, dense_detections_light, dense_detections_r50
from panscape.models.maskformer import (
    maskformer,
    maskformer_r50,
    maskformer_r101,
    maskformer_swin_b,
    maskformer_swin_l,
    maskformer_swin_s,
    maskformer_swin_t,
)
from panscape.models.panoptic_deeplab import (
    PanopticDeepLabConfig,
    panoptic_deeplab,
    panoptic_deeplab_hrnet48,
    panoptic_deeplab_mobilenetv2,
    panoptic_deeplab_r50,
    panoptic_deeplab_r52,
    panoptic_deeplab_r101,
)
from panscape.models.panoptic_fpn import panoptic_fpn, panoptic_fpn_r50, panoptic_fpn_r101
from panscape.models.seamless import seamless, seamless_hrnet48, seamless_r50
from panscape.models.swiftnet import SwiftNetConfig, swiftnet, swiftnet_r18
from panscape.models.upernet import upernet, upernet_swin_b, upernet_swin_l, upernet_swin_s, upernet_swin_t
from panscape.models.upernet_semantic import (
    upernet_semantic,
    upernet_semantic_swin_b,
    upernet_semantic_swin_l,
    upernet_semantic_swin_s,
    upernet_semantic_swin_t,
)
from panscape.models.yolo_panoptic import yolo_panoptic, yolo_panoptic_d53
from panscape.models.yolo_panoptic_light import yolo_panoptic_light
from panscape.representations.masked_boxes import MaskedBoxRepresentation

# What each variant changes in its family's defaults.
SWIN_T, SWIN_S = "swin_tiny_patch4_window7_224", "swin_small_patch4_window7_224"
SWIN_B, SWIN_L = "swin_base_patch4_window12_384", "swin_large_patch4_window12_384"

DIFFERENCES: list[tuple[Any, Any, dict[str, Any]]] = [
    (swiftnet, swiftnet_r18, {}),
    (dense_detections, dense_detections_r50, {"frozen_norm": True}),
    (dense_detections, dense_detections_light, {"towers": 1, "box_width": 128, "fpn_width": 128}),
    (panoptic_deeplab, panoptic_deeplab_r50, {"backbone": "resnet50.tv_in1k"}),
    (panoptic_deeplab, panoptic_deeplab_r52, {}),
    (panoptic_deeplab, panoptic_deeplab_r101, {"backbone": "resnet103"}),
    (panoptic_deeplab, panoptic_deeplab_hrnet48, {"backbone": "hrnet_w48.ms_in1k", "output_stride": 32}),
    (
        panoptic_deeplab,
        panoptic_deeplab_mobilenetv2,
        {"backbone": "mobilenetv2_100.ra_in1k", "compat": "standalone", "output_stride": 32},
    ),
    (panoptic_fpn, panoptic_fpn_r50, {"frozen_norm": True}),
    (panoptic_fpn, panoptic_fpn_r101, {"frozen_norm": True, "backbone": "resnet101.tv_in1k"}),
    (maskformer, maskformer_r50, {"frozen_norm": True}),
    (maskformer, maskformer_r101, {"frozen_norm": True, "backbone": "resnet101.tv_in1k"}),
    (maskformer, maskformer_swin_t, {"encoder_layers": 0, "backbone": f"{SWIN_T}.ms_in1k"}),
    (maskformer, maskformer_swin_s, {"encoder_layers": 0, "backbone": f"{SWIN_S}.ms_in1k"}),
    (maskformer, maskformer_swin_b, {"encoder_layers": 0, "backbone": f"{SWIN_B}.ms_in22k"}),
    (maskformer, maskformer_swin_l, {"encoder_layers": 0, "backbone": f"{SWIN_L}.ms_in22k"}),
    (upernet, upernet_swin_t, {}),
    (upernet, upernet_swin_s, {"backbone": f"{SWIN_S}.ms_in1k"}),
    (upernet, upernet_swin_b, {"backbone": f"{SWIN_B}.ms_in22k"}),
    (upernet, upernet_swin_l, {"backbone": f"{SWIN_L}.ms_in22k"}),
    (upernet_semantic, upernet_semantic_swin_t, {}),
    (upernet_semantic, upernet_semantic_swin_s, {"backbone": f"{SWIN_S}.ms_in1k"}),
    (upernet_semantic, upernet_semantic_swin_b, {"backbone": f"{SWIN_B}.ms_in22k"}),
    (upernet_semantic, upernet_semantic_swin_l, {"backbone": f"{SWIN_L}.ms_in22k"}),
    (seamless, seamless_r50, {"normalization": "vistas"}),
    (seamless, seamless_hrnet48, {"backbone": "hrnet_w48.ms_in1k", "semantic": "deeplabv3plus"}),
    (
        yolo_panoptic,
        yolo_panoptic_d53,
        {"weights": "darknet", "representation": MaskedBoxRepresentation(train_detector=False)},
    ),
    (yolo_panoptic_light, yolo_panoptic_light, {}),
]


def defaults_of(factory: Any) -> dict[str, Any]:
    return {name: p.default for name, p in inspect.signature(factory).parameters.items() if name != "labels"}


@pytest.mark.parametrize(("family", "variant", "differences"), DIFFERENCES, ids=lambda v: getattr(v, "__name__", ""))
def test_signatures_show_what_a_variant_changes(family: Any, variant: Any, differences: dict[str, Any]) -> None:
    assert defaults_of(variant) == defaults_of(family) | differences


def test_every_model_is_a_documented_function_of_its_name() -> None:
    found = {f.__name__: f for row in DIFFERENCES for f in row[:2]}
    assert sorted(found) == list_models()
    for name, factory in found.items():
        assert getattr(import_module(factory.__module__), name) is factory
        assert inspect.getdoc(factory).startswith("Build")
        assert next(iter(inspect.signature(factory).parameters)) == "labels"


def test_options_replace_those_of_the_variant() -> None:
    model = dense_detections_light(SHAPES, backbone="residual_xs", box_width=16, fpn_width=8, tower_depth=1)
    assert model.head.semantic_tower is None
    assert model.head.box.in_channels == 16
    assert model.head.location_tower[0].in_channels == 8


def test_unknown_options_are_named_with_all_known_ones() -> None:
    with pytest.raises(InvalidArgumentError, match=r"swiftnet_r18 has no option 'lvls'; it has backbone, .*levels"):
        swiftnet_r18(SHAPES, lvls=2)


def test_options_cannot_change_later() -> None:
    config = PanopticDeepLabConfig()
    with pytest.raises(FrozenInstanceError):
        config.head_width = 0


@pytest.mark.parametrize(
    ("config", "num"),
    [
        (SwiftNetConfig(), 3),
        (SwiftNetConfig(context="spp"), 1),
        (SwiftNetConfig(levels=2), 2),
        (SwiftNetConfig(context="spp", levels=1), 1),
    ],
)
def test_levels_follow_the_context(config: SwiftNetConfig, num: int) -> None:
    assert config.num_levels == num


def test_published_values_by_form_and_label_space() -> None:
    ours, older = PanopticDeepLabConfig(), PanopticDeepLabConfig(compat="standalone")
    assert (ours.dropout_prob, older.dropout_prob) == (0.1, 0.5)
    assert ours.projection_widths([8, 4]) == ((64, 32), (64, 32))
    assert older.projection_widths([16, 8, 4]) == ((128, 64, 32), (64, 32, 16))
    assert ours.published(SHAPES).compat == "released"
    assert older.published(SHAPES).compat == "standalone"
    assert older.published(SHAPES).offset_loss_weight == 0.005
