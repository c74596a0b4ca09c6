from __future__ import annotations

import json
import math
import pickle

import pytest
import torch
from maps import SHAPES, a_map, generated_map

from panscape import LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.metrics import COCO_SIZES, InstanceAP, InstanceAPReport, object_areas, overlaps, size_percentiles
from panscape.ops import greedy_matching as instance_matching
from panscape.ops.cropped_masks import CroppedMasks

DISC, BOX = 2, 3


def things(drawing: str, score: list[float] | None = None, crowd: str = "", category: int = BOX) -> PanopticMap:
    letters = sorted(set(drawing) - set(".\n "))
    drawn = a_map(drawing, dict.fromkeys(letters, category), crowd)
    return PanopticMap(drawn.ids, drawn.category, None if score is None else torch.tensor(score), drawn.crowd)


def report_on(*pairs: tuple[PanopticMap, PanopticMap], **options) -> InstanceAPReport:
    metric = InstanceAP(SHAPES, **options)
    for prediction, truth in pairs:
        metric.update(prediction, truth)
    return metric.compute()


def scaled(annotation: PanopticMap, factor: int) -> PanopticMap:
    height, width = annotation.size
    return annotation.resize(height * factor, width * factor)


def test_a_hit_below_a_false_object_by_hand() -> None:
    truth = things("AAAA....\nBBBB....")
    prediction = things("AAAA..CC\n........", [0.5, 0.9])
    report = report_on((prediction, truth))
    # The false object comes first: precision 1/2 up to recall 1/2, at 51 of 101 recalls.
    assert report.ap == pytest.approx(0.5 * 51 / 101, abs=1e-12)
    assert report.recall == {1: 0.0, 10: 0.5, 100: 0.5}
    assert report.per_category["box"].num_objects == 2
    assert report.per_category["box"].num_predictions == 2
    assert math.isnan(report.per_category["disc"].ap)


def test_the_threshold_itself_counts_for_coco_and_not_for_cityscapes() -> None:
    truth, prediction = scaled(things("AAAA"), 16), scaled(things("AA.."), 16)
    prediction = PanopticMap(prediction.ids, prediction.category, torch.ones(1))
    assert report_on((prediction, truth)).ap50 == pytest.approx(1)
    assert report_on((prediction, truth), protocol="cityscapes").ap50 == 0


def test_a_crowd_excuses_by_the_share_of_the_prediction() -> None:
    truth = things("AAAA....BBBBBBBB", crowd="B")
    prediction = things("AAAA....CC..DD..", [0.5, 0.9, 0.8])
    report = report_on((prediction, truth))
    assert report.ap == pytest.approx(1)
    assert report.per_category["box"].num_objects == 1


def test_cityscapes_integrates_by_half_steps() -> None:
    truth = scaled(things("AABB\nAABB"), 10)
    prediction = scaled(things("AAC.\nAAC."), 10)
    prediction = PanopticMap(prediction.ids, prediction.category, torch.tensor([0.9, 0.2]))
    report = report_on((prediction, truth), protocol="cityscapes")
    # C has IoU 1/2 with B, which is not above it. By score: points (recall 1/2, precision 1/2), (1/2, 1), (0, 1).
    # Widths: (1/2 - 1/2) / 2, (1/2 - 0) / 2, (1/2 - 0) / 2.
    assert report.ap == pytest.approx(0.5, abs=1e-12)
    assert (report.recall, dict(report.by_size), report.curves) == ({}, {}, None)


def test_cityscapes_looks_for_objects_of_100_pixels_and_ignores_smaller_ones() -> None:
    truth = things("A" * 99 + "." * 21 + "\n" + "B" * 100 + "." * 20)
    prediction = things("A" * 99 + "." * 21 + "\n" + "B" * 100 + "." * 20, [0.9, 0.5])
    report = report_on((prediction, truth), protocol="cityscapes")
    assert report.ap == 1
    assert report.per_category["box"].num_objects == 1
    assert report.per_category["box"].num_predictions == 2


def test_cityscapes_ignores_by_the_threshold() -> None:
    truth = things("A" * 100 + "." * 100)
    halfway = things("A" * 100 + "." * 40 + "C" * 60, [0.5, 0.9])
    assert report_on((halfway, truth), protocol="cityscapes").ap == 1  # C is on void alone
    truth = a_map("A" * 100 + "." * 77 + "D" * 23, {"A": BOX, "D": 0})
    report = report_on((halfway, truth), protocol="cityscapes")  # now 37 of its 60 pixels are void
    # Up to 0.60 C is ignored. Above, it is false and ranks first: (1, 1/2), (0, 0), (0, 1), half steps 1/2, 1/2, 0.
    assert report.ap50 == 1
    assert report.ap == pytest.approx((3 * 1 + 7 * 0.25) / 10, abs=1e-12)


def test_cityscapes_without_any_prediction_that_counts() -> None:
    truth = things("A" * 100 + "." * 50)
    prediction = things("." * 100 + "C" * 50, [1.0])
    assert report_on((prediction, truth), protocol="cityscapes").ap == 0  # the published script fails here
    assert report_on((PanopticMap.empty((1, 150)), truth), protocol="cityscapes").ap == 0
    assert math.isnan(report_on((prediction, PanopticMap.empty((1, 150))), protocol="cityscapes").ap)


def test_stuff_and_segments_without_pixels_play_no_role() -> None:
    truth = a_map("AABB", {"A": 0, "B": BOX})
    drawn = a_map("BBAA", {"A": BOX, "B": 0})
    prediction = PanopticMap(drawn.ids, torch.cat([drawn.category, torch.tensor([BOX])]), torch.tensor([0.1, 0.9, 1.0]))
    report = report_on((prediction, truth))
    assert report.ap == pytest.approx(1)
    assert report.per_category["box"].num_predictions == 1


def test_no_image_and_no_object() -> None:
    for protocol in ("coco", "cityscapes"):
        report = InstanceAP(SHAPES, protocol).compute()
        assert math.isnan(report.ap)
        assert json.loads(json.dumps(report.to_dict()))["ap"] is None
        assert "objects (0)" in str(report)
    assert math.isnan(report_on((PanopticMap.empty((2, 2)), PanopticMap.empty((2, 2)))).recall[100])


def scored_pairs(count: int) -> list[tuple[PanopticMap, PanopticMap]]:
    pairs = []
    for seed in range(count):
        truth = generated_map(seed, (48, 64), crowd=seed % 2 == 0)
        ids = truth.ids.roll((seed % 4, seed % 3), (0, 1))
        generator = torch.Generator().manual_seed(seed)
        score = torch.randint(0, 4, (truth.num_segments,), generator=generator) / 4  # with ties
        pairs.append((PanopticMap(ids, truth.category, score), truth))
    return pairs


@pytest.mark.parametrize("protocol", ["coco", "cityscapes"])
def test_parts_merged_in_order_are_the_whole(protocol) -> None:
    pairs = scored_pairs(9)
    whole = report_on(*pairs, protocol=protocol)
    assert 0 < whole.ap < 1
    shares = [[InstanceAP(SHAPES, protocol) for _ in pairs[rank::2]] for rank in range(2)]
    for rank, share in enumerate(shares):
        for metric, (prediction, truth) in zip(share, pairs[rank::2], strict=True):
            metric.update(prediction, truth, overlaps(prediction, truth))
    gathered = pickle.loads(pickle.dumps(shares))  # what all_gather_object does
    total = InstanceAP(SHAPES, protocol)
    for number in range(len(pairs)):
        total.merge(gathered[number % 2][number // 2])
    assert total.compute() == whole
    assert total.compute().to_dict() == whole.to_dict()
    total.reset()
    assert total.images == []
    total.update(*pairs[0])
    assert total.compute() == report_on(pairs[0], protocol=protocol)


def test_memory_grows_with_segments_and_not_with_pixels() -> None:
    sizes = []
    for factor in (1, 8):
        metric = InstanceAP(SHAPES)
        (prediction, truth), *_ = scored_pairs(1)
        metric.update(scaled(prediction, factor), scaled(truth, factor))
        sizes.append(sum(part.nbytes for part in metric.images[0]))
    assert sizes[0] == sizes[1] < 2000


def test_scores_are_requested() -> None:
    prediction, truth = things("AA"), things("AA")
    with pytest.raises(
        InvalidArgumentError, match=r'a score for each of its 1 segments.*InstanceAP\(..., score="one"\)'
    ):
        report_on((prediction, truth))
    assert report_on((prediction, truth), score="one").ap == pytest.approx(1)
    assert report_on((PanopticMap.empty((1, 2)), truth)).ap == 0  # without segments, none is missing


def test_equal_scores_when_scores_are_not_to_count() -> None:
    truth = things("AAAA....\nBBBB....")
    for score in ([0.5, 0.9], [0.9, 0.5]):
        report = report_on((things("AAAA..CC\n........", score), truth), score="one")
        assert report.ap == pytest.approx(51 / 101, abs=1e-12)  # A comes first, as its segment does


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "voc"}, 'expected protocol "coco" or "cityscapes", got \'voc\''),
        ({"score": "area"}, 'expected score "given" or "one", got \'area\''),
        ({"protocol": "cityscapes", "sizes": COCO_SIZES}, "the Cityscapes protocol has no sizes"),
        ({"sizes": {"odd": (5, 4)}}, "the size 'odd', got 5 and 4"),
    ],
)
def test_options_that_cannot_be(options, message) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        InstanceAP(SHAPES, **options)


def test_a_range_without_end_is_valid_json() -> None:
    report = report_on((things("AA", [1.0]), things("AA")), sizes={"every": (0, math.inf)})
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["by_size"]["every"]["largest"] == 1e10
    assert report.by_size["every"].ap == report.ap == pytest.approx(1)


def test_metrics_that_cannot_be_merged() -> None:
    with pytest.raises(InvalidArgumentError, match="expected a metric over the label space 'shapes'"):
        InstanceAP(SHAPES).merge(InstanceAP(LabelSpace.load("cityscapes")))
    with pytest.raises(InvalidArgumentError, match="merge metrics with equal options"):
        InstanceAP(SHAPES).merge(InstanceAP(SHAPES, "cityscapes"))
    with pytest.raises(InvalidArgumentError, match="the Cityscapes protocol has no sizes"):
        InstanceAP(SHAPES, "cityscapes").compute(COCO_SIZES)


def test_the_table() -> None:
    truth, prediction = things("AAAA....\nBBBB...."), things("AAAA..CC\n........", [0.5, 0.9])
    lines = str(report_on((prediction, truth))).splitlines()
    assert lines[0].split() == ["coco", "protocol", "AP", "AP50", "AP75", "objects", "predictions"]
    assert lines[1].split() == ["objects", "(1)", "25.2", "25.2", "25.2", "2", "2"]
    assert lines[2].split() == ["box", "25.2", "25.2", "25.2", "2", "2"]
    assert [line.split() for line in lines[4:8]] == [
        ["size", "AP", "AR", "objects", "pixels"],
        ["small", "25.2", "50.0", "2", "0", "to", "1024"],
        ["medium", "-", "-", "0", "1024", "to", "9216"],
        ["large", "-", "-", "0", "9216", "on"],
    ]


def test_percentiles_put_every_object_into_one_class() -> None:
    areas = torch.arange(1, 201)
    sizes = size_percentiles(areas)
    assert sizes == {
        "0-25%": (0, 50),
        "25-50%": (51, 100),
        "50-75%": (101, 150),
        "75-99%": (151, 198),
        "99-100%": (199, 1e10),
    }
    assert [int(((areas >= a) & (areas <= b)).sum()) for a, b in sizes.values()] == [50, 50, 50, 48, 2]
    assert size_percentiles([areas[:150], areas[150:]]) == sizes
    # Between percentiles of equal area there is no class.
    assert size_percentiles(torch.tensor([4, 4, 4, 4, 9]), (0, 20, 50, 100)) == {"0-20%": (0, 4), "50-100%": (5, 1e10)}
    for wrong in ((0, 50), (10, 100), (0, 50, 50, 100), (0,)):
        with pytest.raises(InvalidArgumentError, match="expected percentiles that ascend from 0 to 100"):
            size_percentiles(areas, wrong)
    with pytest.raises(InvalidArgumentError, match="at least one object, got none"):
        size_percentiles([])


def test_areas_of_objects_are_those_of_things_without_crowds() -> None:
    truth = a_map("AABBBC\nD.BBCC", {"A": 0, "B": BOX, "C": DISC, "D": BOX}, crowd="C")
    assert object_areas(truth, SHAPES).tolist() == [5, 1]
    metric = InstanceAP(SHAPES)
    metric.update(PanopticMap.empty(truth.size), truth)
    assert metric.object_areas().tolist() == [5, 1]


def test_the_compiled_matching_equals_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = scored_pairs(6)
    compiled = report_on(*pairs).curves
    monkeypatch.setattr(instance_matching, "_match", instance_matching._match.function)
    plain = report_on(*pairs).curves
    for ours, theirs in zip(compiled, plain, strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_of_masks_on_one_object_the_highest_score_is_right_for_cityscapes() -> None:
    truth = scaled(things("AABB\nAABB"), 10)
    masks = torch.stack([truth.ids == 1, truth.ids == 1, truth.ids == 2])
    metric = InstanceAP(SHAPES, "cityscapes")
    metric.update_masks(CroppedMasks.from_masks(masks), torch.tensor([BOX] * 3), torch.tensor([0.5, 0.9, 0.2]), truth)
    # From the least sure: right, false, right. Points (recall, precision): (1, 2/3), (1/2, 1/2), (1/2, 1), (0, 1), each
    # of which weighs a quarter: half the recall from the point before it to the one after it.
    assert metric.compute().ap == pytest.approx((2 / 3 + 1 / 2 + 1 + 1) / 4, abs=1e-12)


def test_masks_without_pixels_do_not_count_and_others_are_checked() -> None:
    truth = things("AA..")
    masks = CroppedMasks.from_masks(torch.stack([truth.ids == 1, truth.ids == 9]))
    metric = InstanceAP(SHAPES)
    metric.update_masks(masks, torch.tensor([BOX, BOX]), torch.tensor([0.5, 0.9]), truth)
    assert metric.compute().ap == pytest.approx(1)
    assert metric.compute().per_category["box"].num_predictions == 1
    for category, score, said in (
        ([BOX], [0.5, 0.5], "a category and a score for each of the 2 masks, got 1 and 2"),
        ([BOX, 0], [0.5, 0.5], r"masks of the things of shapes, \[2, 3\], got categories \[0\]"),
    ):
        with pytest.raises(InvalidArgumentError, match=said):
            metric.update_masks(masks, torch.tensor(category), torch.tensor(score), truth)
    with pytest.raises(InvalidArgumentError, match="windows inside the image of 1x1"):
        metric.update_masks(masks, torch.tensor([BOX, BOX]), torch.tensor([0.5, 0.9]), things("A"))
