from __future__ import annotations

import pytest
import torch
from torch import nn

from panscape.nn.depthwise import DepthwiseInFloat32


@pytest.mark.parametrize(("groups", "is_trained"), [(8, True), (8, False), (1, True)])
def test_only_grouped_convolutions_in_training_compute_in_single_precision(groups: int, *, is_trained: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, 3, padding=1, groups=groups, bias=False).requires_grad_(is_trained)
    images = torch.rand(1, 8, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        half = conv(images.bfloat16())
        with DepthwiseInFloat32():
            found = conv(images.bfloat16())
    assert found.dtype == torch.bfloat16
    if groups > 1 and is_trained:
        assert torch.equal(found, conv(images.bfloat16().float()).bfloat16())
        (weight,) = torch.autograd.grad(found.float().sum(), [conv.weight])
        (expected,) = torch.autograd.grad(conv(images.bfloat16().float()).sum(), [conv.weight])
        assert torch.equal(weight, expected)
    else:
        assert torch.equal(found, half)
    with DepthwiseInFloat32():
        assert torch.equal(conv(images), conv(images.clone()))
