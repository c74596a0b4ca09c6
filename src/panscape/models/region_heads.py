"""The two stages that networks with regions share: region proposals, and heads for boxes and masks.

The heads of Faster R-CNN and Mask R-CNN on a feature pyramid, in the forms of seamseg (Seamless Scene Segmentation) and
of detectron2 (Panoptic FPN); see ``models/seamless.py`` and ``models/panoptic_fpn.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from panscape.errors import InvalidArgumentError
from panscape.nn.backbones import STRIDES
from panscape.nn.region_pooling import PoolingCompat, pool_regions
from panscape.nn.sync_batch_norm import num_missing_samples
from panscape.ops.boxes import clip_boxes, decode_boxes, has_area, scattered, stacked
from panscape.representations.regions import RegionRepresentation, RegionTargets
from panscape.representations.regions.losses import (
    SECOND_STAGE_WEIGHTS,
    match_regions,
    objects_of,
    sample_regions,
)
from panscape.representations.regions.propose import DetectedBoxes, select_detections, select_proposals

NUM_MASK_CELLS = 28
"""Cells along each side of a mask."""

_FEATURE_CELLS = 14  # of the mask head's features; the box head's have half as many
_WIDENING = 4  # channels of the box head by channel of the levels

Norm = Callable[[int], nn.Module]


class RegionResults(NamedTuple):
    """The fields of :class:`RegionOutputs` that come from the second stage, in its order."""

    regions: Tensor
    category: Tensor
    region_offsets: Tensor
    mask_boxes: Tensor
    mask_category: Tensor
    mask_score: Tensor
    masks: Tensor


class ProposalHead(nn.Module):
    """Objectness and offsets of the anchors at every location of a level; levels share it.

    Args:
        width: channels of the levels.
        num_shapes: anchors at a location.
        unit: returns a 3x3 convolution with norm and activation.
    """

    def __init__(self, width: int, num_shapes: int, unit: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.conv = unit(width, width)
        self.objectness = nn.Conv2d(width, num_shapes, 1)
        self.offsets = nn.Conv2d(width, 4 * num_shapes, 1)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits [B, A] and offsets [B, A, 4] of the anchors of all levels, in the order of ``Anchors``."""
        objectness, offsets = [], []
        for level in levels:
            features = self.conv(level)
            objectness.append(self.objectness(features).permute(0, 2, 3, 1).flatten(1))
            offsets.append(self.offsets(features).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)))
        return torch.cat(objectness, dim=1), torch.cat(offsets, dim=1)


class BoxHead(nn.Module):
    """Categories and offsets of regions.

    Args:
        width: channels of the features.
        num_things: number of categories of things.
        norm: norm of the hidden layers; None for a bias instead.
        activation: activation of the hidden layers.
    """

    def __init__(self, width: int, num_things: int, norm: Norm | None, activation: nn.Module) -> None:
        super().__init__()
        cells = (_FEATURE_CELLS // 2) ** 2
        hidden = _WIDENING * width
        self.fc1 = nn.Linear(cells * width, hidden, bias=norm is None)
        self.fc2 = nn.Linear(hidden, hidden, bias=norm is None)
        self.norm1, self.norm2 = (norm(hidden) if norm else nn.Identity() for _ in range(2))
        self.activation = activation
        self.category = nn.Linear(hidden, num_things + 1)
        self.offsets = nn.Linear(hidden, 4 * num_things)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map [N, C, 7, 7] to logits [N, T + 1], background first, and offsets [N, T, 4]."""
        x = features.flatten(1)
        for layer, norm in ((self.fc1, self.norm1), (self.fc2, self.norm2)):
            x = self.activation(norm(layer(x)[:, :, None, None]))[:, :, 0, 0]  # norms are those of images
        return self.category(x), self.offsets(x).unflatten(1, (-1, 4))


class MaskHead(nn.Module):
    """Masks of regions, one for each thing.

    Args:
        width: channels of the features.
        num_things: number of categories of things.
        unit: returns a 3x3 convolution with norm and activation.
        norm: norm after the transposed convolution; None for a bias instead.
        activation: activation after it.
    """

    def __init__(
        self,
        width: int,
        num_things: int,
        unit: Callable[[int, int], nn.Module],
        norm: Norm | None,
        activation: nn.Module,
    ) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(unit(width, width) for _ in range(4)))
        self.upsample = nn.ConvTranspose2d(width, width, 2, stride=2, bias=norm is None)
        self.norm = norm(width) if norm else nn.Identity()
        self.activation = activation
        self.masks = nn.Conv2d(width, num_things, 1)

    def forward(self, features: Tensor, thing: Tensor) -> Tensor:
        """Map [N, C, 14, 14] and the thing of each region, int64 [N], to logits [N, 28, 28]."""
        masks: Tensor = self.masks(self.activation(self.norm(self.upsample(self.convs(features)))))
        return masks[torch.arange(masks.shape[0], device=masks.device), thing]


class RegionHeads(nn.Module):
    """Both stages on a feature pyramid: proposals from all levels, and regions from the first four.

    Args:
        representation: anchors, sampling and selection.
        width: channels of the levels.
        num_things: number of categories of things.
        norm: norm of the heads, followed by a leaky ReLU of slope 0.01 (seamseg); None for biases and ReLU
            (detectron2).

    Raises:
        InvalidArgumentError: the anchors have other strides than an FPN has.
    """

    def __init__(self, representation: RegionRepresentation, width: int, num_things: int, norm: Norm | None) -> None:
        super().__init__()
        self._level_side = representation.level_side
        strides = representation.anchors.strides
        if strides != tuple(4 * 2**i for i in range(max(len(STRIDES), len(strides)))):
            raise InvalidArgumentError(
                f"expected anchors with the strides of an FPN, 4, 8, 16, 32 and perhaps 64, 128, ..., got {strides}; "
                "change anchors.strides of the representation"
            )
        self._pooling: PoolingCompat = "seamseg" if norm else "detectron2"
        activation = nn.LeakyReLU(0.01) if norm else nn.ReLU()

        def unit(in_channels: int, out_channels: int) -> nn.Module:
            conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=norm is None)
            return nn.Sequential(conv, norm(out_channels) if norm else nn.Identity(), activation)

        self.proposals = ProposalHead(width, representation.anchors.num_shapes, unit)
        self.boxes = BoxHead(width, num_things, norm, activation)
        self.masks = MaskHead(width, num_things, unit, norm, activation)

    def second_pass(self) -> RegionHeads:
        """Return a copy without the head for proposals, for another pass over the same regions."""
        copied = copy.deepcopy(self)
        del copied.proposals
        return copied

    def regions(
        self,
        objectness: Tensor,
        offsets: Tensor,
        size: tuple[int, int],
        image_size: tuple[int, int],
        representation: RegionRepresentation,
        targets: RegionTargets | None = None,
    ) -> Tensor:
        """Return the regions for the second stage, float [B, R, 4].

        Args:
            objectness: of all anchors, float [B, A].
            offsets: from the anchors, float [B, A, 4].
            size: height and width of the input.
            image_size: the same before padding, to which proposals are clipped without targets.
            representation: as in the constructor; its selection may have changed.
            targets: of the images, to sample regions for training, and to clip proposals to the valid parts; None for
                all proposals.
        """
        boxes = decode_boxes(offsets.detach().float(), representation.anchors.boxes(size, offsets.device))
        boxes = clip_boxes(boxes, image_size if targets is None else targets.valid[:, None])
        numbers = representation.anchors.num_per_level(size)
        proposed = [
            select_proposals(score, box, numbers, representation.proposals, training=targets is not None)
            for score, box in zip(objectness.detach().float(), boxes, strict=True)
        ]
        if targets is not None:
            proposed = sample_regions(
                proposed,
                targets,
                representation.second_stage,
                max_crowd=representation.max_crowd,
                of_empty=representation.second_stage_of_empty,
            )
        num_regions, _ = representation.num_regions(training=targets is not None)
        return stacked(proposed, num_regions)

    def forward(
        self,
        levels: Sequence[Tensor],
        regions: Tensor,
        size: tuple[int, int],
        image_size: tuple[int, int],
        representation: RegionRepresentation,
        targets: RegionTargets | None = None,
    ) -> RegionResults:
        """Classify and refine regions, and predict masks.

        Args:
            levels: features, float [B, C, h, w] each.
            regions: float [B, R, 4]; those without area are left out.
            size: height and width of the input.
            image_size: the same before padding, to which detections are clipped.
            representation: as in the constructor; its selection may have changed.
            targets: of the images, for the masks of positive regions; None for those of detections.
        """
        category, offsets = self.classify(levels, regions, size)
        if targets is None:
            found = _detections(category, offsets, regions, image_size, representation)
        else:
            found = _positives(regions, targets, representation)
        _, num_masks = representation.num_regions(training=targets is not None)
        boxes, thing, score = (stacked([one[i] for one in found], num_masks) for i in range(3))
        return RegionResults(regions, category, offsets, boxes, thing, score, self.mask(levels, boxes, thing, size))

    def detect(
        self,
        levels: Sequence[Tensor],
        regions: Tensor,
        size: tuple[int, int],
        image_size: tuple[int, int],
        representation: RegionRepresentation,
    ) -> list[DetectedBoxes]:
        """Return the detections of each image among given regions, see :meth:`forward`; without gradients."""
        with torch.no_grad():
            return _detections(*self.classify(levels, regions, size), regions, image_size, representation)

    def classify(self, levels: Sequence[Tensor], regions: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Classify and refine given regions.

        Args:
            levels: features, float [B, C, h, w] each.
            regions: float [B, R, 4]; those without area are left out.
            size: height and width of the input.

        Returns:
            Logits [B, R, T + 1] and offsets [B, R, T, 4].
        """
        rows, image, boxes = self._present(regions, size)
        num_cells = _FEATURE_CELLS if self._pooling == "seamseg" else _FEATURE_CELLS // 2
        features = pool_regions(levels[:4], STRIDES, boxes, image, num_cells, self._pooling, self._level_side)
        if self._pooling == "seamseg":
            features = nn.functional.avg_pool2d(features, 2)
        category, offsets = self.boxes(features)
        return scattered(category, rows, regions), scattered(offsets, rows, regions)

    def mask(self, levels: Sequence[Tensor], boxes: Tensor, thing: Tensor, size: tuple[int, int]) -> Tensor:
        """Predict the masks of given boxes.

        Args:
            levels: features, float [B, C, h, w] each.
            boxes: float [B, D, 4]; those without area are left out.
            thing: index of each box's category among the things, int64 [B, D].
            size: height and width of the input.

        Returns:
            Logits, float [B, D, 28, 28].
        """
        rows, image, present = self._present(boxes, size)
        features = pool_regions(levels[:4], STRIDES, present, image, _FEATURE_CELLS, self._pooling, self._level_side)
        things = nn.functional.pad(thing.flatten()[rows], (0, present.shape[0] - rows.shape[0]))
        return scattered(self.masks(features, things), rows, boxes)

    def _present(self, boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows of boxes [B, N, 4] with area, and image and box of each; in training enough for norms.

        Norms cannot work on fewer; those over all processes need as many in all of them. Missing boxes are the whole
        first image, after the others; they are in no output. A graph takes all rows, so that its shapes do not depend
        on the image.
        """
        flat = boxes.flatten(0, 1)
        if torch.compiler.is_exporting():
            rows = torch.arange(flat.shape[0], device=flat.device)
        else:
            rows = has_area(flat).nonzero()[:, 0]
        image, present = rows // boxes.shape[1], flat[rows]
        num_missing = num_missing_samples(self, rows.shape[0], flat.device)
        if num_missing:
            whole = flat.new_tensor([[0, 0, size[1], size[0]]]).expand(num_missing, 4)
            image = torch.cat([image, image.new_zeros(num_missing)])
            present = torch.cat([present, whole])
        return rows, image, present


def _detections(
    category: Tensor, offsets: Tensor, regions: Tensor, size: tuple[int, int], representation: RegionRepresentation
) -> list[DetectedBoxes]:
    found = []
    for logits, offset, boxes in zip(category.detach().float(), offsets.detach().float(), regions, strict=True):
        rows = has_area(boxes)
        refined = clip_boxes(decode_boxes(offset[rows], boxes[rows, None], SECOND_STAGE_WEIGHTS), size)
        found.append(select_detections(logits[rows].softmax(dim=1), refined, representation.detections))
    return found


def _positives(regions: Tensor, targets: RegionTargets, representation: RegionRepresentation) -> list[DetectedBoxes]:
    found = []
    for rows, objects in zip(regions, objects_of(targets), strict=True):
        boxes = rows[has_area(rows)]
        matches = match_regions(boxes, objects.box, representation.second_stage)
        is_positive = matches.label == 1
        thing = objects.category[matches.object[is_positive]] - 1
        found.append(DetectedBoxes(boxes[is_positive], thing, torch.ones_like(boxes[is_positive, 0])))
    return found
