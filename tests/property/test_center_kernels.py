"""The implementations of each centre kernel are bit-identical, especially where values tie."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from panscape.geometry import ImageGeometry
from panscape.ops.interpolate import finite_values, upsample
from panscape.representations.centers.boundary_weights import boundary_weights, boundary_weights_reference
from panscape.representations.centers.decode import (
    CenterDecoding,
    group_centers,
    group_centers_batched,
    group_centers_reference,
)
from panscape.representations.centers.encode import center_targets, center_targets_reference
from panscape.representations.centers.resize_outputs import resize_outputs, resize_outputs_batched
from panscape.representations.centers.types import CenterTargets

WILD = [float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e30, 1e-45]
seeds = st.integers(0, 2**32 - 1)


def same_map(one, other):
    return (
        torch.equal(one.ids, other.ids)
        and torch.equal(one.category, other.category)
        and torch.equal(one.score, other.score)
    )


@st.composite
def groupings(draw):
    """Outputs with few distinct values, so that logits, peaks and distances tie, or with many."""
    g = torch.Generator().manual_seed(draw(seeds))
    height, width = draw(st.integers(1, 10)), draw(st.integers(1, 12))
    stride = draw(st.sampled_from([1, 2, 4, 4, 4, 5]))
    padded = (height * stride + draw(st.integers(0, 1)), width * stride)
    if draw(st.integers(0, 4)) == 0:  # outputs for a padded image
        padded = (draw(st.integers(1, padded[0])), draw(st.integers(1, padded[1])))
    size = (draw(st.integers(1, padded[0])), draw(st.integers(1, padded[1]))) if draw(st.booleans()) else padded
    num_categories = draw(st.sampled_from([1, 2, 3, 19, 133]))

    def values(*shape):
        levels = draw(st.sampled_from([0, 1, 2, 4, 16]))
        noise = torch.rand(*shape, generator=g)
        return (noise * levels).round() / levels if levels else noise

    logits = values(num_categories, height, width) * draw(st.sampled_from([0, 1, 3e-7, 40, 1e8]))
    if draw(st.booleans()):  # whole areas of one category
        logits += 2 * (torch.arange(num_categories) == draw(st.integers(0, num_categories - 1)))[:, None, None]
    center = values(height, width) * draw(st.sampled_from([0, 0.1, 0.8, 1, 1, 1]))
    offset = (values(2, height, width) - 0.5) * draw(st.sampled_from([0, 2, 8, 30, 200, 9000, 1e6]))
    if draw(st.integers(0, 3)) == 0:  # a diverged network
        for part in (logits, center, offset):
            wild = torch.tensor(draw(st.lists(st.sampled_from(WILD), min_size=1, max_size=3)))
            chosen = wild[torch.randint(0, len(wild), part.shape, generator=g)]
            part[:] = torch.where(
                torch.rand(part.shape, generator=g) < draw(st.sampled_from([0, 0.1, 1])), chosen, part
            )
    things = draw(
        st.sampled_from([(), tuple(range(num_categories)), tuple(range(1, num_categories, 2)), (num_categories - 1,)])
    )
    decoding = CenterDecoding(
        threshold=draw(st.sampled_from([0.1, 0.1, 0.25, 0.5, 0.0])),
        nms_kernel=draw(st.sampled_from([1, 3, 7, 41])),
        top_k=draw(st.sampled_from([1, 2, 3, 5, 12, 200])),
        stuff_area=draw(st.sampled_from([0, 1, 20, 100])),
        align_corners=draw(st.booleans()),
        thing_area=draw(st.sampled_from([0, 0, 1, 2, 6, 30, 200])),
        stuff_share=draw(st.sampled_from([0.0, 0.0, 0.01, 0.3])),
        compat=draw(st.sampled_from(["panoptic_swiftnet", "panoptic_deeplab"])),
        join_peaks=draw(st.booleans()),
        one_category=draw(st.booleans()),
        largest_part=draw(st.booleans()),
        leftover_area=draw(st.sampled_from([0, 0, 1, 4, 30])),
    )
    return logits, center, offset, ImageGeometry.of(size, padded_size=padded), things, decoding


@settings(max_examples=200)
@given(groupings())
def test_grouping(case):
    logits, center, offset, geometry, things, decoding = case
    expected = group_centers_reference(*case)
    assert same_map(group_centers(*case), expected)
    batch = group_centers_batched(logits[None], center[None], offset[None], [geometry], things, decoding)
    assert same_map(batch[0], expected)


@settings(max_examples=60)
@given(groupings(), st.integers(-1, 1))
def test_grouping_when_there_are_about_top_k_centres(case, more):
    *outputs, decoding = case
    unlimited = CenterDecoding(decoding.threshold, decoding.nms_kernel, 10**6, 0, decoding.align_corners)
    unlimited = replace(unlimited, join_peaks=decoding.join_peaks)
    everything = group_centers_reference(*outputs[:-1], tuple(range(len(outputs[0]))), unlimited)
    top_k = max(everything.num_segments + more, 1)
    limited = replace(unlimited, top_k=top_k, compat=decoding.compat)
    expected = group_centers_reference(*outputs, limited)
    assert same_map(group_centers(*outputs, limited), expected)
    logits, center, offset, geometry, things = outputs
    batch = group_centers_batched(logits[None], center[None], offset[None], [geometry], things, limited)
    assert same_map(batch[0], expected)


@settings(max_examples=100)
@given(groupings(), st.booleans(), st.integers(1, 40), st.integers(1, 40))
def test_grouping_of_outputs_that_were_brought_to_the_image(case, scale_offsets, height, width):
    logits, center, offset, inside, things, decoding = case
    padded, inference_size = inside.padded_size, inside.inference_size
    way = decoding if scale_offsets else replace(decoding, compat="detectron2")
    geometry = ImageGeometry.of((height, width), inference_size, padded)
    one = resize_outputs(logits, center, offset, geometry, way)
    batch = (logits[None], center[None], offset[None])
    together = resize_outputs(*batch, geometry, way)
    for each in (together, resize_outputs_batched(*batch, geometry, way)):
        assert all(torch.equal(a, b[0]) for a, b in zip(one, each, strict=True))
    parts = (finite_values(logits), finite_values(center), finite_values(offset, nan=0))
    plain = [upsample(part, padded, inference_size, decoding.align_corners) for part in parts]
    if scale_offsets:
        factor = torch.tensor([height / inference_size[0], width / inference_size[1]])
        plain[2] = plain[2] * factor[:, None, None]
    assert all(torch.equal(a, b) for a, b in zip(one, plain, strict=True))
    target = ImageGeometry.of((height, width))
    areas = replace(decoding, align_corners=False)
    expected = group_centers_reference(*one, target, things, areas)
    assert same_map(group_centers(*one, target, things, areas), expected)
    assert same_map(group_centers_batched(*together, [target], things, areas)[0], expected)
    if not geometry.is_resized:
        assert same_map(expected, group_centers_reference(logits, center, offset, inside, things, decoding))


@settings(max_examples=25)
@given(seeds)
def test_grouping_of_smooth_outputs_over_many_buckets(seed):
    g = torch.Generator().manual_seed(seed)
    size, noise = (24, 40), 0.02

    def smooth(channels, scale):
        coarse = torch.randn(1, channels, 4, 6, generator=g) * scale
        return torch.nn.functional.interpolate(coarse, size, mode="bilinear")[0] + noise * torch.randn(
            channels, *size, generator=g
        )

    case = (
        smooth(5, 3),
        smooth(1, 0.5)[0],
        smooth(2, 30),
        ImageGeometry.of((93, 151), padded_size=(96, 160)),
        (1, 3, 4),
        CenterDecoding(),
    )
    assert same_map(group_centers(*case), group_centers_reference(*case))


@settings(max_examples=100)
@given(groupings(), st.integers(-1, 1))
def test_grouping_when_a_segment_is_about_thing_area(case, more):
    *outputs, decoding = case
    decoding = replace(decoding, largest_part=False, leftover_area=0)  # a dropped segment would not just be void
    everything = group_centers_reference(*outputs, replace(decoding, thing_area=0))
    is_thing = torch.isin(everything.category, torch.tensor(outputs[-1], dtype=torch.int64))
    areas = everything.areas()
    limit = max(int(areas[is_thing].median()) + more, 0) if is_thing.any() else 1
    limited = replace(decoding, thing_area=limit)
    expected = everything.select(~is_thing | (areas >= limit))
    logits, center, offset, geometry, things = outputs
    batch = group_centers_batched(logits[None], center[None], offset[None], [geometry], things, limited)
    for result in (group_centers(*outputs, limited), group_centers_reference(*outputs, limited), batch[0]):
        assert same_map(result, expected)


@st.composite
def maps(draw):
    """Ragged segments of blocks, each of several components, up to a few words of pixels wide."""
    g = torch.Generator().manual_seed(draw(seeds))
    block_y, block_x = draw(st.integers(1, 6)), draw(st.sampled_from([1, 2, 7, 40]))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    num_segments = draw(st.integers(0, 6))
    ids = torch.randint(0, num_segments + 1, (height, width), generator=g, dtype=torch.int32)
    if draw(st.booleans()):
        ids = ids.clamp(min=min(1, num_segments))
    ids = ids.repeat_interleave(block_y, 0).repeat_interleave(block_x, 1)
    return ids[draw(st.integers(0, block_y - 1)) :, draw(st.integers(0, block_x - 1)) :], num_segments


@settings(max_examples=200)
@given(maps(), st.sampled_from([(8, 4, 2, 1), (8, 4, 1), (3,), (8, 7, 6, 5, 4, 3, 2, 1)]), st.booleans())
def test_boundary_weights(case, alphas, released):
    thresholds = "released" if released else "equal"
    fast = boundary_weights(*case, alphas, thresholds)
    assert torch.equal(fast, boundary_weights_reference(*case, alphas, thresholds))


@settings(max_examples=200)
@given(maps(), seeds, st.sampled_from([0.3, 1, 2, 10]), st.sampled_from([0, 30, 4096]))
def test_targets(case, seed, sigma, small_area):
    ids, num_segments = case
    g = torch.Generator().manual_seed(seed)
    category = torch.randint(0, 19, (num_segments,), generator=g)
    is_thing, is_crowd = (torch.randint(0, 2, (num_segments,), generator=g).bool() for _ in range(2))
    arguments = {"sigma": sigma, "small_area": small_area, "small_weight": 3.0, "void": 255}
    fast = center_targets(ids, category, is_thing, is_crowd, **arguments)
    plain = center_targets_reference(ids, category, is_thing, is_crowd, **arguments)
    for name, a, b in zip(CenterTargets._fields, fast, plain, strict=True):
        assert torch.equal(a, b), name
