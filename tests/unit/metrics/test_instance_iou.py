import json
import math

import numpy as np
import pytest
from maps import SHAPES, a_map, generated_map

from panscape import LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError, UnknownNameError
from panscape.metrics import CITYSCAPES_AVERAGE_SIZES, InstanceIoU, average_sizes, overlaps

SIZES = {"disc": 300.0, "box": 1250.5}


def by_masks(pairs: list[tuple[PanopticMap, PanopticMap]], sizes: dict[str, float]) -> dict[str, tuple[float, ...]]:
    """(iTP, FP, iFN) of each category of things, object by object."""
    result = {}
    for c in SHAPES.thing_ids:
        tp = fp = fn = 0.0
        for prediction, truth in pairs:
            predicted = prediction.semantic(void=-1).numpy() == c
            true = truth.semantic(void=-1).numpy()
            fp += (predicted & (true != c) & (true != -1)).sum()
            crowd = [False] * truth.num_segments if truth.crowd is None else truth.crowd.tolist()
            for row in range(truth.num_segments):
                mask = truth.ids.numpy() == row + 1
                if truth.category[row] == c and not crowd[row] and mask.any():
                    weight = sizes[SHAPES[c].name] / mask.sum()
                    tp += weight * (mask & predicted).sum()
                    fn += weight * (mask & ~predicted).sum()
        result[SHAPES[c].name] = (tp, fp, fn)
    return result


@pytest.fixture(scope="module")
def pairs() -> list[tuple[PanopticMap, PanopticMap]]:
    pairs = []
    for seed in range(30):
        truth = generated_map(seed, void=seed % 2 == 0, crowd=seed % 4 < 2)
        moved = PanopticMap(truth.ids.roll((2, 5), (0, 1)), truth.category, None, None)
        pairs += [(generated_map(seed + 99), truth), (moved, truth)]
    return pairs


def test_against_masks(pairs) -> None:
    metric = InstanceIoU(SHAPES, SIZES)
    for prediction, truth in pairs:
        metric.update(prediction, truth, overlaps(prediction, truth))
    report = metric.compute()
    ious = []
    for name, (tp, fp, fn) in by_masks(pairs, SIZES).items():
        came = report.per_category[name]
        assert (came.tp, came.fn) == pytest.approx((tp, fn), rel=1e-12)
        assert came.fp == fp
        assert min(tp, fp, fn) > 0
        ious.append(tp / (tp + fp + fn))
        assert came.iou == pytest.approx(ious[-1], abs=1e-12)
    assert report.mean_iou == pytest.approx(sum(ious) / 2, abs=1e-12)
    assert any(truth.crowd is not None and truth.crowd.any() for _, truth in pairs)


def test_sizes_measured_beforehand_or_on_the_way(pairs) -> None:
    sizes = average_sizes((truth for _, truth in pairs), SHAPES)
    areas: dict[str, list[int]] = {"disc": [], "box": []}
    for _, truth in pairs:
        crowd = [False] * truth.num_segments if truth.crowd is None else truth.crowd.tolist()
        for row, category in enumerate(truth.category.tolist()):
            if SHAPES[category].is_thing and not crowd[row]:
                areas[SHAPES[category].name].append(int((truth.ids == row + 1).sum()))
    assert sizes == pytest.approx({name: np.mean(values) for name, values in areas.items()}, rel=1e-14)
    given, measured = InstanceIoU(SHAPES, sizes), InstanceIoU(SHAPES)
    for pair in pairs:
        given.update(*pair)
        measured.update(*pair)
    assert given.compute() == measured.compute()


def test_a_small_and_a_large_object_weigh_the_same() -> None:
    truth = a_map("ABBBBBB...", {"A": 2, "B": 2})
    metric = InstanceIoU(SHAPES, {"disc": 10})
    metric.update(a_map("A.........", {"A": 2}), truth)
    assert metric.compute().mean_iou == 0.5  # IoU would be 1/7
    metric.update(a_map("AAAAAAAAAA", {"A": 3}), truth)
    disc, box = metric.compute().per_category.values()
    assert (disc.tp, disc.fp, disc.fn) == (10, 0, 30)
    assert (box.tp, box.fp, box.fn) == (0, 7, 0)  # void is free
    assert metric.compute().mean_iou == (0.25 + 0) / 2


def test_crowds_are_neither_found_nor_missed_but_have_their_category() -> None:
    truth = a_map("AAGGGG", {"A": 2, "G": 2}, crowd="G")
    metric = InstanceIoU(SHAPES, SIZES)
    metric.update(a_map("AAAABB", {"A": 2, "B": 3}), truth)
    disc, box = metric.compute().per_category.values()
    assert (disc.tp, disc.fp, disc.fn) == (300, 0, 0)
    assert (box.tp, box.fp, box.fn) == (0, 2, 0)


def test_cityscapes_has_its_own_sizes() -> None:
    labels = LabelSpace.load("cityscapes")
    assert InstanceIoU(labels).average_sizes == CITYSCAPES_AVERAGE_SIZES
    assert {labels[c].name for c in labels.thing_ids} == set(CITYSCAPES_AVERAGE_SIZES)


def test_nothing_is_nan() -> None:
    metric = InstanceIoU(SHAPES)
    metric.update(a_map("A", {"A": 2}), PanopticMap.empty((1, 1)))
    metric.update(PanopticMap.empty((0, 3)), PanopticMap.empty((0, 3)))
    report = metric.compute()
    assert math.isnan(report.mean_iou)
    assert math.isnan(report.per_category["box"].iou)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["per_category"]["disc"] == {
        "iou": None,
        "tp": 0.0,
        "fp": 0,
        "fn": 0.0,
        "average_size": None,
    }
    assert average_sizes([], SHAPES) == {}


def test_merge_and_reset(pairs) -> None:
    whole, parts = InstanceIoU(SHAPES), [InstanceIoU(SHAPES) for _ in range(2)]
    for i, pair in enumerate(pairs[:6]):
        whole.update(*pair)
        parts[i // 3].update(*pair)
    parts[0].merge(parts[1])
    assert parts[0].state.numpy() == pytest.approx(whole.state.numpy(), rel=1e-14)
    with pytest.raises(InvalidArgumentError, match=r"average_sizes=.*merge metrics with equal options"):
        whole.merge(InstanceIoU(SHAPES, SIZES))
    whole.reset()
    assert math.isnan(whole.compute().mean_iou)


def test_invalid_measurements() -> None:
    metric = InstanceIoU(SHAPES, {"disc": 5})
    with pytest.raises(InvalidArgumentError, match=r"truth of 1x2 and a prediction of 1x1; decode or resize"):
        metric.update(a_map("A"), a_map("AA"))
    with pytest.raises(InvalidArgumentError, match=r"got 7 in the truth; evaluate"):
        metric.update(a_map("A"), a_map("A", {"A": 7}))
    with pytest.raises(
        InvalidArgumentError, match=r"average size for 'box', which has objects in the ground truth, got sizes for disc"
    ):
        metric.update(a_map("A"), a_map("A", {"A": 3}))
    with pytest.raises(InvalidArgumentError, match=r"size of 'disc' in pixels above 0, got 0"):
        InstanceIoU(SHAPES, {"disc": 0})
    with pytest.raises(UnknownNameError, match=r"unknown thing category 'discs'; did you mean disc\?"):
        InstanceIoU(SHAPES, {"discs": 5})
    stuff = SHAPES[SHAPES.stuff_ids[0]].name
    with pytest.raises(UnknownNameError, match=f"unknown thing category '{stuff}'"):
        InstanceIoU(SHAPES, {stuff: 5})


def test_table() -> None:
    metric = InstanceIoU(SHAPES)
    metric.update(a_map("A.", {"A": 2}), a_map("AA", {"A": 2}))
    assert str(metric.compute()).splitlines() == ["          iIoU", "mean (1)  50.0", "disc      50.0"]
