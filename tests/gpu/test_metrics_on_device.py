"""Metrics on the device equal those on the processor, and no image is waited for."""

from __future__ import annotations

import pytest
import torch
from maps import SHAPES, generated_map

from panscape import PanopticMap
from panscape.metrics import PROTOCOLS, Evaluator, GpuEvaluator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_device_finds_what_the_processor_finds_without_waiting(protocol):
    pairs = []
    for seed in range(20):
        truth = generated_map(seed, (64, 80), objects=9, void=seed % 4 > 0, crowd=seed % 3 > 0)
        pairs.append((PanopticMap(truth.ids.roll((3, -2), (0, 1)), truth.category.flip(0)), truth))
    expected, evaluator = Evaluator(SHAPES, protocol), GpuEvaluator(SHAPES, "cuda", protocol)
    for pair in pairs:
        expected.update(*pair)
    parts = [
        [None if part is None else part.cuda() for part in (p.ids, p.category, t.ids, t.category, t.crowd)]
        for p, t in pairs
    ]
    evaluator.update(*parts[0])  # libraries start
    evaluator.reset()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for part in parts:
            evaluator.update(*part)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found = evaluator.to_evaluator()
    assert torch.equal(found.panoptic.state[:, :3], expected.panoptic.state[:, :3])
    assert torch.equal(found.semantic.state, expected.semantic.state)
    for name, state in found.states.items():
        torch.testing.assert_close(state, expected.states[name], rtol=0, atol=1e-10)
