"""Objects as boxes that every location predicts: boxes, categories, centredness and levels, beside a segmentation.

The representation of Real-Time Panoptic Segmentation from Dense Detections (Hou et al., CVPR 2020, arXiv 1912.01202).
An object's mask is where the boxes that the pixels predict agree with the object's own. The authors released no
training code; what the paper leaves open follows FCOS (Tian et al., ICCV 2019), see docs/models/dense_detections.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.kernels.dense_box_targets import dense_box_targets
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap

__all__ = ["DenseBoxOutputs", "DenseBoxRepresentation", "DenseBoxTargets"]


class DenseBoxOutputs(NamedTuple):
    """What a network gives for a padded input of [H, W]; L are the locations of all levels, finest first, row by row.

    Attributes:
        semantic: category logits, float [B, K, h, w], at ``1 / finest_stride`` of the padded size.
        box_category: logits of things, float [B, T, L]; channel t is category ``labels.thing_ids[t]``.
        box: distances from the location to the left, upper, right and lower side, pixels of the input, above 0, float
            [B, 4, L].
        centerness: logits, float [B, L].
        levelness: logits, float [B, 1 + levels, 2h, 2w], channel 0 for no object; None in networks without it.
    """

    semantic: Tensor
    box_category: Tensor
    box: Tensor
    centerness: Tensor
    levelness: Tensor | None


class DenseBoxTargets(NamedTuple):
    """An encoded truth, padded; :meth:`DenseBoxRepresentation.loss` takes these stacked along a first axis.

    Attributes:
        semantic: category id + 1, int64 [H, W]; 0 is void.
        box_category: int64 [L], t + 1 for category ``labels.thing_ids[t]``; 0 background, -1 ignored.
        box: float32 [4, L], as in the outputs; 0 where there is no object.
        levelness: int64 [2h, 2w], the level from 1 on; 0 no object, -1 ignored.
        segment: int32 [2h, 2w], the object, as its row in the truth plus 1; 0 elsewhere.
        location_segment: int32 [L], the object whose box the location predicts; 0 elsewhere.
    """

    semantic: Tensor
    box_category: Tensor
    box: Tensor
    levelness: Tensor
    segment: Tensor
    location_segment: Tensor


@dataclass(frozen=True, slots=True)
class DenseBoxRepresentation:
    """Targets, losses and recovery. Defaults are the paper's for Cityscapes, or what the authors' code suggests.

    Attributes:
        level_ends: largest distance from a location to a side of its box, pixels, for each level but the last; there is
            one level more.
        finest_stride: pixels between locations of the first level, even; each next level has twice that.
        supervision: "masks", or "boxes" to learn objects from their boxes alone (Table 3, last row); the semantic
            segmentation is learnt from all pixels either way.

    Raises:
        InvalidArgumentError: a value is out of its range.
    """

    level_ends: tuple[float, ...] = (64.0, 128.0, 256.0, 512.0)
    finest_stride: int = 8
    supervision: Literal["masks", "boxes"] = "masks"

    def __post_init__(self) -> None:
        if not all(low < high for low, high in pairwise((0.0, *self.level_ends, inf))):
            raise InvalidArgumentError(f"expected ascending level_ends above 0, got {self.level_ends}")
        if self.finest_stride < 2 or self.finest_stride % 2:
            raise InvalidArgumentError(f"expected an even finest_stride of 2 or more, got {self.finest_stride}")
        if self.supervision not in ("masks", "boxes"):
            raise InvalidArgumentError(f'expected supervision "masks" or "boxes", got {self.supervision!r}')

    @property
    def num_levels(self) -> int:
        """Number of levels."""
        return len(self.level_ends) + 1

    def encode(self, truth: PanopticMap, labels: LabelSpace, padded_to: tuple[int, int]) -> DenseBoxTargets:
        """Encode a truth; see :mod:`panscape.kernels.dense_box_targets` for the rules.

        Args:
            truth: on the CPU; void and crowds are ignored in all but the semantic target, which has crowds.
            labels: tells things from stuff.
            padded_to: height and width of the network's input, multiples of ``finest_stride``: the truth is extended to
                it with void.

        Raises:
            InvalidArgumentError: the truth has categories that the label space lacks, or is larger than ``padded_to``,
                or that is no multiple of ``finest_stride``.
        """
        if truth.num_segments and int(truth.category.max()) >= len(labels):
            raise InvalidArgumentError(
                f"expected category ids below {len(labels)} ({labels.name}), got {int(truth.category.max())}; "
                "the truth was read with another label space"
            )
        if any(side > padded for side, padded in zip(truth.size, padded_to, strict=True)):
            raise InvalidArgumentError(
                f"expected a truth of at most {padded_to[0]}x{padded_to[1]} pixels, got "
                f"{truth.size.height}x{truth.size.width}"
            )
        boxes = truth.boxes()
        padded = truth.pad(*padded_to)
        is_crowd = torch.zeros_like(truth.category, dtype=torch.bool) if truth.crowd is None else truth.crowd
        # By the place among the things, from 1 on; stuff is 0.
        number = torch.zeros(len(labels), dtype=torch.int64)
        number[list(labels.thing_ids)] = torch.arange(1, len(labels.thing_ids) + 1)
        maps = dense_box_targets(
            padded.ids,
            boxes,
            number[truth.category],
            is_crowd,
            level_ends=self.level_ends,
            finest_stride=self.finest_stride,
            supervision=self.supervision,
        )
        return DenseBoxTargets(padded.semantic(void=-1) + 1, *maps)
