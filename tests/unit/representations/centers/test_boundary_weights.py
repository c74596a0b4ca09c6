"""Boundary weights against scipy's distance transform and numbers measured on the published code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maps import generated_map
from scipy.ndimage import distance_transform_edt

from panscape.errors import InvalidArgumentError
from panscape.representations.centers.boundary_weights import boundary_weights, boundary_weights_reference

BOTH = pytest.mark.parametrize("weights", [boundary_weights, boundary_weights_reference])


def by_scipy(ids: torch.Tensor, num_segments: int, alphas: tuple[float, ...], thresholds: str) -> torch.Tensor:
    """One distance transform a segment, as published but exact."""
    result = np.zeros(ids.shape, dtype=np.float32)
    for s in range(1, num_segments + 1):
        mask = ids.numpy() == s
        if mask.all():
            result[mask] = alphas[-1]
        elif mask.any():
            distance = distance_transform_edt(mask)
            n = len(alphas)
            if thresholds == "released":
                bounds = np.linspace(0, distance.max(), n)[1:]
            else:
                bounds = np.array([distance.max() * i / n for i in range(1, n)])
            region = (bounds[:, None, None] <= distance).sum(0)
            result[mask] = np.array(alphas, dtype=np.float32)[region][mask]
    return torch.from_numpy(result)


@BOTH
def test_the_regions_of_a_disc(weights):
    y, x = torch.meshgrid(torch.arange(201), torch.arange(201), indexing="ij")
    ids = (((y - 100) ** 2 + (x - 100) ** 2) <= 80**2).int()
    result = weights(ids, 1)[ids > 0]
    share = [float((result == a).float().mean()) * 100 for a in (8, 4, 2, 1)]
    # Measured on the published code, whose distances are up to two percent off.
    assert share == pytest.approx([54.9, 33.6, 11.5, 0.0], abs=0.5)


@BOTH
def test_the_regions_of_a_square(weights):
    ids = torch.zeros(60, 60, dtype=torch.int32)
    ids[10:50, 10:50] = 1
    result = weights(ids, 1)
    assert [int((result == a).sum()) for a in (8, 4, 2, 1)] == [816, 588, 192, 4]


@BOTH
@pytest.mark.parametrize(
    ("thickness", "rows"),
    [(1, [1]), (2, [1, 1]), (3, [4, 1, 4]), (4, [4, 1, 1, 4]), (5, [4, 2, 1, 2, 4])],
)
def test_thin_segments_have_the_lowest_weights(weights, thickness, rows):
    ids = torch.zeros(thickness + 2, 30, dtype=torch.int32)
    ids[1:-1] = 1  # from border to border, which is no boundary
    assert weights(ids, 1)[1:-1, 15].tolist() == rows
    assert weights(ids.T.contiguous(), 1)[15, 1:-1].tolist() == rows


@BOTH
@pytest.mark.parametrize("thresholds", ["released", "equal"])
def test_a_segment_that_fills_the_image_has_the_last_weight(weights, thresholds):
    assert weights(torch.ones(5, 7, dtype=torch.int32), 1, (8, 4, 1.5), thresholds).eq(1.5).all()
    assert weights(torch.zeros(5, 7, dtype=torch.int32), 3).eq(0).all()


@BOTH
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("alphas", [(8, 4, 2, 1), (8, 4, 1), (8, 7, 6, 5, 4, 3, 2, 1), (1,)])
@pytest.mark.parametrize("thresholds", ["released", "equal"])
def test_it_equals_a_distance_transform_of_each_segment(weights, seed, alphas, thresholds):
    truth = generated_map(seed, size=(67, 93), objects=8)
    expected = by_scipy(truth.ids, truth.num_segments, alphas, thresholds)
    assert torch.equal(weights(truth.ids, truth.num_segments, alphas, thresholds), expected)


@BOTH
@pytest.mark.parametrize("seed", range(8))
def test_it_equals_a_distance_transform_on_ragged_segments(weights, seed):
    g = torch.Generator().manual_seed(seed)
    height, width = (int(v) for v in torch.randint(1, 40, (2,), generator=g))
    ids = torch.randint(0, 2 + seed % 3, (height, width), generator=g, dtype=torch.int32)
    block = 1 + seed % 4  # many components of one id, one and several pixels wide
    ids = ids.repeat_interleave(block, 0).repeat_interleave(block, 1)
    assert torch.equal(weights(ids, 4), by_scipy(ids, 4, (8, 4, 2, 1), "released"))


def test_contradictions_are_refused():
    ids = torch.ones(2, 2, dtype=torch.int32)
    with pytest.raises(InvalidArgumentError, match=r"ids as int32 \[H, W\], got torch.int64"):
        boundary_weights(ids.long(), 1)
    with pytest.raises(InvalidArgumentError, match=r"ids in 0\.\.0, got 1\.\.1"):
        boundary_weights(ids, 0)
    with pytest.raises(InvalidArgumentError, match="at least one alpha"):
        boundary_weights(ids, 1, ())
    with pytest.raises(InvalidArgumentError, match="'released' or 'equal'"):
        boundary_weights(ids, 1, thresholds="other")
