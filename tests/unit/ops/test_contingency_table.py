import resource

import pytest
import torch
from maps import a_map, generated_map

from panscape.errors import InvalidArgumentError
from panscape.ops import contingency_table as module
from panscape.ops.contingency_table import ContingencyTable, contingency_table, contingency_table_reference

BOTH = pytest.mark.parametrize("count", [contingency_table, contingency_table_reference])


def as_lists(histogram: ContingencyTable) -> list[list[int]]:
    assert all(part.dtype == torch.int64 for part in histogram)
    return [part.tolist() for part in histogram]


@BOTH
def test_pairs_in_order(count) -> None:
    truth = a_map("AAB.\nAAB.")
    prediction = a_map("ABBB\n.AA.")
    assert as_lists(count(truth.ids, prediction.ids, 2, 2)) == [
        [0, 0, 1, 1, 1, 2, 2],
        [0, 2, 0, 1, 2, 1, 2],
        [1, 1, 1, 2, 1, 1, 1],
    ]


@BOTH
def test_ids_without_pixels_do_not_appear(count) -> None:
    ids = torch.tensor([[0, 3]], dtype=torch.int32)
    assert as_lists(count(ids, ids, 9, 3)) == [[0, 3], [0, 3], [1, 1]]


@BOTH
def test_no_pixels(count) -> None:
    nothing = torch.zeros((0, 5), dtype=torch.int32)
    assert as_lists(count(nothing, nothing, 3, 3)) == [[], [], []]


@BOTH
def test_maps_need_not_be_contiguous(count) -> None:
    truth, prediction = generated_map(1), generated_map(2)
    numbers = (truth.num_segments, prediction.num_segments)
    straight = count(truth.ids.T.contiguous(), prediction.ids.T.contiguous(), *numbers)
    assert as_lists(count(truth.ids.T, prediction.ids.T, *numbers)) == as_lists(straight)


def test_table_and_hash_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, prediction = generated_map(1), generated_map(2)
    arguments = (truth.ids, prediction.ids, truth.num_segments, prediction.num_segments)
    dense = as_lists(contingency_table(*arguments))
    monkeypatch.setattr(module, "_LARGEST_TABLE", 0)
    assert as_lists(contingency_table(*arguments)) == dense == as_lists(contingency_table_reference(*arguments))


def test_a_raster_of_many_segments_takes_little_memory() -> None:
    side = 150  # 22 500 segments on both sides: a table of all pairs would take 4 GB
    cells = torch.arange(side * side, dtype=torch.int32).reshape(side, side).repeat_interleave(4, 0)
    truth = cells.repeat_interleave(4, 1) + 1
    prediction = truth.roll((1, 2), (0, 1))
    contingency_table(truth[:2], prediction[:2], side * side, side * side)  # compiled
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    came = contingency_table(truth, prediction, side * side, side * side)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000  # KiB
    assert as_lists(came) == as_lists(contingency_table_reference(truth, prediction, side * side, side * side))
    assert len(came.area) > 1 << 15  # the hash table grew more than once


@BOTH
def test_invalid_counts(count) -> None:
    ids = torch.zeros((4, 6), dtype=torch.int32)
    with pytest.raises(InvalidArgumentError, match=r"truth of 4x6 and a prediction of 4x5; decode or resize"):
        count(ids, ids[:, :5], 1, 1)
    with pytest.raises(InvalidArgumentError, match=r"prediction as int32 \[H, W\], got torch.int64 \[4, 6\]"):
        count(ids, ids.long(), 1, 1)
    with pytest.raises(InvalidArgumentError, match=r"truth in 0..1, got 0..2"):
        count(ids + torch.tensor([0, 0, 0, 0, 0, 2]).int(), ids, 1, 1)
    with pytest.raises(InvalidArgumentError, match=r"prediction in 0..70000, got -1..-1"):
        count(ids, ids - 1, 1, 70000)
    with pytest.raises(InvalidArgumentError, match=r"same device"):
        count(ids, ids.to("meta"), 1, 1)
