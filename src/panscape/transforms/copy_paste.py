"""Copy-paste augmentation: paste objects of one training image onto another.

Golnaz Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR 2021,
arXiv 2012.07177. As in the paper, a random subset of the other image's objects is pasted at their own
position, after both images were cropped to one size. Deviations: a common flip and shift, limits of number and size,
and edges softened only inside the objects, where the paper blurs the whole mask (and finds little effect).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from panscape.constraints import PositiveInt, UnitInterval, check_fields
from panscape.errors import InvalidArgumentError
from panscape.panoptic import PanopticMap
from panscape.transforms.checks import require_pair
from panscape.transforms.random_numbers import integer, uniform


@dataclass(frozen=True)
class CopyPaste:
    """Paste objects of another image as new segments on top of all others.

    Objects are thing segments that are not crowds. They keep their arrangement: all are flipped and shifted together.
    An object that is truncated by the other image's border is never moved away from that border.

    Attributes:
        thing_ids: the thing categories.
        probability: probability of pasting, 0..1, to be applied by the caller; a call always pastes.
        share: smallest and largest fraction of the other image's objects to paste, 0..1, drawn uniformly; at least one
            object is pasted.
        max_objects: maximum number of pasted objects.
        flip: probability of a horizontal flip, 0..1.
        shift: maximum shift along each axis, as a fraction of height or width, 0..1.
        min_area: objects with fewer pixels are not pasted; covered objects with fewer remaining pixels become void.
        soften: blend the outermost pixel of pasted objects with the image, by at most one half.
    """

    thing_ids: Collection[int]
    probability: UnitInterval = 0.5
    share: tuple[UnitInterval, UnitInterval] = (0.0, 1.0)
    max_objects: PositiveInt = 20
    flip: UnitInterval = 0.5
    shift: UnitInterval = 0.25
    min_area: int = 16
    soften: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        if self.share[0] > self.share[1]:
            raise InvalidArgumentError(f"expected a share as (low, high), got {self.share}")

    def __call__(
        self, image: Tensor, truth: PanopticMap, other_image: Tensor, other_truth: PanopticMap, generator: Generator
    ) -> tuple[Tensor, PanopticMap]:
        """Return the image with objects of the other one, and its ground truth.

        Both are returned unchanged if the other image has no object, or none of at least ``min_area`` after the shift.

        Args:
            image: uint8 [3, H, W], the image to paste onto.
            truth: its ground truth.
            other_image: uint8 [3, H, W], the image to copy objects from.
            other_truth: its ground truth.
            generator: source of all randomness.

        Raises:
            InvalidArgumentError: an image is not uint8 [3, H, W], or the four sizes differ.
        """
        require_pair(image, truth)
        require_pair(other_image, other_truth)
        if truth.size != other_truth.size:
            raise InvalidArgumentError(
                f"expected two images of the same size, got {truth.size.height}x{truth.size.width} and "
                f"{other_truth.size.height}x{other_truth.size.width}; crop both to one size first"
            )
        objects = self._choose(other_truth, generator)
        if uniform(0, 1, generator) < self.flip:
            other_image, objects = other_image.flip(2), objects.flip()
        down, right = (self._draw_shift(objects.ids.amax(1 - axis), generator) for axis in range(2))
        objects = truth.select(torch.zeros(len(truth), dtype=torch.bool)).paste(objects, down, right)
        objects = objects.select(objects.areas() >= max(self.min_area, 1))
        if objects.num_segments == 0:
            return image, truth
        image = _blended(image, other_image.roll((down, right), (1, 2)), objects.ids > 0, soften=self.soften)
        return image, self._without_fragments(truth, truth.paste(objects, 0, 0))

    def _choose(self, truth: PanopticMap, generator: Generator) -> PanopticMap:
        """Return the map with only the chosen objects."""
        rows = (self._is_object(truth) & (truth.areas() >= max(self.min_area, 1))).nonzero().flatten()
        number = round(uniform(*self.share, generator) * len(rows))
        number = min(max(number, 1), self.max_objects)
        keep = torch.zeros(truth.num_segments, dtype=torch.bool)
        keep[rows[torch.randperm(len(rows), generator=generator)[:number]]] = True
        return truth.select(keep)

    def _is_object(self, truth: PanopticMap) -> Tensor:
        things = torch.isin(truth.category, torch.tensor(sorted(self.thing_ids), dtype=torch.int64))
        return things if truth.crowd is None else things & ~truth.crowd

    def _draw_shift(self, profile: Tensor, generator: Generator) -> int:
        """Return a shift along an axis whose positions with objects are above 0 in ``profile`` [L]."""
        limit = int(self.shift * len(profile))
        back, forth = (0 if profile[border] > 0 else limit for border in (-1, 0))
        return integer(back + forth + 1, generator) - back

    def _without_fragments(self, before: PanopticMap, after: PanopticMap) -> PanopticMap:
        """Return the compact map, with covered objects of less than ``min_area`` remaining pixels as void."""
        was, now = before.areas(), after.areas()
        keep = now > 0
        below = slice(0, before.num_segments)
        keep[below] &= ~self._is_object(before) | (now[below] == was) | (now[below] >= self.min_area)
        return after if bool(keep.all()) else after.select(keep)


def _blended(below: Tensor, above: Tensor, mask: Tensor, *, soften: bool) -> Tensor:
    """Return ``above`` inside the mask and ``below`` outside; uint8 [3, H, W]."""
    blended = torch.where(mask, above, below)
    if soften:
        # Number of the 3 x 3 surrounding pixels inside the mask, with replicated borders.
        inside = F.pad(mask[None, None].float(), (1, 1, 1, 1), mode="replicate")[0, 0]
        inside = inside[:-2] + inside[1:-1] + inside[2:]
        inside = inside[:, :-2] + inside[:, 1:-1] + inside[:, 2:]
        edge = mask & (inside < 9)
        opacity = (inside[edge] / 9).clamp_(min=0.5)  # thin objects stay visible
        blended[:, edge] = (below[:, edge] + opacity * (above[:, edge].float() - below[:, edge])).round_().byte()
    return blended
