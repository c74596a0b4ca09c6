"""Masks from dense boxes in one CUDA kernel, which allocates no tensor of the size of a mask except the masks.

Each program handles one object and a tile of the image. For a pixel it computes M at the four cells around it, with the
reference's order of operations, and interpolates; recomputing values that neighbours share costs less than storing
them. Products are not fused with sums, and divisions are correctly rounded, so that the masks equal the reference in
every pixel.
"""

# Parameters of kernels have Triton's types, for which there are no annotations.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from panscape.ops.source_weights import source_weights
from panscape.representations.dense_boxes.decode import MaskInputs

_ROWS, _COLUMNS = 8, 128


def dense_masks_triton(inputs: MaskInputs, threshold: float, *, is_released: bool) -> Tensor:
    """Build masks as ``dense_masks`` does; arguments are checked there, floats are float32 and contiguous.

    Returns:
        bool [P, H, W], of the inference size.
    """
    query, category, dense, prob, geometry = inputs
    size, padded_size = geometry.inference_size, geometry.padded_size
    masks = torch.empty(len(query), *size, dtype=torch.bool, device=query.device)
    if not masks.numel():
        return masks
    height, width = dense.shape[2:]
    rows = [torch.tensor(part, device=query.device) for part in source_weights(height, padded_size[0], False, size[0])]
    columns = [
        torch.tensor(part, device=query.device) for part in source_weights(width, padded_size[1], False, size[1])
    ]
    grid = (len(query), triton.cdiv(size[0], _ROWS), triton.cdiv(size[1], _COLUMNS))
    _masks[grid](
        query,
        category,
        dense,
        prob,
        *rows,
        *columns,
        masks,
        threshold,
        height * width,
        width,
        *size,
        num_boxes=len(dense),
        is_released=is_released,
        num_rows=_ROWS,
        num_columns=_COLUMNS,
        enable_fp_fusion=False,
    )
    return masks


@triton.jit
def _probability(x1, y1, x2, y2, dense, prob, place, inside, area, num_boxes: tl.constexpr, is_released: tl.constexpr):
    """Return M of one query at cells."""
    best = tl.full(place.shape, float("-inf"), tl.float32)
    for d in tl.static_range(num_boxes):
        corner = dense + 4 * d * area + place
        left = tl.load(corner, inside, 0.0)
        top = tl.load(corner + area, inside, 0.0)
        right = tl.load(corner + 2 * area, inside, 0.0)
        bottom = tl.load(corner + 3 * area, inside, 0.0)
        across = tl.maximum(tl.minimum(x2, right) - tl.maximum(x1, left), 0.0)
        shared = across * tl.maximum(tl.minimum(y2, bottom) - tl.maximum(y1, top), 0.0)
        union = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - shared
        if is_released:
            around = (tl.maximum(x2, right) - tl.minimum(x1, left)) * (tl.maximum(y2, bottom) - tl.minimum(y1, top))
            around = around + 1e-7
            value = tl.div_rn(shared + 1.0, union + 1.0) - tl.div_rn(around - union, around)
        else:
            value = tl.div_rn(shared, tl.where(union < 1e-7, 1e-7, union))
        best = tl.where(value > best, value, best)
    return best * tl.load(prob + place, inside, 0.0)


@triton.jit
def _masks(
    query,
    category,
    dense,
    prob,
    row_low,
    row_high,
    row_fraction,
    column_low,
    column_high,
    column_fraction,
    masks,
    threshold,
    area,
    width,
    out_height,
    out_width,
    num_boxes: tl.constexpr,
    is_released: tl.constexpr,
    num_rows: tl.constexpr,
    num_columns: tl.constexpr,
):
    """Write one tile of one mask."""
    number = tl.program_id(0).to(tl.int64)
    y = tl.program_id(1) * num_rows + tl.arange(0, num_rows)
    x = tl.program_id(2) * num_columns + tl.arange(0, num_columns)
    is_row, is_column = y < out_height, x < out_width
    inside = is_row[:, None] & is_column[None, :]
    x1, y1 = tl.load(query + 4 * number), tl.load(query + 4 * number + 1)
    x2, y2 = tl.load(query + 4 * number + 2), tl.load(query + 4 * number + 3)
    plane = prob + tl.load(category + number) * area
    above = (tl.load(row_low + y, is_row, 0) * width)[:, None]
    below = (tl.load(row_high + y, is_row, 0) * width)[:, None]
    left, right = tl.load(column_low + x, is_column, 0)[None, :], tl.load(column_high + x, is_column, 0)[None, :]
    v, u = tl.load(row_fraction + y, is_row, 0.0)[:, None], tl.load(column_fraction + x, is_column, 0.0)[None, :]

    a = _probability(x1, y1, x2, y2, dense, plane, above + left, inside, area, num_boxes, is_released)
    b = _probability(x1, y1, x2, y2, dense, plane, above + right, inside, area, num_boxes, is_released)
    c = _probability(x1, y1, x2, y2, dense, plane, below + left, inside, area, num_boxes, is_released)
    d = _probability(x1, y1, x2, y2, dense, plane, below + right, inside, area, num_boxes, is_released)
    value = (1 - v) * ((1 - u) * a + u * b) + v * ((1 - u) * c + u * d)
    reached = value >= threshold if is_released else value > threshold
    tl.store(masks + (number * out_height + y[:, None]) * out_width + x[None, :], reached, inside)
