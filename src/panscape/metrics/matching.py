"""Match true and predicted segments of an image by the protocol of panopticapi or of another evaluator."""

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
from panscape.ops.contingency_table import ContingencyTable
from panscape.panoptic import PanopticMap

Ids = NDArray[np.int64]
Shares = NDArray[np.float64]


class SegmentOverlaps(NamedTuple):
    """The overlaps of the segments of one image under a protocol, by id; id 0 is void.

    Attributes:
        truth_id: int64 [N], ids of the ground truth of the pairs that overlap.
        predicted_id: int64 [N], ids of the prediction of these pairs.
        area: int64 [N], their common pixels.
        is_pair: bool [N], whether the pair is a true segment that is not a crowd, and a predicted segment.
        is_same: bool [N], whether both have the same category; void never has.
        iou: float64 [N], the IoU that the protocol defines; 0 unless ``is_pair``.
        is_crowd: bool [S + 1], which true segments are crowds that the protocol excuses.
        truth_area: int64 [S + 1], pixels of each true segment.
        predicted_area: int64 [T + 1], pixels of each predicted segment.
        under_void: int64 [S + 1], pixels of each true segment that are void in the prediction.
        on_void: int64 [T + 1], pixels of each predicted segment that are void in the ground truth.
        counted_truth: int64 [S + 1], pixels of each true segment that count in a union.
        counted_prediction: int64 [T + 1], pixels of each predicted segment that count in a union.
    """

    truth_id: Ids
    predicted_id: Ids
    area: Ids
    is_pair: NDArray[np.bool_]
    is_same: NDArray[np.bool_]
    iou: Shares
    is_crowd: NDArray[np.bool_]
    truth_area: Ids
    predicted_area: Ids
    under_void: Ids
    on_void: Ids
    counted_truth: Ids
    counted_prediction: Ids


class SegmentMatches(NamedTuple):
    """The matched and unmatched segments of one image, on the CPU, as rows of the maps (id minus one).

    A segment that a protocol merges from several has the row of its first.

    Attributes:
        truth: int64 [M], matched segments of the ground truth, ascending.
        prediction: int64 [M], the predicted segments that they match.
        iou: float64 [M] in (0.5, 1]; of stuff in (0, 1] if the protocol matches it at any overlap.
        false_negatives: int64, rows of the ground truth.
        false_positives: int64, rows of the prediction.
    """

    truth: Tensor
    prediction: Tensor
    iou: Tensor
    false_negatives: Tensor
    false_positives: Tensor


def match_segments(
    prediction: PanopticMap,
    truth: PanopticMap,
    histogram: ContingencyTable | None = None,
    protocol: str | Protocol = "coco",
    stuff_ids: Sequence[int] | None = None,
    refined: Callable[[Ids, Ids, Shares], Shares] | None = None,
) -> SegmentMatches:
    """Match the segments of one image.

    Args:
        prediction: of the same size as ``truth``.
        truth: with its crowds, if any.
        histogram: the result of :func:`~panscape.metrics.overlaps.overlaps` for both maps, if already computed.
        protocol: a name in :data:`~panscape.metrics.protocol.PROTOCOLS`, or a custom protocol.
        stuff_ids: the stuff categories; only protocols with ``is_stuff_whole`` need them.
        refined: receives the ids of the candidate pairs (truth, prediction) and their IoU, and returns a stricter
            measure in 0..1 that replaces the IoU. Pairs that it does not leave above the threshold do not match.

    Raises:
        InvalidArgumentError: the maps differ in size, or the protocol needs ``stuff_ids``.
        UnknownNameError: no protocol has this name.
    """
    protocol = get_protocol(protocol)
    histogram = overlaps(prediction, truth) if histogram is None else histogram
    found = segment_overlaps(prediction, truth, histogram, protocol, stuff_ids)
    has_no_threshold = protocol.any_overlap_matches_stuff & np.isin(categories_of(truth, -1), stuff_ids or ())
    threshold = np.where(has_no_threshold, 0, 0.5)  # of each true segment
    is_match = found.is_same & (found.iou > threshold[found.truth_id])
    a, b, iou = found.truth_id[is_match], found.predicted_id[is_match], found.iou[is_match]
    if refined is not None:
        iou = refined(a, b, iou)
        is_match = iou > threshold[a]
        a, b, iou = a[is_match], b[is_match], iou[is_match]

    is_false_negative = (found.truth_area > 0) & ~found.is_crowd
    if protocol.predicted_void_excuses_misses:
        is_false_negative &= found.under_void / np.maximum(found.truth_area, 1) <= 0.5
    is_false_negative[a] = False
    excused = found.on_void.copy()
    last_crowds = _last_crowds(found.is_crowd & (found.truth_area > 0), categories_of(truth, -1))
    on_crowd = found.is_same & last_crowds[found.truth_id]
    excused[found.predicted_id[on_crowd]] += found.area[on_crowd]  # one crowd per category, so each at most once
    is_false_positive = (found.predicted_area > 0) & (excused / np.maximum(found.predicted_area, 1) <= 0.5)
    is_false_positive[b] = False
    is_false_negative[0] = is_false_positive[0] = False
    rows = (a - 1, b - 1, iou, is_false_negative.nonzero()[0] - 1, is_false_positive.nonzero()[0] - 1)
    return SegmentMatches(*map(torch.from_numpy, rows))


def segment_overlaps(
    prediction: PanopticMap,
    truth: PanopticMap,
    histogram: ContingencyTable,
    protocol: Protocol,
    stuff_ids: Sequence[int] | None,
) -> SegmentOverlaps:
    """Return the overlaps of the segments of one image under a protocol; for the arguments see :func:`match_segments`.

    Raises:
        InvalidArgumentError: the protocol needs ``stuff_ids``.
    """
    truth_id, predicted_id, area = _pairs_under_protocol(prediction, truth, histogram, protocol, stuff_ids)
    is_crowd = crowds_of(truth) & (protocol.crowd == "excuse")
    truth_area = areas_of(truth_id, area, truth.num_segments)
    predicted_area = areas_of(predicted_id, area, prediction.num_segments)
    is_void, is_predicted_void = truth_id == 0, predicted_id == 0
    on_void = areas_of(predicted_id[is_void], area[is_void], prediction.num_segments)
    under_void = areas_of(truth_id[is_predicted_void], area[is_predicted_void], truth.num_segments)
    counted_truth = truth_area - under_void * protocol.predicted_void_leaves_union
    counted_prediction = predicted_area - on_void
    is_pair = ~is_void & ~is_predicted_void & ~is_crowd[truth_id]
    union = counted_truth[truth_id] + counted_prediction[predicted_id] - area
    iou = np.divide(area, union, out=np.zeros(len(area)), where=is_pair)
    # The category of void equals no other, not even that of the other void.
    is_same = categories_of(truth, -1)[truth_id] == categories_of(prediction, -2)[predicted_id]
    return SegmentOverlaps(
        truth_id,
        predicted_id,
        area,
        is_pair,
        is_same,
        iou,
        is_crowd,
        truth_area,
        predicted_area,
        under_void,
        on_void,
        counted_truth,
        counted_prediction,
    )


def _last_crowds(is_crowd: NDArray[np.bool_], category: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Keep only the last crowd of every category."""
    last = {int(category[i]): i for i in is_crowd.nonzero()[0]}
    is_last = np.zeros_like(is_crowd)
    is_last[list(last.values())] = True
    return is_last


def ids_under_protocol(
    annotation: PanopticMap, protocol: Protocol, stuff_ids: Sequence[int] | None, *, is_truth: bool
) -> Ids | None:
    """Return the id of each segment of a map after a protocol has removed crowds and merged stuff.

    Args:
        annotation: the map.
        protocol: the evaluation protocol.
        stuff_ids: the stuff categories, if the protocol needs them.
        is_truth: whether the map is the ground truth, whose crowds may be void.

    Returns:
        int64 [S + 1]: 0 for void, the first id of the category for merged stuff, else the id itself; None if no id
        changes.
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


def _pairs_under_protocol(
    prediction: PanopticMap,
    truth: PanopticMap,
    histogram: ContingencyTable,
    protocol: Protocol,
    stuff_ids: Sequence[int] | None,
) -> tuple[Ids, Ids, Ids]:
    """Return a histogram under the ids of a protocol (:func:`ids_under_protocol`), int64 [N] each, in its order.

    Raises:
        InvalidArgumentError: the protocol needs ``stuff_ids``.
    """
    if protocol.is_stuff_whole and stuff_ids is None:
        raise InvalidArgumentError(
            "expected stuff_ids, as this protocol merges the segments of each stuff category, got none; pass "
            "stuff_ids=labels.stuff_ids"
        )
    truth_id, predicted_id, area = (part.numpy() for part in histogram)
    true_ids = ids_under_protocol(truth, protocol, stuff_ids, is_truth=True)
    predicted_ids = ids_under_protocol(prediction, protocol, stuff_ids, is_truth=False)
    if true_ids is None and predicted_ids is None:
        return truth_id, predicted_id, area
    truth_id = truth_id if true_ids is None else true_ids[truth_id]
    predicted_id = predicted_id if predicted_ids is None else predicted_ids[predicted_id]
    columns = prediction.num_segments + 1
    keys, place = np.unique(truth_id * columns + predicted_id, return_inverse=True)
    areas = np.zeros(len(keys), dtype=np.int64)
    np.add.at(areas, place, area)
    return keys // columns, keys % columns, areas
