"""The head of dense detections; for its source and deviations see ``models/dense_detections.py``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from panscape.nn.shared_conv import SharedHeadConv
from panscape.representations.dense_boxes import DenseBoxOutputs

LARGEST_DISTANCE = 10_000.0
"""Largest distance of a side from its location, pixels; prevents overflow of the exponential."""

CHANNELS_IN_GROUP = 8
"""Channels of a group of GroupNorm, in both towers."""

_PRIOR = 0.01  # probability of each category of boxes before training (Lin et al., ICCV 2017, Section 3.3)


def tower(in_channels: int, width: int, depth: int) -> nn.Sequential:
    """Return ``depth`` layers of 3x3 convolution, GroupNorm and ReLU."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [
            nn.Conv2d(width if i else in_channels, width, 3, padding=1),
            nn.GroupNorm(width // CHANNELS_IN_GROUP, width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class DenseDetectionHead(nn.Module):
    """Predicts all outputs from the levels of an FPN; levels share all weights except one scale each.

    Args:
        in_channels: channels of the levels.
        num_levels: number of levels.
        num_categories: number of categories of the semantic logits.
        num_things: number of categories of boxes.
        box_width: channels of the localisation tower.
        semantic_width: channels of the semantic tower; None to use the localisation tower for everything.
        depth: layers of each tower.
        has_levelness: whether levelness is predicted.
        initial_distance: initial distance of all boxes' sides from their locations, pixels.
        has_prior: initialise the categories of boxes to a probability of 0.01 instead of 0.5.
    """

    def __init__(
        self,
        in_channels: int,
        num_levels: int,
        num_categories: int,
        num_things: int,
        *,
        box_width: int,
        semantic_width: int | None,
        depth: int,
        has_levelness: bool,
        initial_distance: float,
        has_prior: bool,
    ) -> None:
        super().__init__()
        self.location_tower = tower(in_channels, box_width, depth)
        self.semantic_tower = None if semantic_width is None else tower(in_channels, semantic_width, depth)
        semantic_width = semantic_width or box_width
        self.box_category = nn.Conv2d(semantic_width, num_things, 3, padding=1)
        self.box = nn.Conv2d(box_width, 4, 3, padding=1)
        self.centerness = nn.Conv2d(box_width, 1, 3, padding=1)
        self.levelness = SharedHeadConv(box_width, num_levels, 1 + num_levels) if has_levelness else None
        self.semantic = SharedHeadConv(semantic_width, num_levels, num_categories)
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in range(num_levels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(cast(Tensor, module.bias))
        nn.init.constant_(cast(Tensor, self.box.bias), math.log(initial_distance))
        if has_prior:
            nn.init.constant_(cast(Tensor, self.box_category.bias), -math.log((1 - _PRIOR) / _PRIOR))

    def forward(self, levels: Sequence[Tensor]) -> DenseBoxOutputs:
        """Map [B, C, h_i, w_i] for each level, finest first, to outputs, float32 for any dtype of the levels."""
        location = [self.location_tower(x) for x in levels]
        semantic = location if self.semantic_tower is None else [self.semantic_tower(x) for x in levels]
        height, width = levels[0].shape[-2:]
        # float32 from here on: in half precision, the exponential would have an error of pixels.
        box = [
            (scale * self.box(x).float()).clamp(max=math.log(LARGEST_DISTANCE)).exp()
            for scale, x in zip(self.scales, location, strict=True)
        ]
        return DenseBoxOutputs(
            semantic=self.semantic(semantic, (height, width)).float(),
            box_category=_in_a_row([self.box_category(x).float() for x in semantic]),
            box=_in_a_row(box),
            centerness=_in_a_row([self.centerness(x).float() for x in location])[:, 0],
            levelness=None if self.levelness is None else self.levelness(location, (2 * height, 2 * width)).float(),
        )


def _in_a_row(levels: Sequence[Tensor]) -> Tensor:
    """Map [B, C, h_i, w_i] to [B, C, L], row-major."""
    return torch.cat([x.flatten(2) for x in levels], dim=2)
