"""Assign every pixel to the query with the largest product of score and mask probability: plain torch.

The published implementations evaluate ``(score * sigmoid(mask)).argmax(0)`` over all masks at the image's size. Here
the sigmoid has a fixed order of operations in float32, as interpolation does, so that all implementations agree in
every pixel; it differs from the framework's by a few units in the last place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from panscape.geometry import ImageGeometry
from panscape.ops.interpolate import TensorWeights, finite_values, resample
from panscape.ops.source_weights import SourceWeights, source_weights

# Masks are within 2^-115 of 0 and 1 beyond this logit.
LARGEST_LOGIT = np.float32(80)
LOG2_E = np.float32(1.4426950408889634)
# ln 2 as a sum of a number with few bits, of which small multiples are exact, and the rest.
LN_2 = (np.float32(0.693359375), np.float32(-2.12194440e-4))
# Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
ROUNDER = np.float32(12582912)
# Taylor series of exp up to the sixth power, the highest first; below 2^-23 of error within ln 2 / 2 of 0.
EXP_SERIES = tuple(np.float32(1 / k) for k in (720, 120, 24, 6, 2, 1, 1))


class Assignment(NamedTuple):
    """The assignment of pixels to N queries.

    Attributes:
        code: int32 [H, W]: query n is n where its mask is at least 0.5, and N + n elsewhere.
        num_assigned: number of pixels of each code, int64 [2 N].
        num_inside: number of pixels where each query's mask is at least 0.5, whoever has them, int64 [N].
    """

    code: Tensor
    num_assigned: Tensor
    num_inside: Tensor


def logistic(logits: Tensor) -> Tensor:
    """Return the sigmoid of finite float32 logits, in the order of operations of the compiled kernel."""
    exponent = (-logits).clamp(-float(LARGEST_LOGIT), float(LARGEST_LOGIT))
    power = (exponent * float(LOG2_E) + float(ROUNDER)) - float(ROUNDER)
    rest = (exponent - power * float(LN_2[0])) - power * float(LN_2[1])
    series = torch.full_like(rest, float(EXP_SERIES[0]))
    for coefficient in EXP_SERIES[1:]:
        series = series * rest + float(coefficient)
    return 1 / (1 + series * ((power.int() + 127) << 23).view(torch.float32))


def resize_weights(height: int, width: int, geometry: ImageGeometry) -> list[tuple[SourceWeights, SourceWeights]]:
    """Return the vertical and horizontal weights of each resize from masks of this size to the image's size.

    As published: masks are upsampled to the network's input and cropped to the part that was image; if the image was
    resized for the network, they are resized to the image's size in a second step.
    """
    size, seen, padded = geometry.size, geometry.inference_size, geometry.padded_size
    steps = [tuple(source_weights(n, padded[i], False, seen[i]) for i, n in enumerate((height, width)))]
    if geometry.is_resized:
        steps.append(tuple(source_weights(seen[i], size[i], False, size[i]) for i in range(2)))
    return [(rows, columns) for rows, columns in steps]


def assign_pixels_reference(
    mask_logits: Tensor, score: Tensor, geometry: ImageGeometry, max_elements: int | None = None
) -> Assignment:
    """Assign every pixel to a query, on any device; ties go to the first query.

    Args:
        mask_logits: of N queries, at least one, float [N, h, w].
        score: of each query, above 0, float32 [N].
        geometry: sizes of the image.
        max_elements: process bands of rows with at most this many elements; None for the whole image at once. The CPU
            does not wait for the device in between.
    """
    num, device = len(mask_logits), mask_logits.device
    query = torch.arange(2 * num, device=device)[:, None, None]
    codes = []
    num_assigned = torch.zeros(2 * num, dtype=torch.int64, device=device)
    num_inside = num_assigned[:num].clone()
    for logits in resized_bands(mask_logits, geometry, max_elements):
        value = score[:, None, None] * logistic(logits)
        winner = torch.where(value == value.amax(0), query[:num], num).amin(0)
        code = winner + num * (logits.gather(0, winner[None])[0] < 0)
        num_assigned += (code == query).sum((1, 2))
        num_inside += (logits >= 0).sum((1, 2))
        codes.append(code.int())
    return Assignment(torch.cat(codes), num_assigned, num_inside)


def resized_bands(mask_logits: Tensor, geometry: ImageGeometry, max_elements: int | None) -> Iterator[Tensor]:
    """Return the mask logits at the image's size in bands of rows, from the top, float32 [N, rows, W].

    Args:
        mask_logits: float [N, h, w].
        geometry: sizes of the image.
        max_elements: of a band, unless it is one row; None for the whole image at once.
    """
    planes = finite_values(mask_logits)
    steps = resize_weights(planes.shape[1], planes.shape[2], geometry)
    weights = [tuple(TensorWeights.of(axis, planes.device) for axis in step) for step in steps]
    height, width = geometry.size
    band = height if max_elements is None else max(1, max_elements // (len(planes) * width))
    for top in range(0, height, band):
        yield _resized_rows(planes, steps, weights, slice(top, min(top + band, height)))


def _resized_rows(
    planes: Tensor,
    steps: list[tuple[SourceWeights, SourceWeights]],
    weights: list[tuple[TensorWeights, ...]],
    kept: slice,
) -> Tensor:
    """Return these rows of the masks at the image's size; only the rows they need are computed in earlier steps."""
    rows, columns = weights[-1]
    first = 0
    if len(steps) > 1:
        source = steps[-1][0].part(kept)
        first = int(source.low[0])
        planes = _resized_rows(planes, steps[:-1], weights[:-1], slice(first, int(source.high[-1]) + 1))
    return resample(planes, rows.part(kept, first), columns)
