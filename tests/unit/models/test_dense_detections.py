from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from maps import SHAPES
from torch import nn

from panscape import Category, LabelSpace, create_model, zoo
from panscape.errors import InvalidArgumentError, UnknownNameError
from panscape.models.dense_detections import DenseDetections
from panscape.representations.dense_boxes import DenseBoxRepresentation
from panscape.representations.dense_boxes.decode import DenseBoxDecoding
from panscape.representations.dense_boxes.locations import Pyramid, level_sizes
from panscape.representations.fusion import FusionConfig


def small(backbone: str = "residual_xs", **options: Any) -> DenseDetections:
    widths = {"box_width": 16, "semantic_width": 8, "fpn_width": 16, "tower_depth": 1}
    model = create_model("dense_detections", SHAPES, backbone=backbone, **(widths | options))
    assert isinstance(model, DenseDetections)
    return model


def images(height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("finest_stride", "level_ends"),
    [(8, (64, 128, 256, 512)), (8, (32, 64)), (4, (32, 64, 128, 256)), (4, (32, 64, 128)), (8, (8, 16, 32, 64, 128))],
)
def test_shapes_are_those_of_the_levels(finest_stride: int, level_ends: tuple[float, ...]) -> None:
    representation = DenseBoxRepresentation(finest_stride=finest_stride, level_ends=level_ends)
    outputs = small(representation=representation)(images(70, 100, batch=2))
    sizes = level_sizes(Pyramid((96, 128), finest_stride, len(level_ends) + 1))
    num_locations = sum(s.area for s in sizes)
    assert outputs.semantic.shape == (2, 4, *sizes[0])
    assert outputs.box_category.shape == (2, 2, num_locations)
    assert outputs.box.shape == (2, 4, num_locations)
    assert outputs.centerness.shape == (2, num_locations)
    assert outputs.levelness.shape == (2, len(level_ends) + 2, 2 * sizes[0].height, 2 * sizes[0].width)


def test_locations_are_in_the_order_of_levels_and_rows() -> None:
    model = small().eval()
    with torch.no_grad():
        nn.init.zeros_(model.head.box.weight)
        for i, scale in enumerate(model.head.scales):
            scale.fill_(i + 1)
        model.head.box.bias.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
        outputs = model(images(64, 96))
        levels = model.pyramid(model.backbone(model.preprocess(images(64, 96)))[1:])
        centerness = [model.head.centerness(model.head.location_tower(x)) for x in levels]
    begin = 0
    for i, (height, width) in enumerate(level_sizes(Pyramid((64, 96), 8, 5))):
        part = outputs.box[0, :, begin : begin + height * width]
        torch.testing.assert_close(part, torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None].mul(i + 1).exp().expand_as(part))
        by_rows = outputs.centerness[0, begin : begin + height * width].reshape(height, width)
        torch.testing.assert_close(by_rows, centerness[i][0, 0])
        begin += height * width


def test_distances_are_at_most_ten_thousand_pixels() -> None:
    model = small().eval()
    nn.init.constant_(model.head.box.bias, 50.0)
    torch.testing.assert_close(model(images(32, 32)).box.amax(), torch.tensor(10_000.0))


def test_boxes_start_at_one_pixel_or_at_the_requested_distance() -> None:
    for options, expected in (({}, 1.0), ({"initial_distance": 16.0}, 16.0)):
        model = small(**options).eval()
        nn.init.zeros_(model.head.box.weight)
        box = model(images(32, 32)).box
        torch.testing.assert_close(box, torch.full_like(box, expected))


@pytest.mark.parametrize(("normalization", "probability"), [("positives", 0.01), ("locations", 0.5)])
def test_the_prior_goes_with_the_normalization_of_the_focal_loss(normalization: Any, probability: float) -> None:
    head = small(representation=DenseBoxRepresentation(category_normalization=normalization)).head
    torch.testing.assert_close(torch.sigmoid(head.box_category.bias), torch.full((2,), probability))
    assert not head.semantic.bias.any()
    assert not head.centerness.bias.any()


def test_head_convolutions_start_small() -> None:
    torch.manual_seed(0)
    head = small(box_width=64, semantic_width=64, fpn_width=64, tower_depth=4).head
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            assert float(module.weight.detach().std()) == pytest.approx(0.01, rel=0.1)


def test_one_tower_serves_all_outputs_and_levelness_can_be_left_out() -> None:
    model = small(towers=1, levelness=False).eval()
    assert model.head.semantic_tower is None
    assert model.head.semantic.in_channels == 5 * 16
    assert model.head.box_category.in_channels == 16
    assert model(images(32, 32)).levelness is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_outputs_are_float32_under_autocast(dtype: torch.dtype) -> None:
    model = small(box_width=64, tower_depth=2).eval()
    with torch.inference_mode():
        expected = model(images(64, 64))
        with torch.autocast("cpu", dtype):
            outputs = model(images(64, 64))
    for name, a, b in zip(outputs._fields, outputs, expected, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, atol=0.1, rtol=0.1, msg=name)


def test_frozen_norms_and_first_layers_are_not_trained() -> None:
    model = small("test_resnet", frozen_norm=True).train()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    frozen = {name.split(".")[1] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "layer1"}
    assert {id(p) for p in model.backbone_parameters()} == {id(p) for p in model.backbone.parameters()}
    before = {n: t.clone() for n, t in model.state_dict().items()}
    sum(o.sum() for o in model(images(64, 64, batch=2))).backward()
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert all((p.grad is None) == (not p.requires_grad) for p in model.parameters())


def test_a_network_with_frozen_norms_can_be_built_where_gradients_are_off() -> None:
    expected = [name for name, p in small("test_resnet", frozen_norm=True).named_parameters() if p.requires_grad]
    for off in (torch.no_grad(), torch.inference_mode()):
        with off:
            model = small("test_resnet", frozen_norm=True)
            assert torch.isfinite(model(images(32, 32)).box).all()
        assert [name for name, p in model.named_parameters() if p.requires_grad] == expected


@pytest.mark.parametrize(("options", "eps"), [({}, 1e-5), ({"compat": "released"}, 0.0)])
def test_frozen_norms_keep_their_eps_or_take_the_requested_one(options: dict[str, Any], eps: float) -> None:
    found = {m.eps for m in small("test_resnet", frozen_norm=True, **options).backbone.modules() if hasattr(m, "eps")}
    assert found == {eps}


def test_pixels_as_caffe_has_them() -> None:
    model = small("test_resnet", frozen_norm=True, compat="released")
    image = images(20, 32)
    blue_first = image[:, [2, 1, 0]] * 255 - torch.tensor([102.9801, 115.9465, 122.7717])[:, None, None]
    prepared = model.preprocess(image)
    torch.testing.assert_close(prepared[..., :20, :], blue_first, atol=1e-4, rtol=1e-5)
    assert not prepared[..., 20:, :].any()
    model.set_input_normalization("imagenet")
    expected = (image - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    torch.testing.assert_close(model.preprocess(image)[..., :20, :], expected)
    with pytest.raises(UnknownNameError, match="unknown input normalization 'cafe'; did you mean caffe"):
        model.set_input_normalization("cafe")


def test_parts_of_parts_are_saved_with_the_model(tmp_path: Path) -> None:
    fusion = FusionConfig(min_score=0.25, stuff_area=100)
    decoding = DenseBoxDecoding(compat="paper", max_detections=50, fusion=fusion)
    model = small(representation=DenseBoxRepresentation(level_ends=(16, 32), box_loss="giou", decoding=decoding))
    zoo.save(model, tmp_path / "model.safetensors")
    again = zoo.load(tmp_path / "model.safetensors")
    assert isinstance(again, DenseDetections)
    assert again.representation == model.representation
    assert again.representation.decoding.fusion.stuff_area == 100


STUFF = LabelSpace("stuff", (Category("sky", False, 0, (0, 0, 0)),))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"towers": 3}, "expected towers 1 or 2, got 3"),
        ({"box_width": 12}, "expected box_width to be a multiple of 8, the channels of a group, got 12"),
        ({"semantic_width": 0}, "expected semantic_width to be a multiple of 8"),
        ({"fpn_width": 0}, "expected fpn_width of 1 or more, got 0"),
        ({"tower_depth": 0}, "expected tower_depth of 1 or more, got 0"),
        ({"initial_distance": 0.0}, "expected an initial_distance above 0 and of at most 10000 pixels, got 0"),
        ({"initial_distance": math.nan}, "expected an initial_distance above 0"),
        ({"compat": "released"}, 'expected compat None, or "released" with frozen_norm=True, got .* frozen_norm=False'),
        ({"compat": "caffe", "frozen_norm": True}, 'expected compat "released", got .caffe.'),
        ({"representation": DenseBoxRepresentation(finest_stride=16)}, "expected a finest_stride of 4 or 8, got 16"),
        ({"representation": DenseBoxRepresentation(level_ends=(64,))}, "expected at least 3 levels"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        small(**options)


def test_a_label_space_without_things_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="expected a label space with things"):
        create_model("dense_detections", STUFF, backbone="residual_xs")
