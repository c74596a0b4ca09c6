"""Outputs and targets of networks that represent objects as centres."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class CenterOutputs(NamedTuple):
    """Outputs of a network, at a fraction of the padded input's size.

    Iterate over :attr:`tensors` for the tensors, as the last field is not one.

    Attributes:
        semantic: category logits, float [B, K, h, w].
        center: centre heatmap, float [B, 1, h, w], 1 at a centre.
        offset: from the pixel to its centre, (dy, dx) in pixels of the input image, float [B, 2, h, w].
        first_stage: outputs of a first stage, returned in training by networks with a second stage that builds on them;
            None in inference and for all other networks. It is never decoded into maps.
    """

    semantic: Tensor
    center: Tensor
    offset: Tensor
    first_stage: CenterOutputs | None = None

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """The tensors semantic, center and offset."""
        return self.semantic, self.center, self.offset

    def image(self, i: int) -> CenterOutputs:
        """Return the outputs of image ``i`` as a batch of one, without those of a first stage."""
        semantic, center, offset = (part[i : i + 1] for part in self.tensors)
        return CenterOutputs(semantic, center, offset)

    def padded_size(self, output_stride: int) -> tuple[int, int]:
        """Return the height and width of the padded input, if every output covers a square of this side."""
        height, width = self.semantic.shape[-2:]
        return height * output_stride, width * output_stride


class CenterTargets(NamedTuple):
    """Encoded ground truth at full resolution; the loss receives these stacked along a first axis.

    Attributes:
        semantic: category id + 1, int64 [H, W]; 0 is void.
        semantic_weight: float32 [H, W]; larger on small things, 1 on other segments, 0 on void.
        center: float32 [H, W] in 0..1, heatmap of centres, 1 at each centre.
        center_weight: float32 [H, W], 1 on segments, 0 on void and crowds.
        offset: float32 [2, H, W], from each pixel of a thing to its centre as (dy, dx) in pixels; 0 elsewhere.
        offset_weight: float32 [H, W]; 0 on everything but things.
    """

    semantic: Tensor
    semantic_weight: Tensor
    center: Tensor
    center_weight: Tensor
    offset: Tensor
    offset_weight: Tensor
