"""The light network: its size, and the errors of its options."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from maps import SHAPES
from torch.utils.flop_counter import FlopCounterMode

from panscape import LabelSpace, create_model
from panscape.errors import InvalidArgumentError
from panscape.models.yolo_panoptic_light import LIGHT
from panscape.representations.masked_boxes import MaskedBoxRepresentation


def test_parameters_and_multiply_adds() -> None:
    with torch.device("meta"):
        model = create_model("yolo_panoptic_light", "camvid").eval()
        features = [
            torch.zeros(1, c, 384 // s, 480 // s) for c, s in zip((32, 64, 128, 192), (4, 8, 16, 32), strict=True)
        ]
        with FlopCounterMode(display=False) as body:
            model.backbone(torch.zeros(1, 3, 384, 480))
        with FlopCounterMode(display=False) as rest:
            fine, *levels = model.path(features)
            model.detector(levels), model.semantic(fine), model.prototypes(fine)
    parts = (model.backbone, model.path, model.detector, model)
    assert [sum(p.numel() for p in part.parameters()) for part in parts] == [1_929_056, 148_160, 116_046, 2_194_153]
    assert [round(part.get_total_flops() / 2e6) for part in (body, rest)] == [1337, 439]


def test_stuff_alone_is_an_error() -> None:
    stuff = LabelSpace("stuff", tuple(category for category in SHAPES if not category.is_thing))
    with pytest.raises(InvalidArgumentError, match="expected a label space with things, which boxes represent"):
        create_model("yolo_panoptic_light", stuff, backbone="residual_xs")


@pytest.mark.parametrize("representation", [MaskedBoxRepresentation(), replace(LIGHT, train_detector=False)])
def test_a_detector_of_another_kind_is_an_error(representation: MaskedBoxRepresentation) -> None:
    with pytest.raises(InvalidArgumentError, match='with assignment "aligned" and train_detector True, got "'):
        create_model("yolo_panoptic_light", SHAPES, backbone="residual_xs", representation=representation)
