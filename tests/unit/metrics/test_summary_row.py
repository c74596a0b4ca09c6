"""The row of a paper's table and AP by size percentile, compared with masks counted one by one in numpy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from maps import SHAPES, generated_map

from panscape import LabelSpace, PanopticMap
from panscape.evaluation.evaluators import create_evaluator
from panscape.evaluation.options import EvaluationOptions
from panscape.metrics import PERCENTILES, SUMMARY_COLUMNS, EvaluationReport, InstanceAP, summary_row

Pairs = list[tuple[PanopticMap, PanopticMap]]
CITYSCAPES = LabelSpace("cityscapes", SHAPES.categories)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """Six images with void and crowds, whose predictions are shifted, and lack or rename some segments."""
    found = []
    for seed in range(6):
        truth = generated_map(seed, crowd=True, objects=9)
        g = torch.Generator().manual_seed(seed)
        category = truth.category.clone()
        things = torch.tensor([SHAPES[c].is_thing for c in category.tolist()])
        category[things & (torch.rand(len(category), generator=g) < 0.2)] = SHAPES.thing_ids[0]
        shifted = PanopticMap(truth.ids, category, torch.rand(len(category), generator=g)).pad(96, 131)
        prediction = shifted.crop(0, 1 + seed % 3, 96, 128)
        found.append((prediction.select(torch.rand(prediction.num_segments, generator=g) < 0.85), truth))
    return found


def report_of(pairs: Pairs, labels: LabelSpace = SHAPES, **options: bool) -> EvaluationReport:
    evaluator = create_evaluator(labels, EvaluationOptions(**options))
    for prediction, truth in pairs:
        evaluator.update(prediction, truth)
    return evaluator.compute()


def parts(panoptic: PanopticMap) -> Iterator[tuple[int, bool, np.ndarray]]:
    """Give category, crowd and mask of each segment with pixels."""
    crowd = [False] * panoptic.num_segments if panoptic.crowd is None else panoptic.crowd.tolist()
    for row, category in enumerate(panoptic.category.tolist()):
        mask = panoptic.ids.numpy() == row + 1
        if mask.any():
            yield category, crowd[row], mask


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


class Objects(NamedTuple):
    """The objects of one category in an image, detections in descending order of score."""

    areas: list[int]  # of the true objects
    score: list[float]
    found_areas: list[int]
    ious: list[list[float]]  # of each detection with each object
    on_crowd: list[float]  # largest share of each detection on one crowd


def objects_of(prediction: PanopticMap, truth: PanopticMap, category: int) -> Objects:
    crowds = [m for c, is_crowd, m in parts(truth) if c == category and is_crowd]
    masks = [m for c, is_crowd, m in parts(truth) if c == category and not is_crowd]
    scores = prediction.select(prediction.areas() > 0).score.tolist()
    found = [(s, m) for s, (c, _, m) in zip(scores, parts(prediction), strict=True) if c == category]
    found.sort(key=lambda each: -each[0])
    return Objects(
        [int(m.sum()) for m in masks],
        [score for score, _ in found],
        [int(m.sum()) for _, m in found],
        [[iou(t, m) for t in masks] for _, m in found],
        [max(((m & c).sum() / m.sum() for c in crowds), default=0.0) for _, m in found],
    )


def average_precision(images: list[Objects], low: float, high: float) -> float:
    """pycocotools' rules for one category and one range of areas, written as loops."""
    num_objects = sum(low <= area <= high for image in images for area in image.areas)
    if not num_objects:
        return math.nan
    values = []
    for threshold in np.linspace(0.5, 0.95, 10):
        verdicts: list[tuple[float, bool]] = []
        for areas, scores, found_areas, ious, on_crowd in images:
            taken: set[int] = set()
            of_range = [i for i, area in enumerate(areas) if low <= area <= high]
            of_others = [i for i in range(len(areas)) if i not in of_range]
            for score, area, row, share in zip(scores, found_areas, ious, on_crowd, strict=True):
                free = [[i for i in g if i not in taken and row[i] >= threshold] for g in (of_range, of_others)]
                if free[0] or free[1]:  # objects of the range come first; the others are ignored with their detections
                    best = max(free[0] or free[1], key=row.__getitem__)
                    taken.add(best)
                    if free[0]:
                        verdicts.append((score, True))
                elif share < threshold and low <= area <= high:
                    verdicts.append((score, False))
        verdicts.sort(key=lambda v: -v[0])
        hits = np.cumsum([hit for _, hit in verdicts])
        precision = hits / np.arange(1, len(hits) + 1)
        recall = hits / num_objects
        values += [max(precision[recall >= r - 1e-12], default=0.0) for r in np.linspace(0, 1, 101)]
    return float(np.mean(values))


@pytest.fixture(scope="module")
def objects(pairs: Pairs) -> list[list[Objects]]:
    """The objects of each image, for each category of things."""
    return [[objects_of(*pair, category) for pair in pairs] for category in SHAPES.thing_ids]


def mean_ap(objects: list[list[Objects]], low: float = 0, high: float = 1e10) -> float:
    return float(np.nanmean([average_precision(images, low, high) for images in objects]))


def qualities(pairs: Pairs, category: int) -> tuple[float, float, float, float]:
    """PQ, PQ-dagger, PC and IoU of one category."""
    iou_sum, stuff_ious, num = 0.0, [], {"tp": 0, "fp": 0, "fn": 0}
    covered, area, pixels = 0.0, 0, np.zeros(2)
    for prediction, truth in pairs:
        void = truth.ids.numpy() == 0
        crowds = np.any([m for _, is_crowd, m in parts(truth) if is_crowd] or [np.zeros_like(void)], axis=0)
        own_crowds = [m for c, is_crowd, m in parts(truth) if is_crowd and c == category]
        excuse = void | (own_crowds[-1] if own_crowds else False)  # panopticapi remembers the last crowd of a category
        true = [m for c, is_crowd, m in parts(truth) if c == category and not is_crowd]
        predicted = [m for c, _, m in parts(prediction) if c == category]
        ious = np.array([[iou(t, p & ~void) for p in predicted] for t in true]).reshape(len(true), len(predicted))
        iou_sum += ious[ious > 0.5].sum()
        num["tp"] += int((ious > 0.5).sum())
        num["fn"] += int((~(ious > 0.5).any(1)).sum())
        excused = [(excuse & p).sum() / p.sum() > 0.5 for p in predicted]
        num["fp"] += sum(not hit and not e for hit, e in zip((ious > 0.5).any(0), excused, strict=True))
        stuff_ious += [row.max(initial=0.0) for row in ious]
        for t in true:
            best = max((iou(t, p & ~(void | crowds)) for p in predicted if (p & t).any()), default=0.0)
            covered, area = covered + t.sum() * best, area + t.sum()
        inside = np.any([m for c, _, m in parts(truth) if c == category] or [np.zeros_like(void)], axis=0)
        found = np.any(predicted or [np.zeros_like(void)], axis=0) & ~void
        pixels += ((inside & found).sum(), (inside | found).sum())
    total = num["tp"] + (num["fp"] + num["fn"]) / 2
    pq = iou_sum / total if total else math.nan
    dagger = pq if SHAPES[category].is_thing else float(np.mean(stuff_ious)) if stuff_ious else math.nan
    return pq, dagger, covered / area if area else math.nan, pixels[0] / pixels[1] if pixels[1] else math.nan


def test_all_columns_of_the_table_by_counting_masks(pairs: Pairs, objects: list[list[Objects]]) -> None:
    every = np.array([qualities(pairs, category) for category in range(len(SHAPES))])
    (pq, dagger, pc, mean_iou), things, stuff = (
        np.nanmean(every[list(rows)], axis=0) for rows in (range(len(SHAPES)), SHAPES.thing_ids, SHAPES.stuff_ids)
    )
    want = (pq, things[0], stuff[0], mean_ap(objects), mean_iou, pc, things[2], stuff[2], dagger)
    report = report_of(pairs, ap=True)
    row = summary_row(report.to_dict())
    assert row == pytest.approx(dict(zip(SUMMARY_COLUMNS, want, strict=True)), abs=1e-12)
    assert len(set(row.values())) == 9
    assert "  ".join(f"{100 * value:.1f}" for value in row.values()).split() == str(report).splitlines()[-1].split()


def test_average_precision_between_percentiles_of_areas(pairs: Pairs, objects: list[list[Objects]]) -> None:
    areas = np.sort([m.sum() for _, t in pairs for c, is_crowd, m in parts(t) if SHAPES[c].is_thing and not is_crowd])
    edges = np.percentile(areas, PERCENTILES)
    by_size = report_of(pairs, ap_sizes=True).instances.by_size
    for name, low, high in zip(list(by_size)[3:], edges[:-1], edges[1:], strict=True):
        of_range = areas[(areas > low) & (areas <= high)] if low > areas[0] else areas[areas <= high]
        found = by_size[name]
        assert (found.num_objects, name[-1]) == (len(of_range), "%")
        assert found.ap == pytest.approx(mean_ap(objects, found.smallest, found.largest), abs=1e-12)
        assert found.smallest <= of_range[0] <= of_range[-1] <= found.largest
    assert sum(size.num_objects for size in list(by_size.values())[3:]) == len(areas) > 25


def test_cityscapes_has_its_own_average_precision_and_percentiles_by_the_protocol_of_coco(pairs: Pairs) -> None:
    found = report_of(pairs, CITYSCAPES, ap_sizes=True).instances
    coco = report_of(pairs, ap_sizes=True).instances
    plain = InstanceAP(CITYSCAPES, "cityscapes")
    for prediction, truth in pairs:
        plain.update(prediction, truth)
    assert (found.protocol, found.ap, plain.compute().by_size) == ("cityscapes", plain.compute().ap, {})
    assert found.by_size == {name: size for name, size in coco.by_size.items() if name.endswith("%")}
    assert "size (coco protocol)" in str(found)


def test_numbers_of_papers_come_first_and_missing_ones_are_nan() -> None:
    report = {"instances": {"ap": 0.2}, "semantic": {"mean_iou": 0.5}, "panoptic": {"all": {"pq": None}}}
    row = summary_row(report)
    assert (row["AP"], row["mIoU"]) == (0.2, 0.5)
    assert all(math.isnan(row[title]) for title in ("PQ", "PC", "PQ†"))
    row = summary_row(report | {"instances_before_fusion": {"ap": 0.3}, "semantic_head": {"mean_iou": 0.6}})
    assert (row["AP"], row["mIoU"]) == (0.3, 0.6)
