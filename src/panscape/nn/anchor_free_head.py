"""The head of a detector without anchors: one box for each place of each stride.

Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv:2107.08430, Section 2, but with one tower for all outputs of a
stride, as in YOLOv3: two towers take 9 % of the time of a light network. Coefficients of prototypes beside each box are
those of YOLACT (Bolya et al., ICCV 2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from panscape.nn.blocks import conv_norm_relu

_OBJECTNESS = 0.01  # initial, as most places have no object
_CATEGORY_PLANE = 4.0  # initial coefficient, with which a mask is what the semantic segmentation says


class AnchorFreeHead(nn.Module):
    """Maps features of one width to the logits of boxes and the coefficients of their masks.

    Args:
        width: channels of the features and of the towers.
        num_things: number of categories.
        num_coefficients: of each box; the last one is that of its category's probability.
        num_strides: number of features, each with layers of its own.
        depth: 3x3 convolutions before the outputs.
    """

    def __init__(
        self, width: int, num_things: int, num_coefficients: int, *, num_strides: int = 3, depth: int = 1
    ) -> None:
        super().__init__()
        self.strides = nn.ModuleList(_Stride(width, num_things, num_coefficients, depth) for _ in range(num_strides))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Map [B, C, h, w] of each stride to outputs by stride, row and column.

        Returns:
            Logits, float [B, N, 5 + T], x, y, width, height, objectness and categories, see
            :func:`~panscape.ops.yolo_boxes.decode_cells`; and coefficients, float [B, N, P + 1].
        """
        found = [stride(x) for stride, x in zip(self.strides, features, strict=True)]
        logits, coefficients = zip(*found, strict=True)
        return torch.cat(logits, dim=1), torch.cat(coefficients, dim=1)


class _Stride(nn.Module):
    def __init__(self, width: int, num_things: int, num_coefficients: int, depth: int) -> None:
        super().__init__()
        self.tower = nn.Sequential(*(conv_norm_relu(width, width, 3) for _ in range(depth)))
        self.logits = nn.Conv2d(width, 5 + num_things, 1)
        self.coefficients = nn.Conv2d(width, num_coefficients, 1)
        nn.init.normal_(self.logits.weight, std=0.01)
        for predictor in (self.logits, self.coefficients):
            nn.init.zeros_(cast(Tensor, predictor.bias))
        nn.init.constant_(cast(Tensor, self.logits.bias)[4:5], math.log(_OBJECTNESS / (1 - _OBJECTNESS)))
        nn.init.constant_(cast(Tensor, self.coefficients.bias)[-1:], _CATEGORY_PLANE)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.tower(x)
        return [predictor(x).flatten(2).transpose(1, 2) for predictor in (self.logits, self.coefficients)]
