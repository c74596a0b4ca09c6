"""Maps as arrays have the extents of the same maps in torch, and share their memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maps import SHAPES, generated_map

from panscape import PanopticMap
from panscape.map_arrays import MapArrays


@pytest.mark.parametrize("seed", range(4))
def test_extents_and_selections_are_those_of_the_map(seed: int) -> None:
    truth = generated_map(seed, (37, 53))
    scores = torch.linspace(0, 1, len(truth))
    result = PanopticMap(truth.ids, truth.category, scores, torch.arange(len(truth)) % 3 == 0, SHAPES)
    arrays = result.arrays()
    areas, boxes = arrays.extents()
    assert np.array_equal(areas, result.areas().numpy())
    assert np.array_equal(boxes, result.boxes().numpy())
    assert (arrays.size, arrays.num_segments) == (result.size, len(result))
    keep = np.arange(len(truth)) % 2 == 0
    assert PanopticMap.from_arrays(arrays.select(keep)) == result.select(keep)
    assert PanopticMap.from_arrays(arrays).ids.data_ptr() == result.ids.data_ptr()


@pytest.mark.parametrize(("size", "num"), [((37, 53), 11), ((9, 200), 10), ((6, 3), 5), ((1, 1), 1), ((111, 159), 11)])
def test_resized_maps_are_those_in_torch(size: tuple[int, int], num: int) -> None:
    truth = generated_map(3, (37, 53), objects=12)
    result = PanopticMap(truth.ids, truth.category, torch.linspace(0, 1, len(truth)), labels=SHAPES)
    resized = result.arrays().resize(*size)
    assert np.array_equal(resized.ids, result.resize(*size).ids.numpy())
    assert resized.ids.flags.c_contiguous
    expected = result.resize(*size).compact()
    found = PanopticMap.from_arrays(resized.compact())
    assert torch.equal(found.ids, expected.ids)
    assert torch.equal(found.category, expected.category)
    assert torch.equal(found.score, expected.score)
    assert found.labels == SHAPES
    assert (len(result), len(found)) == (11, num)
    assert (resized.compact() is resized) == (num == 11)


def test_an_empty_map_has_no_extents() -> None:
    empty = MapArrays(np.zeros((4, 5), np.int32), np.zeros(0, np.int64))
    assert [part.shape for part in empty.extents()] == [(0,), (0, 4)]
    assert PanopticMap.from_arrays(empty) == PanopticMap.empty((4, 5))
