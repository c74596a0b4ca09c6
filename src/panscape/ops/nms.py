"""Non-maximum suppression with torchvision's semantics, compiled, without importing torchvision.

Importing torchvision takes seconds and would delay the first prediction. On devices, torchvision's own is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.ops.jit import jit

_ZERO = np.float32(0)


def nms(box: Tensor, score: Tensor, max_overlap: float, group: Tensor | None = None) -> Tensor:
    """Visit boxes by descending score and drop those that overlap a kept box too much.

    Args:
        box: float32 [N, 4], xyxy.
        score: float32 [N]; ties go to the first box.
        max_overlap: IoU threshold, 0 or more; boxes whose IoU with a kept box is larger are dropped.
        group: int64 [N], such as categories; only boxes of one group can drop each other. None for one group.

    Returns:
        Indices of the kept boxes by descending score, int64 [M].
    """
    if box.device.type != "cpu" or torch.compiler.is_exporting():
        from torchvision import ops

        nms: Any = ops.nms
        if group is not None:  # moved apart, in float64, so that coordinates stay exact
            box, score = box.double(), score.double()
            span = 2 * torch.cat([box.new_zeros(1), box.flatten().abs()]).amax(0) + 1
            # In two directions, so that graphs in single precision, as those of ONNX are, lose less.
            box = box + (torch.stack([group % 16, group // 16], dim=1) * span).repeat(1, 2)
        kept: Tensor
        if not torch.compiler.is_exporting():
            kept = nms(box, score, max_overlap)
            return kept
        # Graphs assume that torchvision keeps two boxes or more. Two apart from all others, which come last, are added.
        beyond = torch.cat([box.new_zeros(1), box.flatten().abs()]).amax(0) + box.new_tensor([1, 3])[:, None]
        last = torch.cat([score.new_zeros(1), score]).amin(0).expand(2) - 1
        added = torch.cat([beyond, beyond, beyond + 1, beyond + 1], 1)
        kept = nms(torch.cat([box, added]), torch.cat([score, last]), max_overlap)
        return kept[kept < box.shape[0]]
    order = score.sort(descending=True, stable=True).indices
    sides = box[order].T.contiguous().numpy()
    groups = (torch.zeros_like(order) if group is None else group[order]).numpy()
    return order[torch.from_numpy(_kept(sides, groups, float(max_overlap)))]


@jit
def _kept(sides: NDArray[np.float32], groups: NDArray[np.int64], max_overlap: float) -> NDArray[np.bool_]:
    """Return which boxes [4, N], sorted by descending score, are kept; IoU is rounded to float32, then compared."""
    x1, y1, x2, y2 = sides[0], sides[1], sides[2], sides[3]
    num = len(x1)
    area = np.empty(num, dtype=np.float32)
    for i in range(num):
        area[i] = (x2[i] - x1[i]) * (y2[i] - y1[i])
    kept = np.ones(num, dtype=np.bool_)
    for i in range(num):
        if not kept[i]:
            continue
        for j in range(i + 1, num):
            if groups[j] != groups[i]:
                continue
            across = max(min(x2[i], x2[j]) - max(x1[i], x1[j]), _ZERO)
            down = max(min(y2[i], y2[j]) - max(y1[i], y1[j]), _ZERO)
            shared = across * down
            if shared > 0 and shared / (area[i] + area[j] - shared) > max_overlap:
                kept[j] = False
    return kept
