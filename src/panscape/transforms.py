"""Training augmentation of a picture together with its map.

A transform takes a picture (uint8 [3, H, W]), its truth (a :class:`~panscape.panoptic.PanopticMap` of the same size)
and a :class:`torch.Generator`, and returns a new picture and a new truth. All chance comes from the generator, so a
seed fixes the result whatever the process. Pictures are resampled bilinearly with anti-aliasing, maps to the nearest
pixel; void stays void, what lies outside the picture is void, and segments that lose all their pixels lose their
description.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from panscape.errors import InvalidArgumentError
from panscape.geometry import Size
from panscape.panoptic import PanopticMap

Color = tuple[int, int, int]
RotationPolicy = Literal["none", "right_angles", "any"]

MEAN_COLOR: Color = (124, 116, 104)
"""The mean of ImageNet's training pictures, which normalisation turns into zeros."""

_LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
_YIQ = torch.tensor(  # ITU-R BT.601 luma and the two chroma axes of NTSC
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]], dtype=torch.float64
)


class Transform(Protocol):
    """Anything that turns a picture and its truth into another picture and its truth."""

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return the new picture (uint8 [3, H', W']) and its truth (of size H' x W')."""


@runtime_checkable
class Resizing(Protocol):
    """A transform that only changes the size; :class:`Compose` joins it with the crop that follows."""

    def new_size(self, size: Size, generator: Generator) -> Size:
        """Return the size that a picture of ``size`` gets."""


@dataclass(frozen=True)
class Compose:
    """Apply transforms in order.

    A transform that only resizes and the :class:`RandomCrop` right after it are done in one step that touches only the
    pixels of the crop. The crop is then taken at whole pixels of the source: it lies less than one source pixel from
    where the two steps would put it, for picture and map alike.

    Attributes:
        transforms: in the order in which they are applied.
    """

    transforms: tuple[Transform, ...]

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return the picture and truth after all transforms.

        Raises:
            InvalidArgumentError: the picture is not uint8 [3, H, W], or truth has another size.
        """
        _require_pair(image, truth)
        size: Size | None = None  # decided, but not yet resized to
        for transform in self.transforms:
            if isinstance(transform, Resizing):
                size = transform.new_size(size or truth.size, generator)
            elif size is not None and isinstance(transform, RandomCrop):
                image, truth = transform.crop_resized(image, truth, size, generator)
                size = None
            else:
                if size is not None:
                    image, truth = _resize(image, truth, size)
                    size = None
                image, truth = transform(image, truth, generator)
        return (image, truth) if size is None else _resize(image, truth, size)


@dataclass(frozen=True)
class Resize:
    """Resize to a fixed size.

    Attributes:
        size: height and width in pixels.
    """

    size: tuple[int, int]

    def __post_init__(self) -> None:
        _require_size(self.size)

    def new_size(self, size: Size, generator: Generator) -> Size:
        """Return the fixed size."""
        return Size(*self.size)

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return picture and truth at the fixed size."""
        return _resize(image, truth, self.new_size(truth.size, generator))


@dataclass(frozen=True)
class ScaleJitter:
    """Resize by a factor drawn uniformly from ``low`` to ``high``; the aspect ratio is kept to a pixel.

    Attributes:
        low: smallest factor, above 0.
        high: largest factor.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < math.inf:
            raise InvalidArgumentError(f"expected 0 < low <= high, got low {self.low} and high {self.high}")

    def new_size(self, size: Size, generator: Generator) -> Size:
        """Return ``size`` times a factor from the generator, at least one pixel."""
        return _scaled(size, _uniform(self.low, self.high, generator))

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return picture and truth at a random scale."""
        return _resize(image, truth, self.new_size(truth.size, generator))


@dataclass(frozen=True)
class ShortestSideChoice:
    """Resize so that the shorter side gets one of several lengths, all equally likely.

    Attributes:
        sides: lengths in pixels.
        longest: the longer side never gets longer than this; the picture is then scaled to it instead.
    """

    sides: tuple[int, ...]
    longest: int

    def __post_init__(self) -> None:
        if not self.sides or min(*self.sides, self.longest) < 1:
            raise InvalidArgumentError(f"expected positive lengths, got sides {self.sides} and longest {self.longest}")

    def new_size(self, size: Size, generator: Generator) -> Size:
        """Return ``size`` scaled to a side from the generator."""
        side = self.sides[_integer(len(self.sides), generator)]
        return _scaled(size, min(side / min(size), self.longest / max(size)))

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return picture and truth with a random length of the shorter side."""
        return _resize(image, truth, self.new_size(truth.size, generator))


@dataclass(frozen=True)
class RandomCrop:
    """Cut out a window of a fixed size, all positions equally likely.

    A picture that is smaller than the window is extended on the right and at the bottom, the map with void.

    Attributes:
        size: height and width in pixels.
        fill: red, green, blue of the extension.
    """

    size: tuple[int, int]
    fill: Color = MEAN_COLOR

    def __post_init__(self) -> None:
        _require_size(self.size)
        _require_color(self.fill)

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return the window of picture and truth."""
        return self.crop_resized(image, truth, truth.size, generator)

    def crop_resized(
        self, image: Tensor, truth: PanopticMap, size: Size, generator: Generator
    ) -> tuple[Tensor, PanopticMap]:
        """Return the window of picture and truth as they would be at ``size``, without resizing all of them."""
        _require_pair(image, truth)
        source, window = [], []
        for wanted, scaled, original in zip(self.size, size, truth.size, strict=True):
            length = min(wanted, scaled)
            start = _integer(scaled - length + 1, generator)
            low = min(round(start * original / scaled), original - 1)
            high = round((start + length) * original / scaled)
            source.append(slice(low, max(high, low + 1)))
            window.append(length)
        image = image[:, source[0], source[1]]
        truth = replace(truth, ids=truth.ids[source[0], source[1]].contiguous())
        image, truth = _resize(image, truth, Size(*window))
        return _padded(image, self.size, self.fill), truth.pad(*self.size)


@dataclass(frozen=True)
class RandomFlip:
    """Exchange left and right.

    Attributes:
        probability: of doing so, 0..1.
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        _require_probability(self.probability)

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return picture and truth, flipped or as they are."""
        _require_pair(image, truth)
        if _uniform(0, 1, generator) >= self.probability:
            return image, truth
        return image.flip(2).contiguous(), truth.flip()


@dataclass(frozen=True)
class Rotation:
    """Rotate by a random angle, counter-clockwise (Panoptic SwiftNet, section 3.1 and Table 2).

    - ``"none"``: pictures stay as they are. The paper finds this best, even for aerial pictures.
    - ``"right_angles"``: 0, 90, 180 or 270 degrees, equally likely and without loss; a quarter turn exchanges height
      and width.
    - ``"any"``: uniform in [0, 360) about the middle of the picture, whose size stays; what turns in from outside is
      void and gets the colour ``fill``.

    Attributes:
        policy: one of the three.
        fill: red, green, blue of what turns in from outside.
    """

    policy: RotationPolicy
    fill: Color = MEAN_COLOR

    def __post_init__(self) -> None:
        if self.policy not in get_args(RotationPolicy):
            raise InvalidArgumentError(
                f"expected a rotation policy out of {', '.join(get_args(RotationPolicy))}, got {self.policy!r}"
            )
        _require_color(self.fill)

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return picture and truth, rotated alike."""
        _require_pair(image, truth)
        if self.policy == "none":
            return image, truth
        if self.policy == "right_angles":
            turns = _integer(4, generator)
            return image.rot90(turns, (1, 2)).contiguous(), replace(
                truth, ids=truth.ids.rot90(turns, (0, 1)).contiguous()
            )
        return _rotated(image, truth, _uniform(0, 2 * math.pi, generator), self.fill)


@dataclass(frozen=True)
class Photometric:
    """Change brightness, contrast, saturation and hue at random; the map stays as it is.

    The four changes are affine in red, green and blue and are applied as one 3 x 3 matrix and an offset, so that values
    are rounded and clipped once. The hue turns about the grey axis of YIQ, which keeps luma.

    Attributes:
        brightness: b; the factor is uniform in [max(0, 1 - b), 1 + b].
        contrast: likewise, about the mean luma of the picture.
        saturation: likewise, about each pixel's luma.
        hue: h in 0..0.5; the turn is uniform in [-h, h], in full turns.
        probability: of changing anything, 0..1.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.05
    probability: float = 1.0

    def __post_init__(self) -> None:
        if min(self.brightness, self.contrast, self.saturation) < 0 or not 0 <= self.hue <= 0.5:
            raise InvalidArgumentError(
                "expected brightness, contrast and saturation of at least 0 and hue in 0..0.5, "
                f"got {self.brightness}, {self.contrast}, {self.saturation} and {self.hue}"
            )
        _require_probability(self.probability)

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return the picture with other colours, and the same truth."""
        _require_pair(image, truth)
        if _uniform(0, 1, generator) >= self.probability:
            return image, truth
        brightness, contrast, saturation = (
            _uniform(max(0, 1 - spread), 1 + spread, generator)
            for spread in (self.brightness, self.contrast, self.saturation)
        )
        hue = _uniform(-self.hue, self.hue, generator)
        return recolored(image, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue), truth


def recolored(
    image: Tensor, *, brightness: float = 1, contrast: float = 1, saturation: float = 1, hue: float = 0
) -> Tensor:
    """Return a picture with other colours.

    Args:
        image: uint8 [3, H, W].
        brightness: factor of all values.
        contrast: factor of the distance to the picture's mean luma.
        saturation: factor of the distance to the pixel's luma.
        hue: turn about the grey axis, in full turns.

    Returns:
        uint8 [3, H, W].
    """
    colors = image.reshape(3, -1).float()
    angle = -2 * math.pi * hue  # clockwise among the chroma axes: red over yellow to green
    turn = torch.eye(3, dtype=torch.float64)
    turn[1:, 1:] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    grey = torch.ones(3, 1, dtype=torch.float64) @ _LUMA[None]
    matrix = torch.linalg.inv(_YIQ) @ turn @ _YIQ
    matrix = brightness * contrast * matrix @ (saturation * torch.eye(3, dtype=torch.float64) + (1 - saturation) * grey)
    luma = float(_LUMA @ colors.mean(1, dtype=torch.float64)) if contrast != 1 else 0.0
    offset = (1 - contrast) * brightness * luma + 0.5  # 0.5: the conversion to uint8 truncates
    changed = torch.addmm(colors.new_full((3, 1), offset), matrix.float(), colors)
    return changed.clamp_(0, 255).to(torch.uint8).reshape(image.shape)


def _resize(image: Tensor, truth: PanopticMap, size: Size) -> tuple[Tensor, PanopticMap]:
    _require_pair(image, truth)
    if size == truth.size:
        return image.contiguous(), truth.compact()
    image = F.interpolate(image[None], tuple(size), mode="bilinear", antialias=True)[0].contiguous()
    # The source pixel under the middle of each new pixel, as the picture is sampled; in integers, hence exactly.
    rows, columns = ((2 * torch.arange(new) + 1) * old // (2 * new) for new, old in zip(size, truth.size, strict=True))
    return image, replace(truth, ids=truth.ids[rows[:, None], columns]).compact()


def _padded(image: Tensor, size: tuple[int, int], fill: Color) -> Tensor:
    height, width = image.shape[1:]
    if (height, width) == tuple(size):
        return image
    padded = torch.tensor(fill, dtype=torch.uint8)[:, None, None].repeat(1, *size)
    padded[:, :height, :width] = image
    return padded


def _rotated(image: Tensor, truth: PanopticMap, angle: float, fill: Color) -> tuple[Tensor, PanopticMap]:
    """Rotate about the middle by ``angle`` radians, counter-clockwise as seen; the size stays."""
    height, width = truth.size
    y = torch.arange(height, dtype=torch.float64)[:, None] - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    source_y = math.cos(angle) * y + math.sin(angle) * x + (height - 1) / 2
    source_x = -math.sin(angle) * y + math.cos(angle) * x + (width - 1) / 2
    row, column = source_y.round().long(), source_x.round().long()
    outside = (row < 0) | (row >= height) | (column < 0) | (column >= width)
    ids = truth.ids[row.clamp_(0, height - 1), column.clamp_(0, width - 1)].masked_fill_(outside, 0)
    grid = torch.stack([(2 * source_x + 1) / width - 1, (2 * source_y + 1) / height - 1], dim=-1)
    turned = F.grid_sample(image[None].float(), grid[None].float(), padding_mode="border", align_corners=False)[0]
    turned = torch.where(outside, torch.tensor(fill, dtype=torch.float32)[:, None, None], turned)
    return turned.round_().to(torch.uint8), replace(truth, ids=ids).compact()


def _scaled(size: Size, scale: float) -> Size:
    return Size(*(max(1, math.floor(length * scale + 0.5)) for length in size))


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _integer(count: int, generator: Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def _require_pair(image: Tensor, truth: PanopticMap) -> None:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise InvalidArgumentError(f"expected a picture as uint8 [3, H, W], got {image.dtype} {list(image.shape)}")
    if tuple(image.shape[1:]) != tuple(truth.size):
        raise InvalidArgumentError(
            f"expected picture and truth of the same size, got a picture of {image.shape[1]}x{image.shape[2]} and a "
            f"truth of {truth.size.height}x{truth.size.width}; check that both belong to the same sample"
        )


def _require_size(size: tuple[int, int]) -> None:
    if len(size) != 2 or min(size) < 1:
        raise InvalidArgumentError(f"expected a size as (height, width) of at least one pixel each, got {size}")


def _require_color(color: Color) -> None:
    if len(color) != 3 or not all(0 <= value <= 255 for value in color):
        raise InvalidArgumentError(f"expected red, green and blue in 0..255, got {color}")


def _require_probability(probability: float) -> None:
    if not 0 <= probability <= 1:
        raise InvalidArgumentError(f"expected a probability in 0..1, got {probability}")
