"""The rules of other evaluators: against torchmetrics itself, and against plain loops over what the others publish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from maps import SHAPES, a_map, generated_map, spoilt_map

from panscape import Category, LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError, UnknownNameError
from panscape.metrics import (
    PROTOCOLS,
    PanopticQuality,
    PanopticQualityDagger,
    PanopticQualityReport,
    Protocol,
    match_segments,
)

LABELS = LabelSpace(
    "shapes and more",
    (*SHAPES.categories, Category("water", False, 40, (0, 0, 255)), Category("bird", True, 41, (9, 9, 9))),
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
Pair = tuple[PanopticMap, PanopticMap]


def a_prediction_of(truth: PanopticMap, seed: int) -> PanopticMap:
    other = generated_map(2000 + seed, truth.size, objects=3)
    return spoilt_map(truth, torch.Generator().manual_seed(1000 + seed), other, shift=(4, 6), part=2)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    found = []
    for seed in range(120):
        truth = generated_map(seed, (32, 40), objects=9, void=seed % 4 > 0, crowd=seed % 3 > 0)
        if seed % 5 == 0:  # stuff in two segments
            category = truth.category.clone()
            category[:2] = 0
            truth = PanopticMap(truth.ids, category, None, truth.crowd)
        found.append((a_prediction_of(truth, seed), truth))
    empty = PanopticMap.empty((32, 40))
    return [*found, (empty, empty), (empty, found[1][1]), (found[1][0], empty)]


def report_on(pairs: list[Pair], protocol: str | Protocol, labels: LabelSpace = LABELS) -> PanopticQualityReport:
    metric = PanopticQuality(labels, protocol)
    for pair in pairs:
        metric.update(*pair)
    return metric.compute()


def with_colors(panoptic: PanopticMap, is_crowd_void: bool = False) -> np.ndarray:
    """Return (category, instance) by pixel, void as category 99; stuff has instance 0."""
    ids = panoptic.ids.numpy()
    colors = np.zeros((*ids.shape, 2), dtype=np.int64)
    colors[..., 0] = 99
    for row, category in enumerate(panoptic.category.tolist()):
        if is_crowd_void and panoptic.crowd is not None and panoptic.crowd[row]:
            continue
        colors[ids == row + 1] = (category, row + 1 if LABELS[category].is_thing else 0)
    return colors


def test_torchmetrics(pairs: list[Pair]) -> None:
    from torchmetrics.detection import PanopticQuality as Peer

    things, stuff = LABELS.thing_ids, LABELS.stuff_ids
    peer = Peer(things, stuff, allow_unknown_preds_category=True, return_sq_and_rq=True, return_per_class=True)
    for prediction, truth in pairs:
        peer.update(*(torch.from_numpy(with_colors(m))[None] for m in (prediction, truth)))
    metric = PanopticQuality(LABELS, "torchmetrics")
    for pair in pairs:
        metric.update(*pair)
    tp, fp, fn, iou = metric.state[[*things, *stuff]].T
    assert torch.equal(tp, peer.true_positives.double())
    assert torch.equal(fp, peer.false_positives.double())
    assert torch.equal(fn, peer.false_negatives.double())
    torch.testing.assert_close(iou, peer.iou_sum, rtol=1e-6, atol=0)
    assert min(tp[[0, 1, 3, 4]].min(), fp[[0, 1, 3, 4]].min(), fn[[0, 1, 3, 4]].min()) > 10
    report = metric.compute()
    qualities = [report.per_category[LABELS[i].name] for i in (*things, *stuff)]
    ours = torch.tensor([[q.pq, q.sq, q.rq] for q in qualities], dtype=torch.float64).nan_to_num(0)
    torch.testing.assert_close(ours, peer.compute().view(-1, 3), rtol=0, atol=1e-6)
    means = torch.tensor([report.all.pq, report.all.sq, report.all.rq], dtype=torch.float64)
    peer.return_per_class, peer._computed = False, None
    torch.testing.assert_close(means, peer.compute(), rtol=0, atol=1e-6)


@dataclass
class Loops:
    """One image's counts, by the sheets on deeplab2 and seamseg: crowds are void, which leaves unions and excuses."""

    truth: np.ndarray
    prediction: np.ndarray

    def counts(self) -> np.ndarray:
        """Return TP, FP, FN and sum of IoU by category, [K, 4]."""
        total = np.zeros((len(LABELS), 4))
        true, predicted = self._masks(self.truth), self._masks(self.prediction)
        void = self.truth[..., 0] == 99
        matched: set[tuple[int, int]] = set()
        found: set[tuple[int, int]] = set()
        for t, mask in true.items():
            for p, other in predicted.items():
                union = (mask | (other & ~void)).sum()
                if t[0] == p[0] and (mask & other).sum() / union > 0.5:
                    total[t[0], [0, 3]] += (1, (mask & other).sum() / union)
                    matched.add(p)
                    found.add(t)
        for t in true:
            total[t[0], 2] += t not in found
        for p, other in predicted.items():
            total[p[0], 1] += p not in matched and (other & void).sum() / other.sum() <= 0.5
        return total

    @staticmethod
    def _masks(colors: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
        pairs = {tuple(color) for color in colors.reshape(-1, 2).tolist()}
        return {(c, i): (colors == (c, i)).all(-1) for c, i in sorted(pairs) if c != 99}


def with_own_stuff(panoptic: PanopticMap, is_crowd_void: bool = False) -> np.ndarray:
    """Return what :func:`with_colors` does, but for stuff, each segment of which has an instance of its own."""
    colors = with_colors(panoptic, is_crowd_void)
    colors[..., 1] = np.where(colors[..., 0] == 99, 0, panoptic.ids.numpy())
    return colors


@pytest.mark.parametrize(("protocol", "colors"), [("deeplab2", with_colors), ("seamseg", with_own_stuff)])
def test_rules_by_which_crowds_are_void(
    pairs: list[Pair], protocol: str, colors: Callable[[PanopticMap, bool], np.ndarray]
) -> None:
    total = np.zeros((len(LABELS), 4))
    for prediction, truth in pairs:
        expected = Loops(colors(truth, True), colors(prediction, False)).counts()
        metric = PanopticQuality(LABELS, protocol)
        metric.update(prediction, truth)
        np.testing.assert_array_equal(metric.state[:, :3].numpy(), expected[:, :3])
        np.testing.assert_allclose(metric.state[:, 3].numpy(), expected[:, 3], rtol=0, atol=1e-12)
        total += expected
    assert total[:4, :3].min() > 10
    report = report_on(pairs, protocol)
    pq = total[:, 3] / np.maximum(total[:, 0] + (total[:, 1] + total[:, 2]) / 2, 1)
    is_present = total[:, :3].sum(1) > 0
    assert is_present.tolist() == [True] * 4 + [False] * 2
    counted = np.ones_like(is_present) if protocol == "seamseg" else is_present
    assert report.all.pq == pytest.approx(pq[counted].mean(), abs=1e-14)
    assert report.all.num_categories == counted.sum()
    assert report.things.pq == pytest.approx(pq[[2, 3, 5] if protocol == "seamseg" else [2, 3]].mean(), abs=1e-14)


def test_each_named_set_differs_from_the_others_on_these_images(pairs: list[Pair]) -> None:
    found = {name: report_on(pairs, name).all.pq for name in PROTOCOLS}
    assert len({round(pq, 4) for pq in found.values()}) == len(PROTOCOLS)


# The sheet's test vector: 6 x 10 pixels; see tests/unit/metrics for the default rules on it.
TRUTH = a_map("\n".join(3 * ["SSSSSSSSSS"] + 3 * ["AAAACCBB.."]), {"S": 0, "A": 1, "B": 1, "C": 1}, crowd="C")
PREDICTION = a_map(
    "SSSSSSSSSS\nRRRRR.....\nRRRRR.....\n111.222333\n111.22.333\n111.22.333", {"S": 0, "R": 3, "1": 1, "2": 1, "3": 1}
)


@pytest.mark.parametrize(
    ("protocol", "car", "pq"),
    [
        # 1 matches A with 9/12; 2 has 6 of 7 pixels on the crowd; 3 has an IoU of 3/6 with B and 6 of 9 pixels on void.
        ("coco", (1, 0, 1, 0.75), 0.5 / 3),
        # The crowd is void: nothing changes here, as 2 is excused all the same.
        ("deeplab2", (1, 0, 1, 0.75), 0.5 / 3),
        # A loses the column that is void in the prediction, 9/9; 2 matches the crowd with 6/7; B loses 2 of its pixels,
        # and 3 matches with 3/4. 20 of 30 pixels of the sky are void or road, so that it is missed as before.
        ("torchmetrics", (3, 0, 0, 1 + 6 / 7 + 3 / 4), (1 + 6 / 7 + 3 / 4) / 3 / 3),
        # As deeplab2, but the bus, of which there is none, counts with 0.
        ("seamseg", (1, 0, 1, 0.75), 0.5 / 4),
    ],
)
def test_the_worked_example(protocol: str, car: tuple[int, int, int, float], pq: float) -> None:
    report = report_on([(PREDICTION, TRUTH)], protocol, WORKED)
    found = report.per_category["car"]
    assert (found.tp, found.fp, found.fn) == car[:3]
    assert found.iou_sum == pytest.approx(car[3], abs=1e-15)
    assert report.all.pq == pytest.approx(pq, abs=1e-15)
    sky, road = report.per_category["sky"], report.per_category["road"]
    assert ((sky.tp, sky.fp, sky.fn), (road.tp, road.fp, road.fn)) == ((0, 1, 1), (0, 1, 0))


def test_the_worked_example_without_a_threshold_for_stuff() -> None:
    """The sky matches with an IoU of 10/30, and each group is summed over its segments."""
    report = report_on([(PREDICTION, TRUTH)], "yolo_panoptic", WORKED)
    counts = {name: (c.tp, c.fp, c.fn, c.iou_sum) for name, c in report.per_category.items()}
    assert counts == {"sky": (1, 0, 0, 1 / 3), "car": (1, 0, 1, 0.75), "bus": (0, 0, 0, 0), "road": (0, 1, 0, 0)}
    for group, num, sq, rq in (
        (report.all, 3, (1 / 3 + 0.75) / 2, 2 / (2 + 0.5 + 0.5)),
        (report.stuff, 2, 1 / 3, 1 / (1 + 0.5)),
        (report.things, 1, 0.75, 1 / (1 + 0.5)),
    ):
        assert (group.num_categories, group.sq, group.rq) == pytest.approx((num, sq, rq), abs=1e-15)
        assert group.pq == pytest.approx(sq * rq, abs=1e-15)


def test_stuff_without_a_threshold_has_the_iou_of_pq_dagger(pairs: list[Pair]) -> None:
    """PQ-dagger, tested against loops of its own, has no threshold for stuff either; things are as without the rule."""
    things, stuff = list(LABELS.thing_ids), list(LABELS.stuff_ids)
    metric, usual, dagger = (
        PanopticQuality(LABELS, "yolo_panoptic"),
        PanopticQuality(LABELS),
        PanopticQualityDagger(LABELS),
    )
    for pair in pairs:
        for each in (metric, usual, dagger):
            each.update(*pair)
    torch.testing.assert_close(metric.state[stuff, 3], dagger.state[stuff, 1], rtol=0, atol=1e-12)
    assert torch.equal(metric.state[things], usual.state[things])
    assert (metric.state[stuff, 0] + metric.state[stuff, 2]).tolist() == dagger.state[stuff, 0].tolist()
    assert metric.state[0, 0] > usual.state[0, 0] + 10
    tp, fp, fn, iou = metric.state.sum(0).tolist()
    report = metric.compute()
    assert report.all.pq == pytest.approx(iou / (tp + fp / 2 + fn / 2), abs=1e-14)
    empty = PanopticQuality(LABELS, "yolo_panoptic").compute().all
    assert empty.num_categories == 0
    assert np.isnan([empty.pq, empty.sq, empty.rq]).all()


@pytest.mark.parametrize("protocol", ["deeplab2", "torchmetrics", "yolo_panoptic"])
def test_one_image_alone_needs_to_know_what_is_stuff(pairs: list[Pair], protocol: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"got none; pass stuff_ids=labels.stuff_ids"):
        match_segments(*pairs[0], protocol=protocol)
    matches = match_segments(*pairs[0], protocol=protocol, stuff_ids=LABELS.stuff_ids)
    metric = PanopticQuality(LABELS, protocol)
    metric.update(*pairs[0])
    assert len(matches.iou) == metric.state[:, 0].sum()


def test_names_and_merging() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown protocol 'coc'; did you mean coco\?"):
        PanopticQuality(LABELS, "coc")
    with pytest.raises(InvalidArgumentError, match='expected crowd "excuse", "void" or "segment", got \'ignore\''):
        Protocol(crowd="ignore")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="expected is_stuff_whole=True with any_overlap_matches_stuff=True"):
        Protocol(any_overlap_matches_stuff=True)
    with pytest.raises(InvalidArgumentError, match=r"protocol=.*merge metrics with equal options"):
        PanopticQuality(LABELS).merge(PanopticQuality(LABELS, "seamseg"))
    mine = PanopticQuality(LABELS, Protocol())
    mine.merge(PanopticQuality(LABELS))
