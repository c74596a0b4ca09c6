"""Average precision by the protocol of Cityscapes, as in its ``evalInstanceLevelSemanticLabeling``.

The protocol:

- A prediction matches an object of its category if their IoU is above the threshold, 0.50, 0.55 to 0.95. IoU is that of
  the masks; void pixels are included. Objects of the ground truth do not overlap, so a prediction matches at most one.
  If several masks match the same object, the one with the highest score is a true positive and the others are false
  positives.
- Objects of less than 100 pixels are ignored. There is no limit on the size and number of predictions.
- A prediction that matches a group (a crowd) or such a small object is ignored. A prediction that matches nothing is
  ignored if a fraction above the *threshold* of it lies on void, on groups and on small objects of its category. A
  small group is counted twice there, as in the published script.
- Precision is integrated over recall by the mean of left and right steps, from (0, 1) on; equal scores are one point.
- A category without objects is left out of the means. A category with objects and without predictions counts with 0.
  So does one whose predictions are all ignored; the published script raises an error there.

The published script does not treat objects of ignored categories (annotated caravans and trailers) as void. In the maps
of panscape they are void, like everything that is not evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from panscape.metrics.thing_overlaps import ThingOverlaps

CITYSCAPES_THRESHOLDS = np.arange(0.5, 1.0, 0.05)
SMALLEST_OBJECT = 100
"""Minimum area of an object in pixels."""

Floats = NDArray[np.float64]


def cityscapes_precision(things: ThingOverlaps, categories: Sequence[int]) -> Floats:
    """Measure the average precision of a set as defined at the top of this module.

    Args:
        things: of all images.
        categories: K ids of things.

    Returns:
        float64 [K, T], nan for categories without objects.
    """
    num_predicted = len(things.score)
    is_small = things.true_area < SMALLEST_OBJECT
    is_evaluated = ~things.is_crowd & ~is_small
    excuse = things.shared * (things.is_crowd[things.truth].astype(np.int64) + is_small[things.truth])
    excused = things.on_void.copy()
    np.add.at(excused, things.prediction, excuse)
    share = excused / things.predicted_area
    iou, pair_is_evaluated = things.iou(), is_evaluated[things.truth]
    result = np.full((len(categories), len(CITYSCAPES_THRESHOLDS)), np.nan)
    num_evaluated = [int((is_evaluated & (things.true_category == category)).sum()) for category in categories]
    for t, threshold in enumerate(CITYSCAPES_THRESHOLDS):
        is_match = iou > threshold
        hits = np.flatnonzero(is_match & pair_is_evaluated)
        by_truth = hits[np.lexsort((-things.score[things.prediction[hits]], things.truth[hits]))]
        _, best = np.unique(things.truth[by_truth], return_index=True)
        is_true, is_matched, is_hit = (np.zeros(num_predicted, dtype=bool) for _ in range(3))
        is_true[things.prediction[by_truth[best]]] = True
        is_hit[things.prediction[hits]] = True
        is_matched[things.prediction[is_match]] = True
        is_counted = is_hit | (~is_matched & (share <= threshold))
        for k, category in enumerate(categories):
            if num_evaluated[k]:
                mine = is_counted & (things.predicted_category == category)
                result[k, t] = _area_under_curve(is_true[mine], things.score[mine], num_evaluated[k])
    return result


def _area_under_curve(is_true: NDArray[np.bool_], score: NDArray[np.float32], num_objects: int) -> float:
    """Integrate precision over recall; 0 without predictions."""
    if not len(score):
        return 0.0
    order = np.argsort(score, kind="stable")
    _, first = np.unique(
        score[order], return_index=True
    )  # one point for each score: all predictions of at least this score
    hits = is_true.sum() - np.append(0, is_true[order].cumsum())[first]
    precision = np.append(hits / (len(score) - first), 1.0)
    recall = np.append(hits / num_objects, 0.0)
    wider = np.concatenate([recall[:1], recall, [0.0]])
    return float(precision @ (0.5 * wider[:-2] - 0.5 * wider[2:]))
