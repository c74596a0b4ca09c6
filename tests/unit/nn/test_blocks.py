from __future__ import annotations

import torch
from torch import nn

from panscape.models.panoptic_fpn import SemanticFPN
from panscape.nn.blocks import GroupNorm
from panscape.nn.pixel_decoder import FPNPixelDecoder


def test_group_norm_is_that_of_torch_and_accepts_groups_of_one_value() -> None:
    norm, x = GroupNorm(64), torch.randn(2, 64, 3, 5)
    assert torch.equal(norm(x), nn.GroupNorm(32, 64)(x))
    norm = GroupNorm(32)
    nn.init.normal_(norm.bias)
    torch.testing.assert_close(norm(torch.randn(1, 32, 1, 1))[0, :, 0, 0], norm.bias, atol=1e-3, rtol=0)


def test_decoders_of_32_channels_accept_the_smallest_image() -> None:
    features = [torch.randn(1, 32, side, side) for side in (8, 4, 2, 1)]
    assert SemanticFPN(32, (4, 8, 16, 32), 5, 32)(features).shape == (1, 5, 8, 8)
    assert FPNPixelDecoder([32] * 4, 32, 0, hidden=64, dropout=0.0, num_heads=4)(features).fine.shape == (1, 32, 8, 8)
