"""Decode dense boxes into panoptic maps: select boxes, build their masks, and merge masks and stuff.

Post-processing of Real-Time Panoptic Segmentation from Dense Detections (Hou et al., CVPR 2020, arXiv 1912.01202,
Section 3.2):

1. Select the objects among the predicted boxes (NMS; ``panscape.representations.dense_boxes.select_boxes``).
2. Build each object's mask from the pixels whose boxes agree with its box
   (``panscape.representations.dense_boxes.masks``, which begins with the plain reference).
3. Merge the masks with the stuff (``panscape.representations.merging``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from panscape.constraints import PositiveInt, UnitInterval, check_fields
from panscape.errors import InvalidArgumentError
from panscape.geometry import Size, require_fits
from panscape.labels import LabelSpace
from panscape.ops.argmax import upsampled_argmax
from panscape.ops.cropped_masks import Detections
from panscape.ops.interpolate import finite_values
from panscape.panoptic import PanopticMap
from panscape.representations.dense_boxes.locations import argmax_level, dense_boxes
from panscape.representations.dense_boxes.masks import MaskVariant, dense_masks, upsampled_thing_prob
from panscape.representations.dense_boxes.select_boxes import Boxes, BoxSelection, select_boxes
from panscape.representations.merging import MergeConfig, merge_instances

__all__ = ["DenseBoxDecoding", "boxes_to_map", "decode_dense_boxes", "detect_dense_boxes", "semantic_argmax"]

_LARGEST_DISTANCE = 1e14  # masks require boxes within 1e15


@dataclass(frozen=True, slots=True)
class DenseBoxDecoding:
    """Options of decoding dense boxes; the defaults are those of the released code.

    Paper and released code differ, and ``variant`` selects one of them:

    * "published", the code: masks by a smoothed generalised IoU; each cell takes the box of some level, even if no
      object is most probable; near duplicates of any category are dropped.
    * "paper": masks by plain IoU (Equation 6), M > threshold (Equation 7); a cell without an object has no box
      (Equation 14); objects of different categories do not suppress each other.

    Attributes:
        variant: Rules to follow where paper and code differ: "published", those of the released code, or "paper".
        score_threshold: Minimum probability of a category at a location, exclusive, 0..1.
        pre_nms_top_k: Maximum number of candidates of a level.
        nms_iou: IoU threshold of NMS within a category, 0..1.
        class_agnostic_nms_iou: IoU threshold of NMS across categories, 0..1; not for "paper".
        max_detections: Maximum number of objects, except those with the same score as the last one.
        mask_threshold: Minimum probability of a pixel of an object's mask, 0..1.
        merging: Rules for merging objects and stuff into a map. Scores are products of two probabilities and lower
            than those of other detectors, so that a min_score below 0.5 is often better; neither paper nor code has
            one.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    variant: MaskVariant = "published"
    score_threshold: UnitInterval = 0.06
    pre_nms_top_k: PositiveInt = 1000
    nms_iou: UnitInterval = 0.6
    class_agnostic_nms_iou: UnitInterval = 0.97
    max_detections: PositiveInt = 100
    mask_threshold: UnitInterval = 0.4
    merging: MergeConfig = field(default_factory=MergeConfig)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def selection(self) -> BoxSelection:
        """Options of selecting objects among the predicted boxes."""
        return BoxSelection(
            threshold=self.score_threshold,
            pre_nms_top_k=self.pre_nms_top_k,
            nms_iou=self.nms_iou,
            class_agnostic_nms_iou=self.class_agnostic_nms_iou if self.variant == "published" else 1.0,
            max_boxes=self.max_detections,
        )

    def levels(self, levelness: Tensor | None) -> Tensor | None:
        """Return the level whose box each cell takes, int64 [B, 2h, 2w], -1 for none; None without levelness.

        Args:
            levelness: logits, float [B, 1 + levels, 2h, 2w], channel 0 for no object, or None; receives no gradient.
        """
        if levelness is None:
            return None
        return argmax_level(levelness.detach(), with_background=self.variant == "paper")


def decode_dense_boxes(
    semantic: Tensor,
    box_category: Tensor,
    box: Tensor,
    centerness: Tensor,
    levelness: Tensor | None,
    sizes: Sequence[tuple[int, int]],
    labels: LabelSpace,
    finest_stride: int,
    num_levels: int,
    decoding: DenseBoxDecoding,
) -> list[PanopticMap]:
    """Decode a batch of outputs into one map per image.

    Args:
        semantic: category logits, float [B, K, h, w], at ``1 / finest_stride`` of the padded size.
        box_category: logits of things, float [B, T, L]; channel t is category ``labels.thing_ids[t]``.
        box: distances to the left, top, right and bottom side, input pixels, float [B, 4, L]; negative values and NaN
            count as 0.
        centerness: logits, float [B, L].
        levelness: logits, float [B, 1 + levels, 2h, 2w], channel 0 for no object, or None.
        sizes: height and width of each image, in the top left corner of the network's input.
        labels: label space, which defines things and stuff.
        finest_stride: input pixels per cell of the finest level.
        num_levels: number of levels of the pyramid.
        decoding: decoding options.

    Raises:
        InvalidArgumentError: shapes contradict each other or the sizes.
    """
    parts = _parts_of_images(
        semantic, box_category, box, centerness, levelness, sizes, labels, finest_stride, num_levels, decoding
    )
    maps = []
    for i, (size, (found, dense, prob, padded)) in enumerate(zip(sizes, parts, strict=True)):
        category = semantic_argmax(semantic[i], padded, size, labels, decoding.merging)
        maps.append(boxes_to_map(found, dense, prob, category, padded, labels, decoding))
    return maps


def detect_dense_boxes(
    semantic: Tensor,
    box_category: Tensor,
    box: Tensor,
    centerness: Tensor,
    levelness: Tensor | None,
    sizes: Sequence[tuple[int, int]],
    labels: LabelSpace,
    finest_stride: int,
    num_levels: int,
    decoding: DenseBoxDecoding,
) -> list[Detections]:
    """Return the detected objects of each image of a batch before they are merged into a map, whatever their score.

    The arguments are those of :func:`decode_dense_boxes`.
    """
    parts = _parts_of_images(
        semantic, box_category, box, centerness, levelness, sizes, labels, finest_stride, num_levels, decoding
    )
    return [
        _masked(found, dense, prob, size, padded, labels, decoding)
        for size, (found, dense, prob, padded) in zip(sizes, parts, strict=True)
    ]


class _Parts(NamedTuple):
    """Inputs for the masks of one image, see :func:`boxes_to_map`."""

    found: Boxes
    dense: Tensor
    prob: Tensor
    padded_size: Size


def _parts_of_images(
    semantic: Tensor,
    box_category: Tensor,
    box: Tensor,
    centerness: Tensor,
    levelness: Tensor | None,
    sizes: Sequence[tuple[int, int]],
    labels: LabelSpace,
    finest_stride: int,
    num_levels: int,
    decoding: DenseBoxDecoding,
) -> Iterator[_Parts]:
    """Select the objects of each image of a batch and prepare the inputs of their masks."""
    padded = _checked_size(semantic, box_category, box, levelness, sizes, labels, finest_stride, num_levels)
    box = finite_values(box, nan=0).clamp(0, _LARGEST_DISTANCE)
    dense = dense_boxes(box, decoding.levels(levelness), padded, finest_stride, num_levels)
    grid = (2 * semantic.shape[2], 2 * semantic.shape[3])
    for i, size in enumerate(sizes):
        parts = (box_category[i], box[i], centerness[i])
        found = select_boxes(*parts, padded, size, finest_stride, num_levels, decoding.selection)
        yield _Parts(found, dense[i], upsampled_thing_prob(semantic[i], grid, labels.thing_ids), padded)


def semantic_argmax(
    logits: Tensor, padded_size: tuple[int, int], size: tuple[int, int], labels: LabelSpace, merging: MergeConfig
) -> Tensor:
    """Return the argmax over the categories that pixels without an object may have, integers [size].

    Args:
        logits: float [K, h, w], which are upsampled bilinearly to ``padded_size``.
        padded_size: height and width of the network's input.
        size: height and width of the image.
        labels: label space, which defines things and stuff.
        merging: merging rules, which define those categories.
    """
    ids = merging.semantic_ids(labels)
    if len(ids) == len(labels):
        return upsampled_argmax(logits, padded_size, size)
    position = upsampled_argmax(logits[list(ids)], padded_size, size)
    return torch.tensor(ids, device=logits.device)[position.long()]


def boxes_to_map(
    found: Boxes,
    dense: Tensor,
    prob: Tensor,
    semantic: Tensor,
    padded_size: tuple[int, int],
    labels: LabelSpace,
    decoding: DenseBoxDecoding,
) -> PanopticMap:
    """Build the masks of one image's objects and merge them into a map.

    Args:
        found: the objects; their categories are planes of ``prob``.
        dense: boxes of the cells of a grid over the padded input, float [D, 4, h, w], xyxy; the best of D counts.
        prob: probability of each thing at every cell, float [T, h, w].
        semantic: argmax category of every pixel, integers of the image's size.
        padded_size: height and width of the network's input.
        labels: label space, which defines things and stuff.
        decoding: decoding options.
    """
    # Objects that merging would drop need no mask.
    found = Boxes(*(part[found.score >= decoding.merging.min_score] for part in found))
    size = (semantic.shape[0], semantic.shape[1])
    masks, category, score = _masked(found, dense, prob, size, padded_size, labels, decoding)
    return merge_instances(masks, category, score, semantic, labels, decoding.merging)


def _masked(
    found: Boxes,
    dense: Tensor,
    prob: Tensor,
    size: tuple[int, int],
    padded_size: tuple[int, int],
    labels: LabelSpace,
    decoding: DenseBoxDecoding,
) -> Detections:
    """Build the masks of one image's objects; arguments as for :func:`boxes_to_map`."""
    masks = dense_masks(
        found.box,
        found.category,
        dense,
        prob,
        padded_size,
        size,
        threshold=decoding.mask_threshold,
        variant=decoding.variant,
    )
    category = torch.tensor(labels.thing_ids, dtype=torch.int64, device=found.category.device)[found.category]
    return Detections(masks, category, found.score)


def _checked_size(
    semantic: Tensor,
    box_category: Tensor,
    box: Tensor,
    levelness: Tensor | None,
    sizes: Sequence[tuple[int, int]],
    labels: LabelSpace,
    finest_stride: int,
    num_levels: int,
) -> Size:
    """Return the size of the network's input; check outputs against it, each other and the label space."""
    if semantic.ndim != 4 or semantic.shape[1] != len(labels) or 0 in semantic.shape:
        raise InvalidArgumentError(
            f"expected semantic as [B, {len(labels)}, h, w], one plane for each category of {labels.name}, "
            f"got {list(semantic.shape)}"
        )
    batch, _, height, width = semantic.shape
    padded = Size(height * finest_stride, width * finest_stride)
    if list(box_category.shape[:2]) != [batch, len(labels.thing_ids)] or len(box) != batch:
        raise InvalidArgumentError(
            f"expected box_category as [{batch}, {len(labels.thing_ids)}, L] and box as [{batch}, 4, L], "
            f"got {list(box_category.shape)} and {list(box.shape)}"
        )
    if levelness is not None and list(levelness.shape) != [batch, 1 + num_levels, 2 * height, 2 * width]:
        raise InvalidArgumentError(
            f"expected levelness as {[batch, 1 + num_levels, 2 * height, 2 * width]}, got {list(levelness.shape)}"
        )
    if len(sizes) != batch:
        raise InvalidArgumentError(f"expected one size for each of the {batch} images, got {len(sizes)}")
    for size in sizes:
        require_fits(size, padded)
    return padded
