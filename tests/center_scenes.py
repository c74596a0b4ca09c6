"""Outputs of a network for centres, as tests of their decoding need them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def center_scene(num_centers: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Smooth outputs of a network of stride 4: categories in blobs, and offsets which mostly find their centres."""
    g = torch.Generator().manual_seed(seed)
    height, width = 24, 36
    logits = F.interpolate(torch.randn(1, 6, 6, 9, generator=g), (height, width), mode="bilinear")[0] * 5
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    center, offset = torch.zeros(height, width), torch.zeros(2, height, width)
    best = torch.full((height, width), torch.inf)
    for _ in range(num_centers):
        cy, cx, peak = torch.rand(3, generator=g).tolist()
        cy, cx = cy * height, cx * width
        squared = (y - cy) ** 2 + (x - cx) ** 2
        center = torch.maximum(center, (0.4 + 0.6 * peak) * torch.exp(-squared / 6))
        offset = torch.where(squared < best, 4 * torch.stack([cy - y, cx - x]), offset)
        best = torch.minimum(best, squared)
    return logits, center, offset + torch.randn(offset.shape, generator=g)
