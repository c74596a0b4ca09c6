"""Average precision by the protocol of COCO, as in pycocotools for masks.

The protocol:

- A prediction matches an object of its category if their IoU is at least the threshold, 0.50, 0.55 to 0.95. IoU is that
  of the masks; void pixels are included.
- Predictions are matched greedily in descending order of score, equal scores in the order of the segments; at most 100
  per image and category are used.
- A prediction that matches only a crowd of its category is ignored; its overlap is the fraction of *its own* pixels on
  the crowd.
- For a size range, objects of other sizes are ignored as well, but each is matched once and by IoU; predictions of
  other sizes that match nothing are ignored. Areas are those of the maps; pycocotools reads those of the ground truth
  from its file.
- Precision is made monotone and sampled at 101 recalls; equal scores of different images stay in the order of the
  images. Categories without an object are left out of the means.

Segments without pixels are ignored.
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
"""Maximum numbers of predictions per image and category."""

_RECALLS = np.linspace(0.0, 1.0, 101)

Floats = NDArray[np.float64]


class CocoCurves(NamedTuple):
    """Precision at every recall; nan where a category has no object of the size.

    Attributes:
        precision: float64 [T, 101, K, A, 3]: thresholds, recalls 0 to 1, categories, size ranges, and 1, 10 or 100
            predictions per image and category.
        recall: float64 [T, K, A, 3], the maximum recall.
        num_objects: int64 [K, A].
    """

    precision: Floats
    recall: Floats
    num_objects: NDArray[np.int64]


def coco_curves(things: ThingOverlaps, categories: Sequence[int], ranges: Sequence[tuple[float, float]]) -> CocoCurves:
    """Measure precision and recall of a set as defined at the top of this module.

    Args:
        things: of all images.
        categories: K ids of things.
        ranges: A pairs of the smallest and the largest area in pixels, both inclusive.
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
    """Return the predictions that are used, ordered by image, category and descending score, and their ranks."""
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
    """Return the start of the pairs of each prediction of ``order``, their objects, and their overlaps."""
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
    """Return precision [T, 101] and maximum recall [T] of predictions [T, P] in descending order of score."""
    is_true, is_false = verdicts == TRUE, (verdicts != TRUE) & (verdicts != IGNORED)
    hits, counted = is_true.cumsum(axis=1), (is_true | is_false).cumsum(axis=1)
    recall = hits / num_objects
    precision = hits / (counted + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate([precision, np.zeros((len(verdicts), 1))], axis=1)  # for recalls that are not reached
    at_recalls = np.stack(
        [row[np.searchsorted(reached, _RECALLS)] for row, reached in zip(padded, recall, strict=True)]
    )
    return at_recalls, recall[:, -1] if verdicts.shape[1] else np.zeros(len(verdicts))
