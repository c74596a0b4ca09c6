from __future__ import annotations

import numpy as np
import pytest
import torch

from panscape.ops.confidence import mean_confidence


def test_it_is_the_mean_of_the_largest_softmax_probability():
    semantic = 3 * torch.randn(7, 31, 45, generator=torch.Generator().manual_seed(0))
    expected = float(semantic.softmax(0).amax(0).mean())
    assert mean_confidence(semantic.numpy()) == pytest.approx(expected, abs=1e-6)


def test_large_logits_do_not_overflow():
    semantic = np.zeros((4, 2, 2), np.float32)
    semantic[1] = 1e4
    assert mean_confidence(semantic) == 1.0
    assert mean_confidence(np.zeros((4, 2, 2), np.float16)) == 0.25


def test_evenly_spread_pixels_represent_large_outputs():
    semantic = np.zeros((2, 400, 600), np.float32)
    semantic[0, :200] = 1e4  # the upper half is sure, the lower one is not
    assert mean_confidence(semantic) == pytest.approx(0.75, abs=0.01)
