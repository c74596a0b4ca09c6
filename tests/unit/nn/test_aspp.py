from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from panscape.nn.aspp import ASPP


def a_pyramid(window: tuple[int, int] | None, *, separable: bool = False) -> ASPP:
    torch.manual_seed(0)
    return ASPP(
        6, 4, (1, 2), separable=separable, window=window, window_bias=True, align_corners=False, dropout=0.1
    ).eval()


def means(pyramid: ASPP, x: torch.Tensor) -> torch.Tensor:
    """Return the output of the pooling branch."""
    seen: list[torch.Tensor] = []
    handle = pyramid.blend.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.inference_mode():
        pyramid(x)
    handle.remove()
    return seen[0][:, -4:]


def features(height: int, width: int) -> torch.Tensor:
    return torch.randn(1, 6, height, width, generator=torch.Generator().manual_seed(1))


def test_the_window_slides_by_one_and_its_means_are_enlarged() -> None:
    x, pyramid = features(8, 12), a_pyramid((4, 6))
    sums = F.conv2d(x.reshape(6, 1, 8, 12), torch.ones(1, 1, 4, 6)).reshape(1, 6, 5, 7) / 24  # all windows inside
    weight, bias = pyramid.mean.weight[:, :, 0, 0], pyramid.mean.bias
    assert bias is not None
    expected = torch.relu(torch.einsum("oc,bchw->bohw", weight, sums) + bias[:, None, None])
    expected = F.interpolate(expected, size=(8, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(means(pyramid, x), expected.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [None, (8, 12), (99, 99)])
def test_a_window_as_large_as_the_map_or_larger_is_the_mean_of_all(window: tuple[int, int] | None) -> None:
    x, pyramid = features(8, 12), a_pyramid(window)
    of_all = torch.relu(pyramid.mean(x.mean((2, 3), keepdim=True))).expand(-1, -1, 8, 12)
    torch.testing.assert_close(means(pyramid, x), of_all.detach(), atol=1e-5, rtol=1e-5)


def test_a_window_that_is_too_large_in_one_direction_slides_in_the_other() -> None:
    x, pyramid = features(3, 12), a_pyramid((4, 6))
    rows = x.mean(2, keepdim=True)
    assert means(pyramid, x).shape == (1, 4, 3, 12)
    alone = means(pyramid, rows)
    torch.testing.assert_close(means(pyramid, x), alone.expand(-1, -1, 3, -1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("separable", [False, True])
def test_branches_look_as_far_as_their_rates(separable: bool) -> None:
    pyramid = a_pyramid(None, separable=separable)
    for norm in (m for m in pyramid.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.constant_(norm.bias, 9.0)  # so that no ReLU stops the gradient
    for branch, reach in zip(pyramid.branches, (0, 1, 2), strict=True):
        x = features(9, 9).requires_grad_()
        branch(x)[0, :, 4, 4].sum().backward()
        assert x.grad is not None
        rows = x.grad.abs().sum((0, 1, 3)).nonzero()[:, 0]
        assert (int(rows.min()), int(rows.max())) == (4 - reach, 4 + reach)


def test_dropout_is_for_training() -> None:
    pyramid = a_pyramid(None)
    assert isinstance(pyramid.dropout, nn.Dropout)
    x = features(8, 12)
    assert torch.equal(pyramid(x), pyramid(x))
    pyramid.dropout.train()
    assert not torch.equal(pyramid(x), pyramid(x))
