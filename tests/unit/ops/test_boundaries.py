"""Boundaries of segments against scipy's erosion of each mask."""

import numpy as np
import pytest
import torch
from maps import a_map, generated_map
from scipy.ndimage import binary_erosion

from panscape.errors import InvalidArgumentError
from panscape.ops.boundaries import segment_boundaries, segment_boundaries_reference

BOTH = pytest.mark.parametrize("boundaries", [segment_boundaries, segment_boundaries_reference])


def by_erosion(ids: torch.Tensor, distance: int) -> np.ndarray:
    """One erosion an id, by ``distance`` passes of a 3x3 square; outside is 0."""
    result = np.zeros(ids.shape, dtype=bool)
    for value in ids.unique().tolist():
        mask = ids.numpy() == value
        result |= mask & ~binary_erosion(mask, np.ones((3, 3)), iterations=distance, border_value=0)
    return result


@BOTH
@pytest.mark.parametrize("distance", [1, 2, 5, 40])
def test_it_equals_an_erosion_of_each_segment(boundaries, distance) -> None:
    for seed in range(4):
        ids = generated_map(seed, (67, 93), objects=8).ids
        assert np.array_equal(boundaries(ids, distance).numpy(), by_erosion(ids, distance))
    straight = boundaries(ids.T.contiguous(), distance)
    assert torch.equal(boundaries(ids.T, distance), straight)


@BOTH
def test_an_image_by_hand(boundaries) -> None:
    ids = a_map(
        """AAAAAB
           AAAAAB
           AAAAAB
           AAAA.."""
    ).ids
    assert boundaries(ids, 1).int().tolist() == [
        [1, 1, 1, 1, 1, 1],
        [1, 0, 0, 0, 1, 1],
        [1, 0, 0, 1, 1, 1],
        [1, 1, 1, 1, 1, 1],
    ]
    assert boundaries(ids, 2).all()


@BOTH
def test_nothing_and_large_ids(boundaries) -> None:
    assert boundaries(torch.zeros((0, 5), dtype=torch.int32), 3).shape == (0, 5)
    assert boundaries(torch.zeros((5, 0), dtype=torch.int32), 3).shape == (5, 0)
    ids = torch.full((5, 5), 2**31 - 1, dtype=torch.int32)
    assert int(boundaries(ids, 2).sum()) == 24
    ids[0, 0] -= 1  # float32 would not see it
    assert boundaries(ids, 2).all()


@BOTH
def test_refused_values(boundaries) -> None:
    with pytest.raises(InvalidArgumentError, match=r"ids as int32 \[H, W\], got torch.int64 \[2, 2\]"):
        boundaries(torch.zeros(2, 2, dtype=torch.int64), 1)
    with pytest.raises(InvalidArgumentError, match="at least 1 pixel, got 0"):
        boundaries(torch.zeros(2, 2, dtype=torch.int32), 0)
