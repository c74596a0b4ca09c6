"""Merge detected instances and a semantic segmentation into a panoptic map, for systems that detect objects.

The heuristic of Kirillov et al., "Panoptic Segmentation", CVPR 2019, by the rules of its published implementation;
``panscape.ops.fuse_masks`` lists them. Rules about the connected parts of objects, which are ours and off by default,
follow (:mod:`panscape.representations.parts`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from panscape.constraints import BelowOne, NonNegativeInt, UnitInterval, check_fields
from panscape.errors import InvalidArgumentError
from panscape.geometry import min_area_pixels
from panscape.labels import LabelSpace
from panscape.ops.cropped_masks import CroppedMasks, Detections
from panscape.ops.fuse_masks import fuse_masks
from panscape.panoptic import PanopticMap
from panscape.representations.parts import ThingParts, apply_parts

__all__ = ["CroppedMasks", "Detections", "FusionConfig", "fuse_instances"]


@dataclass(frozen=True, slots=True)
class FusionConfig:
    """Rules for the fusion of instances and stuff into a map; the defaults are those of the published implementation.

    Attributes:
        min_score: Minimum score of an object, 0..1; objects below it are dropped.
        max_overlap: Largest share of an object that higher-scoring objects may cover, 0..1; with more it is dropped.
        stuff_area: Minimum number of free pixels of a stuff category in the map; with fewer it becomes void. UPSNet
            (Xiong et al., CVPR 2019) uses 2048 for Cityscapes.
        stuff_on_uncovered: Assign only stuff to pixels without an object, instead of void where the argmax over all
            categories is a thing. Off as published.
        stuff_share: Minimum share of the map's pixels of a stuff category, below 1; with less it becomes void. Ours,
            for images of very different sizes.
        largest_part: Keep only the largest connected part of each object; pixels of the others join the stuff of their
            category, or are void. Ours: published code keeps all, as does False.
        leftover_area: Minimum number of connected pixels without an object, whose argmax is the same thing, that become
            one; with fewer, or always if it is 0, they are void. Ours: published code has none. Their score is
            min_score. Has no effect with stuff_on_uncovered, which leaves no such pixels.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    min_score: UnitInterval = 0.5
    max_overlap: UnitInterval = 0.5
    stuff_area: NonNegativeInt = 4096
    stuff_on_uncovered: bool = False
    stuff_share: BelowOne = 0.0
    largest_part: bool = False
    leftover_area: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_fields(self)

    def smallest_stuff(self, size: tuple[int, int]) -> int:
        """Return the minimum number of free pixels of a stuff category, in a map of this size."""
        return max(self.stuff_area, min_area_pixels(self.stuff_share, size))

    @property
    def parts(self) -> ThingParts:
        """The rules about parts of objects; the score of leftover things is the lowest that an object has."""
        return ThingParts(self.largest_part, self.leftover_area, leftover_score=self.min_score)

    def at_ratio(self, ratio: float) -> FusionConfig:
        """Return the rules for an image with ``ratio`` times as many pixels."""
        leftover_area = math.ceil(self.leftover_area * ratio)
        return replace(self, stuff_area=round(self.stuff_area * ratio), leftover_area=leftover_area)

    def semantic_ids(self, labels: LabelSpace) -> tuple[int, ...]:
        """Return the ascending categories over which to take the argmax that :func:`fuse_instances` receives.

        All categories, or with ``stuff_on_uncovered`` only stuff; all if there is no stuff, as the argmax needs some.
        """
        return labels.stuff_ids if self.stuff_on_uncovered and labels.stuff_ids else tuple(range(len(labels)))


def fuse_instances(
    windows: CroppedMasks,
    category: Tensor,
    score: Tensor,
    semantic: Tensor,
    labels: LabelSpace,
    fusion: FusionConfig,
    priority: Tensor | None = None,
) -> PanopticMap:
    """Merge objects by descending priority into a map, and fill the remaining pixels with stuff.

    Objects of equal priority are merged in the given order.

    Args:
        windows: masks of P objects, which may overlap.
        category: category of each object, a thing of ``labels``, int64 [P].
        score: score of each object, 0..1, float32 [P].
        semantic: argmax over the categories ``fusion.semantic_ids(labels)`` at every pixel, any integers [H, W]; read
            only where no object is.
        labels: label space, which defines things and stuff.
        fusion: fusion rules.
        priority: of each object, float32 [P]; None for the score.

    Returns:
        A map of the size of ``semantic``, on its device, with the labels. First the stuff by category with score 1,
        then the objects by descending priority, then leftover things; segments without pixels are omitted.

    Raises:
        InvalidArgumentError: the arguments contradict each other, or a value is out of range.
    """
    priority = score if priority is None else priority
    _check(windows, category, score, priority, semantic, labels)
    order = priority.sort(descending=True, stable=True).indices
    order = order[score[order] >= fusion.min_score]
    is_thing = torch.tensor([c.is_thing for c in labels], device=semantic.device)
    stuff_area = fusion.smallest_stuff((semantic.shape[0], semantic.shape[1]))
    ids, stuff, accepted = fuse_masks(windows, order, semantic, is_thing, fusion.max_overlap, stuff_area)
    panoptic = PanopticMap(
        ids,
        torch.cat([stuff, category[accepted]]),
        torch.cat([score.new_ones(len(stuff)), score[accepted]]),
        labels=labels,
    )
    return apply_parts(panoptic, semantic, is_thing, fusion.parts)


def _check(
    windows: CroppedMasks, category: Tensor, score: Tensor, priority: Tensor, semantic: Tensor, labels: LabelSpace
) -> None:
    """Check that the arguments match each other."""
    for name, part, dtype in (
        ("category", category, torch.int64),
        ("score", score, torch.float32),
        ("priority", priority, torch.float32),
    ):
        if part.dtype != dtype or list(part.shape) != [len(windows)]:
            raise InvalidArgumentError(
                f"expected {name} as {dtype} [{len(windows)}], one for each mask, got {part.dtype} {list(part.shape)}"
            )
    if semantic.ndim != 2 or semantic.is_floating_point() or semantic.dtype == torch.bool:
        raise InvalidArgumentError(
            f"expected semantic as integers [H, W], got {semantic.dtype} {list(semantic.shape)}; take the argmax"
        )
    devices = sorted({str(part.device) for part in (windows.pixels, category, score, semantic)})
    if len(devices) > 1:
        raise InvalidArgumentError(f"expected all parts on one device, got {', '.join(devices)}; move them first")
    strange = sorted(set(category.tolist()) - set(labels.thing_ids))
    if strange:
        raise InvalidArgumentError(
            f"expected objects of thing categories of {labels.name}, {list(labels.thing_ids)}, got categories {strange}"
        )
    if len(score):
        lowest, highest = (float(v) for v in torch.stack(score.aminmax()))
        if not (lowest >= 0 and highest <= 1):  # also if one is NaN
            raise InvalidArgumentError(
                f"expected scores in 0..1, got {lowest:g}..{highest:g}; pass probabilities, not logits or percentages"
            )
