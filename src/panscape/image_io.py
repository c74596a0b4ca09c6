"""Read and write images as arrays, uint8 [3, H, W] and [H, W, 3], red, green, blue."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile

from panscape.atomic_io import atomic_write
from panscape.errors import InvalidArgumentError, UnreadableFileError, listed
from panscape.geometry import Size
from panscape.image_depth import depth_of, grey_values, is_deep, is_negative, read_deep, require_bit_depth, to_8_bits
from panscape.image_files import DAMAGE, UnsuitableValuesError, decode, open_image
from panscape.notes import note_once
from panscape.spread import evenly_spread

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
_FIRST_TURNED = 5  # this and higher numbers swap height and width
_INVERSE = {6: 8, 8: 6}  # each other turn undoes itself


def read_image(
    path: str | os.PathLike[str],
    *,
    apply_orientation: bool = True,
    bit_depth: int | None = None,
    may_clip: bool = True,
) -> NDArray[np.uint8]:
    """Read an image as an array, uint8 [3, H, W], contiguous; all else is as :func:`panscape.images.load_image`."""
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
    return _planes(_turned(pixels, orientation))


def exif_orientation(path: str | os.PathLike[str]) -> int:
    """Return the EXIF orientation of an image, 1 to 8, without decoding it; 1 (as stored) if there is none.

    Raises:
        UnreadableFileError: the file is missing, not an image or damaged.
    """
    with open_image(path) as image:
        return _orientation(image, path)


def upright_size(path: str | os.PathLike[str]) -> Size:
    """Return the size of an image as :func:`read_image` returns it, without decoding it.

    Raises:
        UnreadableFileError: the file is missing, not an image or damaged.
    """
    with open_image(path) as image:
        # Pillow applies the orientation of a TIFF while it decodes.
        is_turned = _orientation(image, path) >= _FIRST_TURNED
        return Size(image.width, image.height) if is_turned else Size(image.height, image.width)


def find_bit_depth(paths: Sequence[str | os.PathLike[str]]) -> int | None:
    """Return the bit depth that the deep images among many show, for :func:`read_image`.

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


def pixels_of(image: Image.Image, name: object) -> NDArray[np.uint8]:
    """Return the pixels of a decoded image, treated like those of a file: uint8 [3, H, W], contiguous.

    Args:
        image: decoded.
        name: of the image, for notes.

    Raises:
        UnsuitableValuesError: it has bands or values whose color is unknown.
    """
    return _planes(_turned(np.array(_to_rgb(image, name)), _orientation(image, name)))


def write_png(path: str | os.PathLike[str], pixels: NDArray[np.uint8]) -> None:
    """Write pixels, uint8 [H, W, 3], as PNG atomically."""
    # Level 1 takes a quarter of the default's time; photos are a fifth larger.
    _write(path, pixels, "PNG", compress_level=1)


def write_jpeg(path: str | os.PathLike[str], pixels: NDArray[np.uint8]) -> None:
    """Write pixels, uint8 [H, W, 3], as JPEG atomically.

    Raises:
        InvalidArgumentError: a side has more than 65,500 pixels.
    """
    if max(pixels.shape) > MAX_JPEG_SIDE:
        raise InvalidArgumentError(
            f"expected sides of at most {MAX_JPEG_SIDE} pixels for a JPEG, got {list(pixels.shape)}; write a PNG"
        )
    _write(path, pixels, "JPEG", quality=90, subsampling=0)  # full resolution of colors, for thin outlines


def _write(path: str | os.PathLike[str], pixels: NDArray[np.uint8], encoding: str, **options: int) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(encode_image(Image.fromarray(np.ascontiguousarray(pixels)), encoding, **options))


def encode_image(image: Image.Image, encoding: str, **options: int) -> bytes:
    """Return the content of an image file, to be written at once: Pillow writes a cut file to a full disk silently."""
    buffer = BytesIO()
    image.save(buffer, encoding, **options)
    return buffer.getvalue()


def _planes(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


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
