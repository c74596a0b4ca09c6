"""Semantic heads on four features, against the published counts and against torch's own operations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from panscape.errors import InvalidArgumentError
from panscape.nn.darknet import Darknet
from panscape.nn.pyramid_pooling import Pyramid, PyramidConv, PyramidPooling
from panscape.nn.semantic_heads import MultiFeatureHead, SingleFeatureHead, TopDownHead, resized

CHANNELS = (64, 128, 256, 512)  # of Darknet-53
SMALL = (4, 8, 16, 32)
HEADS: dict[str, Callable[..., nn.Module]] = {
    "layer 12": partial(SingleFeatureHead, stride=4),
    "layer 37": partial(SingleFeatureHead, stride=8),
    "layer 62": partial(SingleFeatureHead, stride=16),
    "multi-feature": MultiFeatureHead,
    "top-down": TopDownHead,
    "pyramid 4": PyramidPooling,
    "pyramid 8": partial(PyramidPooling, stride=8),
    "pyramid 16": partial(PyramidPooling, stride=16),
}


def features(
    channels: tuple[int, ...], size: tuple[int, int], batch: int = 2, device: str = "cpu"
) -> list[torch.Tensor]:
    g = torch.Generator(device).manual_seed(0) if device == "cpu" else None
    return [
        torch.randn(batch, c, size[0] // s, size[1] // s, device=device, generator=g)
        for c, s in zip(channels, (2, 4, 8, 16), strict=True)
    ]


def trained(head: nn.Module) -> nn.Module:
    """Give norms statistics and factors as after training, so that no test depends on their initial values."""
    g = torch.Generator().manual_seed(1)
    for norm in head.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            for t, low in ((norm.running_mean, -0.5), (norm.running_var, 0.5), (norm.weight, 0.5), (norm.bias, -0.5)):
                t.data.copy_(low + torch.rand(t.shape, generator=g))
    return head.eval()


@pytest.mark.parametrize(
    ("head", "options", "parameters", "gmac"),
    [  # billions at 640 x 640, and at 1024 x 1024 and 1024 x 2048
        ("layer 12", {}, 393_267, [24.9]),
        ("layer 37", {}, 540_723, [28.7]),
        ("layer 62", {}, 835_635, [36.2]),
        ("multi-feature", {}, 770_611, [34.5]),
        ("top-down", {}, 220_883, [20.2, 51.7, 103.5]),
        ("pyramid 4", {"width": 512, "split": False}, 10_531_859, [242.7, 621.3, 1242.5]),
        ("pyramid 4", {"width": 256, "split": False}, 5_807_891, [121.8, 311.7, 623.4]),
        ("pyramid 4", {"split": False}, 3_445_907, [61.3, 156.9, 313.9]),
        ("pyramid 4", {"width": 64, "split": False}, 2_264_915, [31.1, 79.6, 159.1]),
        ("pyramid 16", {"width": 512, "split": False}, 10_531_859, [16.0, 40.9, 81.7]),
        ("pyramid 16", {"split": False}, 3_445_907, [4.6, 11.8, 23.7]),
        ("pyramid 4", {"width": 512}, 10_531_859, [122.5]),
        ("pyramid 4", {}, 3_445_907, [31.3]),
    ],
)
def test_parameters_and_multiply_adds_for_cityscapes(
    head: str, options: dict[str, int], parameters: int, gmac: list[float]
) -> None:
    with torch.device("meta"):
        module = HEADS[head](CHANNELS, 19, **options).eval()
    assert sum(p.numel() for p in module.parameters()) == parameters
    with FlopCounterMode(display=False) as counter:
        module(features(CHANNELS, (640, 640), 1, "meta"))
    counts = [counter.get_total_flops() / 2e9 * area / 640**2 for area in (640**2, 1024**2, 1024 * 2048)]
    assert counts[: len(gmac)] == pytest.approx(gmac, abs=0.1)  # the pooled maps do not grow with the area


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("size", "batch"), [((32, 32), 1), ((64, 96), 3)])
def test_every_head_maps_any_size_to_logits_and_trains_every_parameter(
    head: str, size: tuple[int, int], batch: int
) -> None:
    module = HEADS[head](SMALL, 5)
    logits = module(features(SMALL, size, batch))
    assert logits.shape == (batch, 5, size[0] // module.stride, size[1] // module.stride)
    assert bool(logits.isfinite().all())
    logits.square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in module.parameters())


@pytest.mark.parametrize("head", HEADS)
def test_a_batch_of_two_equals_two_of_one(head: str) -> None:
    module, maps = trained(HEADS[head](SMALL, 5)), features(SMALL, (32, 64))
    with torch.inference_mode():
        each = torch.cat([module([x[i : i + 1] for x in maps]) for i in (0, 1)])
        torch.testing.assert_close(module(maps), each, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("head", "used"), [("layer 12", {1}), ("layer 37", {2}), ("layer 62", {3})])
def test_single_feature_heads_see_one_feature(head: str, used: set[int]) -> None:
    module, maps = trained(HEADS[head](SMALL, 5)), [x.requires_grad_() for x in features(SMALL, (32, 32))]
    module(maps).sum().backward()
    assert {i for i, x in enumerate(maps) if x.grad is not None} == used


def test_the_top_down_head_adds_the_upsampled_reduction_to_each_feature() -> None:
    module, maps = trained(TopDownHead(SMALL, 5)), features(SMALL, (32, 64))
    seen: list[Tensor] = []
    module.conv.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.inference_mode():
        module(maps)
        x = maps[3]
        for i in (2, 1, 0):
            conv, norm = module.reduce[i]
            x = maps[i] + F.interpolate(norm(conv(x)), scale_factor=2, mode="bilinear", align_corners=False)
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(seen[0], x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stride", [4, 16])
@pytest.mark.parametrize("size", [(32, 32), (64, 160)])
def test_the_split_pyramid_equals_the_whole_one(stride: int, size: tuple[int, int]) -> None:
    whole = trained(PyramidPooling(SMALL, 5, stride=stride, width=12, split=False))
    split = PyramidPooling(SMALL, 5, stride=stride, width=12)
    split.load_state_dict(whole.state_dict())
    with torch.inference_mode():
        expected, found = whole(features(SMALL, size)), split.eval()(features(SMALL, size))
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kernel", "size"), [(1, (5, 9)), (3, (5, 9)), (3, (1, 2)), (5, (7, 3))])
def test_a_split_convolution_and_its_gradients_are_exact(kernel: int, size: tuple[int, int]) -> None:
    g = torch.Generator().manual_seed(0)
    conv = PyramidConv(16, 6, kernel, split=False).double()
    pyramid = Pyramid(
        torch.randn(2, 8, *size, generator=g, dtype=torch.float64),
        [torch.randn(2, 2, b, b, generator=g, dtype=torch.float64) for b in (1, 2, 3, 6)],
    )
    gradients, results = [], []
    for conv.split in (False, True):
        leaves = [t.clone().requires_grad_() for t in (pyramid.features, *pyramid.pooled)]
        y = conv(Pyramid(leaves[0], leaves[1:]))
        gradients.append(torch.autograd.grad(y.square().sum(), [*leaves, conv.conv.weight]))
        results.append(y)
    torch.testing.assert_close(results[1], results[0], atol=1e-12, rtol=0)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-10, rtol=0)


def test_pooled_maps_are_normed_means_of_cells() -> None:
    module, maps = trained(PyramidPooling(SMALL, 5)), features(SMALL, (48, 96))
    with torch.inference_mode():
        pyramid = module.pool(maps)
    assert pyramid.features.shape == (2, 64, 12, 24)
    assert [tuple(p.shape) for p in pyramid.pooled] == [(2, 16, b, b) for b in (1, 2, 3, 6)]
    conv, norm, _ = module.branches[2]
    means = pyramid.features.unflatten(3, (3, 8)).unflatten(2, (3, 4)).mean((3, 5))
    torch.testing.assert_close(pyramid.pooled[2], torch.relu(norm(conv(means))).detach(), atol=1e-5, rtol=1e-5)
    assert pyramid.concatenated().shape == (2, module.pyramid_channels, 12, 24)


@pytest.mark.parametrize("numbers", [(5, 12, 37, 62), (5, 6, 13, 38)])
def test_both_sets_of_features_fit_every_head(numbers: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    body = Darknet((4, 8, 16, 32, 64), (1, 1, 1, 1, 1)).eval()
    with torch.inference_mode():
        maps = list(body.layers(torch.rand(1, 3, 32, 64), numbers).values())
        for head in HEADS.values():
            module = head([body.layer_channels[n] for n in numbers], 5).eval()
            assert module(maps).shape == (1, 5, 32 // module.stride, 64 // module.stride)


def test_features_that_shrink_are_averaged() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert resized(x, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert resized(x, (1, 1)).item() == 7.5


@pytest.mark.parametrize("head", [SingleFeatureHead, PyramidPooling])
def test_other_strides_are_an_error(head: Callable[..., nn.Module]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"expected a .*4, 8 or 16.*, got 2"):
        head(SMALL, 5, stride=2)
