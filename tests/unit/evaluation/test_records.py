"""What is remembered of an image adds up to what the metrics report."""

import json
import pickle

import pytest
import torch
from maps import SHAPES, a_map, generated_map

from panscape import PanopticMap
from panscape.errors import InvalidAnnotationError, InvalidArgumentError
from panscape.evaluation.records import ImageRecord, error_counts, record_of, truth_digest
from panscape.metrics import PROTOCOLS, PanopticQuality, SemanticIoU
from panscape.metrics.error_breakdown import ErrorBreakdown


def test_records_hold_what_the_metrics_count() -> None:
    quality, semantic, errors = PanopticQuality(SHAPES), SemanticIoU(SHAPES), ErrorBreakdown(SHAPES)
    sums = torch.zeros(4, 4, dtype=torch.float64)
    pixels = torch.zeros(4, 5, dtype=torch.int64)
    counts = torch.zeros(4, 8, 5, 3, dtype=torch.float64)
    for seed in range(8):
        prediction, truth = generated_map(seed, objects=9), generated_map(seed + seed % 2, crowd=True)
        for metric in (quality, semantic, errors):
            metric.update(prediction, truth)
        record = record_of(str(seed), prediction, truth, SHAPES)
        for category, *values in record.quality:
            sums[category] += torch.tensor(values, dtype=torch.float64)
        for row, column, number in record.confusion:
            pixels[row, column] += number
        counts += torch.from_numpy(error_counts([record], 4))
    assert torch.equal(sums, quality.state)
    assert torch.equal(pixels, semantic.state)
    assert torch.equal(counts, errors.state)


def test_a_record_is_small_and_travels() -> None:
    record = record_of("a/b.png", generated_map(1), generated_map(2, crowd=True), SHAPES)
    assert ImageRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    assert pickle.loads(pickle.dumps(record)) == record
    assert len(pickle.dumps(record)) < 4096


def test_pq_and_confused_segments_by_hand() -> None:
    categories = {"G": 1, "D": 2, "E": 2, "B": 3, "C": 3}
    truth = a_map("GGGGDDDDEEEE", categories)
    prediction = a_map("GGGGBBB.CCCC", categories)
    record = record_of("x", prediction, truth, SHAPES)
    assert record.confused == ((2, 3, 2),)
    assert record.pq == pytest.approx(1 / 3)  # ground 1, discs 0, boxes 0
    assert record.quality == ((1, 1, 0, 0, 1.0), (2, 0, 0, 2, 0.0), (3, 0, 2, 0, 0.0))


def test_other_files_than_records_are_refused() -> None:
    record = record_of("x", generated_map(1), generated_map(2), SHAPES).to_dict()
    with pytest.raises(InvalidArgumentError, match="evaluate the image again"):
        ImageRecord.from_dict({**record, "quality": [[1, 2]]})
    wrong = ImageRecord.from_dict({**record, "errors": [[0, 9, 0, 1, 0, 0.0]]})
    with pytest.raises(InvalidAnnotationError, match=r"error type of 'x' in 0\.\.7, got 9"):
        wrong.require_ranges(4, "file")
    for field, row in (
        ("quality", [0, -1, 0, 0, 0.0]),
        ("quality", [0, 1, 0, 0, float("nan")]),
        ("confusion", [0, 5, 1]),
        ("confusion", [0, 1, 10**30]),
        ("confused", [4, 0, 1]),
        ("size", 2**50),
    ):
        wrong = ImageRecord.from_dict({**record, field: [row, row] if field == "size" else [row]})
        with pytest.raises(InvalidAnnotationError, match="evaluate again"):
            wrong.require_ranges(4, "file")
    with pytest.raises(InvalidArgumentError, match="OverflowError"):
        ImageRecord.from_dict({**record, "confusion": [[0, 0, float("inf")]]})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_errors_are_those_of_the_rules(protocol: str) -> None:
    """Every false negative and positive that the metric counts has a kind."""
    quality, analysis = PanopticQuality(SHAPES, protocol), ErrorBreakdown(SHAPES, protocol)
    sums = torch.zeros(4, 4, dtype=torch.float64)
    counts = torch.zeros(4, 8, 5, 3, dtype=torch.float64)
    for seed in range(8):
        prediction, truth = generated_map(seed, objects=9), generated_map(seed + seed % 2, crowd=True)
        quality.update(prediction, truth)
        analysis.update(prediction, truth)
        record = record_of(str(seed), prediction, truth, SHAPES, protocol=protocol)
        for category, *values in record.quality:
            sums[category] += torch.tensor(values, dtype=torch.float64)
        counts += torch.from_numpy(error_counts([record], 4))
    assert torch.equal(sums, quality.state)
    assert torch.equal(counts, analysis.state)
    assert torch.equal(counts[:, :7].sum((1, 2))[:, :2], quality.state[:, [2, 1]])


def test_stuff_in_pieces_is_an_error_by_rules_that_do_not_join_it() -> None:
    categories = {"S": 0, "T": 0, "G": 1}
    truth, prediction = a_map("SSSSSSSSGG", categories), a_map("SSSSTTTTGG", categories)
    errors = error_counts([record_of("x", prediction, truth, SHAPES)], 4)
    assert errors[0, :7, :, :2].sum() == 3  # one missed, two for which there is nothing
    assert errors[0, 2, :, :2].sum() == 3  # as it is split
    errors = error_counts([record_of("x", prediction, truth, SHAPES, protocol="deeplab2")], 4)
    assert errors[:, :7].sum() == 0


def test_a_digest_depends_on_the_truth_and_not_on_its_format() -> None:
    truth = generated_map(3, crowd=True)
    digest = truth_digest(truth)
    assert len(digest) == 16
    order = torch.randperm(truth.num_segments, generator=torch.Generator().manual_seed(0))
    table = torch.zeros(truth.num_segments + 1, dtype=torch.int32)
    table[order + 1] = torch.arange(1, truth.num_segments + 1, dtype=torch.int32)
    other = PanopticMap(table[truth.ids.long()], truth.category[order], None, truth.crowd[order])
    assert other.equals(truth)
    assert truth_digest(other) == digest
    with_one_more = PanopticMap(
        truth.ids, torch.cat([truth.category, torch.tensor([0])]), None, torch.cat([truth.crowd, torch.tensor([False])])
    )
    assert truth_digest(with_one_more) == digest
    no_crowd = PanopticMap(truth.ids, truth.category)
    renamed = PanopticMap(truth.ids, (truth.category + 1) % 4, None, truth.crowd)
    pixel = truth.ids.clone()
    pixel[5, 7] = 0 if pixel[5, 7] else 1
    different = [no_crowd, renamed, PanopticMap(pixel, truth.category, None, truth.crowd), truth.flip()]
    assert len({digest, *map(truth_digest, different)}) == 5
    categories = {"A": 2, "B": 2, "C": 2, "D": 2}  # equal areas and categories, other outlines
    assert truth_digest(a_map("AABB\nAABB", categories)) != truth_digest(a_map("AAAA\nBBBB", categories))
    assert truth_digest(a_map("AB", categories)) != truth_digest(a_map("A\nB", categories))
    assert truth_digest(a_map("..", {})) != truth_digest(a_map("...", {}))
