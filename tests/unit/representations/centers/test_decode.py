"""Grouping by centres: each published rule by hand, and a literal transcription of the published algorithm."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from center_scenes import center_scene
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.ops.interpolate import upsample
from panscape.panoptic import PanopticMap
from panscape.representations.centers.decode import (
    CenterDecoding,
    group_centers,
    group_centers_batched,
    group_centers_reference,
)


def batched(semantic, center, offset, geometry, thing_ids, decoding):
    return group_centers_batched(semantic[None], center[None], offset[None], [geometry], thing_ids, decoding)[0]


def inside(padded_size, size):
    return ImageGeometry.of(size, padded_size=padded_size)


ALL = pytest.mark.parametrize("group", [group_centers, group_centers_reference, batched])
SMALL = CenterDecoding(nms_kernel=3, stuff_area=1)


def whole_size(group, category, center, offset=None, things=(1,), decoding=SMALL, num_categories=3) -> PanopticMap:
    """Group outputs already at full size, whose logits say ``category`` [H, W]."""
    category, center = torch.tensor(category), torch.tensor(center, dtype=torch.float32)
    logits = F.one_hot(category, num_categories).permute(2, 0, 1).float()
    if offset is None:
        offset = torch.zeros(2, *category.shape)
    return group(logits, center, offset, ImageGeometry.of(tuple(category.shape)), things, decoding)


@ALL
def test_stuff_comes_first_then_things_by_centre(group):
    result = whole_size(group, [[1, 1, 0, 0, 2, 1, 1]], [[0.9, 0, 0, 0, 0, 0, 0.5]])
    assert result.ids.tolist() == [[3, 3, 1, 1, 2, 4, 4]]
    assert result.category.tolist() == [0, 2, 1, 1]
    torch.testing.assert_close(result.score, torch.tensor([1, 1, 0.9, 0.5]))


@ALL
def test_the_threshold_itself_is_no_centre(group):
    at = whole_size(group, [[1, 1, 1]], [[0.5, 0, 0]], decoding=CenterDecoding(0.5, 3, 200, 1))
    assert at.num_segments == 0
    assert at.ids.eq(0).all()  # things without any centre are void
    above = whole_size(group, [[1, 1, 1]], [[0.5000001, 0, 0]], decoding=CenterDecoding(0.5, 3, 200, 1))
    assert above.ids.tolist() == [[1, 1, 1]]


@ALL
def test_the_published_threshold_is_met_by_no_float_equal_to_it(group):
    # 0.1 in float32 lies above 0.1 in float64; the comparison is one of float32.
    assert whole_size(group, [[1]], [[0.1]]).num_segments == 0


@ALL
def test_all_pixels_of_a_plateau_are_centres(group):
    result = whole_size(group, [[1] * 5], [[0.5, 0.5, 0, 0, 0.5]])
    assert result.ids.tolist() == [[1, 2, 2, 3, 3]]  # column 3 is nearer to 4 than to 1


@ALL
def test_joined_peaks_are_the_first_of_each_window(group):
    heat = [[0, 0.5, 0.5, 0, 0, 0.5, 0.5], [0.5, 0.5, 0, 0, 0, 0.5, 0.5]]
    all_peaks, joined = (
        whole_size(group, [[1] * 7] * 2, heat, decoding=CenterDecoding(0.1, 3, 200, 1, join_peaks=join))
        for join in (False, True)
    )
    assert all_peaks.num_segments == 8
    assert joined.ids.tolist() == [[1, 1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 2, 2, 2]]  # (0, 1) and (0, 5), 3 is between them


@ALL
def test_a_centre_exceeded_in_its_window_is_none(group):
    wide = CenterDecoding(nms_kernel=5, stuff_area=1)
    result = whole_size(group, [[1] * 6], [[0.5, 0, 0.6, 0, 0, 0.5]], decoding=wide)
    assert result.num_segments == 2


@ALL
def test_the_first_of_equally_near_centres_wins(group):
    result = whole_size(group, [[1] * 5], [[0.5, 0, 0, 0, 0.6]])
    assert result.ids.tolist() == [[1, 1, 1, 2, 2]]


@ALL
def test_distances_are_compared_after_the_square_root(group):
    # Row 1 points to (1.2, -4096). Its squared distances from the centres are 2^24 + 2 and 2^24 in float32; both
    # have the root 4096, so the first centre wins though the second is nearer.
    offset = torch.zeros(2, 3, 1)
    offset[0, 1], offset[1] = 0.2, -4096
    result = whole_size(group, [[1]] * 3, [[0.6], [0], [0.6]], offset)
    assert result.ids.tolist() == [[1], [1], [2]]


@ALL
def test_below_top_k_all_centres_stay_in_raster_order(group):
    decoding = CenterDecoding(nms_kernel=3, top_k=4, stuff_area=1)
    result = whole_size(group, [[1] * 5], [[0.5, 0, 0.7, 0, 0.6]], decoding=decoding)
    assert result.ids.tolist() == [[1, 1, 2, 2, 3]]


@ALL
def test_from_top_k_on_the_highest_stay_highest_first(group):
    decoding = CenterDecoding(nms_kernel=3, top_k=3, stuff_area=1)
    result = whole_size(group, [[1] * 7], [[0.5, 0, 0.7, 0, 0.5, 0, 0.6]], decoding=decoding)
    assert result.ids.tolist() == [[3, 1, 1, 1, 1, 2, 2]]  # the peak at 4 is as high as that at 0 and comes later
    torch.testing.assert_close(result.score, torch.tensor([0.7, 0.6, 0.5]))


@ALL
def test_exactly_top_k_centres_are_ordered_by_height_too(group):
    decoding = CenterDecoding(nms_kernel=3, top_k=2, stuff_area=1)
    result = whole_size(group, [[1] * 4], [[0.5, 0, 0, 0.7]], decoding=decoding)
    assert result.ids.tolist() == [[2, 2, 1, 1]]


@ALL
@pytest.mark.parametrize(
    ("top_k", "ids"),
    [
        (5, [[1, 1, 2, 2, 3, 3, 4]]),  # fewer than top_k: all of them
        (4, [[1, 1, 1, 1, 1, 2, 2]]),  # as many: both of the lowest go
        (3, [[1, 1, 1, 1, 1, 2, 2]]),  # the third highest is one of two equal ones
        (2, [[1] * 7]),
        (1, [[0] * 7]),  # none is above the highest
    ],
)
def test_of_centres_above_the_last_the_order_is_that_of_the_raster(group, top_k, ids):
    decoding = CenterDecoding(nms_kernel=3, top_k=top_k, stuff_area=1, compat="panoptic_deeplab")
    result = whole_size(group, [[1] * 7], [[0.5, 0, 0.6, 0, 0.5, 0, 0.7]], decoding=decoding)
    assert result.ids.tolist() == ids
    scores = {5: [0.5, 0.6, 0.5, 0.7], 4: [0.6, 0.7], 3: [0.6, 0.7], 2: [0.7], 1: []}[top_k]
    torch.testing.assert_close(result.score, torch.tensor(scores))


@ALL
def test_of_equal_centres_none_is_above_the_last(group):
    decoding = CenterDecoding(nms_kernel=3, top_k=3, stuff_area=1, compat="panoptic_deeplab")
    result = whole_size(group, [[1] * 5], [[0.5, 0, 0.5, 0, 0.5]], decoding=decoding)
    assert result.ids.eq(0).all()
    highest = whole_size(
        group, [[1] * 5], [[0.5, 0, 0.5, 0, 0.5]], decoding=replace(decoding, compat="panoptic_swiftnet")
    )
    assert highest.ids.tolist() == [[1, 1, 2, 2, 3]]


@ALL
def test_a_segment_takes_the_category_of_most_of_its_pixels_and_the_smallest_of_equal_ones(group):
    result = whole_size(group, [[2, 2, 1, 0]], [[0.5, 0, 0, 0]], things=(1, 2))
    assert result.ids.tolist() == [[2, 2, 2, 1]]
    assert result.category.tolist() == [0, 2]
    tie = whole_size(group, [[2, 1]], [[0.5, 0]], things=(1, 2))
    assert tie.category.tolist() == [1]


@ALL
def test_stuff_of_exactly_the_limit_stays(group):
    decoding = CenterDecoding(nms_kernel=3, stuff_area=3)
    result = whole_size(group, [[0, 0, 2, 2, 1, 0, 1]], [[0.0] * 7], decoding=decoding)
    assert result.ids.tolist() == [[1, 1, 0, 0, 0, 1, 0]]


@ALL
@pytest.mark.parametrize(("share", "kept"), [(0.0, [0, 2]), (0.25, [0, 2]), (0.26, [0]), (0.51, [])])
def test_stuff_of_exactly_the_share_of_the_image_stays(group, share, kept):
    decoding = CenterDecoding(nms_kernel=3, stuff_area=1, stuff_share=share)
    result = whole_size(group, [[0, 0, 0, 0, 2, 2, 1, 1]], [[0.0] * 8], decoding=decoding)
    assert result.category.tolist() == kept


def test_the_larger_limit_of_stuff_counts():
    assert CenterDecoding(stuff_area=50, stuff_share=0.01).smallest_stuff((100, 100)) == 100
    assert CenterDecoding(stuff_area=500, stuff_share=0.01).smallest_stuff((100, 100)) == 500
    assert CenterDecoding(stuff_area=0).smallest_stuff((100, 100)) == 1
    with pytest.raises(InvalidArgumentError, match=r"stuff_share in \[0, 1\), got 1"):
        CenterDecoding(stuff_share=1.0)


@ALL
def test_things_of_exactly_the_limit_stay_and_ids_stay_dense(group):
    decoding = CenterDecoding(nms_kernel=3, stuff_area=1, thing_area=3)
    category, center = [[1, 1, 0, 2, 1, 1, 2, 2, 0]], [[0.9, 0, 0, 0, 0.8, 0, 0, 0.7, 0]]
    everything = whole_size(group, category, center, things=(1, 2))
    assert everything.ids.tolist() == [[2, 2, 1, 3, 3, 3, 4, 4, 1]]
    result = whole_size(group, category, center, things=(1, 2), decoding=decoding)
    # The middle one has three pixels of two categories; the others two.
    assert result.ids.tolist() == [[0, 0, 1, 2, 2, 2, 0, 0, 1]]
    assert result.category.tolist() == [0, 1]
    torch.testing.assert_close(result.score, torch.tensor([1, 0.8]))
    none = whole_size(group, category, center, things=(1, 2), decoding=replace(decoding, thing_area=4))
    assert none.ids.tolist() == [[0, 0, 1, 0, 0, 0, 0, 0, 1]]
    assert none.category.tolist() == [0]


@ALL
def test_stuff_has_its_own_limit(group):
    decoding = CenterDecoding(nms_kernel=3, stuff_area=2, thing_area=100)
    result = whole_size(group, [[0, 0, 2, 1]], [[0, 0, 0, 0.5]], decoding=decoding)
    assert result.ids.tolist() == [[1, 1, 0, 0]]


@ALL
def test_centres_without_pixels_have_no_row(group):
    result = whole_size(group, [[0, 0, 0, 1]], [[0.5, 0, 0.6, 0]])
    assert result.ids.tolist() == [[1, 1, 1, 2]]
    torch.testing.assert_close(result.score, torch.tensor([1, 0.6]))


@ALL
def test_scores_stay_in_their_range(group):
    assert whole_size(group, [[1]], [[1.25]]).score.tolist() == [1]


@ALL
def test_padding_takes_no_part(group):
    # The higher peak lies in the padding, within the other's window.
    logits = F.one_hot(torch.ones(2, 4, dtype=torch.int64), 2).permute(2, 0, 1).float()
    center = torch.tensor([[0, 0.5, 0.9, 0], [0, 0, 0, 0]])
    result = group(logits, center, torch.zeros(2, 2, 4), inside((2, 4), (2, 2)), (1,), SMALL)
    assert result.ids.tolist() == [[1, 1], [1, 1]]
    torch.testing.assert_close(result.score, torch.tensor([0.5]))


def published(logits, center, offset, scale, size, thing_ids, decoding):
    """Group as the published implementation does: a distance for each centre and pixel, then one mask each.

    Written from the description of the published implementation; values as ``category * 1000 + id``, void -1. It
    enlarges with the framework's own resize.
    """

    def enlarged(x):
        x = F.interpolate(x[None], scale_factor=scale, mode="bilinear", align_corners=decoding.align_corners)[0]
        return x[:, : size[0], : size[1]]

    semantic = enlarged(logits).argmax(0)
    heat, offset = enlarged(center[None]), enlarged(offset)
    heat = F.threshold(heat, decoding.threshold, -1)
    pad = (decoding.nms_kernel - 1) // 2
    heat[heat != F.max_pool2d(heat[None], decoding.nms_kernel, 1, pad)[0]] = -1
    points = (heat[0] > 0).nonzero()
    if len(points) >= decoding.top_k:
        scores = heat[0][points[:, 0], points[:, 1]]
        points = points[scores.argsort(descending=True, stable=True)[: decoding.top_k]]
    thing = torch.isin(semantic, torch.tensor(sorted(thing_ids), dtype=torch.int64))
    instance = torch.zeros_like(semantic)
    if len(points):
        y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
        place = (torch.stack([y, x]).float() + offset).reshape(2, -1).T
        instance = torch.norm(points[:, None] - place[None], dim=-1).argmin(0).reshape(size) + 1
    instance[~thing] = 0
    result = torch.full_like(semantic, -1)
    for i in instance.unique().tolist():
        if i:
            mask = instance == i
            result[mask] = semantic[mask].mode().values * 1000 + i
    for c in semantic.unique().tolist():
        if c not in thing_ids and (semantic == c).sum() >= decoding.stuff_area:
            result[semantic == c] = c * 1000
    return result


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(("num_centers", "top_k"), [(0, 200), (7, 200), (9, 5)])
@ALL
def test_it_equals_the_published_algorithm(group, align_corners, num_centers, top_k):
    logits, center, offset = center_scene(num_centers, seed=num_centers)
    decoding = CenterDecoding(top_k=top_k, stuff_area=400, align_corners=align_corners)
    size, things = (90, 139), (2, 3, 5)
    expected = published(logits, center, offset, 4, size, things, decoding)
    result = group(logits, center, offset, inside((96, 144), size), things, decoding)
    pairs = torch.unique(torch.stack([expected.flatten(), result.ids.flatten().long()]), dim=1)
    assert len(pairs[0].unique()) == len(pairs[1].unique()) == pairs.shape[1]  # the same segments
    for value, row in pairs.T.tolist():
        assert (value == -1) == (row == 0)
        if row:
            assert result.category[row - 1] == value // 1000
    numbers = [value % 1000 for value, row in sorted(pairs.T.tolist(), key=lambda p: p[1]) if value % 1000 and row]
    assert numbers == sorted(numbers)  # in the order of their centres
    assert len(numbers) == 0 if num_centers == 0 else len(numbers) > 2


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(
    ("inputs", "outputs"), [((5, 9), (20, 36)), ((7, 4), (7, 4)), ((1, 3), (4, 12)), ((9, 8), (5, 3))]
)
def test_enlarging_is_torch_s_bilinear_resize(align_corners, inputs, outputs):
    planes = torch.randn(2, *inputs, generator=torch.Generator().manual_seed(1))
    expected = F.interpolate(planes[None], outputs, mode="bilinear", align_corners=align_corners)[0]
    torch.testing.assert_close(upsample(planes, outputs, outputs, align_corners), expected, atol=1e-5, rtol=0)
    part = (max(outputs[0] - 2, 1), max(outputs[1] - 3, 1))
    assert torch.equal(
        upsample(planes, outputs, part, align_corners),
        upsample(planes, outputs, outputs, align_corners)[:, : part[0], : part[1]],
    )


@pytest.mark.parametrize(
    ("top_k", "compat"), [(200, "panoptic_swiftnet"), (9, "panoptic_swiftnet"), (9, "panoptic_deeplab")]
)
def test_a_batch_of_different_sizes_is_grouped_like_each_image(top_k, compat):
    g = torch.Generator().manual_seed(4)
    logits, center = torch.randn(3, 4, 8, 10, generator=g) * 4, torch.rand(3, 8, 10, generator=g)
    offset, sizes = torch.randn(3, 2, 8, 10, generator=g) * 9, [(32, 40), (17, 40), (30, 5)]
    decoding = CenterDecoding(0.3, stuff_area=100, top_k=top_k, compat=compat)
    together = group_centers_batched(
        logits, center, offset, [inside((32, 40), size) for size in sizes], (1, 3), decoding
    )
    for b, result in enumerate(together):
        alone = group_centers_reference(logits[b], center[b], offset[b], inside((32, 40), sizes[b]), (1, 3), decoding)
        assert torch.equal(result.ids, alone.ids)
        assert torch.equal(result.category, alone.category)
        assert torch.equal(result.score, alone.score)


def test_contradictions_are_refused():
    logits, center, offset = torch.zeros(3, 4, 5), torch.zeros(4, 5), torch.zeros(2, 4, 5)
    with pytest.raises(InvalidArgumentError, match=r"center as \[1, 4, 5\]"):
        group_centers(logits, center[1:], offset, inside((16, 20), (16, 20)), (1,), SMALL)
    with pytest.raises(InvalidArgumentError, match=r"offset as \[1, 2, 4, 5\]"):
        group_centers(logits, center, offset[:1], inside((16, 20), (16, 20)), (1,), SMALL)
    with pytest.raises(InvalidArgumentError, match="within the padded size 16x20, got 17x20"):
        group_centers(logits, center, offset, inside((16, 20), (17, 20)), (1,), SMALL)
    with pytest.raises(InvalidArgumentError, match="among the 3 categories"):
        group_centers(logits, center, offset, inside((16, 20), (16, 20)), (3,), SMALL)
    with pytest.raises(InvalidArgumentError, match="expected one size for each of the 1 images"):
        group_centers_batched(logits[None], center[None], offset[None], [], (1,), SMALL)
    two = [torch.cat([part[None]] * 2) for part in (logits, center, offset)]
    with pytest.raises(InvalidArgumentError, match=r"one padded size .*, got \[\(16, 20\), \(16, 24\)\]"):
        group_centers_batched(*two, [inside((16, 20), (9, 9)), inside((16, 24), (9, 9))], (1,), SMALL)
    for wrong in (
        {"threshold": -0.1},
        {"nms_kernel": 4},
        {"nms_kernel": 0},
        {"top_k": 0},
        {"resize": "logits"},
        {"compat": "all"},
    ):
        with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
            CenterDecoding(**wrong)


# The centre at 0 takes the things of columns 0..4, of which one is of category 2, that at 9 those of columns 5..9.
ROW_CATEGORY = [[1, 1, 0, 2, 1, 1, 0, 1, 1, 1]]
LOW = [1, 0.9, 0.5, 0.1]  # the last is the threshold: of a thing that was left over
ROW_HEAT = [[0.9, 0, 0, 0, 0, 0, 0, 0, 0, 0.5]]


@ALL
@pytest.mark.parametrize(
    ("more", "ids", "category", "score"),
    [
        ({}, [[2, 2, 1, 2, 2, 3, 1, 3, 3, 3]], [0, 1, 1], [1, 0.9, 0.5]),
        ({"one_category": True}, [[2, 2, 1, 0, 2, 3, 1, 3, 3, 3]], [0, 1, 1], [1, 0.9, 0.5]),
        # of equal parts the first remains; the parts of one segment need not touch
        ({"largest_part": True}, [[2, 2, 1, 0, 0, 0, 1, 3, 3, 3]], [0, 1, 1], [1, 0.9, 0.5]),
        ({"largest_part": True, "thing_area": 3}, [[0, 0, 1, 0, 0, 0, 1, 2, 2, 2]], [0, 1], [1, 0.5]),
        (
            {"largest_part": True, "leftover_area": 1},
            [[2, 2, 1, 4, 5, 5, 1, 3, 3, 3]],
            [0, 1, 1, 2, 1],
            [1, 0.9, 0.5, 0.1, 0.1],
        ),
        ({"largest_part": True, "leftover_area": 2}, [[2, 2, 1, 0, 4, 4, 1, 3, 3, 3]], [0, 1, 1, 1], LOW),
        ({"one_category": True, "leftover_area": 1}, [[2, 2, 1, 4, 2, 3, 1, 3, 3, 3]], [0, 1, 1, 2], LOW),
        # without centres: the connected parts of each category
        (
            {"threshold": 2.0, "leftover_area": 1},
            [[2, 2, 1, 3, 4, 4, 1, 5, 5, 5]],
            [0, 1, 2, 1, 1],
            [1, 1, 1, 1, 1],
        ),
    ],
)
def test_parts_of_things(group, more, ids, category, score):
    decoding = replace(SMALL, **more)
    result = whole_size(group, ROW_CATEGORY, ROW_HEAT, things=(1, 2), decoding=decoding)
    assert result.ids.tolist() == ids
    assert result.category.tolist() == category
    torch.testing.assert_close(result.score, torch.tensor(score, dtype=torch.float32))


@ALL
def test_the_minority_does_not_count_towards_the_area_of_a_thing(group):
    decoding = replace(SMALL, one_category=True, thing_area=3)
    result = whole_size(group, [[1, 1, 2, 2, 2]], [[0.5, 0, 0, 0, 0.9]], things=(1, 2), decoding=decoding)
    assert result.num_segments == 0  # two pixels of 1 and one of 2; two of 2
