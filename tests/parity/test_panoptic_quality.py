"""PQ against a transcription of the published rules into plain loops over masks, on generated images."""

from typing import Any

import numpy as np
import pytest
import torch
from maps import SHAPES, generated_map, spoilt_map

from panscape import Category, LabelSpace, PanopticMap
from panscape.metrics import Evaluator, PanopticQuality, match_segments

# Two categories more than the images have.
LABELS = LabelSpace(
    "shapes and more",
    (*SHAPES.categories, Category("water", False, 40, (0, 0, 255)), Category("bird", True, 41, (9, 9, 9))),
)


def quality_of_one_image(prediction: PanopticMap, truth: PanopticMap) -> dict[str, np.ndarray]:
    """Follow the rules of the COCO panoptic evaluation, one segment and one mask at a time."""

    def segments(annotation: PanopticMap) -> list[dict[str, Any]]:
        ids = annotation.ids.numpy()
        crowd = [False] * annotation.num_segments if annotation.crowd is None else annotation.crowd.tolist()
        return [
            {"mask": ids == row + 1, "category": annotation.category[row].item(), "crowd": crowd[row], "matched": False}
            for row in range(annotation.num_segments)
        ]

    true, predicted = segments(truth), segments(prediction)
    void = truth.ids.numpy() == 0
    stats = {name: np.zeros(len(LABELS)) for name in ("tp", "fp", "fn", "iou")}
    for t in true:
        for p in predicted:
            if t["crowd"] or t["category"] != p["category"]:
                continue
            shared = int((t["mask"] & p["mask"]).sum())
            union = int((t["mask"] | (p["mask"] & ~void)).sum())
            if shared and shared / union > 0.5:
                stats["tp"][t["category"]] += 1
                stats["iou"][t["category"]] += shared / union
                t["matched"] = p["matched"] = True
    crowd_of = {t["category"]: t["mask"] for t in true if t["crowd"]}  # a later crowd replaces an earlier one
    for t in true:
        if not t["matched"] and not t["crowd"]:
            stats["fn"][t["category"]] += 1
    for p in predicted:
        if p["matched"]:
            continue
        excused = int((p["mask"] & void).sum())
        if p["category"] in crowd_of:
            excused += int((p["mask"] & crowd_of[p["category"]]).sum())
        if excused / int(p["mask"].sum()) <= 0.5:
            stats["fp"][p["category"]] += 1
    return stats


def a_prediction_of(truth: PanopticMap, seed: int) -> PanopticMap:
    other = generated_map(2000 + seed, truth.size, objects=3)
    generator = torch.Generator().manual_seed(1000 + seed)
    return spoilt_map(truth, generator, other, shift=(6, 9), void=seed % 3 == 0)


def images() -> list[tuple[PanopticMap, PanopticMap]]:
    pairs = []
    for seed in range(320):
        truth = generated_map(seed, (48, 64), objects=9, void=seed % 2 == 0, crowd=seed % 4 < 2)
        pairs.append((a_prediction_of(truth, seed), truth))
    empty, full = PanopticMap.empty((48, 64)), generated_map(0, (48, 64), crowd=True)
    return [*pairs, (empty, empty), (empty, full), (full, empty), (full, full)]


@pytest.fixture(scope="module")
def judged() -> list[tuple[PanopticMap, PanopticMap, dict[str, np.ndarray]]]:
    return [(prediction, truth, quality_of_one_image(prediction, truth)) for prediction, truth in images()]


def test_every_image_alone(judged) -> None:
    for prediction, truth, stats in judged:
        metric = PanopticQuality(LABELS)
        metric.update(prediction, truth)
        assert metric.state.numpy().tolist() == np.stack(list(stats.values()), axis=1).tolist()


def test_all_images_together(judged) -> None:
    metric, evaluator = PanopticQuality(LABELS), Evaluator(LABELS)
    for prediction, truth, _ in judged:
        metric.update(prediction, truth)
        evaluator.update(prediction, truth)
    total = {name: sum((stats[name] for *_, stats in judged), np.zeros(len(LABELS))) for name in judged[0][2]}
    assert min(total[name][:4].min() for name in total) > 20  # the images exercise all of it
    report = metric.compute()
    assert report == evaluator.compute().panoptic

    with np.errstate(invalid="ignore"):
        pq = total["iou"] / (total["tp"] + total["fp"] / 2 + total["fn"] / 2)
        sq = total["iou"] / total["tp"]
        rq = total["tp"] / (total["tp"] + total["fp"] / 2 + total["fn"] / 2)
    for i, category in enumerate(LABELS):
        came = report.per_category[category.name]
        assert (came.tp, came.fp, came.fn) == (total["tp"][i], total["fp"][i], total["fn"][i])
        assert came.iou_sum == total["iou"][i]
        np.testing.assert_allclose([came.pq, came.sq, came.rq], [pq[i], sq[i], rq[i]], rtol=1e-15)
    for group, members in ((report.all, [0, 1, 2, 3]), (report.things, [2, 3]), (report.stuff, [0, 1])):
        assert group.num_categories == len(members)
        np.testing.assert_allclose(
            [group.pq, group.sq, group.rq], [pq[members].mean(), sq[members].mean(), rq[members].mean()], rtol=1e-14
        )


def test_the_order_of_segments_plays_no_role(judged) -> None:
    for prediction, truth, stats in judged[:40]:
        if truth.crowd is not None and any(  # of several crowds, the last one counts: there the order does matter
            int((truth.category[truth.crowd] == c).sum()) > 1 for c in range(len(LABELS))
        ):
            continue
        g = torch.Generator().manual_seed(0)
        shuffled = []
        for annotation in (prediction, truth):
            order = torch.randperm(annotation.num_segments, generator=g)
            table = torch.zeros(annotation.num_segments + 1, dtype=torch.int32)
            table[order + 1] = torch.arange(1, annotation.num_segments + 1, dtype=torch.int32)
            crowd = None if annotation.crowd is None else annotation.crowd[order]
            shuffled.append(PanopticMap(table[annotation.ids.long()], annotation.category[order], None, crowd))
        metric = PanopticQuality(LABELS)
        metric.update(*shuffled)
        np.testing.assert_allclose(metric.state.numpy(), np.stack(list(stats.values()), axis=1), rtol=0, atol=1e-12)


def test_matches_name_the_segments(judged) -> None:
    for prediction, truth, stats in judged[:60]:
        matches = match_segments(prediction, truth)
        masks, others = truth.masks(), prediction.masks()
        for t, p, iou in zip(*(part.tolist() for part in matches[:3]), strict=True):
            counted = others[p] & (truth.ids > 0)
            assert iou == int((masks[t] & others[p]).sum()) / int((masks[t] | counted).sum())
            assert truth.category[t] == prediction.category[p]
        assert np.bincount(truth.category[matches.false_negatives], minlength=6).tolist() == stats["fn"].tolist()
        assert np.bincount(prediction.category[matches.false_positives], minlength=6).tolist() == stats["fp"].tolist()
        assert not set(matches.truth.tolist()) & set(matches.false_negatives.tolist())
        assert not set(matches.prediction.tolist()) & set(matches.false_positives.tolist())
