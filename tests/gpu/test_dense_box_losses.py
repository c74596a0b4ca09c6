"""Losses and oracles of dense boxes on the device are those on the processor."""

from __future__ import annotations

import pytest
import torch
from maps import SHAPES, generated_map

from panscape.representations.dense_boxes import (
    DENSE_BOX_ORACLES,
    DenseBoxDecoding,
    DenseBoxOutputs,
    DenseBoxRepresentation,
    DenseBoxTargets,
)
from panscape.representations.dense_boxes.locations import Pyramid, level_sizes
from panscape.representations.fusion import FusionConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
DEVICE = "cuda"
SIZE = (96, 128)
BOXES = DenseBoxRepresentation(
    level_ends=(16.0, 40.0), decoding=DenseBoxDecoding(fusion=FusionConfig(min_score=0.1, stuff_area=1))
)


def outputs(batch: int) -> DenseBoxOutputs:
    g = torch.Generator().manual_seed(0)
    sizes = level_sizes(Pyramid(SIZE, 8, 3))
    num, (h, w) = sum(s.area for s in sizes), sizes[0]
    return DenseBoxOutputs(
        torch.randn(batch, len(SHAPES), h, w, generator=g),
        torch.randn(batch, 2, num, generator=g),
        30 * torch.rand(batch, 4, num, generator=g) + 0.5,
        torch.randn(batch, num, generator=g),
        torch.randn(batch, 4, 2 * h, 2 * w, generator=g),
    )


def test_losses_and_gradients() -> None:
    encoded = [BOXES.encode(generated_map(seed, SIZE, crowd=True), SHAPES, SIZE) for seed in range(2)]
    targets = DenseBoxTargets(*(torch.stack(parts) for parts in zip(*encoded, strict=True)))
    found = []
    for device in ("cpu", DEVICE):
        inputs = DenseBoxOutputs(*(o.to(device).requires_grad_() for o in outputs(2)))
        losses = BOXES.loss(inputs, DenseBoxTargets(*(t.to(device) for t in targets)))
        torch.stack(list(losses.values())).sum().backward()
        found.append(([loss.detach().cpu() for loss in losses.values()], [o.grad.cpu() for o in inputs]))
    (losses, gradients), (other_losses, other_gradients) = found
    torch.testing.assert_close(other_losses, losses, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(other_gradients, gradients, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("parts", [("semantic",), ("boxes",), DENSE_BOX_ORACLES])
def test_maps_with_true_parts(parts: tuple[str, ...]) -> None:
    truth = generated_map(4, SIZE)
    on_device = DenseBoxOutputs(*(o.to(DEVICE) for o in outputs(1)))
    expected = BOXES.decode_with_truth(outputs(1), truth, parts, SHAPES)
    found = BOXES.decode_with_truth(on_device, truth, parts, SHAPES)
    assert found.ids.device.type == DEVICE
    assert (found.ids.cpu() != expected.ids).float().mean() < 1e-3  # exponentials differ in the last bit
