"""Centre targets against the published rules, worked out by hand or by another route."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from maps import SHAPES, a_map, generated_map

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.representations.centers.encode import center_targets, center_targets_reference
from panscape.representations.centers.types import CenterTargets

BOTH = pytest.mark.parametrize(
    "targets",
    [partial(center_targets, void=255), partial(center_targets_reference, void=255)],
    ids=["compiled", "reference"],
)


def flags(truth: PanopticMap) -> tuple[torch.Tensor, torch.Tensor]:
    table = torch.tensor([c.is_thing for c in SHAPES])
    return table[truth.category], torch.zeros_like(truth.category, dtype=torch.bool)


@BOTH
def test_the_peak_lies_at_the_mean_rounded_half_to_even(targets):
    # Columns 2 and 3: the mean 2.5 rounds to 2. Rows 1 and 2: the mean 1.5 rounds to 2.
    drawing = """......
                 ..AA..
                 ..AA..
                 ......"""
    truth = a_map(drawing)
    maps = targets(truth.ids, truth.category, torch.tensor([True]), sigma=1)
    assert maps.center[2, 2] == 1
    assert (maps.center == 1).sum() == 1
    assert maps.offset[:, 1, 2].tolist() == [0.5, 0.5]
    assert maps.offset[:, 2, 3].tolist() == [-0.5, -0.5]
    assert maps.offset[:, 0].eq(0).all()


@BOTH
def test_the_gaussian_fills_a_square_of_six_sigma_plus_three(targets):
    ids = torch.zeros(41, 61, dtype=torch.int32)
    ids[20, 30] = 1
    maps = targets(ids, torch.tensor([4]), torch.tensor([True]), sigma=2)
    rows, columns = maps.center.nonzero(as_tuple=True)
    assert (int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())) == (13, 27, 23, 37)  # 15 x 15
    assert len(rows) == 225  # its corners included
    assert maps.center[17, 34] == np.float32(math.exp(-(3**2 + 4**2) / (2 * 2**2)))


@BOTH
def test_gaussians_are_clipped_at_the_border_and_merged_by_the_larger(targets):
    ids = torch.zeros(9, 12, dtype=torch.int32)
    ids[0, 0], ids[0, 5], ids[8, 11] = 1, 2, 3
    maps = targets(ids, torch.tensor([2, 2, 3]), torch.tensor([True] * 3), sigma=1)
    single = [targets((ids == k).int() * 1, torch.tensor([2]), torch.tensor([True]), sigma=1).center for k in (1, 2, 3)]
    assert torch.equal(maps.center, torch.stack(single).amax(0))
    assert [float(maps.center[p]) for p in ((0, 0), (0, 5), (8, 11))] == [1, 1, 1]
    assert maps.center[0, 2] == np.float32(math.exp(-2))  # two from the first, three from the second


@BOTH
def test_a_crowd_is_labelled_and_stamped_but_weighs_nothing_for_centres(targets):
    truth = a_map("AAB.\nAAB.", crowd="B")
    maps = targets(truth.ids, torch.tensor([2, 3]), torch.tensor([True, True]), truth.crowd, sigma=1)
    assert maps.semantic.tolist() == [[2, 2, 3, 255]] * 2
    assert maps.semantic_weight.tolist() == [[3, 3, 3, 0]] * 2
    assert maps.center[0, 2] == 1
    assert maps.center_weight.tolist() == [[1, 1, 0, 0]] * 2
    assert maps.offset_weight.tolist() == [[1, 1, 0, 0]] * 2


@BOTH
def test_stuff_counts_for_the_heatmap_and_not_for_offsets(targets):
    truth = a_map("AAB\nAAB")
    maps = targets(truth.ids, torch.tensor([0, 2]), torch.tensor([False, True]), sigma=1, void=-1)
    assert maps.semantic_weight.tolist() == [[1, 1, 3]] * 2  # small stuff is not weighted
    assert maps.center_weight.eq(1).all()
    assert maps.offset_weight.tolist() == [[0, 0, 1]] * 2
    assert maps.offset[:, :, :2].eq(0).all()


@BOTH
def test_only_things_below_the_limit_are_small(targets):
    truth = a_map("AAAB\nAAAB")
    maps = targets(truth.ids, truth.category, torch.tensor([True, True]), small_area=6, small_weight=5)
    assert maps.semantic_weight.tolist() == [[1, 1, 1, 5]] * 2


@BOTH
def test_void_alone_and_segments_without_pixels_give_no_target(targets):
    ids = torch.zeros(3, 4, dtype=torch.int32)
    maps = targets(ids, torch.tensor([2]), torch.tensor([True]))
    assert maps.semantic.eq(255).all()
    for part in maps[1:]:
        assert part.eq(0).all()
    maps = targets(ids, torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool))
    assert maps.semantic.eq(255).all()


@BOTH
def test_the_pixels_and_their_offsets_meet_at_the_mean(targets):
    truth = generated_map(3, size=(90, 140))
    is_thing, is_crowd = flags(truth)
    maps = targets(truth.ids, truth.category, is_thing, is_crowd)
    y, x = torch.meshgrid(torch.arange(90.0), torch.arange(140.0), indexing="ij")
    for row in range(truth.num_segments):
        mask = truth.ids == row + 1
        if not is_thing[row] or not mask.any():
            continue
        rows, columns = np.nonzero(mask.numpy())
        torch.testing.assert_close((y + maps.offset[0])[mask], torch.full((len(rows),), rows.mean()).float())
        torch.testing.assert_close((x + maps.offset[1])[mask], torch.full((len(rows),), columns.mean()).float())


@pytest.mark.parametrize("seed", range(6))
def test_both_implementations_agree_bit_for_bit(seed):
    truth = generated_map(seed, size=(61 + seed, 97), objects=9, crowd=bool(seed % 2))
    is_thing, is_crowd = flags(truth)
    crowd = truth.crowd if truth.crowd is not None else is_crowd
    for sigma in (1, 8, 2.5):
        arguments = {"sigma": sigma, "small_area": 300, "small_weight": 3.0, "void": 255}
        fast = center_targets(truth.ids, truth.category, is_thing, crowd, **arguments)
        plain = center_targets_reference(truth.ids, truth.category, is_thing, crowd, **arguments)
        for name, a, b in zip(CenterTargets._fields, fast, plain, strict=True):
            assert a.dtype == b.dtype, name
            assert torch.equal(a, b), name


def test_contradictions_are_refused():
    ids = torch.ones(2, 2, dtype=torch.int32)
    with pytest.raises(InvalidArgumentError, match=r"ids as int32 \[H, W\], got torch.int64"):
        center_targets(ids.long(), torch.tensor([1]), torch.tensor([True]), void=255)
    with pytest.raises(InvalidArgumentError, match=r"is_thing as bool \[1\]"):
        center_targets(ids, torch.tensor([1]), torch.tensor([True, False]), void=255)
    with pytest.raises(InvalidArgumentError, match=r"ids in 0\.\.1, got 1\.\.2"):
        center_targets(ids + torch.eye(2).int(), torch.tensor([1]), torch.tensor([True]), void=255)
    with pytest.raises(InvalidArgumentError, match="expected a positive sigma"):
        center_targets(ids, torch.tensor([1]), torch.tensor([True]), sigma=0, void=255)
