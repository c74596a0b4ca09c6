"""Class-uniform and instance-scale-uniform sampling: which segment a training crop shows, and at which scale.

Porzi, Rota Bulò, Kontschieder: "Improving Panoptic Segmentation at All Scales" (CVPR 2021), Section 4.2. The paper
leaves open how the scale is chosen inside a level, the ranges of scales and the position of the crop.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from panscape.datasets.segment_index import SegmentTable
from panscape.errors import InvalidArgumentError
from panscape.geometry import Size
from panscape.labels import LabelSpace
from panscape.nn.region_pooling import LEVEL_SIDE
from panscape.panoptic import PanopticMap
from panscape.transforms.random_numbers import ScaleDistribution, factor, integer, uniform

_NUM_LEVELS = 4


class CropChoice(NamedTuple):
    """What a training crop shows.

    Attributes:
        image: index in the dataset.
        category: of the segments to show; -1 if a crop may show any.
        position: row in the map of the only segment to show; None for all of the category.
        side: side of a square with the area of that segment's box, in pixels of the image; nan for all.
    """

    image: int
    category: int = -1
    position: int | None = None
    side: float = np.nan

    def rows(self, truth: PanopticMap) -> Tensor:
        """Return the segments to show, bool [S]; crowds only if the category has no others in the map."""
        rows = truth.category == self.category
        if self.position is not None:
            rows &= torch.arange(len(rows)) == self.position
        elif truth.crowd is not None and bool((rows & ~truth.crowd).any()):
            rows &= ~truth.crowd
        return rows


class Scale(NamedTuple):
    """The scale of an image.

    Attributes:
        factor: by which its sides are multiplied.
        is_clamped: whether the factor that the level asked for was out of range; None if no level was drawn.
    """

    factor: float
    is_clamped: bool | None = None


class SegmentSampler:
    """Draws a category uniformly, then one of its images uniformly, and for instances their scale.

    Categories without segments are left out. A thing category is represented by its instances; by its crowds only if
    it has no instance in any image.

    Args:
        segments: of the dataset, see :func:`panscape.datasets.segment_index.load_segment_index`.
        labels: defines the things.
        by_scale: of things, also draw one instance of the image and a level of the pyramid, uniformly each.
        shortest_side: length in pixels of the shorter side of images at scale 1; 0 for their own.
        scale: smallest and largest factor.
        scale_distribution: of this factor.
        thing_scale: smallest and largest factor for a level.
        level_side: see :data:`panscape.nn.region_pooling.LEVEL_SIDE`; that of the network.

    Raises:
        InvalidArgumentError: there are no segments.
    """

    def __init__(
        self,
        segments: SegmentTable,
        labels: LabelSpace,
        *,
        by_scale: bool,
        shortest_side: int = 0,
        scale: tuple[float, float] = (0.5, 2.0),
        scale_distribution: ScaleDistribution = "uniform",
        thing_scale: tuple[float, float] = (0.25, 4.0),
        level_side: float = LEVEL_SIDE,
    ) -> None:
        is_crowd = segments["crowd"] & np.isin(segments["category"], labels.thing_ids)
        only_crowds = np.setdiff1d(segments["category"][is_crowd], segments["category"][~is_crowd])
        segments = segments[~is_crowd | np.isin(segments["category"], only_crowds)]
        if len(segments) == 0:
            raise InvalidArgumentError(
                "expected segments in the training images to sample them by category, found none; set sampling.kind "
                'to "images"'
            )
        self._segments = segments[np.lexsort((segments["image"], segments["category"]))]
        category, image = self._segments["category"], self._segments["image"]
        is_first = np.ones(len(segments), bool)
        is_first[1:] = (category[1:] != category[:-1]) | (image[1:] != image[:-1])
        self._pairs = np.append(np.flatnonzero(is_first), len(segments)).astype(np.int32)  # of category and image
        categories, starts = np.unique(category[self._pairs[:-1]], return_index=True)
        self._starts = np.append(starts, len(self._pairs) - 1)  # first pair of each category
        self.categories: list[int] = categories.tolist()
        """Category ids that are drawn, ascending."""
        self._leveled = set(labels.thing_ids) - set(only_crowds.tolist()) if by_scale else set()
        self.shortest_side, self.scale, self.thing_scale = shortest_side, scale, thing_scale
        self.scale_distribution, self.level_side = scale_distribution, level_side

    def sample(self, generator: Generator) -> CropChoice:
        """Draw what to show."""
        number = integer(len(self.categories), generator)
        category = self.categories[number]
        pair = _drawn(self._starts[number], self._starts[number + 1], generator)
        first, end = self._pairs[pair], self._pairs[pair + 1]
        image = int(self._segments["image"][first])
        if category not in self._leveled:
            return CropChoice(image, category)
        segment = self._segments[_drawn(first, end, generator)]
        side = float(segment["width"] * float(segment["height"])) ** 0.5
        return CropChoice(image, category, int(segment["position"]), side)

    def sample_scale(self, choice: CropChoice, size: Size, generator: Generator) -> Scale:
        """Draw the scale of an image of ``size`` pixels."""
        to_shortest = self.shortest_side / min(size) if self.shortest_side else 1.0
        if choice.position is None:
            return Scale(to_shortest * factor(*self.scale, self.scale_distribution, generator))
        low, high = self.thing_scale
        side = sample_side(integer(_NUM_LEVELS, generator), generator, self.level_side)
        wanted = side / (choice.side * to_shortest)
        clamped = min(max(wanted, low), high)
        return Scale(to_shortest * clamped, clamped != wanted)


def sample_side(level: int, generator: Generator, level_side: float = LEVEL_SIDE) -> float:
    """Draw the side of a box of a level of the pyramid, log-uniformly.

    Args:
        level: 0 to 3, by default for boxes of 56 to 112, to 224, to 448 and to 896 pixels. The first and the last level
            also have all smaller and larger boxes, which are not drawn.
        generator: source of randomness.
        level_side: see :data:`panscape.nn.region_pooling.LEVEL_SIDE`.
    """
    return float(level_side * 2.0 ** (level - 1 + uniform(0, 1, generator)))


def _drawn(start: np.integer, end: np.integer, generator: Generator) -> int:
    return int(start) + integer(int(end - start), generator)
