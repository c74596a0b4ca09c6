"""Sizes and padding: pure functions on integers. Sizes are always ``(height, width)`` in pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import NamedTuple, Self

from panscape.errors import InvalidArgumentError


class Size(NamedTuple):
    """The size of an image in pixels."""

    height: int
    width: int

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.height * self.width


@dataclass(frozen=True, slots=True)
class ImageGeometry:
    """The sizes of one image from its pixels to its map, each (height, width) in pixels; see :meth:`of`.

    Attributes:
        size: of the image itself, and of its map.
        inference_size: of the image as it enters the network, before padding.
        padded_size: of the network's input, which has the image in its top left corner.

    Raises:
        InvalidArgumentError: a size is empty, or the inference size exceeds the padded size.
    """

    size: Size
    inference_size: Size
    padded_size: Size

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise InvalidArgumentError(f"expected images of at least 1x1 pixels, got {self.size[0]}x{self.size[1]}")
        require_fits(self.inference_size, self.padded_size)

    @classmethod
    def of(
        cls,
        size: tuple[int, int],
        inference_size: tuple[int, int] | None = None,
        padded_size: tuple[int, int] | None = None,
    ) -> Self:
        """Return the geometry of an image that by default is neither resized nor padded.

        Args:
            size: of the image.
            inference_size: None for ``size``.
            padded_size: None for ``inference_size``.
        """
        inference_size = inference_size or size
        return cls(Size(*size), Size(*inference_size), Size(*(padded_size or inference_size)))

    @property
    def is_resized(self) -> bool:
        """Whether the image enters the network at another size than its own."""
        return self.inference_size != self.size

    @property
    def scale(self) -> tuple[float, float]:
        """Factors, vertical and horizontal, from lengths at the inference size to lengths at the image's own size."""
        height, width = (full / seen for full, seen in zip(self.size, self.inference_size, strict=True))
        return height, width

    def at_image_size(self) -> Self:
        """Return the geometry of outputs that are upsampled to the image's size instead of the inference size.

        The padded size is scaled to the image and rounded, which shifts no pixel by more than half of one.
        """
        sides = zip(self.size, self.inference_size, self.padded_size, strict=True)
        height, width = (max(full, round(padded * full / seen)) for full, seen, padded in sides)
        return self.of(self.size, padded_size=(height, width))

    def padded_to(self, padded_size: tuple[int, int]) -> Self:
        """Return the same with another padded size."""
        return replace(self, padded_size=Size(*padded_size))


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple of ``multiple`` that is at least ``value``."""
    # Avoid dividing negative numbers: in exported graphs, division may truncate instead of rounding down.
    return (value + multiple - 1) // multiple * multiple


def padded_size(size: tuple[int, int], stride: int) -> Size:
    """Return ``size`` with both sides rounded up to a multiple of ``stride``."""
    height, width = size
    return Size(round_up(height, stride), round_up(width, stride))


def require_fits(size: tuple[int, int], padded: tuple[int, int]) -> None:
    """Check that an image size is positive and fits a padded input.

    Raises:
        InvalidArgumentError: the size is not positive or exceeds ``padded``.
    """
    if min(size) < 1 or size[0] > padded[0] or size[1] > padded[1]:
        raise InvalidArgumentError(
            f"expected a size within the padded size {padded[0]}x{padded[1]}, got {size[0]}x{size[1]}"
        )


def min_area_pixels(share: float, size: tuple[int, int]) -> int:
    """Return the smallest number of pixels that is at least this fraction of an image, in exact decimal arithmetic.

    In floating point, 0.07 of 100 pixels is slightly more than 7, and the result would be 8.
    """
    return ceil(Fraction(repr(float(share))) * size[0] * size[1])


def require_longest_side(longest_side: int | None) -> None:
    """Check the maximum side of images in inference, in pixels; None for no limit.

    Raises:
        InvalidArgumentError: it is below 1.
    """
    if longest_side is not None and longest_side < 1:
        raise InvalidArgumentError(f"expected a longest side of at least 1 pixel, got {longest_side}")


def inference_geometry(
    size: tuple[int, int], longest_side: int | None, test_scale: float, given_side: int | None = None
) -> ImageGeometry:
    """Return the sizes of an image in inference; its padded size is not known before the forward pass.

    Args:
        size: height and width of the image.
        longest_side: maximum side of images in inference; None for no limit.
        test_scale: factor by which images are resized before ``longest_side`` is applied.
        given_side: resize the image so that its longer side has this many pixels; None for the two rules above.
    """
    longest = given_side
    if longest is None:
        longest = max(1, round(max(size) * test_scale))
        longest = longest if longest_side is None else min(longest, longest_side)
    return ImageGeometry.of(size, size_with_longest_side(size, longest))


def size_with_longest_side(size: tuple[int, int], longest: int) -> Size:
    """Return ``size`` scaled so that its longer side is ``longest`` pixels, with the aspect ratio kept up to rounding.

    Raises:
        InvalidArgumentError: a side or ``longest`` is not positive.
    """
    height, width = size
    if min(height, width, longest) < 1:
        raise InvalidArgumentError(f"expected positive sizes, got {height}x{width} scaled to {longest} pixels")
    scale = longest / max(height, width)
    return Size(max(1, round(height * scale)), max(1, round(width * scale)))
