"""PQ-dagger against torchmetrics' ModifiedPanopticQuality and against masks, on generated images."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from maps import SHAPES, a_map, generated_map

from panscape import Category, LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.metrics import PanopticQuality, PanopticQualityDagger, Protocol

LABELS = LabelSpace("shapes and more", (*SHAPES.categories, Category("water", False, 40, (0, 0, 255))))
Pair = tuple[PanopticMap, PanopticMap]


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    """Images whose predictions are shifted, in part of other categories, and here and there void."""
    found = []
    g = torch.Generator().manual_seed(7)
    for seed in range(100):
        truth = generated_map(seed, (32, 40), objects=8, void=seed % 2 == 0, crowd=seed % 3 == 0)
        ids = truth.ids.roll((seed % 7 - 3, seed % 5 - 2), (0, 1))
        if seed % 4 == 0:
            ids = torch.where(generated_map(500 + seed, (32, 40)).ids == 0, 0, ids)
        is_wrong = torch.rand(truth.num_segments, generator=g) < 0.2
        category = torch.where(is_wrong, torch.randint(0, 5, is_wrong.shape, generator=g), truth.category)
        found.append((PanopticMap(ids, category), truth))
    return [*found, (PanopticMap.empty((32, 40)), found[1][1]), (found[1][0], PanopticMap.empty((32, 40)))]


@pytest.mark.parametrize("is_void_predicted", [False, True])
def test_torchmetrics(pairs: list[Pair], is_void_predicted: bool) -> None:
    from torchmetrics.detection import ModifiedPanopticQuality as Peer

    def colors(panoptic: PanopticMap) -> torch.Tensor:
        category = panoptic.semantic(void=99)
        is_thing = torch.isin(category, torch.tensor(LABELS.thing_ids))
        return torch.stack([category, torch.where(is_thing, panoptic.ids.long(), 0)], dim=-1)[None]

    # Without void in the prediction and crowds, the default rules agree; otherwise its own do.
    protocol = "torchmetrics" if is_void_predicted else Protocol(is_stuff_whole=True)
    peer = Peer(LABELS.thing_ids, LABELS.stuff_ids, allow_unknown_preds_category=True)
    metric = PanopticQualityDagger(LABELS, protocol)
    num_images = 0
    for prediction, truth in pairs:
        if not is_void_predicted and (not bool(prediction.ids.all()) or truth.crowd is not None):
            continue
        num_images += 1
        peer.update(colors(prediction), colors(truth))
        metric.update(prediction, truth)
    assert num_images > 15
    count, iou_sum = metric.state[[*LABELS.thing_ids, *LABELS.stuff_ids]].T
    torch.testing.assert_close(count, peer.true_positives + (peer.false_positives + peer.false_negatives).double() / 2)
    torch.testing.assert_close(iou_sum, peer.iou_sum, rtol=1e-6, atol=0)
    assert metric.compute().all.pq == pytest.approx(float(peer.compute()), abs=1e-6)


def test_masks_and_panoptic_quality(pairs: list[Pair]) -> None:
    metric, things = PanopticQualityDagger(LABELS), PanopticQuality(LABELS)
    ious: dict[int, list[float]] = {c: [] for c in LABELS.stuff_ids}
    for prediction, truth in pairs:
        metric.update(prediction, truth)
        things.update(prediction, truth)
        predicted, true = (m.semantic(void=-1).numpy() for m in (prediction, truth))
        for c, found in ious.items():
            if (true == c).any():
                union = (true == c) | ((predicted == c) & (true != -1))
                found.append(((predicted == c) & (true == c)).sum() / union.sum())
    report, quality = metric.compute(), things.compute()
    for c in (0, 1):
        assert len(ious[c]) > 50
        assert report.per_category[LABELS[c].name].count == len(ious[c])
        assert report.per_category[LABELS[c].name].pq == pytest.approx(np.mean(ious[c]), abs=1e-14)
    assert math.isnan(report.per_category["water"].pq)  # predicted, never there
    assert quality.per_category["water"].fp > 5
    assert report.things.pq == quality.things.pq
    assert report.stuff.pq == pytest.approx((np.mean(ious[0]) + np.mean(ious[1])) / 2, abs=1e-14)
    assert report.all.pq == pytest.approx((report.things.pq + report.stuff.pq) / 2, abs=1e-14)
    assert [group.num_categories for group in (report.all, report.things, report.stuff)] == [4, 2, 2]


def test_the_worked_example() -> None:
    labels = LabelSpace(
        "worked example",
        tuple(Category(n, n in ("car", "bus"), i, (i, 0, 0)) for i, n in enumerate(("sky", "car", "bus", "road"))),
    )
    truth = a_map("\n".join(3 * ["SSSSSSSSSS"] + 3 * ["AAAACCBB.."]), {"S": 0, "A": 1, "B": 1, "C": 1}, crowd="C")
    drawing = "SSSSSSSSSS\nRRRRR.....\nRRRRR.....\n111.222333\n111.22.333\n111.22.333"
    prediction = a_map(drawing, {"S": 0, "R": 3, "1": 1, "2": 1, "3": 1})
    metric = PanopticQualityDagger(labels)
    metric.update(prediction, truth)
    report = metric.compute()
    assert (report.stuff.pq, report.things.pq) == (10 / 30, 0.75 / 1.5)  # road, of which there is none, is left out
    assert report.all.pq == pytest.approx(5 / 12, abs=1e-15)
    assert str(report).splitlines() == [
        "             PQ†",
        "all (2)     41.7",
        "things (1)  50.0",
        "stuff (1)   33.3",
        "sky         33.3",
        "car         50.0",
    ]
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["per_category"]["car"] == {"pq": 0.5, "count": 1.5, "iou_sum": 0.75}
    assert plain["per_category"]["bus"]["pq"] is None


def test_stuff_in_several_segments_is_one_and_crowds_stay_in_unions() -> None:
    truth = a_map("AABBCC..", {"A": 0, "B": 0, "C": 2}, crowd="C")
    metric = PanopticQualityDagger(SHAPES)
    metric.update(a_map("AAABBCCC", {"A": 0, "B": 3, "C": 0}), truth)
    assert metric.state[0].tolist() == [1, 3 / 5]  # of 4 true and 4 predicted pixels outside void 3 are shared
    for protocol, expected in (("deeplab2", 3 / 4), ("torchmetrics", 3 / 5)):
        metric = PanopticQualityDagger(SHAPES, protocol)
        metric.update(a_map("AAABBCCC", {"A": 0, "B": 3, "C": 0}), truth)
        assert metric.state[0].tolist() == [1, expected]


def test_merging_and_reset(pairs: list[Pair]) -> None:
    whole, parts = PanopticQualityDagger(LABELS), [PanopticQualityDagger(LABELS) for _ in range(2)]
    for i, pair in enumerate(pairs[:10]):
        whole.update(*pair)
        parts[i % 2].update(*pair)
    parts[0].merge(parts[1])
    torch.testing.assert_close(parts[0].state, whole.state, rtol=0, atol=1e-12)
    whole.reset()
    assert whole.compute().all.num_categories == 0
    assert math.isnan(whole.compute().all.pq)
    with pytest.raises(InvalidArgumentError, match="got one over 'shapes'"):
        whole.merge(PanopticQualityDagger(SHAPES))
    with pytest.raises(InvalidArgumentError, match=r"protocol=.*merge metrics with equal options"):
        whole.merge(PanopticQualityDagger(LABELS, "seamseg"))
