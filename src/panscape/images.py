"""Read, convert, resize and write images as uint8 tensors [3, H, W], red, green, blue."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile
from torch import Tensor
from torch.nn import functional as F

from panscape.atomic_io import atomic_write
from panscape.errors import InvalidArgumentError, UnreadableFileError, in_one_line, listed
from panscape.image_arrays import described, from_array, from_tensor, require_pixels
from panscape.image_depth import depth_of, grey_values, is_deep, is_negative, read_deep, require_bit_depth, to_8_bits
from panscape.image_files import DAMAGE, IMAGE_SUFFIXES, UnsuitableValuesError, decode, open_image
from panscape.notes import note_once
from panscape.spread import evenly_spread

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

MAX_JPEG_SIDE = 65500
"""Largest height and width of a JPEG, a limit of libjpeg."""

_NUM_SAMPLED = 16  # images from which the bit depth of many is found

# By the number in the EXIF tag: how to turn the stored pixels upright.
_TURNS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
_INVERSE = {6: 8, 8: 6}  # each other turn undoes itself


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
    require_bit_depth(bit_depth)
    with open_image(path) as image:
        # Pillow applies the orientation of a TIFF while it decodes.
        undone = _orientation(image, path) if image.format == "TIFF" and not apply_orientation else 1
        if is_deep(image):
            decoded = _with_8_bits(image, _deep_values(image, path), bit_depth, path, may_clip=may_clip)
        else:
            decoded = decode(image, path)
        pixels = np.array(_to_rgb(decoded, path))
        orientation = _orientation(image, path) if apply_orientation else _INVERSE.get(undone, undone)
    return _to_tensor(_turned(pixels, orientation))


def exif_orientation(path: str | os.PathLike[str]) -> int:
    """Return the EXIF orientation of an image, 1 to 8, without decoding it; 1 (as stored) if there is none.

    Raises:
        UnreadableFileError: the file is missing, not an image or damaged.
    """
    with open_image(path) as image:
        return _orientation(image, path)


def find_bit_depth(paths: Sequence[str | os.PathLike[str]]) -> int | None:
    """Return the bit depth that the deep images among many show, for :func:`load_image`.

    It is logged if it is below 16, or if the images show several.

    Args:
        paths: image files; up to 16 of them are read, spread evenly.

    Returns:
        The number of bits that holds the values of all read images of more than 8 bits; None if there are none.
    """
    depths = {}
    for path in (paths[index] for index in evenly_spread(len(paths), _NUM_SAMPLED)):
        try:
            with open_image(path) as image:
                if is_deep(image):
                    depths[path] = depth_of(_colors(_deep_values(image, path)))
        except UnreadableFileError:  # reported when it is used
            continue
    if not depths:
        return None
    first, found = next(iter(depths)), max(depths.values())
    counts = Counter(depths.values())
    if found < 16 or len(counts) > 1:
        shown = f"{found}" if len(counts) == 1 else listed([f"{n} (in {counts[n]})" for n in sorted(counts)])
        note_once(
            first,
            f"a file of 16 bits, of which the images use {shown}: the value {(1 << found) - 1} becomes white in all, "
            "unless --bit-depth (in training --data.bit-depth) gives another number",
        )
    return found


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
            return _to_tensor(_turned(np.array(_to_rgb(source, "image")), _orientation(source, "image")))
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
    # Level 1 takes a quarter of the default's time; photos are a fifth larger.
    _save(path, image, "PNG", compress_level=1)


def save_jpeg(path: str | os.PathLike[str], image: Tensor) -> None:
    """Write an image as JPEG atomically; a fifteenth of the time and an eighth of the size of PNG for a photo.

    Args:
        path: the file to write; its folder must exist.
        image: uint8 [3, H, W], red, green, blue.

    Raises:
        InvalidArgumentError: the image has another type or shape, a side of more than 65,500 pixels, or the folder does
            not exist.
    """
    if isinstance(image, Tensor) and max(image.shape) > MAX_JPEG_SIDE:
        raise InvalidArgumentError(
            f"expected sides of at most {MAX_JPEG_SIDE} pixels for a JPEG, got {described(image)}; write a PNG"
        )
    _save(path, image, "JPEG", quality=90, subsampling=0)  # full resolution of colors, for thin outlines


def _save(path: str | os.PathLike[str], image: Tensor, encoding: str, **options: int) -> None:
    if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise InvalidArgumentError(f"expected an image as a uint8 tensor [3, H, W], got {described(image)}")
    with atomic_write(path) as temporary:
        pixels = image.cpu().permute(1, 2, 0).contiguous().numpy()
        temporary.write_bytes(encode_image(Image.fromarray(pixels), encoding, **options))


def encode_image(image: Image.Image, encoding: str, **options: int) -> bytes:
    """Return the content of an image file, to be written at once: Pillow writes a cut file to a full disk silently."""
    buffer = BytesIO()
    image.save(buffer, encoding, **options)
    return buffer.getvalue()


def _to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _to_rgb(image: Image.Image, name: object) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _with_8_bits(image, grey_values(image), None, name).convert("RGB")
    if image.mode == "F":
        raise UnsuitableValuesError(
            "expected an image of integers, got floating-point values of unknown range; save it with 8 or 16 bits"
        )
    if image.has_transparency_data:
        is_declared = image.mode in ("P", "PA") or "transparency" in image.info  # by a palette or one color
        return _over_white(image.convert("RGBA"), name, may_be_color=not is_declared)
    return image.convert("RGB")


def _over_white(image: Image.Image, name: object, *, may_be_color: bool) -> Image.Image:
    """Composite an RGBA image over white.

    Args:
        image: the image.
        name: of the image, for a note.
        may_be_color: its alpha is only a transparency if it is opaque somewhere, and opaque or empty at most pixels.
    """
    count = image.getchannel("A").histogram()
    if may_be_color and (count[255] == 0 or 2 * (count[0] + count[255]) < sum(count)):
        note_once(name, "its alpha band varies like a color or is nowhere opaque; it is not used as transparency")
    elif count[255] < sum(count):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _deep_values(image: ImageFile, path: str | os.PathLike[str]) -> NDArray[np.uint16]:
    with open_image(path) as again:
        return read_deep(image, again)


def _with_8_bits(
    image: Image.Image, values: NDArray[np.uint16], bit_depth: int | None, name: object, *, may_clip: bool = True
) -> Image.Image:
    """Return the values [H, W], [H, W, 3] or [H, W, 4] of a deep image as an image of 8 bits."""
    colors = _colors(values)
    shown = depth_of(colors)
    if bit_depth is not None and shown > bit_depth:
        excess = f"its values exceed the {bit_depth} bits of the other images"
        if not may_clip:
            raise UnsuitableValuesError(f"{excess}, up to {colors.max()}; give all of them --bit-depth {shown}")
        note_once(name, f"{excess} and are clipped; set --bit-depth (in training --data.bit-depth)")
    pixels = to_8_bits(colors, bit_depth or shown)
    if is_negative(image):
        pixels = 255 - pixels
    if values.shape[2:] == (4,):
        alpha = values[..., 3]
        pixels = np.dstack([pixels, to_8_bits(alpha, depth_of(alpha))])
    return Image.fromarray(pixels)


def _colors(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    return values[..., :3] if values.ndim == 3 else values


def _orientation(image: Image.Image, name: object) -> int:
    """Return the number in the EXIF tag, 1 to 8; 1 (as stored) if there is none."""
    try:
        number = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        note_once(name, "its EXIF data are damaged and ignored")
        return 1
    return number if number in _TURNS else 1


def _turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return pixels [H, W, C], stored with this orientation, upright."""
    return _TURNS[orientation](pixels)
