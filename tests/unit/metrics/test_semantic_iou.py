import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from maps import SHAPES, a_map, generated_map

from panscape import LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.metrics import (
    Evaluator,
    InstanceAP,
    InstanceIoU,
    PanopticQuality,
    PanopticQualityDagger,
    ParsingCovering,
    SemanticIoU,
)


def test_against_counting_masks() -> None:
    pairs = [(generated_map(s + 100, void=s % 2 == 0), generated_map(s, crowd=s % 3 == 0)) for s in range(40)]
    metric, evaluator = SemanticIoU(SHAPES), Evaluator(SHAPES)
    for prediction, truth in pairs:
        metric.update(prediction, truth)
        evaluator.update(prediction, truth)
    report = metric.compute()
    predicted = np.stack([p.semantic(void=-1).numpy() for p, _ in pairs])
    true = np.stack([t.semantic(void=-1).numpy() for _, t in pairs])
    ious = []
    for i, category in enumerate(SHAPES):
        shared = ((predicted == i) & (true == i)).sum()
        union = (((predicted == i) & (true != -1)) | (true == i)).sum()
        ious.append(shared / union)
        assert report.per_category[category.name].iou == ious[-1]
        assert report.per_category[category.name].tp == shared
    assert report.mean_iou == pytest.approx(np.mean(ious), abs=1e-15)
    assert report.pixel_accuracy == (predicted == true)[true != -1].mean()
    assert (predicted[true != -1] == -1).any()
    assert report == evaluator.compute().semantic


def test_void_on_either_side() -> None:
    metric = SemanticIoU(SHAPES)
    metric.update(a_map("AA.BBB", {"A": 0, "B": 1}), a_map("AAAB..", {"A": 0, "B": 1}))
    report = metric.compute()
    assert report.per_category["sky"].iou == 2 / 3  # predicted void counts against it
    assert report.per_category["ground"].iou == 1  # true void is ignored
    assert metric.state.tolist() == [[2, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0] * 5, [0] * 5]


def test_segments_of_a_category_are_one() -> None:
    metric = SemanticIoU(SHAPES)
    metric.update(a_map("AABB", {"A": 2, "B": 2}), a_map("ABBB", {"A": 2, "B": 2}))
    assert metric.compute().mean_iou == 1


def test_a_category_that_is_only_predicted_counts_with_nothing() -> None:
    metric = SemanticIoU(SHAPES)
    metric.update(a_map("AB", {"A": 0, "B": 3}), a_map("AB", {"A": 0, "B": 0}))
    report = metric.compute()
    assert report.per_category["box"].iou == 0
    assert math.isnan(report.per_category["disc"].iou)
    assert report.mean_iou == (0.5 + 0) / 2


def test_nothing_is_nan() -> None:
    metric = SemanticIoU(SHAPES)
    metric.update(a_map("A"), PanopticMap.empty((1, 1)))
    assert math.isnan(metric.compute().mean_iou)
    assert math.isnan(metric.compute().pixel_accuracy)
    json.dumps(metric.compute().to_dict(), allow_nan=False)


def test_merge_and_reset() -> None:
    pairs = [(generated_map(s + 9), generated_map(s)) for s in range(4)]
    whole, parts = Evaluator(SHAPES), [Evaluator(SHAPES) for _ in range(2)]
    for i, pair in enumerate(pairs):
        whole.update(*pair)
        parts[i // 2].update(*pair)
    parts[0].merge(parts[1])
    for name, state in whole.states.items():
        torch.testing.assert_close(parts[0].states[name], state, rtol=1e-14, atol=0)
    whole.reset()
    assert math.isnan(whole.compute().semantic.mean_iou)
    assert math.isnan(whole.compute().panoptic.all.pq)
    assert math.isnan(whole.compute().covering.all.covering)
    assert math.isnan(whole.compute().dagger.all.pq)


@pytest.mark.parametrize("protocol", ["coco", "torchmetrics"])
def test_the_evaluator_finds_what_each_metric_finds_alone(protocol: str) -> None:
    evaluator = Evaluator(SHAPES, protocol, standard=PanopticQuality(SHAPES))
    alone = {
        "panoptic": PanopticQuality(SHAPES, protocol),
        "semantic": SemanticIoU(SHAPES),
        "dagger": PanopticQualityDagger(SHAPES, protocol),
        "covering": ParsingCovering(SHAPES),
        "standard": PanopticQuality(SHAPES),
    }
    for seed in range(6):
        pair = generated_map(seed + 70), generated_map(seed, crowd=True)
        evaluator.update(*pair)
        for metric in alone.values():
            metric.update(*pair)
    assert {name: state.tolist() for name, state in evaluator.states.items()} == {
        name: metric.state.tolist() for name, metric in alone.items()
    }
    assert f"standard PQ, protocol coco\n{alone['standard'].compute()}" in str(evaluator.compute())


def test_an_image_that_is_refused_is_counted_nowhere() -> None:
    evaluator = Evaluator(SHAPES, instances=InstanceAP(SHAPES))
    with pytest.raises(InvalidArgumentError, match="a score for each of its"):
        evaluator.update(generated_map(1), generated_map(2))
    assert not any(state.any() for state in evaluator.states.values())
    other = Evaluator(SHAPES, instances=InstanceAP(SHAPES, score="one"))
    other.update(generated_map(1), generated_map(2))
    with pytest.raises(InvalidArgumentError, match="merge metrics with equal options"):
        evaluator.merge(other)
    assert not any(state.any() for state in evaluator.states.values())
    with pytest.raises(InvalidArgumentError, match="over the label space 'shapes', got 'cityscapes'; create both"):
        Evaluator(SHAPES, instances=InstanceAP(LabelSpace.load("cityscapes")))


def test_other_requests_are_refused_before_counting() -> None:
    scored = replace(generated_map(1), score=torch.ones(generated_map(1).num_segments))
    evaluator = Evaluator(SHAPES, instances=InstanceAP(SHAPES), instance_iou=InstanceIoU(SHAPES, {"disc": 5}))
    with pytest.raises(InvalidArgumentError, match="average size for 'box'"):
        evaluator.update(scored, a_map("A", {"A": 3}).resize(*scored.size))
    assert not any(state.any() for state in evaluator.states.values())
    assert evaluator.instances.images == []
    other = Evaluator(SHAPES, instances=InstanceAP(SHAPES), instance_iou=InstanceIoU(SHAPES))
    other.update(scored, generated_map(2))
    with pytest.raises(InvalidArgumentError, match=r"average_sizes=.*merge metrics with equal options"):
        evaluator.merge(other)
    assert evaluator.instances.images == []
    with pytest.raises(InvalidArgumentError, match="both measure instance-weighted IoU or both do not; pass each its"):
        evaluator.merge(Evaluator(SHAPES, instances=InstanceAP(SHAPES)))
    alone = InstanceIoU(SHAPES)
    alone.update(scored, generated_map(2))
    other.merge(other)
    assert other.compute().to_dict()["instance_iou"]["mean_iou"] == alone.compute().mean_iou
    assert f"\n\n{alone.compute()}\n\n" in str(other.compute())
    other.reset()
    assert not any(state.any() for state in other.states.values())


def test_maps_that_do_not_fit() -> None:
    for metric in (SemanticIoU(SHAPES), Evaluator(SHAPES)):
        with pytest.raises(InvalidArgumentError, match=r"truth of 1x2 and a prediction of 1x1; decode or resize"):
            metric.update(a_map("A"), a_map("AA"))
        with pytest.raises(InvalidArgumentError, match=r"got 7 in the truth; evaluate"):
            metric.update(a_map("A"), a_map("A", {"A": 7}))


def test_tables() -> None:
    evaluator = Evaluator(SHAPES)
    evaluator.update(a_map("AAB", {"A": 0, "B": 2}), a_map("AAA", {"A": 0}))
    report = evaluator.compute()
    assert str(report.semantic).splitlines() == ["           IoU", "mean (2)  33.3", "sky       66.7", "disc       0.0"]
    assert str(report).splitlines() == [
        "              PQ    SQ     RQ   PQ†    PC  mIoU",
        "all (2)     33.3  33.3   50.0  33.3  66.7  33.3",
        "things (1)   0.0   0.0    0.0   0.0     -",
        "stuff (1)   66.7  66.7  100.0  66.7  66.7",
        "",
        "        PQ    SQ     RQ  TP  FP  FN   PQ†    PC   IoU",
        "sky   66.7  66.7  100.0   1   0   0  66.7  66.7  66.7",
        "disc   0.0   0.0    0.0   0   1   0   0.0     -   0.0",
    ]
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["semantic"]["per_category"]["sky"]["tp"] == 2
