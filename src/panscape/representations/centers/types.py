"""What networks that say objects as centres give, and what that is compared with."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class CenterOutputs(NamedTuple):
    """What a network gives, at a fraction of the padded input's size.

    Whoever goes through the tensors goes through :attr:`tensors`, as the last field is none.

    Attributes:
        semantic: category logits, float [B, K, h, w].
        center: centre heatmap, float [B, 1, h, w], 1 at a centre.
        offset: from the pixel to its centre, (dy, dx) in pixels of the input image, float [B, 2, h, w].
        auxiliary: outputs of a first stage, given in training by networks whose second stage builds on them; None in
            prediction, and of all other networks. Maps are never recovered from it.
    """

    semantic: Tensor
    center: Tensor
    offset: Tensor
    auxiliary: CenterOutputs | None = None

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Semantic, centre and offset."""
        return self.semantic, self.center, self.offset

    def image(self, i: int) -> CenterOutputs:
        """Return the outputs for image ``i`` of the batch, as a batch of one and without a first stage's."""
        semantic, center, offset = (part[i : i + 1] for part in self.tensors)
        return CenterOutputs(semantic, center, offset)

    def padded_size(self, output_stride: int) -> tuple[int, int]:
        """Return height and width of the padded input, if every output stands for a square of this side."""
        height, width = self.semantic.shape[-2:]
        return height * output_stride, width * output_stride


class CenterTargets(NamedTuple):
    """An encoded truth at full resolution; the loss takes these stacked along a first axis.

    Attributes:
        semantic: category id + 1, int64 [H, W]; 0 is void.
        semantic_weight: float32 [H, W]; larger on small objects.
        center: float32 [H, W].
        center_weight: float32 [H, W]; 0 on void and crowds.
        offset: float32 [2, H, W].
        offset_weight: float32 [H, W]; 0 on everything but objects.
    """

    semantic: Tensor
    semantic_weight: Tensor
    center: Tensor
    center_weight: Tensor
    offset: Tensor
    offset_weight: Tensor
