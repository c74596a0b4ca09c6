"""Outputs and targets of networks that predict a box at every location."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class DenseBoxOutputs(NamedTuple):
    """Network outputs for a padded input [H, W]; L are the locations of all levels, finest first, in row-major order.

    Attributes:
        semantic: category logits, float [B, K, h, w], at ``1 / finest_stride`` of the padded size.
        box_category: logits of things, float [B, T, L]; channel t is category ``labels.thing_ids[t]``.
        box: distances from the location to the left, top, right and bottom side, pixels of the input, above 0, float
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
    """Encoded and padded ground truth; :meth:`DenseBoxRepresentation.loss` takes these stacked along a first axis.

    Attributes:
        semantic: category id + 1, int64 [H, W]; 0 is void.
        box_category: int64 [L], t + 1 for category ``labels.thing_ids[t]``; 0 background, -1 ignored.
        box: float32 [4, L], as in the outputs; 0 where there is no object.
        levelness: int64 [2h, 2w], the level from 1 on; 0 no object, -1 ignored.
        segment: int32 [2h, 2w], the object, as its row in the ground truth plus 1; 0 elsewhere.
        location_segment: int32 [L], the object whose box the location predicts; 0 elsewhere.
    """

    semantic: Tensor
    box_category: Tensor
    box: Tensor
    levelness: Tensor
    segment: Tensor
    location_segment: Tensor
