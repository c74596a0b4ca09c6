"""Random crops of a fixed size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Generator, Tensor

from panscape.constraints import Constraint, PositiveInt, UnitInterval, check_fields
from panscape.errors import InvalidArgumentError
from panscape.geometry import Size
from panscape.panoptic import PanopticMap
from panscape.transforms.checks import MEAN_COLOR, Color, require_pair
from panscape.transforms.random_numbers import integer, uniform
from panscape.transforms.resize import nearest, resize, scaled

_ATTEMPTS = 20

Box = tuple[tuple[float, float], tuple[float, float]]
"""First and last row and column as (top, left), (bottom, right), half-open, as fractions of height and width."""


@runtime_checkable
class CropTransform(Protocol):
    """A transform that crops; :class:`~panscape.transforms.Compose` merges it with a preceding resize."""

    def crop_resized(
        self, image: Tensor, truth: PanopticMap, size: Size, generator: Generator
    ) -> tuple[Tensor, PanopticMap]:
        """Return the crop of image and ground truth resized to ``size``, resizing only the cropped part."""


Rarity = Annotated[float, Constraint("of 1 or more", lambda value: 1 <= value < math.inf)]


@dataclass(frozen=True)
class RandomCrop:
    """Crop a window of a fixed size at a uniformly random position.

    An image smaller than the window is padded on the right and at the bottom, the map with void.

    Attributes:
        size: height and width in pixels.
        fill: red, green, blue of the padding.
    """

    size: tuple[PositiveInt, PositiveInt]
    fill: Color = MEAN_COLOR

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return the crop of image and ground truth."""
        return self.crop_resized(image, truth, truth.size, generator)

    def crop_resized(
        self, image: Tensor, truth: PanopticMap, size: Size, generator: Generator
    ) -> tuple[Tensor, PanopticMap]:
        """Return the crop of image and ground truth resized to ``size``, resizing only the cropped part."""
        require_pair(image, truth)
        return _cut(image, truth, size, _draw_corner(self.size, size, generator), self.size, self.fill)


@dataclass(frozen=True)
class RareCategoryCrop:
    """Crop a window of a fixed size that favours rare categories.

    With ``probability``, one of the image's rare categories is drawn, weighted by rarity, and one of its segments;
    positions of the window are then drawn until one overlaps the segment's box, or up to the last attempt. Otherwise,
    and if the image has no rare category, the position is uniformly random. Panoptic SwiftNet's released code crops
    Mapillary Vistas this way; the paper does not mention it. Smaller images are padded as by :class:`RandomCrop`.

    Attributes:
        size: height and width in pixels.
        rarity: repeat factor of each category, from 1 for common ones; see
            :func:`panscape.datasets.repeat_factor_sampling.category_repeat_factors`.
        probability: probability of a crop at a rare category, 0..1.
        attempts: maximum number of positions to try.
        fill: red, green, blue of the padding.
    """

    size: tuple[PositiveInt, PositiveInt]
    rarity: tuple[Rarity, ...]
    probability: UnitInterval = 0.5
    attempts: PositiveInt = 50
    fill: Color = MEAN_COLOR

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return the crop of image and ground truth."""
        return self.crop_resized(image, truth, truth.size, generator)

    def crop_resized(
        self, image: Tensor, truth: PanopticMap, size: Size, generator: Generator
    ) -> tuple[Tensor, PanopticMap]:
        """Return the crop of image and ground truth resized to ``size``, resizing only the cropped part.

        Raises:
            InvalidArgumentError: the image is not uint8 [3, H, W], the ground truth has another size, or a category has
                no rarity.
        """
        require_pair(image, truth)
        box = self._draw_box(truth, generator) if uniform(0, 1, generator) < self.probability else None
        corner = _draw_corner(self.size, size, generator)
        for _ in range(self.attempts - 1):
            if box is None or _overlaps(corner, self.size, box, size):
                break
            corner = _draw_corner(self.size, size, generator)
        return _cut(image, truth, size, corner, self.size, self.fill)

    def _draw_box(self, truth: PanopticMap, generator: Generator) -> Box | None:
        """Return the box of a segment of a rare category, as fractions of the image; None if there is none."""
        if truth.num_segments and int(truth.category.max()) >= len(self.rarity):
            raise InvalidArgumentError(
                f"expected a rarity for each category, got {len(self.rarity)} and category {int(truth.category.max())}"
            )
        rarity = torch.tensor(self.rarity, dtype=torch.float64)
        if not (rarity[truth.category] > 1).any():
            return None
        boxes = truth.boxes().double()
        is_present = boxes[:, 2] > 0
        present = torch.unique(truth.category[is_present])
        present = present[rarity[present] > 1]
        if len(present) == 0:
            return None
        category = present[torch.multinomial(rarity[present], 1, generator=generator)]
        chosen = boxes[is_present & (truth.category == category)]
        left, top, right, bottom = chosen[integer(len(chosen), generator)].tolist()
        height, width = truth.size
        return (top / height, left / width), (bottom / height, right / width)


@dataclass(frozen=True)
class RandomSizeCrop:
    """Crop a window of random size at a uniformly random position of the resized image (DETR's augmentation).

    With ``probability``, the image is resized so that its shorter side has one of ``sides``. Then height and width of
    the window are drawn independently, up to those of the image. A resize usually follows.

    Source: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, Appendix A.4, and the published
    code of MaskFormer.

    Attributes:
        probability: probability of a crop, 0..1.
        sides: lengths of the shorter side, in pixels.
        smallest: minimum height and width of the window, in pixels.
        largest: maximum height and width of the window, in pixels.
    """

    probability: UnitInterval = 0.5
    sides: tuple[PositiveInt, ...] = (400, 500, 600)
    smallest: PositiveInt = 384
    largest: PositiveInt = 600

    def __post_init__(self) -> None:
        check_fields(self)
        if self.smallest > self.largest:
            raise InvalidArgumentError(
                f"expected smallest <= largest, got smallest {self.smallest} and largest {self.largest}"
            )

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return the crop of image and ground truth, or both as they are."""
        require_pair(image, truth)
        if uniform(0, 1, generator) >= self.probability:
            return image, truth
        size = scaled(truth.size, self.sides[integer(len(self.sides), generator)] / min(truth.size))
        low, high = (Size(*(min(side, limit) for side in size)) for limit in (self.smallest, self.largest))
        window = Size(*(a + integer(b - a + 1, generator) for a, b in zip(low, high, strict=True)))
        return _cut(image, truth, size, _draw_corner(window, size, generator), window, MEAN_COLOR)


def crop_around(
    image: Tensor,
    truth: PanopticMap,
    size: Size,
    rows: Tensor,
    window: tuple[int, int],
    generator: Generator,
    fill: Color = MEAN_COLOR,
) -> tuple[Tensor, PanopticMap]:
    """Crop a window that shows some of the given segments, of image and ground truth resized to ``size``.

    A pixel of the segments is drawn, then the window uniformly among those in the image that contain it. In reduced
    images thin segments may have no pixel at a place; then another one is drawn, up to 20 times. Smaller images are
    padded as by :class:`RandomCrop`.

    Args:
        image: uint8 [3, H, W].
        truth: its ground truth.
        size: height and width in pixels before cropping.
        rows: the segments to show, bool [S]; without pixels, the position is uniformly random.
        window: height and width in pixels.
        generator: source of randomness.
        fill: red, green, blue of the padding.
    """
    require_pair(image, truth)
    is_shown = torch.cat([rows.new_zeros(1), rows]).numpy()
    ids = truth.ids.numpy()
    pixels = np.flatnonzero(is_shown[ids])
    corner = _draw_corner(window, size, generator) if len(pixels) == 0 else (0, 0)
    for _ in range(_ATTEMPTS if len(pixels) else 0):
        pixel = divmod(int(pixels[integer(len(pixels), generator)]), truth.size.width)
        top, left = (_draw_start(*axis, generator) for axis in zip(pixel, window, size, truth.size, strict=True))
        corner = top, left
        source, inside = _source_window(size, truth.size, corner, window)
        y, x = (start + nearest(new, end - start).numpy() for new, (start, end) in zip(inside, source, strict=True))
        if is_shown[ids[y[:, None], x]].any():
            break
    return _cut(image, truth, size, corner, window, fill)


def _draw_start(pixel: int, wanted: int, scaled: int, original: int, generator: Generator) -> int:
    """Return the start of a window on one axis that contains the center of a source pixel."""
    place = (2 * pixel + 1) * scaled // (2 * original)
    low, high = max(place - wanted + 1, 0), min(place, max(scaled - wanted, 0))
    return low + integer(high - low + 1, generator)


def _draw_corner(window: tuple[int, int], size: Size, generator: Generator) -> tuple[int, int]:
    """Return the first row and column of a window in an image of ``size``; 0 where the image is smaller."""
    top, left = (integer(max(length - wanted, 0) + 1, generator) for wanted, length in zip(window, size, strict=True))
    return top, left


def _overlaps(corner: tuple[int, int], window: tuple[int, int], box: Box, size: Size) -> bool:
    """Return whether a window in an image of ``size`` overlaps a box."""
    axes = zip(corner, window, *box, size, strict=True)
    return all(start < high * length and low * length < start + wanted for start, wanted, low, high, length in axes)


def _cut(
    image: Tensor, truth: PanopticMap, size: Size, corner: tuple[int, int], window: tuple[int, int], fill: Color
) -> tuple[Tensor, PanopticMap]:
    """Return the window at ``corner`` of image and ground truth resized to ``size``, padded where it exceeds them.

    The window is cropped before it is resized, at whole pixels of the source.
    """
    ((top, bottom), (left, right)), inside = _source_window(size, truth.size, corner, window)
    image = image[:, top:bottom, left:right]
    image, truth = resize(image, truth.crop(top, left, bottom - top, right - left), inside)
    return _padded(image, window, fill), truth.pad(*window)


def _source_window(
    size: Size, original: Size, corner: tuple[int, int], window: tuple[int, int]
) -> tuple[tuple[tuple[int, int], tuple[int, int]], Size]:
    """Return rows and columns of the source of a window, half-open, and the part of the window inside the image."""
    source: list[tuple[int, int]] = []
    inside = []
    for start, wanted, resized, old in zip(corner, window, size, original, strict=True):
        length = min(wanted, resized)
        low = min(round(start * old / resized), old - 1)
        high = round((start + length) * old / resized)
        source.append((low, max(high, low + 1)))
        inside.append(length)
    return (source[0], source[1]), Size(*inside)


def _padded(image: Tensor, size: tuple[int, int], fill: Color) -> Tensor:
    height, width = image.shape[1:]
    if (height, width) == tuple(size):
        return image
    padded = torch.tensor(fill, dtype=torch.uint8)[:, None, None].repeat(1, *size)
    padded[:, :height, :width] = image
    return padded
