"""Mask heads on pooled pyramids: the mask of each detected box, from the features and its category's probability.

Diaz-Zapata, "YOLO-Based Panoptic Segmentation" (MSc thesis, 2020), Section 3.3. The thesis crops and resizes
boxes; here RoIAlign (He et al., "Mask R-CNN", ICCV 2017) does both.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.nn.pyramid_pooling import Pyramid, PyramidConv
from panscape.nn.region_pooling import align_regions
from panscape.nn.semantic_heads import resized, xavier_init

_SAMPLES = 2  # values along each side of a cell
_LEAST_LOG_PROB = -10.0


class MaskHead(nn.Module):
    """Maps the features of boxes to masks: "shallow" of 40x40 cells, "deep" of 20x20.

    Shallow is one 3x3 convolution, deep three; a 1x1 convolution to one channel follows.

    Args:
        width: channels of the features without the category's probability, and of the convolutions.
        deep: which of the two.
        literal: use only the activation that the text names, a ReLU6 after the second convolution of the deep head,
            instead of a ReLU6 after every 3x3 convolution. The text's shallow head is linear.
    """

    def __init__(self, width: int, *, deep: bool, literal: bool = False) -> None:
        super().__init__()
        self.num_cells = 20 if deep else 40
        """Cells along each side of a mask."""
        layers: list[nn.Module] = []
        num_convs = 3 if deep else 1
        for number in range(num_convs):
            layers.append(nn.Conv2d(width if number else width + 1, width, 3, padding=1))
            if not literal or number == 1:
                layers.append(nn.ReLU6())
        layers.append(nn.Conv2d(width, 1, 1))
        self.layers = nn.Sequential(*layers)
        xavier_init(self)

    def forward(self, regions: Tensor) -> Tensor:
        """Map [N, ``width`` + 1, M, M] to logits [N, M, M]."""
        return cast(Tensor, self.layers(regions))[:, 0]


class CategoryMasks(nn.Module):
    """The masks of boxes by the semantic segmentation alone: the pixels that it gives to each box's category.

    A logit is the logarithm of the ratio of the category's probability to the largest one of the others. So it is above
    0 where the category is the most probable one.

    Args:
        stride: of the semantic logits.
    """

    num_cells = 40
    """Cells along each side of a mask."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(
        self, pyramid: Pyramid | None, semantic: Tensor, boxes: Tensor, image: Tensor, category: Tensor
    ) -> Tensor:
        """See :meth:`MaskBranch.forward`; the pyramid is not used."""
        log_prob = semantic.float().log_softmax(dim=1)
        # One more category bounds the ratio, and is the other one where there is a single category.
        top = F.pad(log_prob, (0, 0, 0, 0, 0, 1), value=_LEAST_LOG_PROB).topk(2, dim=1).values
        ratio = log_prob - torch.where(log_prob == top[:, :1], top[:, 1:], top[:, :1])
        plane = _category_plane(ratio, self.stride, boxes, image, category, self.num_cells)
        return plane[:, 0].to(semantic.dtype)


class MaskBranch(nn.Module):
    """Reduces a pyramid, upsamples it, pools the boxes from it and applies a :class:`MaskHead`.

    Args:
        pyramid_channels: channels of a concatenated pyramid, :attr:`PyramidPooling.pyramid_channels`.
        stride: of the pyramid.
        width: channels of the reduced features.
        deep: see :class:`MaskHead`.
        literal: see :class:`MaskHead`.
        split: see :class:`PyramidConv`.
    """

    def __init__(
        self, pyramid_channels: int, stride: int, *, width: int = 128, deep: bool, literal: bool = False, split: bool
    ) -> None:
        super().__init__()
        self.reduce = PyramidConv(pyramid_channels, width, 1, split=split)
        self.norm = nn.BatchNorm2d(width)
        xavier_init(self.reduce)
        self.factor = 4 if stride == 16 else 2
        self.stride = stride // self.factor
        """Stride of the features from which boxes are pooled."""
        self.head = MaskHead(width, deep=deep, literal=literal)

    def forward(self, pyramid: Pyramid, semantic: Tensor, boxes: Tensor, image: Tensor, category: Tensor) -> Tensor:
        """Predict the masks of boxes.

        Args:
            pyramid: of :meth:`PyramidPooling.pool`.
            semantic: category logits of the same images, float [B, K, h, w] of any size; they receive gradients.
            boxes: xyxy in pixels of the input, inside of it, float [N, 4].
            image: index of each box's image in the batch, int64 [N].
            category: channel of each box's category in ``semantic``, int64 [N].

        Returns:
            Logits, float [N, M, M].
        """
        height, width = (side * self.factor for side in pyramid.features.shape[-2:])
        features = resized(torch.relu(self.norm(self.reduce(pyramid))), (height, width))
        prob = resized(semantic.softmax(dim=1), (height, width))
        dtype = features.dtype
        features, prob = features.float(), prob.float()  # half precision is too coarse for coordinates
        regions = align_regions(features, self.stride, boxes, image, self.head.num_cells, _SAMPLES)
        plane = _category_plane(prob, self.stride, boxes, image, category, self.head.num_cells)
        return cast(Tensor, self.head(torch.cat([regions, plane], dim=1).to(dtype)))


def _category_plane(
    planes: Tensor, stride: int, boxes: Tensor, image: Tensor, category: Tensor, num_cells: int
) -> Tensor:
    """Return the plane of each box's category in its cells, [N, 1, M, M]; no other category is pooled."""
    return align_regions(
        planes.flatten(0, 1)[:, None], stride, boxes, image * planes.shape[1] + category, num_cells, _SAMPLES
    )
