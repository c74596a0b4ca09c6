"""Kinds of error and what they cost, counted by hand on small images, and laws on generated ones."""

import math

import numpy as np
import pytest
import torch
from maps import SHAPES, a_map, generated_map

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError, UnknownNameError
from panscape.metrics import PROTOCOLS, PanopticQuality, Protocol
from panscape.metrics.error_breakdown import ErrorBreakdown
from panscape.metrics.error_types import NO_ERROR, SIZE_NAMES, ErrorType, find_errors
from panscape.metrics.matching import match_segments

# Two rows of each of these are an image. G is ground, S sky; D, E are true and P, Q predicted discs, B a box.
CATEGORIES = {"S": 0, "G": 1, "D": 2, "E": 2, "P": 2, "Q": 2, "B": 3, "C": 3}


def image(row: str, crowd: str = "") -> PanopticMap:
    return a_map(f"{row}\n{row}", CATEGORIES, crowd)


def analysed(prediction: PanopticMap, truth: PanopticMap, protocol: str | Protocol = "coco") -> ErrorBreakdown:
    analysis = ErrorBreakdown(SHAPES, protocol)
    analysis.update(prediction, truth)
    return analysis


def pq_of(prediction: PanopticMap, truth: PanopticMap, protocol: str | Protocol = "coco") -> float:
    quality = PanopticQuality(SHAPES, protocol)
    quality.update(prediction, truth)
    return quality.compute().all.pq


# truth, prediction, kind, its false negatives and positives, PQ, PQ when it is mended
BY_HAND = {
    # The box overlaps the disc with 6/8. Mended, the category of boxes is gone and the disc has 3/4.
    "confused": ("GGGGDDDD", "GGGGBBB.", ErrorType.CLASSIFICATION, 1, 1, 1 / 3, (1 + 3 / 4) / 2),
    # P is matched with D (8/14). Cut along the truth, D has 8/8 and E 6/8.
    "merged, one matched": ("DDDDEEEE", "PPPPPPP.", ErrorType.UNDERSEGMENTATION, 1, 0, 8 / 14 / 1.5, (1 + 3 / 4) / 2),
    # P has 8/16 with either, so it is matched with none.
    "merged, none matched": ("DDDDEEEE", "PPPPPPPP", ErrorType.UNDERSEGMENTATION, 2, 1, 0, 1),
    # P has 8/16 and Q 6/16; together they have 14/16.
    "split, none matched": ("DDDDDDDD", "PPPPQQQ.", ErrorType.OVERSEGMENTATION, 1, 2, 0, 14 / 16),
    # P alone is matched with 10/16.
    "split, one matched": ("DDDDDDDD", "PPPPPQQ.", ErrorType.OVERSEGMENTATION, 0, 1, 10 / 16 / 1.5, 14 / 16),
    "boundary, shifted": ("DDDD....", "..PPPPPP", ErrorType.LOCALIZATION, 1, 0, 0, 1),  # 4/8, and 8 of 12 are on void
    "boundary, near": ("GGGGGGGGGGDDDD", "GGGGGGGGPPPP..", ErrorType.LOCALIZATION, 1, 1, 16 / 20 / 2, 1),
    "boundary, matched": ("GGGGDDDD", "GGGGPPP.", ErrorType.LOCALIZATION, 0, 0, (1 + 6 / 8) / 2, 1),
    # A missed disc gets the mean IoU of all matches, as no disc was matched: 12/16.
    "missed": ("GGGGGGDD", "GGGGGGGG", ErrorType.MISSED, 1, 0, 3 / 8, 3 / 4),
    # And that of the matched discs if there are any: 6/8.
    "missed, others found": ("GGGGDDDDGGGGGGEE", "GGGGPPP.GGGGGGGG", ErrorType.MISSED, 1, 0, None, None),
    "invented": ("GGGGGGGG", "GGGGGGPP", ErrorType.BACKGROUND, 0, 1, 3 / 8, 3 / 4),
    "left void": ("GGGGDDDD", "GGGG....", ErrorType.VOID, 1, 0, 1 / 2, 1),
    # P has 5 of 10 columns on void, 3 on ground and 2 on sky. Half is not enough to be excused.
    "partly on void": (
        "GGGGGGGGG.....SSSSSS",
        "GGGGGGPPPPPPPPPPSSSS",
        ErrorType.VOID,
        0,
        1,
        (6 / 9 + 4 / 6) / 3,
        (6 / 9 + 4 / 6) / 2,
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_kinds_by_hand(name: str) -> None:
    true, predicted, kind, fn, fp, before, after = BY_HAND[name]
    truth, prediction = image(true), image(predicted)
    report = analysed(prediction, truth).compute()
    found = report.types[kind]
    assert (found.fn, found.fp) == (fn, fp)
    for other, cost in report.types.items():  # and nothing is of another kind
        if other is not kind:
            assert (cost.fn, cost.fp) == (0, 0)
    if before is None:
        ground, discs = 20 / 24, (6 / 8) / 1.5
        assert pq_of(prediction, truth) == pytest.approx((ground + discs) / 2, abs=1e-12)
        assert found.all == pytest.approx((ground + (6 / 8 + 6 / 8) / 2) / 2 - (ground + discs) / 2, abs=1e-12)
    else:
        assert pq_of(prediction, truth) == pytest.approx(before, abs=1e-12)
        assert found.all == pytest.approx(after - before, abs=1e-12)


# truth, prediction, crowd; then kind, false negatives and positives, PQ, PQ when it is mended: by coco, by the others
BY_OTHER_RULES = {
    # The box covers 3 of 5 columns and the others are void: IoU 6/10, or 6/6 where void leaves the union.
    "confused": (
        "GGGGGDDDDD",
        "GGGGGBBB..",
        "",
        (ErrorType.CLASSIFICATION, 1, 1, 1 / 3, (1 + 6 / 10) / 2),
        {"torchmetrics": (ErrorType.CLASSIFICATION, 1, 1, 1 / 3, 1)},
    ),
    # P covers 3 of 4 columns of either disc, all that is not void: mended 6/8, or 6/6 where void leaves the union.
    "merged": (
        "DDDDEEEE",
        ".PPPPPP.",
        "",
        (ErrorType.UNDERSEGMENTATION, 2, 1, 0, 6 / 8),
        {"torchmetrics": (ErrorType.UNDERSEGMENTATION, 2, 1, 0, 1)},
    ),
    # Two pieces of 3 of 8 columns: 12/16, or 12/12 where void leaves the union; one has 6/12 then, no match.
    "split": (
        "DDDDDDDD",
        "PPPQQQ..",
        "",
        (ErrorType.OVERSEGMENTATION, 1, 2, 0, 12 / 16),
        {"torchmetrics": (ErrorType.OVERSEGMENTATION, 1, 2, 0, 1)},
    ),
    # One of 4 columns is found and the others are void: a near miss, or a match where void leaves the union.
    "near": (
        "GGGGDDDD",
        "GGGGP...",
        "",
        (ErrorType.LOCALIZATION, 1, 1, 1 / 2, 1),
        {"torchmetrics": (ErrorType.LOCALIZATION, 0, 0, 1, 1)},
    ),
    # A box on a crowd of discs; where crowds are void, the box is excused, where they are segments, it is confused.
    "crowd": (
        "GGGGDDDD",
        "GGGGBBBB",
        "D",
        (ErrorType.VOID, 0, 1, 1 / 2, 1),
        {
            "deeplab2": (ErrorType.VOID, 0, 0, 1, 1),
            "seamseg": (ErrorType.VOID, 0, 0, 1 / 4, None),  # of four categories, of which three do not occur
            "torchmetrics": (ErrorType.CLASSIFICATION, 1, 1, 1 / 3, 1),
        },
    ),
}


@pytest.mark.parametrize(
    ("name", "protocol"),
    [(name, protocol) for name, case in BY_OTHER_RULES.items() for protocol in ("coco", *case[-1])],
)
def test_kinds_by_other_rules(name: str, protocol: str) -> None:
    true, predicted, crowd, by_coco, by_others = BY_OTHER_RULES[name]
    kind, fn, fp, before, after = by_others.get(protocol, by_coco)
    truth, prediction = image(true, crowd), image(predicted)
    report = analysed(prediction, truth, protocol).compute()
    assert pq_of(prediction, truth, protocol) == pytest.approx(before, abs=1e-12)
    assert {k: (c.fn, c.fp) for k, c in report.types.items() if c.fn + c.fp} == ({kind: (fn, fp)} if fn + fp else {})
    if after is not None:
        assert report.types[kind].all == pytest.approx(after - before, abs=1e-12)


def test_stuff_in_pieces_is_whole_by_some_rules() -> None:
    pieces = PanopticMap(torch.tensor([[1, 1, 2, 2, 3, 3]] * 2, dtype=torch.int32), torch.tensor([1, 2, 1]))
    prediction = image("GGGGGG")  # over two pieces of ground, each with 4/12 and together with 8/12, and a disc
    assert find_errors(prediction, pieces).truth_type.tolist() == [
        ErrorType.UNDERSEGMENTATION,
        ErrorType.MISSED,
        ErrorType.UNDERSEGMENTATION,
    ]
    errors = find_errors(prediction, pieces, protocol="deeplab2", stuff_ids=SHAPES.stuff_ids)
    assert errors.truth_type.tolist() == [NO_ERROR, ErrorType.MISSED, NO_ERROR]
    assert errors.gain[ErrorType.LOCALIZATION].tolist() == pytest.approx([1 - 8 / 12, 0, 0])
    with pytest.raises(InvalidArgumentError, match="expected stuff_ids, as this protocol merges the segments"):
        find_errors(prediction, pieces, protocol="deeplab2")


def test_rules_are_checked() -> None:
    with pytest.raises(UnknownNameError, match="unknown protocol 'cocoo'; did you mean coco"):
        ErrorBreakdown(SHAPES, "cocoo")
    with pytest.raises(InvalidArgumentError, match=r"protocol=.*merge metrics with equal options"):
        ErrorBreakdown(SHAPES).merge(ErrorBreakdown(SHAPES, "seamseg"))


def test_boundary_costs_what_is_missing_to_perfect_outlines() -> None:
    # D is matched by P with 8/14 and E is missing: with a perfect outline, 1 / 1.5.
    report = analysed(image("PPPPPPP."), image("DDDDEEEE")).compute()
    assert report.outlines.all == report.types[ErrorType.LOCALIZATION].all
    assert report.near_misses.all == 0
    assert report.types[ErrorType.LOCALIZATION].all == pytest.approx(1 / 1.5 - 8 / 14 / 1.5, abs=1e-12)


def test_groups_and_categories() -> None:
    report = analysed(image("GGGGBBB."), image("GGGGDDDD")).compute()
    cost = report.types[ErrorType.CLASSIFICATION]
    assert cost.things == pytest.approx(3 / 4 - 0, abs=1e-12)  # boxes leave the mean
    assert cost.stuff == 0
    assert cost.per_category["disc"] == pytest.approx(3 / 4, abs=1e-12)
    assert cost.per_category["box"] == 1  # nothing is wrong with it any more
    assert math.isnan(cost.per_category["sky"])


def test_nothing_left_counts_as_perfect() -> None:
    # Only a crowd in the truth: the prediction of another category is all there is.
    report = analysed(image("BBBB"), image("DDDD", crowd="D")).compute()
    assert report.types[ErrorType.VOID].fp == 1
    assert report.types[ErrorType.VOID].all == 1
    empty = ErrorBreakdown(SHAPES).compute()
    assert all(math.isnan(cost.all) for cost in empty.types.values())


def test_near_pairs_are_made_from_the_largest_iou_down() -> None:
    # P overlaps D by 6 of 16 and E by 4 of 18, so E stays without a partner; B and S are other categories.
    truth, prediction = image("DDDDDDEEEEEE"), image("...PPPPPBBSS")
    errors = find_errors(prediction, truth)
    assert errors.truth_type.tolist() == [ErrorType.LOCALIZATION, ErrorType.MISSED]
    assert errors.prediction_type.tolist() == [ErrorType.BACKGROUND, ErrorType.LOCALIZATION, ErrorType.BACKGROUND]


@pytest.mark.parametrize(("side", "size"), [(15, 0), (16, 1), (31, 1), (32, 2), (63, 2), (64, 3), (127, 3), (128, 4)])
def test_sizes(side: int, size: int) -> None:
    truth = PanopticMap(torch.ones(side, side, dtype=torch.int32), torch.tensor([2]))
    prediction = PanopticMap(torch.ones(side, side, dtype=torch.int32), torch.tensor([3]))
    report = analysed(prediction, truth).compute()
    cost = report.types[ErrorType.CLASSIFICATION].by_size
    assert [cost[name] for name in SIZE_NAMES] == [float(i == size) for i in range(5)]
    found = report.sizes[SIZE_NAMES[size]]
    assert (found.num_truth, found.tp, found.fp, found.cost) == (1, 0, 1, 1.0)


def generated(seed: int) -> tuple[PanopticMap, PanopticMap]:
    """Return a prediction and a truth with every kind of error: pieces of one layout between those of another."""
    truth = generated_map(seed, crowd=seed % 2 == 0, objects=9)
    prediction = truth if seed % 3 else generated_map(seed, objects=9, void=False)
    prediction = PanopticMap(prediction.ids, prediction.category)
    g = np.random.default_rng(seed)
    prediction = prediction.paste(generated_map(seed + 1000, (40, 60), objects=3), *g.integers(0, 50, 2).tolist())
    prediction = prediction.paste(prediction.crop(0, 0, 90, 100), *g.integers(0, 9, 2).tolist())
    category = prediction.category.clone()
    swapped = torch.from_numpy(g.random(len(category)) < 0.2)
    category[swapped] = torch.tensor([1, 0, 3, 2])[category[swapped]]
    return PanopticMap(prediction.ids, category).compact(), truth


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", range(30))
def test_laws(seed: int, protocol: str) -> None:
    prediction, truth = generated(seed)
    matches = match_segments(prediction, truth, protocol=protocol, stuff_ids=SHAPES.stuff_ids)
    errors = find_errors(prediction, truth, protocol=protocol, stuff_ids=SHAPES.stuff_ids)
    assert (errors.truth_type != NO_ERROR).nonzero()[0].tolist() == matches.false_negatives.tolist()
    assert (errors.prediction_type != NO_ERROR).nonzero()[0].tolist() == matches.false_positives.tolist()
    assert ErrorType.BACKGROUND not in errors.truth_type
    assert ErrorType.MISSED not in errors.prediction_type
    assert (errors.gain >= 0).all()
    assert (errors.gain.max(0)[matches.truth] <= 1 - matches.iou.numpy() + 1e-12).all()

    analysis = analysed(prediction, truth, protocol)
    quality = PanopticQuality(SHAPES, protocol)
    quality.update(prediction, truth)
    state = analysis.state
    assert torch.equal(state[:, 7, :, 0].sum(1), quality.state[:, 0])
    assert torch.equal(state[:, :7, :, 1].sum((1, 2)), quality.state[:, 1])
    assert torch.equal(state[:, :7, :, 0].sum((1, 2)), quality.state[:, 2])
    torch.testing.assert_close(state[:, 7, :, 2].sum(1), quality.state[:, 3], rtol=0, atol=1e-12)

    report = analysis.compute()
    for cost in report.types.values():
        assert cost.all >= 0
        assert min(cost.by_size.values()) >= 0
        assert all(value >= 0 for value in cost.per_category.values() if not math.isnan(value))


def test_every_kind_occurs_in_generated_images() -> None:
    analysis = ErrorBreakdown(SHAPES)
    for seed in range(30):
        analysis.update(*generated(seed))
    report = analysis.compute()
    assert all(cost.fn + cost.fp > 0 for cost in report.types.values())
    assert report.types[ErrorType.LOCALIZATION].all > 0
    assert all(size.cost > 0 for size in report.sizes.values() if size.num_truth)


def test_merging_is_adding() -> None:
    one, two, both = ErrorBreakdown(SHAPES), ErrorBreakdown(SHAPES), ErrorBreakdown(SHAPES)
    for seed in range(6):
        (one if seed < 3 else two).update(*generated(seed))
        both.update(*generated(seed))
    one.merge(two)
    torch.testing.assert_close(one.state, both.state, rtol=0, atol=1e-12)
    one.reset()
    assert not one.state.any()


# Where stuff is whole, a segment cannot be renamed without becoming a part of another.
@pytest.mark.parametrize(
    "protocol",
    [Protocol(), Protocol(crowd="void"), Protocol(crowd="segment"), Protocol(predicted_void_leaves_union=True)],
    ids=str,
)
@pytest.mark.parametrize("seed", range(0, 30, 2))
def test_fixing_the_maps_themselves_gives_the_same_pq(seed: int, protocol: Protocol) -> None:
    prediction, truth = generated(seed)
    errors = find_errors(prediction, truth, protocol=protocol)
    report = analysed(prediction, truth, protocol).compute()
    before = pq_of(prediction, truth, protocol)

    confused = (errors.taken_for >= 0).nonzero()[0]
    category = prediction.category.clone()
    category[errors.taken_for[confused]] = truth.category[confused]
    fixed = pq_of(PanopticMap(prediction.ids, category), truth, protocol)
    assert report.types[ErrorType.CLASSIFICATION].all == pytest.approx(fixed - before, abs=1e-12)

    if protocol.predicted_void_leaves_union:
        return  # where an invented segment was, others would be forgiven
    real = torch.from_numpy(errors.prediction_type != ErrorType.BACKGROUND)
    fixed = pq_of(prediction.select(real), truth, protocol)
    assert report.types[ErrorType.BACKGROUND].all == pytest.approx(fixed - before, abs=1e-12)


def test_fixing_one_kind_after_the_other_leaves_nothing() -> None:
    for seed in range(10):
        prediction, truth = generated(seed)
        counts = analysed(prediction, truth).state
        tp = counts[:, 7, :, 0].sum(1) + counts[:, :7, :, 0].sum((1, 2))
        quality = PanopticQuality(SHAPES)
        quality.update(prediction, truth)
        assert torch.equal(tp, quality.state[:, 0] + quality.state[:, 2])  # every truth segment is a match
        report = analysed(prediction, truth).compute()
        perfect = ErrorBreakdown(SHAPES)
        perfect.update(truth.select(~truth.crowd) if truth.crowd is not None else truth, truth)
        assert all(cost.all == 0 for cost in perfect.compute().types.values())
        assert sum(s.num_truth for s in report.sizes.values()) == int(tp.sum())


def test_table_and_dict() -> None:
    report = analysed(image("GGGGBBB."), image("GGGGDDDD")).compute()
    first = str(report).splitlines()[1].split()
    assert first == ["classification", "54.17", "75.00", "0.00", "1", "1"]
    assert report.to_dict()["types"]["classification"]["per_category"]["sky"] is None
