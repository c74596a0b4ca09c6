"""Boundary PQ against the published rules, one mask and one erosion at a time."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from maps import SHAPES, a_map, generated_map
from scipy.ndimage import binary_erosion

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.metrics import (
    PROTOCOLS,
    BoundaryPanopticQuality,
    Evaluator,
    PanopticQuality,
    Protocol,
    boundary_distance,
    match_boundaries,
    overlaps,
)


def boundary(mask: np.ndarray, distance: int) -> np.ndarray:
    return mask & ~binary_erosion(mask, np.ones((3, 3)), iterations=distance, border_value=0)


COCO = Protocol()


def quality_of_one_image(
    prediction: PanopticMap, truth: PanopticMap, distance: int, protocol: Protocol = COCO
) -> np.ndarray:
    """Counts of matches, false positives, misses and the sum of IoU, [K, 4]."""

    def segments(annotation: PanopticMap, is_truth: bool) -> list[dict[str, Any]]:
        ids = annotation.ids.numpy()
        crowds = annotation.crowd.tolist() if is_truth and annotation.crowd is not None else []
        masks: dict[Any, Any] = {}
        for row, category in enumerate(annotation.category.tolist()):
            mask, is_crowd = ids == row + 1, bool(crowds) and crowds[row] and protocol.crowd != "segment"
            if is_crowd and protocol.crowd == "void":
                continue
            name = category if protocol.is_stuff_whole and category in SHAPES.stuff_ids else ("segment", row)
            before = masks[name][0] if name in masks else np.zeros_like(mask)
            masks[name] = (before | mask, category, is_crowd)
        return [
            {"mask": mask, "outline": boundary(mask, distance), "category": category, "crowd": is_crowd, "hit": False}
            for mask, category, is_crowd in masks.values()
        ]

    true, predicted = segments(truth, True), segments(prediction, False)
    void = ~np.any([t["mask"] for t in true] or [np.zeros(truth.size, bool)], axis=0)
    silent = prediction.ids.numpy() == 0
    stats = np.zeros((len(SHAPES), 4))
    for t in true:
        for p in predicted:
            if t["crowd"] or t["category"] != p["category"]:
                continue
            ious = []
            for part in ("mask", "outline"):
                union = t[part] | (p[part] & ~void)
                if protocol.predicted_void_leaves_union:
                    union &= ~silent
                union = max(union.sum(), 1)
                ious.append((t[part] & p[part]).sum() / union)
            has_no_threshold = protocol.any_overlap_matches_stuff and t["category"] in SHAPES.stuff_ids
            if min(ious) > (0 if has_no_threshold else 0.5):
                stats[t["category"]] += [1, 0, 0, min(ious)]
                t["hit"] = p["hit"] = True
    crowd_of = {t["category"]: t["mask"] for t in true if t["crowd"]}
    for t in true:
        is_silent = protocol.predicted_void_excuses_misses and (t["mask"] & silent).sum() / t["mask"].sum() > 0.5
        stats[t["category"], 2] += not t["hit"] and not t["crowd"] and not is_silent
    for p in predicted:
        excused = (p["mask"] & void).sum()
        if p["category"] in crowd_of:
            excused += (p["mask"] & crowd_of[p["category"]]).sum()
        stats[p["category"], 1] += not p["hit"] and excused / p["mask"].sum() <= 0.5
    return stats


def images() -> list[tuple[PanopticMap, PanopticMap]]:
    pairs = []
    for seed in range(60):
        truth = generated_map(seed, (72, 96), smallest=5, void=seed % 2 == 0, crowd=seed % 4 < 2)
        # Moved by a little, so that masks agree and boundaries may or may not.
        moved = truth.ids.roll((seed % 3, seed % 5), (0, 1))
        category = truth.category.clone()
        category[seed % truth.num_segments] = seed % 4
        # Others' segments on top cut notches, which boundaries see more of than masks.
        other = generated_map(500 + seed, truth.size, objects=2)
        is_over = (other.ids > 0) & torch.isin(other.category[other.ids.long() - 1], torch.tensor(SHAPES.thing_ids))
        ids = torch.where(is_over & (seed % 3 == 0), other.ids + truth.num_segments, moved)
        pairs.append((PanopticMap(ids, torch.cat([category, other.category])).compact(), truth))
    empty, full = PanopticMap.empty((72, 96)), generated_map(0, (72, 96), crowd=True)
    return [*pairs, (empty, empty), (empty, full), (full, empty), (full, full)]


@pytest.mark.parametrize(("ratio", "distance"), [(0.02, 2), (0.05, 6)])
def test_against_masks_and_erosions(ratio, distance) -> None:
    assert boundary_distance((72, 96), ratio) == distance
    metric, plain = BoundaryPanopticQuality(SHAPES, ratio), PanopticQuality(SHAPES)
    total = np.zeros((len(SHAPES), 4))
    for prediction, truth in images():
        before = metric.state.clone()
        histogram = overlaps(prediction, truth)
        metric.update(prediction, truth, histogram)
        plain.update(prediction, truth, histogram)
        expected = quality_of_one_image(prediction, truth, distance)
        assert (metric.state - before).numpy() == pytest.approx(expected, abs=1e-12)
        total += expected
    assert total.min() > 5  # the images exercise all of it
    assert metric.state[:, :3].tolist() == total[:, :3].tolist()
    report = metric.compute()
    assert 0.1 < report.all.pq < plain.compute().all.pq - 0.05
    with np.errstate(invalid="ignore"):
        pq = total[:, 3] / (total[:, 0] + total[:, 1] / 2 + total[:, 2] / 2)
    assert report.all.pq == pytest.approx(pq.mean(), abs=1e-12)


@pytest.mark.parametrize("name", ["deeplab2", "torchmetrics", "seamseg", "yolo_panoptic"])
def test_other_rules_hold_for_boundaries_too(name) -> None:
    metric, coco, total = BoundaryPanopticQuality(SHAPES, protocol=name), BoundaryPanopticQuality(SHAPES), 0
    evaluator = Evaluator(SHAPES, name, boundary=BoundaryPanopticQuality(SHAPES, protocol=name))
    for i, (prediction, truth) in enumerate(images()[:30]):
        truth = two_pieces_of_stuff(truth)
        prediction = leave_void(prediction, i)
        before = metric.state.clone()
        metric.update(prediction, truth)
        coco.update(prediction, truth)
        evaluator.update(prediction, truth)
        expected = quality_of_one_image(prediction, truth, 2, PROTOCOLS[name])
        assert (metric.state - before).numpy() == pytest.approx(expected, abs=1e-12)
        total = total + expected
    assert not torch.equal(metric.state, coco.state)
    assert total[:, :3].sum(0).min() > 10  # the images exercise all of it
    report = evaluator.compute()
    assert report.boundary == metric.compute()
    assert str(report).endswith(f"boundary quality\n{report.boundary}")
    assert report.to_dict()["boundary"] == report.boundary.to_dict()
    assert torch.equal(evaluator.states["boundary"], metric.state)


def two_pieces_of_stuff(truth: PanopticMap) -> PanopticMap:
    """Cut the first segment of stuff in two, of one category."""
    rows = torch.isin(truth.category, torch.tensor(SHAPES.stuff_ids)).nonzero()[:, 0]
    if not len(rows):
        return truth
    ids, row = truth.ids.clone(), int(rows[0])
    right = torch.zeros_like(ids, dtype=torch.bool)
    right[:, ids.shape[1] // 2 :] = True
    ids[(ids == row + 1) & right] = truth.num_segments + 1
    category = torch.cat([truth.category, truth.category[row : row + 1]])
    crowd = None if truth.crowd is None else torch.cat([truth.crowd, truth.crowd[row : row + 1]])
    return PanopticMap(ids, category, None, crowd).compact()


def leave_void(prediction: PanopticMap, seed: int) -> PanopticMap:
    ids = prediction.ids.clone()
    ids[:, : 4 + seed % 9] = 0
    return PanopticMap(ids, prediction.category).compact()


def test_a_category_that_is_absent_counts_if_the_rules_say_so() -> None:
    image = a_map("AAA\nAAA", {"A": 2})
    for protocol, mean in (("coco", 1), ("seamseg", 1 / len(SHAPES))):
        metric = BoundaryPanopticQuality(SHAPES, protocol=protocol)
        metric.update(image, image)
        assert metric.compute().all.pq == mean


def test_a_large_mask_with_a_wrong_contour_is_no_match() -> None:
    true_ids = torch.full((100, 100), 2, dtype=torch.int32)
    true_ids[10:90, 10:90] = 1
    predicted_ids = torch.zeros(100, 100, dtype=torch.int32)
    predicted_ids[14:86, 14:86] = 1  # the masks have an IoU of 0.81; the boundaries, 3 deep, do not meet
    truth, prediction = PanopticMap(true_ids, torch.tensor([2, 0])), PanopticMap(predicted_ids, torch.tensor([2]))
    matches = match_boundaries(prediction, truth)
    assert [part.tolist() for part in matches] == [[], [], [], [0, 1], [0]]
    quality = BoundaryPanopticQuality(SHAPES)
    quality.update(prediction, truth)
    assert quality.compute().per_category["disc"].pq == 0


def test_void_is_removed_from_the_boundary_of_the_prediction() -> None:
    # Boundaries one deep. The prediction's right side is on void; without it all of the truth's boundary is shared but
    # for the column at which the truth ends and the prediction goes on.
    truth = a_map("\n".join(["AAAA.."] * 6), {"A": 2})
    prediction = a_map("\n".join(["AAAAAA"] * 6), {"A": 2})
    (iou,) = match_boundaries(prediction, truth).iou.tolist()
    assert iou == (6 + 2 * 3) / (6 + 2 * 3 + 4)


@pytest.mark.parametrize(("crowd_category", "is_excused"), [(2, True), (3, False)])
def test_a_match_that_is_lost_may_be_excused(crowd_category, is_excused) -> None:
    # Nine columns of the object, nine of void, two of crowd: the IoU of the masks is 9/11. The object is all boundary,
    # of which the prediction has what is at the edge of the image. Void and crowd together are above one half of it.
    truth = a_map("\n".join(["A.A.A.A.A.A.A.A.A.GG"] * 12), {"A": 2, "G": crowd_category}, crowd="G")
    prediction = a_map("\n".join(["A" * 20] * 12), {"A": 2})
    quality = PanopticQuality(SHAPES)
    quality.update(prediction, truth)
    assert quality.state[2].tolist() == [1, 0, 0, 9 / 11]
    matches = match_boundaries(prediction, truth)
    assert [part.tolist() for part in matches] == [[], [], [], [0], [] if is_excused else [0]]


def test_merge_and_reset() -> None:
    pairs = [(generated_map(s), generated_map(s, crowd=True)) for s in range(4)]
    whole, parts = BoundaryPanopticQuality(SHAPES), [BoundaryPanopticQuality(SHAPES) for _ in range(2)]
    for i, pair in enumerate(pairs):
        whole.update(*pair)
        parts[i // 2].update(*pair)
    parts[0].merge(parts[1])
    assert parts[0].compute() == whole.compute()
    with pytest.raises(InvalidArgumentError, match=r"dilation_ratio=0.02, got one with dilation_ratio=0.1; merge"):
        whole.merge(BoundaryPanopticQuality(SHAPES, 0.1))
    with pytest.raises(InvalidArgumentError, match=r"protocol=.*merge metrics with equal options"):
        whole.merge(BoundaryPanopticQuality(SHAPES, protocol="seamseg"))
    with pytest.raises(InvalidArgumentError, match="expected a PanopticQuality, got a BoundaryPanopticQuality"):
        PanopticQuality(SHAPES).merge(whole)  # equal states, other sums
    whole.reset()
    assert math.isnan(whole.compute().all.pq)


def test_refused_values() -> None:
    with pytest.raises(InvalidArgumentError, match=r"dilation_ratio above 0, for example 0.02, got 0"):
        BoundaryPanopticQuality(SHAPES, 0)
    for ratio in (0, -0.1, math.nan, math.inf):
        with pytest.raises(InvalidArgumentError, match=r"dilation_ratio above 0, for example 0.02, got"):
            match_boundaries(a_map("A"), a_map("A"), dilation_ratio=ratio)
    with pytest.raises(InvalidArgumentError, match="expected stuff_ids"):
        match_boundaries(a_map("A"), a_map("A"), protocol="deeplab2")
    with pytest.raises(InvalidArgumentError, match="expected boundary quality with Protocol"):
        Evaluator(SHAPES, "seamseg", boundary=BoundaryPanopticQuality(SHAPES))
    metric = BoundaryPanopticQuality(SHAPES)
    with pytest.raises(InvalidArgumentError, match=r"truth of 1x2 and a prediction of 1x1; decode or resize"):
        metric.update(a_map("A"), a_map("AA"))
    with pytest.raises(InvalidArgumentError, match=r"got 7 in the truth; evaluate"):
        metric.update(a_map("A"), a_map("A", {"A": 7}))
