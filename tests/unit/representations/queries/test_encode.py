from __future__ import annotations

import pytest
import torch
from maps import SHAPES, a_map, generated_map

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.representations.queries.encode import encode_queries


def test_things_have_a_mask_each_and_stuff_one_for_each_category() -> None:
    # Sky twice, two boxes, a disc; void and a crowd belong to no mask.
    truth = a_map("AABB\nCC.E\nDDEF", {"A": 3, "B": 0, "C": 3, "D": 0, "E": 2, "F": 2}, crowd="E")
    targets = encode_queries(truth, SHAPES, (4, 5), 6)
    assert targets.category.tolist() == [1, 4, 4, 3, 0, 0]
    assert targets.mask.tolist() == [[2, 2, 1, 1, 0], [3, 3, 0, 0, 0], [1, 1, 0, 4, 0], [0] * 5]
    assert (targets.mask.dtype, targets.category.dtype) == (torch.int32, torch.int64)


@pytest.mark.parametrize("seed", range(4))
def test_masks_of_generated_maps_are_those_of_their_segments(seed: int) -> None:
    truth = generated_map(seed, objects=6)
    targets = encode_queries(truth, SHAPES, (96, 128), 20)
    number = int(targets.category.count_nonzero())
    assert number == len(truth) > 3
    masks = {tuple(m.flatten().tolist()) for m in targets.mask == torch.arange(1, number + 1)[:, None, None]}
    assert masks == {tuple(m.flatten().tolist()) for m in truth.masks()}


def test_beyond_the_table_the_smallest_masks_are_dropped() -> None:
    truth = a_map("AAAB\nACBB\nDDDD", {"A": 0, "B": 2, "C": 3, "D": 0})  # sky has 8 pixels, in two segments
    targets = encode_queries(truth, SHAPES, (3, 4), 2)
    assert targets.category.tolist() == [1, 3]
    assert targets.mask.tolist() == [[1, 1, 1, 2], [1, 0, 2, 2], [1, 1, 1, 1]]


def test_maps_without_masks_and_maps_that_do_not_fit() -> None:
    void = PanopticMap(torch.zeros(3, 4, dtype=torch.int32), torch.zeros(0, dtype=torch.int64))
    targets = encode_queries(void, SHAPES, (4, 4), 2)
    assert targets.category.tolist() == [0, 0]
    assert not targets.mask.any()
    with pytest.raises(InvalidArgumentError, match="expected a size within the padded size 2x4, got 3x4"):
        encode_queries(void, SHAPES, (2, 4), 2)
    with pytest.raises(InvalidArgumentError, match=r"expected category ids below 4 \(shapes\), got 4"):
        encode_queries(PanopticMap(void.ids, torch.tensor([4])), SHAPES, (4, 4), 2)
