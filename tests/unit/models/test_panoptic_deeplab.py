from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from maps import SHAPES, generated_map
from torch import nn
from torch.nn import functional as F
from torch.utils.data import default_collate

from panscape import PanopticMap, create_model
from panscape.errors import InvalidArgumentError
from panscape.models.panoptic_deeplab_decoder import initialize_decoder, prediction_head
from panscape.nn.backbones import create_backbone
from panscape.nn.pisr import PISR
from panscape.nn.pisr_baselines import Concatenation
from panscape.representations.centers import CenterDecoding, CenterOutputs, CenterRepresentation

SMALL = {"backbone": "residual_xs", "decoder_width": 8, "instance_width": 8, "pyramid_width": 8, "head_width": 8}


def a_model(**options: Any) -> Any:
    torch.manual_seed(0)
    return create_model("panoptic_deeplab", SHAPES, **(SMALL | options)).eval()


def images(*size: int) -> torch.Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("options", "padded", "given"),
    [
        ({}, (112, 160), (112, 160)),
        ({"output_stride": 32}, (128, 160), (128, 160)),
        ({"compat": "standalone"}, (129, 161), (129, 161)),
        ({"size_divisibility": 96}, (192, 192), (192, 192)),
        ({"compat": "standalone", "size_divisibility": 96}, (193, 193), (193, 193)),
    ],
)
def test_sizes_of_what_enters_the_backbone_and_of_outputs(
    options: dict[str, Any], padded: tuple[int, int], given: tuple[int, int]
) -> None:
    model = a_model(**options)
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[-2:])))
    with torch.inference_mode():
        outputs = model(images(100, 157))
    assert seen == [given]
    assert model.padded_size(outputs) == padded
    assert tuple(outputs.semantic.shape[-2:]) == tuple(-(-side // 4) for side in given)


def test_padding_is_the_mean_colour_and_void_in_training_and_prediction() -> None:
    model, image = a_model(size_divisibility=128), images(100, 157)
    by_hand = torch.tensor([0.485, 0.456, 0.406])[None, :, None, None].repeat(1, 1, 128, 256)
    by_hand[..., :100, :157] = image
    with torch.inference_mode():
        outputs, expected = model(image), a_model()(by_hand)
    torch.testing.assert_close(outputs.semantic, expected.semantic, rtol=0, atol=1e-6)
    torch.testing.assert_close(outputs.offset, expected.offset, rtol=0, atol=1e-5)
    assert [m.size for m in model.decode(outputs, [(100, 157)])] == [(100, 157)]
    truth = generated_map(0, (100, 157), objects=4)
    padded = PanopticMap(F.pad(truth.ids, (0, 99, 0, 28)), truth.category, None, truth.crowd)
    losses = [model.loss(outputs, default_collate([model.encode(each)])) for each in (truth, padded)]
    assert losses[0].keys() == losses[1].keys()
    for name, value in losses[0].items():
        torch.testing.assert_close(value, losses[1][name], rtol=1e-6, atol=0)


@pytest.mark.parametrize(("side", "given"), [(64, 65), (65, 65), (66, 97), (96, 97)])
def test_the_standalone_form_takes_one_pixel_more_than_a_multiple_of_the_stride(side: int, given: int) -> None:
    model = a_model(compat="standalone")
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    image = images(side, 128)
    with torch.inference_mode():
        model(image)
    assert tuple(seen[0].shape[-2:]) == (given, 129)
    assert torch.equal(seen[0][..., :side, :128], ((image - model.mean) / model.std))
    assert seen[0][..., side:, :].abs().sum() == 0


def test_cells_of_the_standalone_form_lie_on_every_fourth_pixel() -> None:
    """A plane that is the column in pixels stays so when enlarged: recovery finds centres where they are."""
    model = a_model(compat="standalone")
    cells = torch.arange(33.0) * 4  # 129 columns
    plane = cells.expand(1, 1, 25, 33)
    outputs = CenterOutputs(torch.zeros(1, len(SHAPES), 25, 33), plane, torch.zeros(1, 2, 25, 33))
    assert model.padded_size(outputs) == (97, 129)
    whole = F.interpolate(plane, model.padded_size(outputs), mode="bilinear", align_corners=True)
    torch.testing.assert_close(whole[0, 0, 0], torch.arange(129.0), atol=1e-4, rtol=0)
    truth = generated_map(1)
    targets = model.encode(truth)
    perfect = CenterOutputs(
        *(
            F.pad(t, (0, 1, 0, 1), mode="replicate")[:, :, ::4, ::4]
            for t in (
                F.one_hot((targets.semantic - 1).clamp_min(0), len(SHAPES)).permute(2, 0, 1)[None].float(),
                targets.center[None, None],
                targets.offset[None],
            )
        )
    )
    losses = model.loss(perfect, type(targets)(*(t[None] for t in targets)))
    assert float(losses["center"]) / 200 < 1e-3  # half a cell off, it is ten times that


def test_relations_begin_as_the_network_without_them() -> None:
    model = a_model(relations=PISR(8, key_width=8))
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        if norm.weight.abs().sum() > 0:  # all but the one that begins at zero for this very reason
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
    for name in ("semantic", "center", "offset"):
        getattr(model, f"refined_{name}").load_state_dict(getattr(model, name).state_dict())
    base = a_model()
    state = model.state_dict()
    base.load_state_dict({name: state[name] for name in base.state_dict()})
    image = images(100, 157)
    with torch.inference_mode():
        for ours, theirs in zip(model(image).tensors, base(image).tensors, strict=True):
            assert theirs.std() > 1e-4
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_the_first_stage_comes_along_in_training_only() -> None:
    model = a_model(relations=PISR(8, key_width=8))
    with torch.inference_mode():
        assert model(images(64, 96)).first_stage is None
    assert a_model().train()(images(64, 96).expand(2, -1, -1, -1)).first_stage is None
    outputs = model.train()(images(64, 96).expand(2, -1, -1, -1))
    assert [a.shape for a in outputs.first_stage.tensors] == [b.shape for b in outputs.tensors]


def test_padding_does_not_change_what_relations_say_of_the_image() -> None:
    torch.manual_seed(0)
    model = a_model(relations=PISR(8, key_width=8))
    seen: list[Any] = []
    model.relations.register_forward_pre_hook(lambda _, args: seen.append(args[2]))
    with torch.inference_mode():
        model(images(96, 160))
        model(images(90, 130))
    assert seen[0] is None
    valid = seen[1][0, 0]
    assert tuple(valid.shape) == (24, 36)
    assert valid[:23, :33].all()
    assert not valid[23:].any()
    assert not valid[:, 33:].any()


@pytest.mark.parametrize("compat", ["detectron2", "standalone"])
def test_weights_begin_as_published(compat: Any) -> None:
    torch.manual_seed(0)
    module = prediction_head(64, 64, 32, 2, True)
    initialize_decoder(module.requires_grad_(False), compat)
    depthwise, pointwise, predictor = module[0][0][0], module[0][1][0], module[1]
    assert float(predictor.weight.std()) == pytest.approx(0.001, rel=0.3)
    assert float(predictor.bias.abs().sum()) == 0
    # He et al.: the root of 2 over 64 planes of 5x5, and of 2 over 32 outputs
    expected = ((2 / 1600) ** 0.5, (2 / 32) ** 0.5) if compat == "detectron2" else (0.001, 0.001)
    assert float(depthwise.weight.std()) == pytest.approx(expected[0], rel=0.1)
    assert float(pointwise.weight.std()) == pytest.approx(expected[1], rel=0.1)
    plain = prediction_head(64, 64, 32, 2, False)
    initialize_decoder(plain.requires_grad_(False), compat)
    # uniform within the root of 3 over 64 planes of 3x3
    reach = float(plain[0][0][0].weight.abs().max())
    assert reach == pytest.approx((3 / 576) ** 0.5, rel=0.01) if compat == "detectron2" else reach < 0.006


def test_heads_that_cannot_begin_as_copies_begin_as_published() -> None:
    model = a_model(relations=Concatenation(8), decoder_width=64, head_width=64)
    for name in ("semantic", "center", "offset"):
        first, second = getattr(model, name), getattr(model, f"refined_{name}")
        assert first[0][0][0].in_channels < second[0][0][0].in_channels
        assert float(second[1].weight.detach().std()) == pytest.approx(0.001, rel=0.3)
        assert float(second[1].bias.detach().abs().sum()) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compat": "detectron"}, 'expected compat "detectron2" or "standalone", got \'detectron\''),
        ({"output_stride": 8}, "expected output_stride 16 or 32, got 8"),
        (
            {"backbone": "mobilenetv3_small_050"},
            "expected an output stride of 32 with mobilenetv3_small_050; 16 is for",
        ),
        ({"projections": (8, 8, 8)}, r"expected 2 projections in each decoder, for features at strides \[8, 4\], got"),
        ({"head_width": 0}, "expected head_width of 1 or more, got 0"),
        ({"dropout": 1.0}, r"expected dropout in \[0, 1\), got 1.0"),
        ({"context_size": (0, 64)}, r"expected context_size\[0\] of 1 or more, got 0"),
        (
            {"size_divisibility": 40},
            "expected size_divisibility as a multiple of the backbone's last stride 16, got 40",
        ),
        ({"size_divisibility": 0}, "expected size_divisibility as a multiple of the backbone's last stride 16, got 0"),
        ({"context_size": (64, 64, 64)}, "expected context_size as 2 values, got"),
        ({"projections": (0, 8)}, r"expected projections of at least 1 channel, got \(0, 8\) and \(0, 8\)"),
        ({"representation": CenterDecoding()}, "expected representation as CenterRepresentation, got CenterDecoding"),
        (
            {"compat": "standalone", "representation": CenterRepresentation(loss_stride=2)},
            "expected a representation with loss_stride=1 in the standalone form, whose sides .* multiple of 32, got 2",
        ),
        ({"representation": CenterRepresentation(loss_stride=3)}, "expected a loss_stride that divides"),
        (
            {"backbone": "residual_xs", "pretrained": True},
            "residual_xs has no pretrained weights; use pretrained=F",
        ),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        a_model(**options)


def test_a_module_as_backbone_brings_its_stride() -> None:
    backbone = create_backbone("residual_xs", after_relu=True)
    assert a_model(backbone=backbone).stride == 32
    with pytest.raises(InvalidArgumentError, match="expected the output_stride of the backbone, 32, or none, got 16"):
        a_model(backbone=backbone, output_stride=16)


def test_own_widths_of_projections() -> None:
    model = a_model(projections=(6, 5), instance_projections=(4, 3))
    widths = [[p[0].out_channels for p in d.projections] for d in (model.semantic_decoder, model.instance_decoder)]
    assert widths == [[6, 5], [4, 3]]


def test_a_representation_of_ones_own_is_taken_as_it_is() -> None:
    own = replace(CenterRepresentation(), sigma=3)
    assert a_model(compat="standalone", representation=own).representation is own
