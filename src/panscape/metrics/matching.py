"""Which true and predicted segments of an image match, by the rules of panopticapi or of other evaluators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.metrics.overlaps import areas_of, categories_of, crowds_of, overlaps
from panscape.metrics.protocol import Protocol, get_protocol
from panscape.ops.confusion import JointHistogram
from panscape.panoptic import PanopticMap

Ids = NDArray[np.int64]
Shares = NDArray[np.float64]


class SegmentMatches(NamedTuple):
    """How the segments of one image fared; all parts are on the CPU and index rows of the maps (id minus one).

    Where rules make one segment of several, it goes by its first row.

    Attributes:
        truth: int64 [M], matched segments of the truth, ascending.
        prediction: int64 [M], their partners.
        iou: float64 [M] in (0.5, 1].
        missed: int64, false negatives: rows of the truth.
        spurious: int64, false positives: rows of the prediction.
    """

    truth: Tensor
    prediction: Tensor
    iou: Tensor
    missed: Tensor
    spurious: Tensor


def match_segments(
    prediction: PanopticMap,
    truth: PanopticMap,
    histogram: JointHistogram | None = None,
    protocol: str | Protocol = "coco",
    stuff_ids: Sequence[int] | None = None,
    refined: Callable[[Ids, Ids, Shares], Shares] | None = None,
) -> SegmentMatches:
    """Match the segments of one image by the rules of panopticapi or those of another evaluator.

    Args:
        prediction: of the same size as ``truth``.
        truth: with its crowds, if any.
        histogram: what :func:`~panscape.metrics.overlaps.overlaps` gives for both, if it is there already.
        protocol: a name in :data:`~panscape.metrics.protocol.PROTOCOLS`, or rules of your own.
        stuff_ids: categories that are stuff; rules by which stuff is whole need them, others do not ask for them.
        refined: maps the ids of the pairs that would match, truth and prediction, and their IoU to a stricter measure
            in 0..1; it takes the place of the IoU, and pairs that it leaves at 0.5 or below do not match.

    Raises:
        InvalidArgumentError: the maps differ in size, or the rules need ``stuff_ids``.
        UnknownNameError: no rules have this name.
    """
    protocol = get_protocol(protocol)
    histogram = overlaps(prediction, truth) if histogram is None else histogram
    truth_id, predicted_id, area = overlaps_under_protocol(prediction, truth, histogram, protocol, stuff_ids)
    # The category of void equals no other, not even that of the other void.
    truth_category, predicted_category = categories_of(truth, -1), categories_of(prediction, -2)
    is_crowd = crowds_of(truth) & (protocol.crowd == "excuse")
    truth_area = areas_of(truth_id, area, truth.num_segments)
    predicted_area = areas_of(predicted_id, area, prediction.num_segments)
    is_void, is_silent = truth_id == 0, predicted_id == 0
    on_void = areas_of(predicted_id[is_void], area[is_void], prediction.num_segments)
    under_void = areas_of(truth_id[is_silent], area[is_silent], truth.num_segments)
    is_same = truth_category[truth_id] == predicted_category[predicted_id]

    possible = is_same & ~is_crowd[truth_id]
    a, b, shared = truth_id[possible], predicted_id[possible], area[possible]
    union = truth_area[a] + predicted_area[b] - shared - on_void[b]
    if protocol.predicted_void_leaves_union:
        union -= under_void[a]
    iou = shared / union
    a, b, iou = a[iou > 0.5], b[iou > 0.5], iou[iou > 0.5]
    if refined is not None:
        iou = refined(a, b, iou)
        a, b, iou = a[iou > 0.5], b[iou > 0.5], iou[iou > 0.5]

    is_missed = (truth_area > 0) & ~is_crowd
    if protocol.predicted_void_excuses_misses:
        is_missed &= under_void / np.maximum(truth_area, 1) <= 0.5
    is_missed[a] = False
    excused = on_void.copy()
    on_crowd = is_same & _is_remembered(is_crowd & (truth_area > 0), truth_category)[truth_id]
    excused[predicted_id[on_crowd]] += area[on_crowd]  # one crowd a category, hence each prediction at most once
    is_spurious = (predicted_area > 0) & (excused / np.maximum(predicted_area, 1) <= 0.5)
    is_spurious[b] = False
    is_missed[0] = is_spurious[0] = False
    rows = (a - 1, b - 1, iou, is_missed.nonzero()[0] - 1, is_spurious.nonzero()[0] - 1)
    return SegmentMatches(*map(torch.from_numpy, rows))


def _is_remembered(is_crowd: NDArray[np.bool_], category: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Keep only the last crowd of every category."""
    last = {int(category[i]): i for i in is_crowd.nonzero()[0]}
    remembered = np.zeros_like(is_crowd)
    remembered[list(last.values())] = True
    return remembered


def ids_under_protocol(
    annotation: PanopticMap, protocol: Protocol, stuff_ids: Sequence[int] | None, *, is_truth: bool
) -> Ids | None:
    """Return the id by which some rules know each id of a map.

    Args:
        annotation: the map.
        protocol: those rules.
        stuff_ids: categories that are stuff, if the rules need them.
        is_truth: whether the map is the truth, whose crowds may be void.

    Returns:
        int64 [S + 1]: 0 for what is void, the first id of its category for stuff that is one whole, else the id itself;
        None if all go by their own.
    """
    is_void = crowds_of(annotation) & (is_truth and protocol.crowd == "void")
    whole = frozenset(stuff_ids or ()) if protocol.is_stuff_whole else frozenset()
    if not whole and not is_void.any():
        return None
    category = categories_of(annotation, -1)
    first: dict[int, int] = {}
    return np.array(
        [
            0 if void else first.setdefault(c, i) if c in whole else i
            for i, (c, void) in enumerate(zip(category.tolist(), is_void.tolist(), strict=True))
        ],
        dtype=np.int64,
    )


def overlaps_under_protocol(
    prediction: PanopticMap,
    truth: PanopticMap,
    histogram: JointHistogram,
    protocol: Protocol,
    stuff_ids: Sequence[int] | None,
) -> tuple[Ids, Ids, Ids]:
    """Return the overlaps of an image under the ids of a protocol (:func:`ids_under_protocol`).

    Args:
        prediction: of the same size as ``truth``.
        truth: with its crowds, if any.
        histogram: what :func:`~panscape.metrics.overlaps.overlaps` gives for both.
        protocol: that judge.
        stuff_ids: categories that are stuff, if the rules need them.

    Returns:
        Ids of the truth, ids of the prediction and pixels, int64 [N] each, in the order of a histogram.

    Raises:
        InvalidArgumentError: the rules need ``stuff_ids``.
    """
    if protocol.is_stuff_whole and stuff_ids is None:
        raise InvalidArgumentError(
            "expected stuff_ids, as all segments of one stuff category are one by these rules, got none; give those of "
            "the label space: stuff_ids=labels.stuff_ids"
        )
    truth_id, predicted_id, area = (part.numpy() for part in histogram)
    true_names = ids_under_protocol(truth, protocol, stuff_ids, is_truth=True)
    predicted_names = ids_under_protocol(prediction, protocol, stuff_ids, is_truth=False)
    if true_names is None and predicted_names is None:
        return truth_id, predicted_id, area
    truth_id = truth_id if true_names is None else true_names[truth_id]
    predicted_id = predicted_id if predicted_names is None else predicted_names[predicted_id]
    columns = prediction.num_segments + 1
    keys, place = np.unique(truth_id * columns + predicted_id, return_inverse=True)
    areas = np.zeros(len(keys), dtype=np.int64)
    np.add.at(areas, place, area)
    return keys // columns, keys % columns, areas
