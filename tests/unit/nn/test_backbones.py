from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from panscape import create_model
from panscape.errors import InvalidArgumentError
from panscape.nn.backbones import create_backbone, fuse_bilinearly
from panscape.nn.image_pyramid import ImagePyramid, image_pyramid


def test_resnet_features_are_the_sums_before_the_last_relu() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("resnet18").eval()  # type: ignore[attr-defined]
    for module in backbone.modules():  # type: ignore[attr-defined]
        if isinstance(module, nn.BatchNorm2d):  # timm starts some at zero, which would hide the last ReLU
            nn.init.uniform_(module.weight, 0.5, 1.5)
    oracle = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    oracle.load_state_dict(backbone.state_dict(), strict=True)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs, channels in zip(backbone(images), oracle(images), (64, 128, 256, 512), strict=True):
            assert ours.shape[1] == channels
            assert (ours < 0).any()
            torch.testing.assert_close(torch.relu(ours), theirs)


@pytest.mark.parametrize("name", ["test_resnet", "residual_xs"])
def test_features_after_relu_are_those_after_the_last_relu(name: str) -> None:
    before, after = create_backbone(name).eval(), create_backbone(name, after_relu=True).eval()  # type: ignore[attr-defined]
    for module in before.modules():
        if isinstance(module, nn.BatchNorm2d):  # timm starts some at zero: the sums would be those of maps after ReLU
            nn.init.uniform_(module.weight, 0.5, 1.5)
    after.load_state_dict(before.state_dict(), strict=True)
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for x, y in zip(before(images), after(images), strict=True):
            assert (x < 0).any()
            assert torch.equal(torch.relu(x), y)


@pytest.mark.parametrize("name", ["resnet50", "mobilenetv3_small_050", "residual_xs", "residual_s", "darknet_xs"])
def test_features_come_at_strides_4_to_32(name: str) -> None:
    backbone = create_backbone(name)
    features = backbone(torch.randn(2, 3, 64, 96))
    assert [tuple(f.shape) for f in features] == [
        (2, c, 64 // s, 96 // s) for c, s in zip(backbone.channels, (4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize("name", ["resnet18", "test_resnet", "residual_s"])
def test_at_an_output_stride_of_16_the_last_stage_keeps_the_size(name: str) -> None:
    wide, fine = (create_backbone(name, after_relu=True, output_stride=s).eval() for s in (32, 16))  # type: ignore[attr-defined]
    fine.load_state_dict(wide.state_dict(), strict=True)
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        coarse, features = wide(images), fine(images)
    assert fine.strides == (4, 8, 16, 16)
    assert [tuple(f.shape[-2:]) for f in features] == [(16, 24), (8, 12), (4, 6), (4, 6)]
    assert all(torch.equal(a, b) for a, b in zip(coarse[:3], features[:3], strict=True))


def test_blocks_of_the_last_stage_are_dilated_by_2_4_and_8() -> None:
    with torch.device("meta"):
        backbone = create_backbone("resnet52", output_stride=16)
    convs = [[m for m in block.modules() if isinstance(m, nn.Conv2d)] for block in backbone.layer4]  # type: ignore[attr-defined]
    assert [[c.dilation[0] for c in block] for block in convs] == [[1, 2, 1, 1], [1, 4, 1], [1, 8, 1]]
    assert {c.stride for block in convs for c in block} == {(1, 1)}
    stem = [m for m in backbone.conv1 if isinstance(m, nn.Conv2d)]  # type: ignore[attr-defined]
    assert [(c.in_channels, c.out_channels, c.kernel_size, c.stride[0]) for c in stem] == [
        (3, 64, (3, 3), 2),
        (64, 64, (3, 3), 1),
        (64, 128, (3, 3), 1),
    ]


def test_levels_share_convolutions_and_keep_their_own_norms() -> None:
    torch.manual_seed(0)
    pyramid = ImagePyramid(create_backbone("residual_xs"), 3)
    single = sum(p.numel() for p in pyramid.levels[0].parameters())
    norms = sum(p.numel() for m in pyramid.levels[0].modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    assert sum(p.numel() for p in pyramid.parameters()) == single + 2 * norms
    pyramid.train()(torch.randn(2, 3, 128, 128))
    means = [m.stem[1].running_mean for m in pyramid.levels]  # type: ignore[union-attr, index]
    assert not torch.equal(means[0], means[1])
    half = pyramid.double()  # conversions must preserve shared parameters
    assert half.levels[0].stem[0].weight is half.levels[2].stem[0].weight  # type: ignore[union-attr, index]


def test_image_pyramid_resizes_the_first_level_each_time() -> None:
    images = torch.rand(1, 3, 64, 128)
    levels = image_pyramid(images, 3)
    assert [tuple(x.shape[-2:]) for x in levels] == [(64, 128), (32, 64), (16, 32)]
    for i in (1, 2):
        expected = F.interpolate(images, scale_factor=1 / 2**i, mode="bilinear", align_corners=True)
        torch.testing.assert_close(levels[i], expected)
    torch.testing.assert_close(levels[2][..., -1, -1], images[..., -1, -1])  # corners are aligned


def upsample_by_hand(module: nn.Module) -> int:
    """Replace the upsampling of a network by that of the ports for segmentation, and return how often."""
    num = 0
    for name, child in module.named_children():
        if isinstance(child, nn.Upsample):
            setattr(module, name, nn.UpsamplingBilinear2d(scale_factor=int(child.scale_factor)))  # aligned corners
            num += 1
        num += upsample_by_hand(child)
    return num


def test_the_fusion_of_hrnets_upsamples_bilinearly_if_asked_to() -> None:
    torch.manual_seed(0)
    nearest = create_backbone("hrnet_w18_small").eval()  # type: ignore[attr-defined]
    by_hand, bilinear = copy.deepcopy(nearest), copy.deepcopy(nearest)
    assert upsample_by_hand(by_hand) == 1 + 3 + 6  # one module of two, three and four branches
    fuse_bilinearly(bilinear)
    assert [n for n, _ in bilinear.named_parameters()] == [n for n, _ in nearest.named_parameters()]
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for found, expected, before in zip(bilinear(images), by_hand(images), nearest(images), strict=True):
            assert torch.equal(found, expected)
            assert not torch.allclose(found, before)


def test_only_hrnets_have_a_choice_of_upsampling() -> None:
    with torch.device("meta"):
        model = create_model("seamless", "cityscapes", backbone="hrnet_w18_small", width=8, fuse_upsampling="bilinear")
    assert {m.mode for m in model.modules() if isinstance(m, nn.Upsample)} == {"bilinear"}
    with pytest.raises(InvalidArgumentError, match=r"expected an HRNet, such as hrnet_w48, .* got resnet18"):
        create_model("seamless", "cityscapes", backbone="resnet18", width=8, fuse_upsampling="bilinear")
