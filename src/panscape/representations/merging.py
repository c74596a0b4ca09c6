"""From objects that were found one by one, and the category of every pixel, to a map: for systems that detect.

The combination of Kirillov et al., "Panoptic Segmentation", CVPR 2019, by the rules of its published implementation;
``panscape.ops.paste_masks`` has them, point by point.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.geometry import min_area_pixels
from panscape.labels import LabelSpace
from panscape.ops.cropped_masks import CroppedMasks, Detections
from panscape.ops.paste_masks import paste_masks
from panscape.panoptic import PanopticMap

__all__ = ["CroppedMasks", "Detections", "MergeConfig", "merge_instances"]


@dataclass(frozen=True, slots=True)
class MergeConfig:
    """Which objects and which stuff a map keeps; the defaults are those of the published implementation.

    Attributes:
        min_score: objects of a lower score are left out; 0..1.
        max_overlap: objects of which a larger share lies under those before them are left out; 0..1.
        stuff_area: stuff categories with fewer free pixels in the whole map become void; UPSNet (Xiong et al., CVPR
            2019) takes 2048 for Cityscapes.
        stuff_on_uncovered: whether pixels without an object may be stuff only, instead of void where a thing is the
            likeliest. Not so as published.
        stuff_share: stuff categories of a smaller share of the map's pixels become void, too; below 1. Ours, for
            images of very different sizes.

    Raises:
        InvalidArgumentError: a value is out of its range.
    """

    min_score: float = 0.5
    max_overlap: float = 0.5
    stuff_area: int = 4096
    stuff_on_uncovered: bool = False
    stuff_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("min_score", "max_overlap"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise InvalidArgumentError(f"expected {name} in 0..1, got {value}")
        if not self.stuff_area >= 0:
            raise InvalidArgumentError(f"expected a stuff_area of 0 or more pixels, got {self.stuff_area}")
        if not 0 <= self.stuff_share < 1:
            raise InvalidArgumentError(f"expected a stuff_share of 0 or more and below 1, got {self.stuff_share}")

    def smallest_stuff(self, size: tuple[int, int]) -> int:
        """Return how many free pixels a stuff category needs to stay, in a map of this size."""
        return max(self.stuff_area, min_area_pixels(self.stuff_share, size))

    def semantic_ids(self, labels: LabelSpace) -> tuple[int, ...]:
        """Return the categories of which the likeliest one is to be given to :func:`merge_instances`, ascending.

        All, or with ``stuff_on_uncovered`` the stuff; all as well if there is no stuff, as some must be chosen from.
        """
        return labels.stuff_ids if self.stuff_on_uncovered and labels.stuff_ids else tuple(range(len(labels)))


def merge_instances(
    windows: CroppedMasks,
    category: Tensor,
    score: Tensor,
    semantic: Tensor,
    labels: LabelSpace,
    merging: MergeConfig,
) -> PanopticMap:
    """Lay objects into a map in the order of their scores, and stuff where none is.

    Of objects of the same score, the one that is given first comes first.

    Args:
        windows: masks of P objects, which may overlap.
        category: of each object, a thing of ``labels``, int64 [P].
        score: of each object, 0..1, float32 [P].
        semantic: the likeliest of the categories ``merging.semantic_ids(labels)`` at every pixel, any integers [H, W];
            looked at only where no object is laid.
        labels: tells things from stuff.
        merging: what to keep.

    Returns:
        A map of the size of ``semantic``, on its device. First the stuff by category, score 1, then the objects by
        score; none of them without pixels.

    Raises:
        InvalidArgumentError: parts contradict each other, or a value is out of its range.
    """
    _check(windows, category, score, semantic, labels)
    order = score.sort(descending=True, stable=True).indices
    order = order[score[order] >= merging.min_score]
    is_thing = torch.tensor([c.is_thing for c in labels], device=semantic.device)
    stuff_area = merging.smallest_stuff((semantic.shape[0], semantic.shape[1]))
    ids, stuff, accepted = paste_masks(windows, order, semantic, is_thing, merging.max_overlap, stuff_area)
    return PanopticMap(
        ids,
        torch.cat([stuff, category[accepted]]),
        torch.cat([score.new_ones(len(stuff)), score[accepted]]),
    )


def _check(windows: CroppedMasks, category: Tensor, score: Tensor, semantic: Tensor, labels: LabelSpace) -> None:
    """Refuse parts that contradict each other."""
    for name, part, dtype in (("category", category, torch.int64), ("score", score, torch.float32)):
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
            f"expected objects of the things of {labels.name}, {list(labels.thing_ids)}, got categories {strange}"
        )
    if len(score):
        lowest, highest = (float(v) for v in torch.stack(score.aminmax()))
        if not (lowest >= 0 and highest <= 1):  # also when one is not a number
            raise InvalidArgumentError(
                f"expected scores in 0..1, got {lowest:g}..{highest:g}; give probabilities, not logits or percent"
            )
