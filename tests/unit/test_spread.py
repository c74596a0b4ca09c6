from __future__ import annotations

import pytest

from panscape.spread import evenly_spread


@pytest.mark.parametrize(
    ("length", "limit", "indices"),
    [(10, 3, [0, 3, 6]), (3, 5, [0, 1, 2]), (4, 0, [0, 1, 2, 3]), (0, 5, []), (7, 4, [0, 1, 3, 5])],
)
def test_indices_are_spread_evenly(length, limit, indices):
    assert evenly_spread(length, limit) == indices
