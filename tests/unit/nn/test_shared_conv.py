from __future__ import annotations

import pytest
import torch

from panscape.nn.shared_conv import SharedHeadConv


def levels_of(channels: int, sizes: list[tuple[int, int]]) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(2, channels, *size, generator=g, dtype=torch.float64, requires_grad=True) for size in sizes]


@pytest.mark.parametrize("size", [(12, 20), (6, 10)])
def test_products_before_enlarging_equal_the_convolution_after_it(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv = SharedHeadConv(32, 3, 2).double()
    levels = levels_of(32, [(6, 10), (3, 5), (2, 3)])
    found, expected = conv(levels, size), conv.plain(levels, size)
    assert found.shape == (2, 2, *size)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    weights = torch.randn(expected.shape, dtype=torch.float64)
    wanted = [*levels, *conv.parameters()]
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), wanted),
        torch.autograd.grad((expected * weights).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


def test_with_more_products_than_half_the_channels_it_is_computed_as_written() -> None:
    conv = SharedHeadConv(17, 2, 2).double()
    levels = levels_of(17, [(4, 6), (2, 3)])
    assert torch.equal(conv(levels, (4, 6)), conv.plain(levels, (4, 6)))
