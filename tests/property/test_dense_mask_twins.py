"""Implementations of masks from dense boxes agree in every pixel, especially at the threshold and for odd boxes."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from panscape.geometry import ImageGeometry
from panscape.ops.interpolate import upsample
from panscape.representations.dense_boxes.decode import (
    MaskInputs,
    dense_masks,
    dense_masks_chunked,
    dense_masks_reference,
    upsampled_thing_prob,
)

seeds = st.integers(0, 2**32 - 1)


def sorted_corners(boxes, axis):
    first, second = boxes.chunk(2, dim=axis)
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], dim=axis)


@st.composite
def cases(draw):
    """Boxes of a few objects with noise, so that overlaps are high, or any; probabilities of many or few levels."""
    g = torch.Generator().manual_seed(draw(seeds))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 11))
    stride = draw(st.sampled_from([1, 2, 4, 4, 4, 5]))
    padded = (height * stride, width * stride)
    size = (draw(st.integers(1, padded[0])), draw(st.integers(1, padded[1]))) if draw(st.booleans()) else padded
    num_things, num_maps = draw(st.sampled_from([1, 2, 8])), draw(st.sampled_from([1, 1, 5]))
    num_queries = draw(st.sampled_from([0, 1, 3, 7]))

    objects = torch.rand(4, 4, generator=g) * 60
    query = objects[torch.randint(0, 4, (num_queries,), generator=g)]
    dense = objects[torch.randint(0, 4, (num_maps, height, width), generator=g)].permute(0, 3, 1, 2)
    noise = draw(st.sampled_from([0, 0.01, 1, 1, 5, 300]))
    dense = dense + noise * torch.randn(dense.shape, generator=g)
    query = query + draw(st.sampled_from([0, 1])) * torch.randn(query.shape, generator=g)
    scale = draw(st.sampled_from([1, 1, 1, 1e-4, 1e4, 1e13]))
    dense, query = dense * scale, query * scale
    if draw(st.booleans()):  # empty and invalid boxes
        odd = draw(st.sampled_from([0.0, 1e9, -1e9, torch.inf, -torch.inf, torch.nan]))
        dense = torch.where(torch.rand(dense.shape, generator=g) < 0.1, odd, dense)
        query = torch.where(torch.rand(query.shape, generator=g) < draw(st.sampled_from([0, 0.1])), odd, query)
    dense, query = sorted_corners(dense, 1), sorted_corners(query, 1)
    prob = torch.rand(num_things, height, width, generator=g) ** draw(st.sampled_from([0.02, 0.3, 1, 3]))
    levels = draw(st.sampled_from([0, 0, 1, 5]))
    prob = (prob * levels).round() / levels if levels else prob
    category = torch.randint(0, num_things, (num_queries,), generator=g)
    threshold = draw(st.sampled_from([0.4, 0.4, 0.4, 0.2, 0.6, 0.0, 1e-4, 1.0]))
    return MaskInputs(query, category, dense, prob, ImageGeometry.of(size, padded_size=padded)), threshold


@settings(max_examples=300)
@given(cases(), st.sampled_from(["released", "paper"]))
def test_masks(case, compat):
    inputs, threshold = case
    expected = dense_masks_reference(inputs, threshold=threshold, compat=compat)
    found = dense_masks(inputs, threshold=threshold, compat=compat)
    assert torch.equal(found.to_masks(inputs.geometry.size), expected)


@settings(max_examples=100)
@given(cases(), st.sampled_from(["released", "paper"]), st.sampled_from([0, 500, 3000]))
def test_masks_made_a_few_at_a_time(case, compat, max_pixels):
    inputs, threshold = case
    options = {"threshold": threshold, "compat": compat}
    found = dense_masks_chunked(inputs, **options, max_pixels=max_pixels)
    assert torch.equal(found.to_masks(inputs.geometry.size), dense_masks_reference(inputs, **options))


@settings(max_examples=60)
@given(seeds, st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 19]), st.sampled_from([1, 2, 3]))
def test_probabilities_of_things(seed, height, width, num_categories, factor):
    logits = torch.randn(num_categories, height, width, generator=torch.Generator().manual_seed(seed)) * 3
    grid = (factor * height, factor * width)
    things = tuple(range(0, num_categories, 2))
    found = upsampled_thing_prob(logits, grid, things)
    assert torch.equal(found, upsample(logits, grid, grid, align_corners=False).softmax(0)[list(things)])
