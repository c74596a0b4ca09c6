"""Sizes, padding and windows: pure functions on integers. Sizes are always ``(height, width)`` in pixels."""

from __future__ import annotations

from typing import NamedTuple

from panscape.errors import InvalidArgumentError


class Size(NamedTuple):
    """A picture's extent in pixels."""

    height: int
    width: int

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.height * self.width


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple of ``multiple`` that is at least ``value``."""
    return -(-value // multiple) * multiple


def padded_size(size: tuple[int, int], stride: int) -> Size:
    """Return ``size`` with both sides rounded up to a multiple of ``stride``."""
    height, width = size
    return Size(round_up(height, stride), round_up(width, stride))


def size_with_longest_side(size: tuple[int, int], longest: int) -> Size:
    """Return ``size`` scaled so that its longer side is ``longest`` pixels, the aspect ratio kept to a pixel.

    Raises:
        InvalidArgumentError: a side or ``longest`` is not positive.
    """
    height, width = size
    if min(height, width, longest) < 1:
        raise InvalidArgumentError(f"expected positive sizes, got {height}x{width} scaled to {longest} pixels")
    scale = longest / max(height, width)
    return Size(max(1, round(height * scale)), max(1, round(width * scale)))
