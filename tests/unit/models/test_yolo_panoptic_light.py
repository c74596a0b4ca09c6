"""The light network learns two scenes by heart; its size, and the errors of its options."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from maps import SHAPES, generated_map
from torch.utils.flop_counter import FlopCounterMode

from panscape import LabelSpace, create_model
from panscape.errors import InvalidArgumentError
from panscape.metrics import PanopticQuality
from panscape.models.yolo_panoptic_light import LIGHT
from panscape.representations.masked_boxes import MaskedBoxRepresentation

STEPS = 50


def test_it_learns_two_scenes_by_heart() -> None:
    torch.manual_seed(0)
    truths = [generated_map(seed, (64, 96), objects=3, smallest=16, void=False) for seed in (1, 4)]
    colors = torch.tensor([category.color for category in SHAPES]) / 255
    of_objects = torch.rand(20, 3)
    images = torch.stack(
        [(0.7 * colors[t.semantic(void=0)] + 0.3 * of_objects[t.ids.long()]).permute(2, 0, 1) for t in truths]
    )
    model = create_model("yolo_panoptic_light", SHAPES, backbone="residual_xs", width=32, fine_width=16)
    encoded = [model.encode(truth) for truth in truths]
    targets = type(encoded[0])(*(torch.stack(parts) for parts in zip(*encoded, strict=True)))
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, STEPS, pct_start=0.2)
    for _ in range(STEPS):
        optimizer.zero_grad()
        sum(model.train().loss(model(images, targets), targets).values()).backward()
        optimizer.step()
        schedule.step()
    metric = PanopticQuality(SHAPES)
    with torch.inference_mode():
        maps = model.eval().decode(model(images), [truth.size for truth in truths])
    for found, truth in zip(maps, truths, strict=True):
        metric.update(found, truth)
    assert metric.compute().all.pq > 0.9


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
