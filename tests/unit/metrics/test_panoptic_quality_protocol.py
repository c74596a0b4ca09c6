import json
import math
import pickle

import pytest
import torch
from maps import SHAPES, a_map, generated_map

from panscape import Category, LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.metrics import (
    InstanceAP,
    PanopticQuality,
    PanopticQualityDagger,
    PanopticQualityReport,
    ParsingCovering,
    SemanticIoU,
)

WORKED = LabelSpace(
    "worked example",
    (
        Category("sky", False, 1, (0, 0, 0)),
        Category("car", True, 2, (1, 0, 0)),
        Category("bus", True, 3, (2, 0, 0)),
        Category("road", False, 4, (3, 0, 0)),
    ),
)


# Without further word, categories are those of SHAPES: sky 0, ground 1, disc 2, box 3.
def report_on(prediction: PanopticMap, truth: PanopticMap, labels: LabelSpace = SHAPES) -> PanopticQualityReport:
    metric = PanopticQuality(labels)
    metric.update(prediction, truth)
    return metric.compute()


def counts(report: PanopticQualityReport, name: str) -> tuple[int, int, int]:
    category = report.per_category[name]
    return category.tp, category.fp, category.fn


def test_a_worked_example_by_hand() -> None:
    truth = a_map(
        """
        SSSSSSSSSS
        SSSSSSSSSS
        SSSSSSSSSS
        AAAACCBB..
        AAAACCBB..
        AAAACCBB..
        """,
        {"S": 0, "A": 1, "B": 1, "C": 1},
        crowd="C",
    )
    prediction = a_map(
        """
        SSSSSSSSSS
        RRRRR.....
        RRRRR.....
        111.222333
        111.22.333
        111.22.333
        """,
        {"S": 0, "R": 3, "1": 1, "2": 1, "3": 1},
    )
    report = report_on(prediction, truth, WORKED)
    assert counts(report, "sky") == (0, 1, 1)  # 10 of 30 pixels
    # 1 matches A with 9 / 12. 2 is excused: 6 of 7 on the crowd. 3 has an IoU with B of exactly 3 / 6, which is no
    # match, and is excused: 6 of 9 on void.
    assert counts(report, "car") == (1, 0, 1)
    assert report.per_category["car"].iou_sum == 0.75
    assert counts(report, "road") == (0, 1, 0)
    assert counts(report, "bus") == (0, 0, 0)
    assert report.all.pq == pytest.approx(1 / 6, abs=1e-15)
    assert (report.all.num_categories, report.things.num_categories, report.stuff.num_categories) == (3, 1, 2)
    assert (report.things.pq, report.things.sq, report.things.rq) == (0.5, 0.75, 1 / 1.5)
    assert (report.stuff.pq, report.stuff.sq, report.stuff.rq) == (0, 0, 0)
    assert math.isnan(report.per_category["bus"].pq)


def test_an_iou_of_one_half_is_no_match_and_a_pixel_more_is() -> None:
    truth = a_map("AAAA....BBBB", {"A": 2, "B": 3})
    assert counts(report_on(a_map("AA......BBBB", {"A": 2, "B": 3}), truth), "disc") == (0, 1, 1)
    assert counts(report_on(a_map("AAA.....BBBB", {"A": 2, "B": 3}), truth), "disc") == (1, 0, 0)


def test_void_of_the_truth_leaves_the_union_and_predicted_void_does_not() -> None:
    truth = a_map("AAAA....", {"A": 2})
    assert report_on(a_map("AAAAAAAA", {"A": 2}), truth).per_category["disc"].iou_sum == 1
    assert report_on(a_map("AAA.....", {"A": 2}), truth).per_category["disc"].iou_sum == 0.75


def test_crowds_do_not_leave_the_union() -> None:
    truth = a_map("AAAACC", {"A": 2, "C": 2}, crowd="C")
    assert report_on(a_map("AAAAAA", {"A": 2}), truth).per_category["disc"].iou_sum == 4 / 6


def test_crowds_are_neither_matched_nor_missed() -> None:
    truth = a_map("CCCC", {"C": 2}, crowd="C")
    assert report_on(truth, truth).all.num_categories == 0
    assert report_on(PanopticMap.empty((1, 4)), truth).all.num_categories == 0


def test_crowds_excuse_only_their_own_category_and_only_more_than_half() -> None:
    truth = a_map("CCCCBBBB", {"C": 2, "B": 1}, crowd="C")
    assert counts(report_on(a_map("PPPP....", {"P": 3}), truth), "box") == (0, 1, 0)
    assert counts(report_on(a_map("PPPP....", {"P": 2}), truth), "disc") == (0, 0, 0)
    assert counts(report_on(a_map("..PPPP..", {"P": 2}), truth), "disc") == (0, 1, 0)
    assert counts(report_on(a_map(".PPPPP..", {"P": 2}), truth), "disc") == (0, 0, 0)


def test_void_and_crowd_excuse_together() -> None:
    truth = a_map("CCBB..", {"C": 2, "B": 1}, crowd="C")
    assert counts(report_on(a_map("PPPP..", {"P": 2}), truth), "disc") == (0, 1, 0)
    assert counts(report_on(a_map("PPPPPP", {"P": 2}), truth), "disc") == (0, 0, 0)


def test_of_two_crowds_of_a_category_only_the_last_excuses() -> None:
    truth = a_map("CCCCDDDD", {"C": 2, "D": 2}, crowd="CD")
    assert counts(report_on(a_map("PPPP....", {"P": 2}), truth), "disc") == (0, 1, 0)
    assert counts(report_on(a_map("....PPPP", {"P": 2}), truth), "disc") == (0, 0, 0)


def test_a_predicted_crowd_is_a_segment_like_others() -> None:
    truth = a_map("AAAA", {"A": 2})
    assert counts(report_on(a_map("AAAA", {"A": 2}, crowd="A"), truth), "disc") == (1, 0, 0)


def test_segments_without_pixels_do_not_count() -> None:
    two_of_three = PanopticMap(torch.tensor([[1, 1, 3]], dtype=torch.int32), torch.tensor([0, 2, 3]))
    report = report_on(two_of_three, two_of_three)
    assert counts(report, "disc") == (0, 0, 0)
    assert (report.all.pq, report.all.num_categories) == (1, 2)


def test_groups_without_segments_are_nan() -> None:
    report = PanopticQuality(SHAPES).compute()
    assert all(math.isnan(v) for g in (report.all, report.things, report.stuff) for v in (g.pq, g.sq, g.rq))
    stuff_only = a_map("A", {"A": 0})
    report = report_on(stuff_only, stuff_only)
    assert report.all.pq == report.stuff.pq == 1
    assert math.isnan(report.things.pq)


def test_merging_equals_updating_and_reset_forgets() -> None:
    pairs = [(generated_map(s), generated_map(s, objects=5, crowd=True)) for s in range(6)]
    whole, parts = PanopticQuality(SHAPES), [PanopticQuality(SHAPES) for _ in range(2)]
    for i, pair in enumerate(pairs):
        whole.update(*pair)
        parts[i % 2].update(*pair)
    received = pickle.loads(pickle.dumps(parts[1]))  # as from another process
    parts[0].merge(received)
    torch.testing.assert_close(parts[0].state, whole.state, rtol=0, atol=1e-12)
    assert whole.state[:, 0].sum() > 0
    whole.reset()
    assert whole.compute().all.num_categories == 0
    with pytest.raises(InvalidArgumentError, match="'shapes' \\(4 categories\\), got one over 'worked example'"):
        whole.merge(PanopticQuality(WORKED))


def test_maps_that_do_not_fit() -> None:
    metric = PanopticQuality(SHAPES)
    with pytest.raises(InvalidArgumentError, match=r"truth of 2x3 and a prediction of 2x2; decode or resize"):
        metric.update(a_map("AA\nAA"), a_map("AAA\nAAA"))
    with pytest.raises(InvalidArgumentError, match=r"0..3 \(label space 'shapes'\), got 4 in the prediction; evaluate"):
        metric.update(a_map("A", {"A": 4}), a_map("A"))
    with pytest.raises(InvalidArgumentError, match=r"got 9 in the truth"):
        metric.update(a_map("A"), a_map("A", {"A": 9}))
    assert metric.state.sum() == 0


def test_the_table_and_the_dictionary() -> None:
    report = report_on(a_map("AAA.BB", {"A": 0, "B": 3}), a_map("AAAABB", {"A": 0, "B": 3}))
    assert str(report).splitlines() == [
        "               PQ     SQ     RQ  TP  FP  FN",
        "all (2)      87.5   87.5  100.0",
        "things (1)  100.0  100.0  100.0",
        "stuff (1)    75.0   75.0  100.0",
        "sky          75.0   75.0  100.0   1   0   0",
        "box         100.0  100.0  100.0   1   0   0",
    ]
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["all"]["pq"] == 0.875
    assert plain["per_category"]["sky"] == {"pq": 0.75, "sq": 0.75, "rq": 1, "tp": 1, "fp": 0, "fn": 0, "iou_sum": 0.75}
    assert plain["per_category"]["ground"]["pq"] is None


@pytest.mark.parametrize("metric", [PanopticQuality, PanopticQualityDagger, SemanticIoU, ParsingCovering, InstanceAP])
def test_the_name_of_a_bundled_label_space_is_enough(metric):
    assert metric("cityscapes").labels == LabelSpace.load("cityscapes")
    with pytest.raises(InvalidArgumentError, match=r"a LabelSpace, or the name of a bundled one .*, got 11"):
        metric(11)
