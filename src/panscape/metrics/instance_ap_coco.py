"""Average precision by the rules of COCO, as pycocotools measures masks.

Every rule that changes a number:

- A prediction matches an object of its category if their IoU is at least the threshold, 0.50, 0.55 to 0.95. IoU is that
  of the masks; void counts like everything else.
- Predictions choose in the order of their scores, equal ones in the order of their segments; at most 100 of an image
  and category take part.
- A prediction that matches only a crowd of its category does not count; its overlap is the share of *its* pixels.
- For a range of sizes, objects of other sizes are ignored, too, but each is matched once and by IoU; predictions of
  other sizes that match nothing do not count. Areas are those of the maps, where pycocotools reads those of the truth
  from its file.
- Precision is made monotone and taken at 101 recalls; equal scores of different images stay in the order of the
  images. Categories without an object stay out of the means.

Segments without pixels do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from panscape.metrics.thing_overlaps import ThingOverlaps
from panscape.ops.greedy_matching import IGNORED, TRUE, match_objects

COCO_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_PREDICTIONS = (1, 10, 100)
"""Of an image and category."""

_RECALLS = np.linspace(0.0, 1.0, 101)

Floats = NDArray[np.float64]


class CocoCurves(NamedTuple):
    """How precise the predictions are at every recall; nan where a category has no object of the size.

    Attributes:
        precision: float64 [T, 101, K, A, 3]: thresholds, recalls 0 to 1, categories, ranges of sizes, and 1, 10 or 100
            predictions of an image and category.
        recall: float64 [T, K, A, 3], the largest recall reached.
        num_objects: int64 [K, A].
    """

    precision: Floats
    recall: Floats
    num_objects: NDArray[np.int64]


def coco_curves(things: ThingOverlaps, categories: Sequence[int], ranges: Sequence[tuple[float, float]]) -> CocoCurves:
    """Measure precision and recall of a set by the rules at the top of this module.

    Args:
        things: of all images.
        categories: K ids of things.
        ranges: A pairs of the least and the largest area in pixels, both included.
    """
    order, rank = _ranked(things)
    limits = np.array(ranges, dtype=np.float64).reshape(-1, 2)[:, :, None]
    areas = things.predicted_area[order]
    is_outside = (areas < limits[:, 0]) | (areas > limits[:, 1])
    is_ignored = things.is_crowd | (things.true_area < limits[:, 0]) | (things.true_area > limits[:, 1])
    verdicts = match_objects(*_pairs_in_order(things, order), things.is_crowd, is_ignored, is_outside, COCO_THRESHOLDS)
    shape = (len(COCO_THRESHOLDS), len(categories), len(limits), len(MAX_PREDICTIONS))
    precision = np.full((shape[0], len(_RECALLS), *shape[1:]), np.nan)
    recall = np.full(shape, np.nan)
    num_objects = np.zeros(shape[1:3], dtype=np.int64)
    predicted_category, score = things.predicted_category[order], things.score[order]
    for k, category in enumerate(categories):
        num_objects[k] = (~is_ignored & (things.true_category == category)).sum(axis=1)
        mine = np.flatnonzero(predicted_category == category)
        mine = mine[np.argsort(-score[mine], kind="stable")]
        for m, most in enumerate(MAX_PREDICTIONS):
            kept = mine[rank[mine] < most]
            for a in np.flatnonzero(num_objects[k]):
                curve = _curve(verdicts[a][:, kept], int(num_objects[k, a]))
                precision[:, :, k, a, m], recall[:, k, a, m] = curve
    return CocoCurves(precision, recall, num_objects)


def _ranked(things: ThingOverlaps) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the predictions that take part, by image, category and falling score, and the rank of each there."""
    order = np.lexsort((-things.score, things.predicted_category, things.image))  # stable, so equal ones by segment
    image, category = things.image[order], things.predicted_category[order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (image[1:] != image[:-1]) | (category[1:] != category[:-1])
    position = np.arange(len(order))
    rank = position - np.maximum.accumulate(np.where(is_first, position, 0))
    kept = rank < MAX_PREDICTIONS[-1]
    return order[kept], rank[kept]


def _pairs_in_order(
    things: ThingOverlaps, order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Return where the pairs of each prediction of ``order`` begin, their objects, and their overlaps."""
    place = np.full(len(things.score), -1)
    place[order] = np.arange(len(order))
    owner = place[things.prediction]
    pairs = np.lexsort((things.truth, owner))
    pairs = pairs[owner[pairs] >= 0]
    start = np.searchsorted(owner[pairs], np.arange(len(order) + 1))
    covered = things.shared / things.predicted_area[things.prediction]
    overlap = np.where(things.is_crowd[things.truth], covered, things.iou())
    return start, things.truth[pairs], overlap[pairs]


def _curve(verdicts: NDArray[np.int8], num_objects: int) -> tuple[Floats, Floats]:
    """Return precision [T, 101] and the largest recall [T] of predictions [T, P] by falling score."""
    is_true, is_false = verdicts == TRUE, (verdicts != TRUE) & (verdicts != IGNORED)
    hits, counted = is_true.cumsum(axis=1), (is_true | is_false).cumsum(axis=1)
    recall = hits / num_objects
    precision = hits / (counted + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate([precision, np.zeros((len(verdicts), 1))], axis=1)  # recalls that are not reached
    at_recalls = np.stack(
        [row[np.searchsorted(reached, _RECALLS)] for row, reached in zip(padded, recall, strict=True)]
    )
    return at_recalls, recall[:, -1] if verdicts.shape[1] else np.zeros(len(verdicts))
