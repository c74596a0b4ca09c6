"""What relations were compared with: other ways to let features know of categories and objects.

The rows of Table 5 of *Panoptic, Instance, and Semantic Relations* (Borse et al., CVPR 2022) that are not relational
attention. "Without reweighting" is ``PISR(reweighting=False)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from panscape.errors import InvalidArgumentError
from panscape.nn.blocks import conv_norm_relu
from panscape.nn.pisr import RelationModule, Relations, sums_under

# Probability of a category summed over all places. Softmaxes underflow to 0; what is divided by less has gradients that
# overflow in single precision, above all if the loss is scaled.
_SMALLEST_MASS = 1e-12


@dataclass(frozen=True, slots=True)
class Concatenation(Relations):
    """Features, probabilities and heatmaps, one behind the other ("Concatenation").

    The paper stacks them in another order, which no head can tell.
    """

    def build(self, channels: int, num_categories: int) -> ConcatenationModule:
        """See :meth:`Relations.build`."""
        return ConcatenationModule(self, channels, num_categories)


class ConcatenationModule(RelationModule):
    """What :class:`Concatenation` builds; it has no parameters, and heads become wider.

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
    """Features times a projection of probabilities and heatmaps ("Elementwise Product").

    The paper calls the projection "a convolutional layer". Here it is 1x1 with BatchNorm and without ReLU, which would
    delete half of the features.
    """

    def build(self, channels: int, num_categories: int) -> ElementwiseProductModule:
        """See :meth:`Relations.build`."""
        return ElementwiseProductModule(self, channels, num_categories)


class ElementwiseProductModule(RelationModule):
    """What :class:`ElementwiseProduct` builds.

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
    """Object-contextual representations: each place attends to the categories' regions; of semantic features alone.

    *Segmentation Transformer: Object-Contextual Representations for Semantic Segmentation* (Yuan, Chen, Chen, Wang,
    ECCV 2020), as it was applied to Panoptic-DeepLab for comparison; objects stay as they are. Its regions are
    softmaxes over places of category logits; these are softmaxes over places of the logarithms of probabilities, which
    are probabilities divided by their sum: what a place adds to all of its logits plays no role. Convolutions before a
    norm have no bias, which the norm would take off.

    Attributes:
        num_instances, detach_guidance: see :class:`Relations`; objects play no role.
        key_width: channels in which places and regions are compared.
        dropout: share of channels of the result that are dropped in training.

    Raises:
        InvalidArgumentError: a value is out of its range.
    """

    key_width: int = 256
    dropout: float = 0.1

    def __post_init__(self) -> None:
        Relations.__post_init__(self)
        if self.key_width < 1:
            raise InvalidArgumentError(f"expected a key_width of 1 or more channels, got {self.key_width}")
        if not 0 <= self.dropout < 1:
            raise InvalidArgumentError(f"expected a dropout of 0 or more and below 1, got {self.dropout}")

    def build(self, channels: int, num_categories: int) -> OCRModule:
        """See :meth:`Relations.build`."""
        return OCRModule(self, channels, num_categories)


class OCRModule(RelationModule):
    """What :class:`OCR` builds.

    Args:
        part: its options.
        channels: C, of the features and the result.
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
        sums, mass = sums_under(semantic_prob, shown)
        means = sums / mass.clamp_min(_SMALLEST_MASS)
        regions = means.to(features.dtype).transpose(1, 2)[..., None]  # a map of N places: [B, C, N, 1]
        query = self.query(shown).flatten(2).transpose(1, 2) * self.scale
        similarity = (query @ self.key(regions)[..., 0]).softmax(2)  # [B, h w, N]
        context = similarity.to(features.dtype) @ self.value(regions)[..., 0].transpose(1, 2)
        context = self.context(context.transpose(1, 2).unflatten(2, size))
        return cast(Tensor, self.fuse(torch.cat([context, shown], dim=1)))
