import json
import math

import numpy as np
import pytest
from maps import SHAPES, a_map, generated_map

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.metrics import ParsingCovering, ParsingCoveringReport, cover_segments, overlaps


def by_masks(pairs: list[tuple[PanopticMap, PanopticMap]], normalized: bool) -> dict[int, float]:
    """The covering of each category with area: every segment of the truth against every prediction, mask by mask."""
    covered, total = np.zeros(len(SHAPES)), np.zeros(len(SHAPES))
    for prediction, truth in pairs:
        crowd = [False] * truth.num_segments if truth.crowd is None else truth.crowd.tolist()
        ids, predicted = truth.ids.numpy(), prediction.ids.numpy()
        ignored = ids == 0
        for row in range(truth.num_segments):
            if crowd[row]:
                ignored |= ids == row + 1
        for row, category in enumerate(truth.category.tolist()):
            mask = (ids == row + 1) & ~ignored
            best = 0.0
            for other, other_category in enumerate(prediction.category.tolist()):
                guess = (predicted == other + 1) & ~ignored
                if other_category == category and (mask & guess).any():
                    best = max(best, (mask & guess).sum() / (mask | guess).sum())
            area = mask.sum() / mask.size if normalized else mask.sum()
            covered[category] += area * best
            total[category] += area
    return {c: covered[c] / total[c] for c in range(len(SHAPES)) if total[c]}


def checked(pairs: list[tuple[PanopticMap, PanopticMap]]) -> ParsingCoveringReport:
    """The report on ``pairs``, after it was compared with masks."""
    metric = ParsingCovering(SHAPES)
    for prediction, truth in pairs:
        metric.update(prediction, truth)
    report = metric.compute()
    groups = ((report.all, range(len(SHAPES))), (report.things, SHAPES.thing_ids), (report.stuff, SHAPES.stuff_ids))
    for name in ("covering", "covering_normalized"):
        expected = by_masks(pairs, name == "covering_normalized")
        for i, category in enumerate(SHAPES):
            value = getattr(report.per_category[category.name], name)
            assert value == pytest.approx(expected.get(i, math.nan), abs=1e-13, nan_ok=True)
        for group, members in groups:
            values = [expected[i] for i in members if i in expected]
            mean = sum(values) / len(values) if values else math.nan
            assert getattr(group, name) == pytest.approx(mean, abs=1e-13, nan_ok=True)
            assert group.num_categories == len(values)
    return report


def test_against_masks_with_void_and_crowds() -> None:
    sizes = [(96, 128), (40, 60), (33, 7)]
    pairs = []
    for seed in range(30):
        size = sizes[seed % 3]
        truth = generated_map(seed, size, smallest=3, void=seed % 2 == 0, crowd=seed % 4 < 2)
        guess = generated_map(seed // 2 + 200, size, smallest=3, void=seed % 3 == 0, crowd=seed % 5 == 0)
        # Truth moved a little, too: unrelated maps have hardly any large IoU.
        moved = PanopticMap(truth.ids.roll((1, 3), (0, 1)), truth.category, None, None)
        pairs += [(guess, truth), (moved, truth)]
    report = checked(pairs)
    assert report.all.num_categories == 4
    assert report.all.covering != report.all.covering_normalized
    assert 0.3 < report.all.covering < 0.9
    for pair in pairs[::7]:
        checked([pair])


def test_empty_images_and_absent_categories() -> None:
    truth = a_map("AABB\n.CCC", {"A": 0, "B": 2, "C": 2})
    nothing = PanopticMap.empty((2, 4))
    report = checked(
        [(nothing, truth), (truth, nothing), (nothing, nothing), (a_map("A", {"A": 3}), a_map("A", {"A": 0}))]
    )
    assert report.all.covering == 0
    assert math.isnan(report.per_category["box"].covering)  # only predicted
    assert math.isnan(checked([(truth, nothing)]).all.covering_normalized)
    assert checked([(truth, truth)]).all.covering == 1
    no_pixels = PanopticMap.empty((0, 4))
    assert math.isnan(checked([(no_pixels, no_pixels)]).all.covering)
    assert math.isnan(ParsingCovering(SHAPES).compute().stuff.covering)


def test_the_image_of_the_fact_sheet() -> None:
    categories = {"S": 0, "A": 2, "G": 2, "B": 2}
    truth = a_map(
        """SSSSSSSSSS
           SSSSSSSSSS
           SSSSSSSSSS
           AAAAGGBB..
           AAAAGGBB..
           AAAAGGBB..""",
        categories,
        crowd="G",
    )
    prediction = a_map(
        """SSSSSSSSSS
           DDDDD.....
           DDDDD.....
           PPP.QQQRRR
           PPP.QQ.RRR
           PPP.QQ.RRR""",
        {"S": 0, "D": 1, "P": 2, "Q": 2, "R": 2},
    )
    report = checked([(prediction, truth)])
    assert report.per_category["sky"].covering == 1 / 3
    assert report.per_category["disc"].covering == pytest.approx((12 * 0.75 + 6 * 0.5) / 18, abs=1e-15)
    assert report.per_category["disc"].area == 18
    assert report.all.covering == pytest.approx(0.5, abs=1e-15)
    assert report.things.covering == pytest.approx(2 / 3, abs=1e-15)
    assert report.stuff.covering == 1 / 3
    rows, areas, ious = cover_segments(prediction, truth)
    assert (truth.category[rows].tolist(), areas.tolist()) == ([2, 2, 0], [12, 6, 30])
    assert ious.tolist() == [0.75, 0.5, 1 / 3]


def test_several_segments_may_have_the_same_prediction() -> None:
    covered = cover_segments(a_map("AAAA", {"A": 2}), a_map("AABB", {"A": 2, "B": 2}))
    assert covered.iou.tolist() == [0.5, 0.5]


def test_normalized_areas_let_every_image_weigh_the_same() -> None:
    metric = ParsingCovering(SHAPES)
    metric.update(a_map("AA", {"A": 0}), a_map("AA", {"A": 0}))
    metric.update(a_map("......", {}), a_map("AAA...", {"A": 0}))
    sky = metric.compute().per_category["sky"]
    assert sky.covering == pytest.approx(2 / 5)
    assert sky.covering_normalized == pytest.approx(1 / (1 + 0.5))


def test_a_histogram_that_is_there_already() -> None:
    truth, prediction = generated_map(1, crowd=True), generated_map(2)
    with_it, without = ParsingCovering(SHAPES), ParsingCovering(SHAPES)
    with_it.update(prediction, truth, overlaps(prediction, truth))
    without.update(prediction, truth)
    assert with_it.compute() == without.compute()


def test_merge_and_reset() -> None:
    pairs = [(generated_map(s + 9), generated_map(s)) for s in range(4)]
    whole, parts = ParsingCovering(SHAPES), [ParsingCovering(SHAPES) for _ in range(2)]
    for i, pair in enumerate(pairs):
        whole.update(*pair)
        parts[i // 2].update(*pair)
    parts[0].merge(parts[1])
    assert parts[0].state.numpy() == pytest.approx(whole.state.numpy(), abs=1e-9)
    whole.reset()
    assert math.isnan(whole.compute().all.covering)


def test_maps_that_do_not_fit() -> None:
    metric = ParsingCovering(SHAPES)
    with pytest.raises(InvalidArgumentError, match=r"truth of 1x2 and a prediction of 1x1; decode or resize"):
        metric.update(a_map("A"), a_map("AA"))
    with pytest.raises(InvalidArgumentError, match=r"got 7 in the prediction; evaluate"):
        metric.update(a_map("A", {"A": 7}), a_map("A"))


def test_table_and_dict() -> None:
    metric = ParsingCovering(SHAPES)
    metric.update(a_map("AAB", {"A": 0, "B": 2}), a_map("AAA", {"A": 0}))
    report = metric.compute()
    assert str(report).splitlines() == [
        "              PC  PC normalized",
        "all (1)     66.7           66.7",
        "things (0)     -              -",
        "stuff (1)   66.7           66.7",
        "sky         66.7           66.7",
    ]
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content["things"] == {"covering": None, "covering_normalized": None, "num_categories": 0}
    assert content["per_category"]["sky"]["area"] == 3
