"""Both implementations of the assignment of pixels to queries agree bit for bit."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from panscape.geometry import ImageGeometry
from panscape.representations.queries.assign import assign_pixels_reference, logistic, resize_weights
from panscape.representations.queries.assign_cpu import _logistic, assign_pixels


@st.composite
def scenes(draw):
    """Masks that are smooth, noisy, saturated or level, with scores that often tie, and any geometry."""
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    num, height, width = draw(st.integers(1, 9)), draw(st.integers(1, 30)), draw(st.integers(1, 30))
    logits = torch.randn(num, height, width, generator=g)
    form = draw(st.sampled_from(["noise", "smooth", "blocks", "level"]))
    if form in ("smooth", "blocks"):
        mode = {"smooth": "bicubic", "blocks": "nearest"}[form]
        logits = F.interpolate(torch.randn(1, num, 3, 3, generator=g), (height, width), mode=mode)[0]
    elif form == "level":
        logits = logits[:, :1, :1].expand_as(logits).clone()
    logits = logits * draw(st.sampled_from([1.0, 6.0, 40.0, 1e4, 1e-30, 1e30]))
    if draw(st.booleans()):
        logits = logits.round()
    if draw(st.booleans()):
        odd = torch.rand(logits.shape, generator=g) < 0.05
        logits[odd] = draw(st.sampled_from([float("nan"), float("inf"), -float("inf"), 0.0, -0.0]))
    levels = draw(st.sampled_from([1, 3, 1000]))
    score = (torch.rand(num, generator=g) * levels).ceil().clamp_min(1) / levels
    padded = height * draw(st.sampled_from([1, 3, 4])), width * draw(st.sampled_from([2, 4, 5]))
    seen = tuple(max(1, side - draw(st.integers(0, 9))) for side in padded)
    size = seen if draw(st.booleans()) else (draw(st.integers(1, 90)), draw(st.integers(1, 90)))
    return logits, score, ImageGeometry.of(size, seen, padded)


@settings(max_examples=150, deadline=None)
@given(scenes(), st.sampled_from([None, 1, 700]))
def test_both_implementations_give_the_same(scene, max_elements):
    logits, score, geometry = scene
    plain = assign_pixels_reference(logits, score, geometry, max_elements)
    steps = resize_weights(logits.shape[1], logits.shape[2], geometry)
    fast = assign_pixels(logits.numpy(), np.arange(len(logits)), score.numpy(), steps)
    for one, other in zip(plain, fast, strict=True):
        assert np.array_equal(one.numpy(), other)
    assert int(plain.num_assigned.sum()) == geometry.size.area


def test_sharp_masks_among_many_weak_ones():
    """Borders of two and three masks, and pixels that no mask has, in blocks where a hundred queries are close."""
    g = torch.Generator().manual_seed(0)
    owner = F.interpolate(torch.randn(1, 7, 4, 5, generator=g), (40, 50), mode="bicubic")[0].argmax(0)
    logits = torch.full((100, 40, 50), -6.0) + torch.randn(100, 40, 50, generator=g)
    for k in range(6):  # the pixels of the seventh have no mask
        logits[10 * k][owner == k] = 7 + torch.randn(40, 50, generator=g)[owner == k]
    score = 0.8 + 0.2 * torch.rand(100, generator=g)
    geometry = ImageGeometry.of((160, 200))
    plain = assign_pixels_reference(logits, score, geometry)
    fast = assign_pixels(logits.numpy(), np.arange(100), score.numpy(), resize_weights(40, 50, geometry))
    for one, other in zip(plain, fast, strict=True):
        assert np.array_equal(one.numpy(), other)
    assert (plain.num_assigned > 0).sum() > 100
    assert all(plain.num_assigned[:60:10] > 300)


def test_the_sigmoid_is_that_of_torch_up_to_rounding():
    logits = torch.cat([torch.linspace(-90, 90, 4001), torch.tensor([0.0, -0.0, 1e30, -1e30])])
    prob = logistic(logits)
    torch.testing.assert_close(prob, logits.clamp(-80, 80).double().sigmoid().float(), rtol=4e-7, atol=0)
    assert prob.tolist() == [_logistic(value) for value in logits.numpy()]
