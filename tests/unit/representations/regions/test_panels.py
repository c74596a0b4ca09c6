"""The boxes of a training crop: what is drawn, and where."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from maps import SHAPES, a_map
from torch import Tensor

from panscape import create_model
from panscape.ops.boxes import encode_boxes
from panscape.representations.regions import Anchors, RegionOutputs, RegionRepresentation, RegionTargets
from panscape.representations.regions.losses import SECOND_STAGE_WEIGHTS
from panscape.representations.regions.panels import BOX_COLORS, box_targets_of, draw_box_targets
from panscape.training.logging.sample_images import draw_training_crop

CROP_AWARE = RegionRepresentation(anchors=Anchors(strides=(4, 8, 16, 32), scale=2), box_loss="crop_aware")
VISIBLE = torch.tensor([40.0, 16, 64, 48])  # of an object that a crop of 64x64 cuts off at its right side
PREDICTED = torch.tensor([40.0, 16, 88, 52])


def targets_of(boxes: Tensor, cut_off: Tensor) -> RegionTargets:
    plane = torch.zeros(1, 64, 64, dtype=torch.int64)
    category = torch.ones(1, len(boxes), dtype=torch.int64)
    valid = torch.tensor([[0.0, 0, 64, 64]])
    return RegionTargets(plane, plane.int(), boxes[None], category, cut_off[None], valid)


def outputs_of(regions: Tensor, predicted: Tensor, logit: Tensor) -> RegionOutputs:
    """Return outputs whose first thing has these boxes and logits; the panel uses nothing else."""
    offsets = encode_boxes(predicted, regions, SECOND_STAGE_WEIGHTS)[None, :, None]
    category = torch.stack([torch.zeros_like(logit), logit], dim=1)[None]
    return RegionOutputs(*[torch.empty(0)] * 3, regions[None], category, offsets, *[torch.empty(0)] * 4)


def lines(values: Tensor, kind: str) -> list[int]:
    """Return where a row or a column of an image, [3, L], has the color of a kind of boxes."""
    return (values == torch.tensor(BOX_COLORS[kind], dtype=torch.uint8)[:, None]).all(0).nonzero()[:, 0].tolist()


@pytest.mark.parametrize("box_loss", ["crop_aware", "ordinary"])
def test_the_target_of_a_cut_off_object_lies_beyond_the_crop(box_loss) -> None:
    """The crop of 64x64 pixels is drawn eight times as large from (256, 256) on."""
    targets = targets_of(VISIBLE[None], torch.tensor([[False, False, True, False]]))
    outputs = outputs_of(VISIBLE[None], PREDICTED[None], torch.zeros(1))
    panel = draw_box_targets(torch.full((3, 64, 64), 0.5), outputs, targets, replace(CROP_AWARE, box_loss=box_loss))
    assert panel.dtype == torch.uint8
    assert panel.shape[0] == 3
    assert panel.shape[1] > panel.shape[2] == 1024  # with the legend
    assert panel[:, 300, 300].tolist() == [95] * 3  # half of the brightness of 190
    beyond = 256 + 8 * 88
    below = 256 + 8 * 50  # between the lower sides of target and prediction
    if box_loss == "crop_aware":
        assert lines(panel[:, 500], "target") == [576, 577, beyond - 1, beyond]
    assert lines(panel[:, below], "target") == []
    assert lines(panel[:, below], "prediction") == [576, 577, beyond - 1, beyond]
    assert lines(panel[:, :1024, 600], "target") == [384, 385, 639, 640]  # rows 16 and 48 of the crop
    assert lines(panel[:, :1024, 600], "prediction") == [671, 672]  # row 52; the upper side is that of the target
    assert lines(panel[:, :1024, 900], "target") == ([384, 385, 639, 640] if box_loss == "crop_aware" else [])
    assert {766, 767, 769, 770} <= {*lines(panel[:, 500], "cut off")} <= {*range(766, 771)}
    assert lines(panel[:, 300], "crop") == [256, 257, 767, 768]
    legend = panel[:, 1024:]
    assert all(lines(legend.flatten(1), kind) for kind in BOX_COLORS)


def test_objects_that_are_cut_off_come_first_and_each_once() -> None:
    boxes = torch.tensor([[8.0, 8, 40, 40], [56.0, 0, 64, 8], [0.0, 50, 8, 58]])
    cut_off = torch.tensor([[False] * 4, [False, False, True, False], [False] * 4])
    regions = torch.cat([boxes[[0, 1, 1]], torch.zeros(1, 4)])  # none is of the third object; the last is missing
    predicted = regions[:3] + torch.tensor([[0.0], [1.0], [2.0]])
    outputs = outputs_of(regions[:3], predicted, torch.tensor([0.0, 1.0, 3.0]))
    outputs = outputs._replace(regions=regions[None])
    found = box_targets_of(outputs, targets_of(boxes, cut_off), CROP_AWARE)
    torch.testing.assert_close(found.predicted, predicted[[2, 0]])
    torch.testing.assert_close(found.target[1], boxes[0])
    torch.testing.assert_close(found.target[0, [0, 1, 3]], boxes[1, [0, 1, 3]])
    assert float(found.target[0, 2]) > 64


class TestOfAModel:
    @pytest.mark.parametrize("truth", ["SS\nSS", "AB\nAS"], ids=["stuff", "things"])
    def test_drawing_changes_neither_the_model_nor_the_random_state(self, truth) -> None:
        torch.manual_seed(0)
        model = create_model("seamless", SHAPES, backbone="residual_xs", width=8, representation=CROP_AWARE).train()
        truth = a_map(truth, {"S": 0, "A": 2, "B": 3}).resize(64, 64)
        targets = RegionTargets(*(part[None] for part in model.encode(truth)))
        state = {name: value.clone() for name, value in model.state_dict().items()}
        before = torch.get_rng_state()
        images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        first, second = (draw_training_crop(model, images, targets) for _ in range(2))
        assert first is not None
        assert second is not None
        assert torch.equal(first, second)
        assert torch.equal(torch.get_rng_state(), before)
        assert all(module.training for module in model.modules())
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())

    def test_other_models_have_nothing_to_draw(self) -> None:
        model = create_model("swiftnet", SHAPES, backbone="residual_xs", width=8, levels=1)
        assert draw_training_crop(model, torch.zeros(1, 3, 64, 64), ()) is None
