"""Greedy matching of predicted to ground-truth objects as in COCO, for every IoU threshold and area range.

Only pairs that share pixels are considered. Panoptic segments do not overlap, so there are about as many pairs as
segments.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panscape.ops.jit import jit

FALSE, TRUE, IGNORED = 0, 1, 2


def match_objects(
    start: NDArray[np.int64],
    truth: NDArray[np.int64],
    overlap: NDArray[np.float64],
    is_crowd: NDArray[np.bool_],
    is_ignored: NDArray[np.bool_],
    is_outside: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
) -> NDArray[np.int8]:
    """Match predictions to ground-truth objects one after the other, as pycocotools does.

    Each prediction takes the unmatched object of largest overlap that reaches the threshold; ties go to the later
    object. Ignored objects are taken only if no other qualifies, and crowds can be matched any number of times.

    Args:
        start: int64 [P + 1]; prediction p has the pairs ``start[p]`` to ``start[p + 1]``. Within an image and
            category, predictions are in matching order.
        truth: int64 [N], the ground-truth object of each pair, ascending for each prediction.
        overlap: float64 [N]: IoU; for crowds the covered share of the prediction.
        is_crowd: bool [G].
        is_ignored: bool [A, G], crowds and objects outside each area range.
        is_outside: bool [A, P], predictions outside each area range.
        thresholds: float64 [T], the minimum overlap of a match.

    Returns:
        int8 [A, T, P]: 1 for a true positive, 0 for a false positive, 2 for an ignored prediction.
    """
    result = np.empty((len(is_ignored), len(thresholds), len(start) - 1), dtype=np.int8)
    _match(start, truth, overlap, is_crowd, is_ignored, is_outside, thresholds, result)
    return result


@jit
def _match(
    start: NDArray[np.int64],
    truth: NDArray[np.int64],
    overlap: NDArray[np.float64],
    is_crowd: NDArray[np.bool_],
    is_ignored: NDArray[np.bool_],
    is_outside: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
    result: NDArray[np.int8],
) -> None:
    """Write ``result``."""
    num_ranges, num_thresholds, num_predictions = result.shape
    for a in range(num_ranges):
        for t in range(num_thresholds):
            is_taken = np.zeros(is_crowd.size, dtype=np.bool_)
            for p in range(num_predictions):
                best, partner = thresholds[t], -1
                for turn in range(2):  # first the objects that count, then the ignored ones
                    for i in range(start[p], start[p + 1]):
                        g = truth[i]
                        if is_ignored[a, g] != (turn == 1) or (is_taken[g] and not is_crowd[g]):
                            continue
                        if overlap[i] >= best:
                            best, partner = overlap[i], g
                    if partner >= 0:
                        break
                if partner >= 0:
                    is_taken[partner] = True
                    result[a, t, p] = IGNORED if is_ignored[a, partner] else TRUE
                else:
                    result[a, t, p] = IGNORED if is_outside[a, p] else FALSE
