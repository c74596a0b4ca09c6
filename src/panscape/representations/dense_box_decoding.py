"""From what a network of dense boxes predicts to maps: boxes of objects, their masks, and one picture of all.

Recovery of Real-Time Panoptic Segmentation from Dense Detections (Hou et al., CVPR 2020, arXiv 1912.01202, Section
3.2): objects are chosen among the predicted boxes (``panscape.kernels.box_candidates``), their masks are where the
pixels' boxes agree with theirs (``panscape.kernels.dense_masks``), and masks are laid over each other and over the
stuff (``panscape.representations.merging``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.geometry import Size, check_within
from panscape.kernels.bilinear import finite
from panscape.kernels.box_candidates import Boxes, BoxSelection, select_boxes
from panscape.kernels.dense_boxes import dense_boxes, predicted_levels
from panscape.kernels.dense_masks import MaskVariant, dense_masks, thing_prob
from panscape.kernels.likeliest_category import likeliest_category
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.representations.merging import Detections, PastingRules, paste

__all__ = ["DenseBoxDecoding", "decode_dense_boxes", "detect_dense_boxes", "likeliest_semantic", "merge_boxes"]

_LARGEST_DISTANCE = 1e14  # masks are made of boxes within 1e15


@dataclass(frozen=True, slots=True)
class DenseBoxDecoding:
    """How objects are found and laid into a map; the defaults are those of the released code.

    Paper and released code differ, and ``variant`` names the one that is followed:

    * "published", the code: masks by a smoothed generalised IoU; each cell takes the box of some level, be it the
      likeliest that there is no object; near duplicates of any category are dropped.
    * "paper": masks by plain IoU (Equation 6), M > threshold (Equation 7); a cell without object has no box (Equation
      14); objects of different categories do not suppress each other.

    Attributes:
        variant: which rules are followed where they differ: "published", those of the released code, or "paper".
        candidate_threshold: a location's probability of a category is above it, 0..1.
        candidates_per_level: no more candidates of a level than this.
        nms_threshold: boxes that overlap a surer one of their category by more (IoU) are duplicates, 0..1.
        duplicate_threshold: the same across categories, 0..1; not for "paper".
        max_queries: no more objects than this, but for those that tie with the last one.
        mask_threshold: the probability from which a pixel belongs to an object, 0..1.
        rules: which objects and which stuff the map keeps. Scores are the product of two probabilities and lower than
            those of other detectors, so that a min_score below 0.5 is often better; neither paper nor code has one.

    Raises:
        InvalidArgumentError: a value is out of its range.
    """

    variant: MaskVariant = "published"
    candidate_threshold: float = 0.06
    candidates_per_level: int = 1000
    nms_threshold: float = 0.6
    duplicate_threshold: float = 0.97
    max_queries: int = 100
    mask_threshold: float = 0.4
    rules: PastingRules = field(default_factory=PastingRules)

    def __post_init__(self) -> None:
        if self.variant not in ("published", "paper"):
            raise InvalidArgumentError(f'expected variant "published" or "paper", got {self.variant!r}')
        for name in ("candidate_threshold", "nms_threshold", "duplicate_threshold", "mask_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidArgumentError(f"expected {name} in 0..1, got {getattr(self, name)}")
        for name in ("candidates_per_level", "max_queries"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"expected {name} of 1 or more, got {getattr(self, name)}")

    @property
    def selection(self) -> BoxSelection:
        """How objects are chosen among the predicted boxes."""
        return BoxSelection(
            threshold=self.candidate_threshold,
            per_level=self.candidates_per_level,
            category_overlap=self.nms_threshold,
            any_overlap=self.duplicate_threshold if self.variant == "published" else 1.0,
            max_boxes=self.max_queries,
        )

    def levels(self, levelness: Tensor | None) -> Tensor | None:
        """Return the level whose box each cell takes, int64 [B, 2h, 2w], -1 for none; None if networks do not say.

        Args:
            levelness: logits, float [B, 1 + levels, 2h, 2w], channel 0 for no object, or None; gets no gradient.
        """
        if levelness is None:
            return None
        return predicted_levels(levelness.detach(), with_background=self.variant == "paper")


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
    """Recover one map per picture of a batch.

    Args:
        semantic: category logits, float [B, K, h, w], at ``1 / finest_stride`` of the padded size.
        box_category: logits of things, float [B, T, L]; channel t is category ``labels.thing_ids[t]``.
        box: distances to the left, top, right and bottom side, input pixels, float [B, 4, L]; below 0, and what is
            not a number, count as 0.
        centerness: logits, float [B, L].
        levelness: logits, float [B, 1 + levels, 2h, 2w], channel 0 for no object, or None.
        sizes: height and width of each picture, in the top left corner of the network's input.
        labels: tells things from stuff.
        finest_stride: input pixels per cell of the finest level.
        num_levels: levels of the pyramid.
        decoding: how.

    Raises:
        InvalidArgumentError: shapes contradict each other or the sizes.
    """
    parts = _parts_of_pictures(
        semantic, box_category, box, centerness, levelness, sizes, labels, finest_stride, num_levels, decoding
    )
    maps = []
    for i, (size, (found, dense, prob, padded)) in enumerate(zip(sizes, parts, strict=True)):
        likeliest = likeliest_semantic(semantic[i], padded, size, labels, decoding.rules)
        maps.append(merge_boxes(found, dense, prob, likeliest, padded, labels, decoding))
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
    """Return the objects of each picture of a batch before they are laid into a map, of whatever score.

    The arguments are those of :func:`decode_dense_boxes`.
    """
    parts = _parts_of_pictures(
        semantic, box_category, box, centerness, levelness, sizes, labels, finest_stride, num_levels, decoding
    )
    return [
        _masked(found, dense, prob, size, padded, labels, decoding)
        for size, (found, dense, prob, padded) in zip(sizes, parts, strict=True)
    ]


class _Parts(NamedTuple):
    """What the masks of one picture are made of, see :func:`merge_boxes`."""

    found: Boxes
    dense: Tensor
    prob: Tensor
    padded_size: Size


def _parts_of_pictures(
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
    """Choose the objects of each picture of a batch, and prepare what their masks are made of."""
    padded = _checked_size(semantic, box_category, box, levelness, sizes, labels, finest_stride, num_levels)
    box = finite(box, nan=0).clamp(0, _LARGEST_DISTANCE)
    dense = dense_boxes(box, decoding.levels(levelness), padded, finest_stride, num_levels)
    grid = (2 * semantic.shape[2], 2 * semantic.shape[3])
    for i, size in enumerate(sizes):
        parts = (box_category[i], box[i], centerness[i])
        found = select_boxes(*parts, padded, size, finest_stride, num_levels, decoding.selection)
        yield _Parts(found, dense[i], thing_prob(semantic[i], grid, labels.thing_ids), padded)


def likeliest_semantic(
    logits: Tensor, padded_size: tuple[int, int], size: tuple[int, int], labels: LabelSpace, rules: PastingRules
) -> Tensor:
    """Return the likeliest of the categories that pixels without an object may have, integers [size].

    Args:
        logits: float [K, h, w], enlarged bilinearly to ``padded_size``.
        padded_size: height and width of the network's input.
        size: height and width of the picture.
        labels: tells things from stuff.
        rules: say which categories those are.
    """
    ids = rules.semantic_ids(labels)
    if len(ids) == len(labels):
        return likeliest_category(logits, padded_size, size)
    position = likeliest_category(logits[list(ids)], padded_size, size)
    return torch.tensor(ids, device=logits.device)[position.long()]


def merge_boxes(
    found: Boxes,
    dense: Tensor,
    prob: Tensor,
    semantic: Tensor,
    padded_size: tuple[int, int],
    labels: LabelSpace,
    decoding: DenseBoxDecoding,
) -> PanopticMap:
    """Make the masks of one picture's objects and lay them into a map.

    Args:
        found: the objects; their categories are planes of ``prob``.
        dense: boxes of the cells of a grid over the padded input, float [D, 4, h, w], xyxy; the best of D counts.
        prob: probability of each thing at every cell, float [T, h, w].
        semantic: the likeliest category of every pixel, integers of the picture's size.
        padded_size: height and width of the network's input.
        labels: tells things from stuff.
        decoding: how.
    """
    # Objects that the map would not keep need no mask.
    found = Boxes(*(part[found.score >= decoding.rules.min_score] for part in found))
    size = (semantic.shape[0], semantic.shape[1])
    masks, category, score = _masked(found, dense, prob, size, padded_size, labels, decoding)
    return paste(masks, category, score, semantic, labels, decoding.rules)


def _masked(
    found: Boxes,
    dense: Tensor,
    prob: Tensor,
    size: tuple[int, int],
    padded_size: tuple[int, int],
    labels: LabelSpace,
    decoding: DenseBoxDecoding,
) -> Detections:
    """Make the masks of one picture's objects; arguments as for :func:`merge_boxes`."""
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
    """Return the size of the network's input; refuse outputs that contradict it, each other or the label space."""
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
        raise InvalidArgumentError(f"expected one size for each of the {batch} pictures, got {len(sizes)}")
    for size in sizes:
        check_within(size, padded)
    return padded
