"""Bootstrap intervals against plain loops and scipy."""

import numpy as np
import pytest
from maps import SHAPES, a_map, generated_map
from scipy import stats

from panscape.evaluation import bootstrap
from panscape.evaluation.bootstrap import image_sums, intervals, resampled, statistics_of, totals
from panscape.evaluation.records import record_of
from panscape.metrics import PanopticQuality, SemanticIoU
from panscape.metrics.error_breakdown import ErrorBreakdown
from panscape.metrics.error_types import ErrorType

PAIRS = [(generated_map(s, objects=8), generated_map(s + s % 3, crowd=s % 2 == 0)) for s in range(9)]
RECORDS = [record_of(str(i), prediction, truth, SHAPES) for i, (prediction, truth) in enumerate(PAIRS)]


def test_any_choice_of_images_equals_the_metrics() -> None:
    sums = image_sums(RECORDS, len(SHAPES))
    choices = [list(range(9)), [0, 0, 4, 4, 7], [1, 2], [8]]
    weights = np.array([np.bincount(choice, minlength=9) for choice in choices], np.float64)
    drawn = statistics_of(weights @ sums, SHAPES)
    for row, choice in enumerate(choices):
        quality, semantic, errors = PanopticQuality(SHAPES), SemanticIoU(SHAPES), ErrorBreakdown(SHAPES)
        for i in choice:
            for metric in (quality, semantic, errors):
                metric.update(*PAIRS[i])
        report = quality.compute()
        groups = [[g.pq, g.sq, g.rq] for g in (report.all, report.things, report.stuff)]
        np.testing.assert_allclose(drawn.groups[row], groups, atol=1e-12)
        each = [[c.pq, c.sq, c.rq] for c in report.per_category.values()]
        np.testing.assert_allclose(drawn.categories[row], each, atol=1e-12)
        np.testing.assert_allclose(drawn.mean_iou[row], semantic.compute().mean_iou, atol=1e-12)
        ious = [c.iou for c in semantic.compute().per_category.values()]
        np.testing.assert_allclose(drawn.ious[row], ious, atol=1e-12)
        costs = [errors.compute().types[kind].all for kind in ErrorType]
        np.testing.assert_allclose(drawn.costs[row], costs, atol=1e-12)


def test_draws_are_seeded_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = image_sums(RECORDS, len(SHAPES))
    drawn = resampled(sums, SHAPES, 50, seed=3)
    assert drawn.groups.shape == (50, 3, 3)
    assert np.array_equal(resampled(sums, SHAPES, 50, seed=3).groups, drawn.groups, equal_nan=True)
    assert not np.array_equal(resampled(sums, SHAPES, 50, seed=4).groups, drawn.groups, equal_nan=True)
    weights = np.concatenate(list(bootstrap._draws(9, 50, 3, 50)))
    assert (weights.sum(1) == 9).all()
    # A plain loop over the same draws, and chunks of another size.
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 1)
    np.testing.assert_allclose(resampled(sums, SHAPES, 50, seed=3).groups, drawn.groups, atol=1e-12)
    for row in (0, 17, 49):
        quality = PanopticQuality(SHAPES)
        for i, times in enumerate(weights[row]):
            for _ in range(int(times)):
                quality.update(*PAIRS[i])
        assert drawn.groups[row, 0, 0] == pytest.approx(quality.compute().all.pq, abs=1e-12)


def test_a_mean_has_the_interval_of_scipy() -> None:
    # With one category and one pixel row of equal size in each image, mean IoU of the matches (SQ) is a plain mean.
    g = np.random.default_rng(0)
    hits = g.integers(11, 20, 60)
    records = [record_of(str(i), a_map("A" * h + "." * (20 - h)), a_map("A" * 20), SHAPES) for i, h in enumerate(hits)]
    ends = intervals(resampled(image_sums(records, len(SHAPES)), SHAPES, 4000, seed=1))
    peer = stats.bootstrap((hits / 20,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2))
    interval = peer.confidence_interval
    # Two independent sets of 4,000 draws: their ends differ by about a twentieth of the standard error.
    tolerance = 0.2 * peer.standard_error
    assert ends.low.categories[0, 1] == pytest.approx(interval.low, abs=tolerance)
    assert ends.high.categories[0, 1] == pytest.approx(interval.high, abs=tolerance)


def test_intervals_are_the_middle_of_the_draws() -> None:
    sums = image_sums(RECORDS, len(SHAPES))
    drawn, found = resampled(sums, SHAPES, 200), totals(sums, SHAPES)
    ends = intervals(drawn)
    inside = (drawn.mean_iou >= ends.low.mean_iou) & (drawn.mean_iou <= ends.high.mean_iou)
    assert inside.sum() == 190
    assert ends.low.groups[0, 0] < found.groups[0, 0, 0] < ends.high.groups[0, 0]


def test_absent_categories_have_no_interval() -> None:
    records = [record_of("x", a_map("AAAA"), a_map("AAAA"), SHAPES)]
    ends = intervals(resampled(image_sums(records, len(SHAPES)), SHAPES, 20))
    assert np.isnan(ends.low.categories[1:]).all()
    assert ends.low.categories[0].tolist() == [1, 1, 1]
