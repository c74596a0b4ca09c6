"""Matching, losses, gradients and oracles of queries on the device are those on the processor."""

from __future__ import annotations

import pytest
import torch
from maps import SHAPES, generated_map

from panscape.representations.queries import (
    QUERY_ORACLES,
    QueryDecoding,
    QueryOutputs,
    QueryRepresentation,
    QueryTargets,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
SIZE = (96, 128)
QUERIES = QueryRepresentation(max_masks=12, decoding=QueryDecoding("mask2former"))


def outputs(batch: int) -> QueryOutputs:
    g = torch.Generator().manual_seed(0)
    shapes = [(batch, 15, len(SHAPES) + 1), (batch, 15, 24, 32)]
    last, earlier = ([torch.randn(*lead, *s, generator=g) for s in shapes] for lead in ((), (2,)))
    return QueryOutputs(*last, *earlier)


def test_losses_and_gradients() -> None:
    encoded = [QUERIES.encode(generated_map(seed, SIZE, crowd=True), SHAPES, SIZE) for seed in range(2)]
    targets = QueryTargets(*(torch.stack(parts) for parts in zip(*encoded, strict=True)))
    found = []
    for device in ("cpu", "cuda"):
        inputs = QueryOutputs(*(o.to(device).requires_grad_() for o in outputs(2)[:4]))
        losses = QUERIES.loss(inputs, QueryTargets(*(t.to(device) for t in targets)), SHAPES)
        torch.stack(list(losses.values())).sum().backward()
        found.append([loss.detach().cpu() for loss in losses.values()] + [o.grad.cpu() for o in inputs[:4]])  # type: ignore[union-attr]
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-4)


def test_oracles() -> None:
    truth = generated_map(1, SIZE)
    on_device = QueryOutputs(*(o.cuda() for o in outputs(1)[:4]))
    found = QUERIES.decode_with_truth(on_device, truth.to("cuda"), QUERY_ORACLES, SHAPES)
    assert found.to("cpu").equals(truth)
