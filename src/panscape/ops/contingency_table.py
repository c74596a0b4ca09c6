"""Contingency table (confusion matrix) of ids: the pixels shared by every pair of ground-truth and predicted segment.

All metrics are computed from these counts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.ops.jit import jit
from panscape.ops.runs import BLOCK, next_ends

_LARGEST_TABLE = 1 << 18  # cells; 2 MiB fit into a core's cache and are cleared faster than an image is read
_MIXER = -7046029254386353131  # 2**64 divided by the golden ratio (Knuth's multiplicative hashing), as int64


class ContingencyTable(NamedTuple):
    """The pairs of ids that occur in the same pixel, sorted by ground truth, then by prediction.

    Attributes:
        truth: int64 [N], ids of the ground truth; 0 is void.
        prediction: int64 [N], ids of the prediction; 0 is void.
        area: int64 [N], number of pixels, at least 1.
    """

    truth: Tensor
    prediction: Tensor
    area: Tensor


def contingency_table(truth: Tensor, prediction: Tensor, num_truth: int, num_prediction: int) -> ContingencyTable:
    """Count the pixels of every pair of ids that occurs.

    Memory grows with the number of pairs that occur, not with the number of possible pairs.

    Args:
        truth: int32 [H, W], values in 0..``num_truth``.
        prediction: int32 [H, W] on the same device, values in 0..``num_prediction``.
        num_truth: number of segments of ``truth``.
        num_prediction: number of segments of ``prediction``.

    Returns:
        The pairs, on the maps' device.

    Raises:
        InvalidArgumentError: the maps differ in size or device or are not int32 [H, W], or an id is out of range.
    """
    if truth.device.type != "cpu":
        return contingency_table_reference(truth, prediction, num_truth, num_prediction)
    _check(truth, prediction)
    first, second = (ids.contiguous().view(-1).numpy() for ids in (truth, prediction))
    columns = num_prediction + 1
    if (num_truth + 1) * columns <= _LARGEST_TABLE:
        table = np.zeros((num_truth + 1) * columns, dtype=np.int64)
        is_valid = _count_dense(first, second, num_truth, num_prediction, table)
        keys = table.nonzero()[0]
        areas = table[keys]
    else:
        is_valid, keys, areas = _count_sparse(first, second, num_truth, num_prediction)
        order = keys.argsort()
        keys, areas = keys[order], areas[order]
    if not is_valid:
        _check_range(truth, prediction, num_truth, num_prediction)
    rows, others = np.divmod(keys, columns)
    return ContingencyTable(torch.from_numpy(rows), torch.from_numpy(others), torch.from_numpy(areas))


def contingency_table_reference(
    truth: Tensor, prediction: Tensor, num_truth: int, num_prediction: int
) -> ContingencyTable:
    """Plain torch reference of :func:`contingency_table`, for any device; the results must be equal."""
    _check(truth, prediction)
    _check_range(truth, prediction, num_truth, num_prediction)
    columns = num_prediction + 1
    keys, areas = torch.unique(truth.long() * columns + prediction.long(), return_counts=True)
    return ContingencyTable(keys // columns, keys % columns, areas)


@jit
def _count_dense(
    truth: NDArray[np.int32],
    prediction: NDArray[np.int32],
    num_truth: int,
    num_prediction: int,
    table: NDArray[np.int64],
) -> bool:
    """Add to ``table`` run by run, as neighbours mostly share their pair; return False if an id is out of range."""
    words, ends = np.empty(BLOCK // 8, np.uint64), np.empty(BLOCK + 8, np.int64)
    start = 0
    for begin in range(1, truth.size + 1, BLOCK):
        for run in range(next_ends(truth, prediction, begin, words, ends)):
            a, b = truth[start], prediction[start]
            if a < 0 or b < 0 or a > num_truth or b > num_prediction:
                return False
            table[a * (num_prediction + 1) + b] += ends[run] - start
            start = ends[run]
    return True


@jit
def _slot(keys: NDArray[np.int64], key: np.int64) -> np.int64:
    """Return the index of ``key``, or of the free slot (-1) for it; the length of ``keys`` is a power of two."""
    last = keys.size - 1
    slot = ((key * _MIXER) >> 32) & last  # the product wraps; its upper half is well mixed
    while keys[slot] >= 0 and keys[slot] != key:
        slot = (slot + 1) & last
    return slot


@jit
def _count_sparse(
    truth: NDArray[np.int32], prediction: NDArray[np.int32], num_truth: int, num_prediction: int
) -> tuple[bool, NDArray[np.int64], NDArray[np.int64]]:
    """Count in a hash table (open addressing, at most half full); return (in range, unsorted keys, areas)."""
    words, ends = np.empty(BLOCK // 8, np.uint64), np.empty(BLOCK + 8, np.int64)
    keys = np.full(1 << 12, -1, dtype=np.int64)
    areas = np.zeros(keys.size, dtype=np.int64)
    used = 0
    start = 0
    for begin in range(1, truth.size + 1, BLOCK):
        for run in range(next_ends(truth, prediction, begin, words, ends)):
            a, b = np.int64(truth[start]), np.int64(prediction[start])
            if a < 0 or b < 0 or a > num_truth or b > num_prediction:
                return False, keys[:0], areas[:0]
            if 2 * used >= keys.size:
                old_keys, old_areas = keys, areas
                keys = np.full(4 * old_keys.size, -1, dtype=np.int64)
                areas = np.zeros(keys.size, dtype=np.int64)
                for i in range(old_keys.size):
                    if old_keys[i] >= 0:
                        slot = _slot(keys, old_keys[i])
                        keys[slot] = old_keys[i]
                        areas[slot] = old_areas[i]
            key = a * (num_prediction + 1) + b
            slot = _slot(keys, key)
            if keys[slot] < 0:
                keys[slot] = key
                used += 1
            areas[slot] += ends[run] - start
            start = ends[run]
    is_used = keys >= 0
    return True, keys[is_used], areas[is_used]


def _check(truth: Tensor, prediction: Tensor) -> None:
    for name, ids in (("truth", truth), ("prediction", prediction)):
        if ids.dtype != torch.int32 or ids.ndim != 2:
            raise InvalidArgumentError(f"expected the ids of {name} as int32 [H, W], got {ids.dtype} {list(ids.shape)}")
    if truth.shape != prediction.shape:
        raise InvalidArgumentError(
            f"expected maps of the same size, got ground truth of {truth.shape[0]}x{truth.shape[1]} and a prediction "
            f"of {prediction.shape[0]}x{prediction.shape[1]}; decode or resize the prediction to the size of its image"
        )
    if truth.device != prediction.device:
        raise InvalidArgumentError(
            f"expected maps on the same device, got ground truth on {truth.device} and a prediction on "
            f"{prediction.device}"
        )


def _check_range(truth: Tensor, prediction: Tensor, num_truth: int, num_prediction: int) -> None:
    for name, ids, count in (("truth", truth, num_truth), ("prediction", prediction, num_prediction)):
        if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) > count):
            raise InvalidArgumentError(
                f"expected the ids of {name} in 0..{count}, got {int(ids.min())}..{int(ids.max())}"
            )
