"""Relations in networks that say objects as centres: from a first stage's outputs to features for a second one.

Panoptic, Instance, and Semantic Relations: A Relational Context Encoder to Enhance Panoptic Segmentation.

Shubhankar Borse, Hyojin Park, Hong Cai, Debasmit Das, Risheek Garrepalli, Fatih Porikli. CVPR 2022.

A network with relations predicts twice. Its heads give a first stage; relations make other features of what they said;
copies of the heads, with weights of their own, give the outputs from these. In training, the first stage has the same
losses, times gamma (Equation 1, ``CenterRepresentation.first_stage_weight``).

The authors have published no code, and the paper leaves open:

- Which features: "from the backbone". Here they are those that the heads take, at a quarter of the resolution, where a
  network has two decoders one behind the other: semantics, centres and offsets have one grid there.
- What the "final prediction stage" is: copies of all heads. They begin with the weights of the first stage's.
- Everything inside: see the arguments of :class:`~panscape.nn.pisr.PISR` and of
  :class:`~panscape.nn.pisr_instances.CenterInstanceMaps`.
- Padding, which is kept out of all sums here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.nn.pisr import Relations
from panscape.nn.pisr_instances import CenterInstanceMaps, center_instance_maps
from panscape.representations.centers import CenterOutputs


class CenterRelations(nn.Module):
    """Relations between features and what a first stage found in them.

    Args:
        part: which relations.
        channels: of the features.
        labels: tells things from stuff.
        instance_maps: how centres become heatmaps; None for the defaults.
        stride: input pixels per cell of the features.
        semantic_channels: the features of the semantic branch are the first ones, this many, and those of the other
            branch follow; None if both branches take all.

    Attributes:
        semantic_width: channels for the second stage's semantic head.
        instance_width: channels for its heads of centres and offsets.

    Raises:
        InvalidArgumentError: ``semantic_channels`` leaves one of the branches nothing.
    """

    is_thing: Tensor

    def __init__(
        self,
        part: Relations,
        channels: int,
        labels: LabelSpace,
        instance_maps: CenterInstanceMaps | None = None,
        *,
        stride: int = 4,
        semantic_channels: int | None = None,
    ) -> None:
        super().__init__()
        if semantic_channels is not None and not 0 < semantic_channels < channels:
            raise InvalidArgumentError(
                f"expected semantic_channels of 1 to {channels - 1}, less than all {channels}, got {semantic_channels}"
            )
        self.instance_maps = instance_maps or CenterInstanceMaps()
        self.num_instances = part.num_instances
        self.stride = stride
        self._semantic = channels if semantic_channels is None else semantic_channels
        self._others = 0 if semantic_channels is None else semantic_channels  # where those of the other branch begin
        related = part.build(channels, len(labels))
        if related.is_semantic_only and semantic_channels is not None:
            related = part.build(semantic_channels, len(labels))
        self.related = related
        num_added = related.out_channels - related.channels
        self.semantic_width = self._semantic + num_added
        self.instance_width = channels - self._others + (0 if related.is_semantic_only else num_added)
        self.register_buffer("is_thing", torch.tensor([c.is_thing for c in labels]), persistent=False)

    def forward(self, features: Tensor, first: CenterOutputs, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Relate features to the first stage's categories and objects.

        Args:
            features: [B, C, h, w].
            first: the first stage's outputs on the same grid, offsets in pixels of the input.
            valid: where the image is, see :func:`valid_cells`.

        Returns:
            Features for the second stage's semantic head, [B, ``semantic_width``, h, w], and for its heads of centres
            and offsets, [B, ``instance_width``, h, w].
        """
        semantic_prob = first.semantic.softmax(1)
        if self.related.is_semantic_only:
            none = semantic_prob[:, :0]
            related = self.related(features[:, : self._semantic], semantic_prob, none, valid)
            return related, features[:, self._others :]
        instances, _ = center_instance_maps(
            semantic_prob,
            first.center,
            first.offset / self.stride,
            self.is_thing,
            valid,
            self.num_instances,
            self.instance_maps,
        )
        related = self.related(features, semantic_prob, instances, valid)
        if self._others == 0:
            return related, related
        added = related[:, self.related.channels :]
        return torch.cat([related[:, : self._semantic], added], dim=1), related[:, self._others :]


def valid_cells(size: Sequence[int], features: Tensor, stride: int) -> Tensor | None:
    """Return which cells of padded features show something of the image.

    Args:
        size: height and width of the image before it was padded on the right and at the bottom.
        features: [B, C, h, w].
        stride: input pixels per cell.

    Returns:
        Bool [1, 1, h, w]; None if all do.
    """
    height, width = features.shape[-2:]
    rows, columns = (min((side + stride - 1) // stride, most) for side, most in zip(size, (height, width), strict=True))
    if (rows, columns) == (height, width):
        return None
    shown = torch.ones(1, 1, rows, columns, dtype=torch.bool, device=features.device)
    return F.pad(shown, (0, width - columns, 0, height - rows))


def second_head(first: nn.Module, channels: int, width: int, build: Callable[[int], nn.Module]) -> nn.Module:
    """Return a head for the second stage: a copy of the first stage's, as it is now, if it takes as many channels.

    Args:
        first: the first stage's head.
        channels: that it takes.
        width: channels that the second stage's head takes.
        build: returns a new head for so many channels.
    """
    return copy.deepcopy(first) if width == channels else build(width)
