"""Baselines of PISR: other ways to add the context of categories and objects to features.

The rows of Table 5 of *Panoptic, Instance, and Semantic Relations* (Borse et al., CVPR 2022) that are not relational
attention. "Without reweighting" is ``PISR(reweighting=False)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from panscape.constraints import BelowOne, PositiveInt
from panscape.nn.blocks import conv_norm_relu
from panscape.nn.pisr import RelationModule, Relations, mask_pool

# Minimum divisor for the probability of a category summed over all places. Softmaxes underflow to 0; with a smaller
# divisor, gradients overflow in single precision, especially if the loss is scaled.
_SMALLEST_MASS = 1e-12


@dataclass(frozen=True, slots=True)
class Concatenation(Relations):
    """Concatenates features, probabilities and heatmaps ("Concatenation").

    The paper stacks them in another order, which makes no difference to the heads.
    """

    def build(self, channels: int, num_categories: int) -> ConcatenationModule:
        """See :meth:`Relations.build`."""
        return ConcatenationModule(self, channels, num_categories)


class ConcatenationModule(RelationModule):
    """The module of :class:`Concatenation`; it has no parameters, but widens the heads' input.

    Args:
        part: its options.
        channels: C; the result has C + N + K.
        num_categories: N.
    """

    def __init__(self, part: Concatenation, channels: int, num_categories: int) -> None:
        super().__init__(part, channels, num_categories, num_added=num_categories + part.num_instances)

    def relate(self, features: Tensor, semantic_prob: Tensor, instances: Tensor, valid: Tensor | None) -> Tensor:
        """See :meth:`RelationModule.forward`."""
        return torch.cat([features, semantic_prob.to(features.dtype), instances.to(features.dtype)], dim=1)


@dataclass(frozen=True, slots=True)
class ElementwiseProduct(Relations):
    """Multiplies features by a projection of probabilities and heatmaps ("Elementwise Product").

    The paper calls the projection "a convolutional layer". Here it is 1x1 with BatchNorm and without ReLU, which would
    set half of the features to zero.
    """

    def build(self, channels: int, num_categories: int) -> ElementwiseProductModule:
        """See :meth:`Relations.build`."""
        return ElementwiseProductModule(self, channels, num_categories)


class ElementwiseProductModule(RelationModule):
    """The module of :class:`ElementwiseProduct`.

    Args:
        part: its options.
        channels: C.
        num_categories: N.
    """

    def __init__(self, part: ElementwiseProduct, channels: int, num_categories: int) -> None:
        super().__init__(part, channels, num_categories)
        self.project = nn.Sequential(
            nn.Conv2d(num_categories + part.num_instances, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def relate(self, features: Tensor, semantic_prob: Tensor, instances: Tensor, valid: Tensor | None) -> Tensor:
        """See :meth:`RelationModule.forward`."""
        guidance = torch.cat([semantic_prob, instances], dim=1).to(features.dtype)
        return features * cast(Tensor, self.project(guidance))


@dataclass(frozen=True, slots=True)
class OCR(Relations):
    """Object-contextual representations (OCR): each place attends to the categories' regions; semantic features only.

    *Segmentation Transformer: Object-Contextual Representations for Semantic Segmentation* (Yuan, Chen, Chen, Wang,
    ECCV 2020), as it was applied to Panoptic-DeepLab for comparison; the instance branch is unchanged. The paper's
    regions are softmaxes of category logits over places. Here they are softmaxes of log probabilities over places, that
    is, probabilities divided by their sum: a constant added to all logits of a place has no effect. Convolutions before
    a norm have no bias, as the norm would remove it.

    Attributes:
        num_instances: number of most confident objects that are used; objects have no effect.
        detach_guidance: stop gradients from the relations into the first stage's predictions.
        key_width: number of channels of the attention's keys and queries.
        dropout: dropout probability of the result's channels in training.

    Raises:
        InvalidArgumentError: a value is out of its range.
    """

    key_width: PositiveInt = 256
    dropout: BelowOne = 0.1

    def build(self, channels: int, num_categories: int) -> OCRModule:
        """See :meth:`Relations.build`."""
        return OCRModule(self, channels, num_categories)


class OCRModule(RelationModule):
    """The module of :class:`OCR`.

    Args:
        part: its options.
        channels: C, channels of the features and of the result.
        num_categories: N.
    """

    uses_instances: ClassVar[bool] = False
    is_semantic_only: ClassVar[bool] = True

    def __init__(self, part: OCR, channels: int, num_categories: int) -> None:
        super().__init__(part, channels, num_categories)
        width = part.key_width
        self.scale = width**-0.5
        self.query = nn.Sequential(conv_norm_relu(channels, width, 1), conv_norm_relu(width, width, 1))
        self.key = nn.Sequential(conv_norm_relu(channels, width, 1), conv_norm_relu(width, width, 1))
        self.value = conv_norm_relu(channels, width, 1)
        self.context = conv_norm_relu(width, channels, 1)
        self.fuse = nn.Sequential(conv_norm_relu(2 * channels, channels, 1), nn.Dropout2d(part.dropout))

    def relate(self, features: Tensor, semantic_prob: Tensor, instances: Tensor, valid: Tensor | None) -> Tensor:
        """See :meth:`RelationModule.forward`."""
        size = features.shape[-2:]
        shown = features if valid is None else features.masked_fill(~valid, 0)
        sums, mass = mask_pool(semantic_prob, shown)
        means = sums / mass.clamp_min(_SMALLEST_MASS)
        regions = means.to(features.dtype).transpose(1, 2)[..., None]  # a map of N places: [B, C, N, 1]
        query = self.query(shown).flatten(2).transpose(1, 2) * self.scale
        similarity = (query @ self.key(regions)[..., 0]).softmax(2)  # [B, h w, N]
        context = similarity.to(features.dtype) @ self.value(regions)[..., 0].transpose(1, 2)
        context = self.context(context.transpose(1, 2).unflatten(2, size))
        return cast(Tensor, self.fuse(torch.cat([context, shown], dim=1)))
