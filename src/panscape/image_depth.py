"""Values of more than 8 bits: read at full depth, with the number of bits that they use, and scaled to 8 bits.

Cameras and satellites store 10, 11, 12 or 14 bits in files of 16.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from panscape.errors import InvalidArgumentError
from panscape.image_files import UnsuitableValuesError

_USUAL_DEPTHS = (8, 10, 11, 12, 14, 16)
_PHOTOMETRIC = 262  # tag of TIFF
_ROWS = 64  # scaled at a time
_COLORS = ("RGB", "RGBA", "RGBX")
# Pillow keeps the upper byte of each value. Of values in the other byte order that is the lower one. "N" is native.
_OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}


def require_bit_depth(bits: int | None) -> None:
    """Check a number of bits that a user gives; None leaves it to the values.

    Raises:
        InvalidArgumentError: it is not in 8..16.
    """
    if bits is not None and not 8 <= bits <= 16:
        raise InvalidArgumentError(f"expected a bit depth of 8 to 16, got {bits}")


def is_deep(image: ImageFile) -> bool:
    """Return whether an image has values of more than 8 bits, before it is decoded."""
    return image.mode == "I" or image.mode.startswith("I;16") or _has_deep_colors(image)


def read_deep(image: ImageFile, again: ImageFile) -> NDArray[np.uint16]:
    """Read the values of a deep image.

    Args:
        image: the opened image.
        again: the same file opened again, for the lower byte of colors.

    Returns:
        uint16 [H, W] of grey, or [H, W, 3 or 4] of colors, the fourth as transparency.

    Raises:
        UnsuitableValuesError: values of 32 bits exceed 16 bits.
    """
    if not _has_deep_colors(image):
        return grey_values(image)
    if _raw_mode(image.tile[0].args) == "LA;16B":  # four bytes a pixel, as RGBA of 8 bits has
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]
        return np.array(image).view(">u2").astype(np.uint16)[..., [0, 0, 0, 1]]
    again.tile = [tile._replace(args=_in_other_order(tile.args)) for tile in again.tile]
    values = np.array(image).astype(np.uint16)
    values <<= 8
    values |= np.array(again)
    return values[..., :3] if image.mode == "RGBX" else values


def grey_values(image: Image.Image) -> NDArray[np.uint16]:
    """Return the values of grey of 16 or 32 bits, uint16 [H, W].

    Raises:
        UnsuitableValuesError: a value exceeds 16 bits.
    """
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise UnsuitableValuesError(
            f"expected grey values of 16 bits, 0..65535, got {low}..{high}; save the image with 8 or 16 bits"
        )
    return values.astype(np.uint16)


def is_negative(image: Image.Image) -> bool:
    """Return whether 0 is white in a deep image: WhiteIsZero of TIFF, which Pillow inverts only up to 8 bits."""
    return getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0


def depth_of(values: NDArray[np.uint16]) -> int:
    """Return the smallest usual number of bits, 8 to 16, that holds all values."""
    return next(bits for bits in _USUAL_DEPTHS if int(values.max()) < 1 << bits)


def to_8_bits(values: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """Scale values so that the largest of ``bits`` bits becomes 255, and round; larger ones are clipped."""
    white = (1 << bits) - 1
    table = ((np.minimum(np.arange(1 << 16), white) * 255 + white // 2) // white).astype(np.uint8)
    scaled = np.empty(values.shape, np.uint8)
    for row in range(0, len(values), _ROWS):  # NumPy indexes by 8 bytes for each value
        scaled[row : row + _ROWS] = table[values[row : row + _ROWS]]
    return scaled


def _has_deep_colors(image: ImageFile) -> bool:
    return image.mode in _COLORS and any(";16" in _raw_mode(tile.args) for tile in image.tile)


def _raw_mode(args: Any) -> str:
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _in_other_order(args: Any) -> Any:
    raw_mode = _raw_mode(args)
    other = raw_mode[:-1] + _OTHER_ORDER[raw_mode[-1]]
    return other if isinstance(args, str) else (other, *args[1:])
