"""Read, convert, resize and write images as uint8 tensors [3, H, W], red, green, blue."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError, in_one_line
from panscape.image_arrays import described, from_array, from_tensor, require_pixels
from panscape.image_files import DAMAGE, IMAGE_SUFFIXES, UnsuitableValuesError, open_image
from panscape.image_io import (
    MAX_JPEG_SIDE,
    encode_image,
    exif_orientation,
    find_bit_depth,
    pixels_of,
    read_image,
    write_jpeg,
    write_png,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_JPEG_SIDE",
    "ImageSource",
    "encode_image",
    "exif_orientation",
    "find_bit_depth",
    "load_image",
    "open_image",
    "resize_images",
    "save_jpeg",
    "save_png",
    "to_image_tensor",
]

ImageSource: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor


def load_image(
    path: str | os.PathLike[str],
    *,
    apply_orientation: bool = True,
    bit_depth: int | None = None,
    may_clip: bool = True,
) -> Tensor:
    """Read an image.

    Grey becomes three equal channels, CMYK and palettes become RGB. Values of more than 8 bits are scaled to 8 and
    rounded. Transparent images are composited over white; a fourth band that varies like a color, such as near infrared
    in a GeoTIFF, is no transparency and is left out, with a note. The first frame of a multi-frame file is used. A PNG
    with damaged metadata and a JPEG without its end marker are read, with a note.

    Args:
        path: an image file; URLs are not read.
        apply_orientation: rotate or mirror the image as its EXIF tag says, as viewers do; False returns the stored
            pixels, for labels that were drawn on these.
        bit_depth: number of bits of the brightest value in files of 16 bits, 8 to 16; brighter values are clipped, with
            a note. None takes the smallest usual number (8, 10, 11, 12, 14, 16) that holds the values of this image;
            see :func:`find_bit_depth` for the same number for many.
        may_clip: clip values above ``bit_depth``; False refuses the image.

    Returns:
        uint8 [3, H, W], red, green, blue.

    Raises:
        UnreadableFileError: the file is missing, damaged, not an image, a URL, too large, or has bands or values whose
            color is unknown or that would be clipped; the message says what to do.
        InvalidArgumentError: ``bit_depth`` is out of range.
    """
    return torch.from_numpy(
        read_image(path, apply_orientation=apply_orientation, bit_depth=bit_depth, may_clip=may_clip)
    )


def to_image_tensor(source: ImageSource) -> Tensor:
    """Convert an image from any supported type to a tensor.

    Args:
        source: a path (see :func:`load_image`); a PIL image, treated like a file; a uint8 array [H, W, 3] (red, green,
            blue; not OpenCV's BGR, which cannot be detected) or [H, W] (grey); a tensor [3, H, W], uint8 or floating
            with values in 0..1.

    Returns:
        uint8 [3, H, W]. A uint8 tensor is returned unchanged on its device.

    Raises:
        UnreadableFileError: a path cannot be read.
        InvalidArgumentError: the source has another type, shape or range.
    """
    if isinstance(source, str | os.PathLike):
        return load_image(source)
    if isinstance(source, Image.Image):
        require_pixels(source.height, source.width)
        try:
            source.load()
            return torch.from_numpy(pixels_of(source, "image"))
        except UnsuitableValuesError as error:
            raise InvalidArgumentError(str(error)) from error
        except DAMAGE as error:  # PIL images are lazy: a damaged file raises only here
            raise InvalidArgumentError(f"expected a readable PIL image, but {in_one_line(error)}") from error
    if isinstance(source, np.ndarray):
        return from_array(source)
    if isinstance(source, Tensor):
        return from_tensor(source)
    raise InvalidArgumentError(
        "expected an image as a path, a PIL image, a uint8 array [H, W, 3] or [H, W], or a tensor [3, H, W], "
        f"got {type(source).__name__}"
    )


def resize_images(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize images bilinearly with anti-aliasing; return the same object if the size does not change.

    Args:
        images: float [B, C, H, W] in 0..1.
        size: height and width in pixels.
    """
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, tuple(size), mode="bilinear", align_corners=False, antialias=True).clamp_(0, 1)


def save_png(path: str | os.PathLike[str], image: Tensor) -> None:
    """Write an image as PNG atomically.

    Args:
        path: the file to write; its folder must exist.
        image: uint8 [3, H, W], red, green, blue.

    Raises:
        InvalidArgumentError: the image has another type or shape, or the folder does not exist.
    """
    write_png(path, _pixels(image))


def save_jpeg(path: str | os.PathLike[str], image: Tensor) -> None:
    """Write an image as JPEG atomically; a fifteenth of the time and an eighth of the size of PNG for a photo.

    Args:
        path: the file to write; its folder must exist.
        image: uint8 [3, H, W], red, green, blue.

    Raises:
        InvalidArgumentError: the image has another type or shape, a side of more than 65,500 pixels, or the folder does
            not exist.
    """
    write_jpeg(path, _pixels(image))


def _pixels(image: Tensor) -> NDArray[np.uint8]:
    """Return the pixels [H, W, 3] of an image [3, H, W]."""
    if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise InvalidArgumentError(f"expected an image as a uint8 tensor [3, H, W], got {described(image)}")
    return image.cpu().permute(1, 2, 0).numpy()
