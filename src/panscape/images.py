"""Read, convert, resize and write images as uint8 tensors [3, H, W], red, green, blue."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from panscape.atomic_io import atomic_write
from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.input_files import require_file

_FORMATS = {
    "JPEG": ".jpg .jpeg .jpe .jfif",
    "PNG": ".png .apng",
    "TIFF": ".tif .tiff",
    "WEBP": ".webp",
    "AVIF": ".avif .avifs",
    "BMP": ".bmp",
    "DIB": ".dib",
    "GIF": ".gif",
    "JPEG2000": ".jp2 .j2k .jpc .jpf .jpx .j2c",
    "MPO": ".mpo",
    "PCX": ".pcx",
    "PPM": ".ppm .pgm .pbm .pnm .pfm",
    "PSD": ".psd",
    "QOI": ".qoi",
    "SGI": ".sgi .rgb .rgba .bw",
    "SUN": ".ras",
    "TGA": ".tga .icb .vda .vst",
}
"""Pillow's names of the formats that are opened, with their suffixes.

Others are refused: Pillow passes PostScript to Ghostscript, and some of its readers start other programs too.
"""

IMAGE_SUFFIXES = frozenset(" ".join(_FORMATS.values()).split())
"""File name suffixes of images in a folder, in lower case."""

MAX_JPEG_SIDE = 65500
"""Largest height and width of a JPEG, a limit of libjpeg."""

ImageSource: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor

# Exceptions that Pillow's readers raise on damaged files.
_DAMAGE = (OSError, EOFError, SyntaxError, ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


class _UnsuitableValuesError(ValueError):
    """An image was read, but the range of its values is unknown or unsupported."""


def load_image(path: str | os.PathLike[str], *, apply_orientation: bool = True) -> Tensor:
    """Read an image.

    Grey becomes three equal channels; 16-bit grey is scaled to 8 bits
    (divided by 257 and rounded, never clipped). Pillow reads only the upper 8 bits of 16-bit color channels.
    Transparent images are composited over white, CMYK and palettes become RGB. The first frame of a multi-frame file
    is used.

    Args:
        path: an image file; URLs are not read.
        apply_orientation: rotate or mirror the image as its EXIF tag says, as viewers do; False returns the stored
            pixels, for labels that were drawn on these.

    Returns:
        uint8 [3, H, W], red, green, blue.

    Raises:
        UnreadableFileError: the file is missing, not an image or damaged, a URL, or it is larger than
            ``PIL.Image.MAX_IMAGE_PIXELS`` allows.
    """
    with open_image(path) as image:
        return _to_tensor(image, apply_orientation=apply_orientation)


@contextmanager
def open_image(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open an image; all errors of Pillow while the block decodes it become one kind of error.

    Args:
        path: a file that Pillow reads.

    Raises:
        UnreadableFileError: the file is missing, not an image or damaged, or it is larger than
            ``PIL.Image.MAX_IMAGE_PIXELS`` allows.
    """
    if "://" in os.fspath(path):
        raise UnreadableFileError(path, "URLs are not supported; download the file and give its path")
    path = Path(path)
    require_file(path)
    try:
        Image.init()  # else Pillow knows the formats of its most common plugins only
        with Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
            yield image
    except _BOMB as error:
        raise UnreadableFileError(
            path,
            f"the image is larger than the limit against decompression bombs ({error}); split it into tiles, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS if you trust it",
        ) from error
    except _UnsuitableValuesError as error:
        raise UnreadableFileError(path, str(error)) from error
    except _DAMAGE as error:
        raise UnreadableFileError(
            path, f"expected a whole image in a format that Pillow reads, but {_in_one_line(error)}; replace the file"
        ) from error


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
        try:
            return _to_tensor(source)
        except _UnsuitableValuesError as error:
            raise InvalidArgumentError(str(error)) from error
        except _DAMAGE as error:  # PIL images are lazy: a damaged file raises only here
            raise InvalidArgumentError(f"expected a readable PIL image, but {_in_one_line(error)}") from error
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Tensor):
        return _from_tensor(source)
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
            f"expected sides of at most {MAX_JPEG_SIDE} pixels for a JPEG, got {_described(image)}; write a PNG"
        )
    _save(path, image, "JPEG", quality=90, subsampling=0)  # full resolution of colors, for thin outlines


def _save(path: str | os.PathLike[str], image: Tensor, encoding: str, **options: int) -> None:
    if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise InvalidArgumentError(f"expected an image as a uint8 tensor [3, H, W], got {_described(image)}")
    with atomic_write(Path(path)) as temporary:
        pixels = image.cpu().permute(1, 2, 0).contiguous().numpy()
        temporary.write_bytes(encode_image(Image.fromarray(pixels), encoding, **options))


def encode_image(image: Image.Image, encoding: str, **options: int) -> bytes:
    """Return the content of an image file, to be written at once: Pillow writes a cut file to a full disk silently."""
    buffer = BytesIO()
    image.save(buffer, encoding, **options)
    return buffer.getvalue()


def _to_tensor(image: Image.Image, *, apply_orientation: bool = True) -> Tensor:
    array = np.array(_to_rgb(ImageOps.exif_transpose(image) if apply_orientation else image))
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_deep_grey(np.asarray(image).astype(np.int64))
    if image.mode == "F":
        raise _UnsuitableValuesError(
            "expected an image of integers, got floating-point values of unknown range; save it with 8 or 16 bits"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _from_deep_grey(values: NDArray[np.int64]) -> Image.Image:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise _UnsuitableValuesError(
            f"expected grey values of 16 bits, 0..65535, got {low}..{high}; save the image with 8 or 16 bits"
        )
    # 65535 / 255 = 257: white stays white.
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")


def _from_array(array: NDArray[Any]) -> Tensor:
    is_grey = array.ndim == 2
    if array.dtype != np.uint8 or not (is_grey or (array.ndim == 3 and array.shape[2] == 3)) or array.size == 0:
        raise InvalidArgumentError(
            f"expected an image as a uint8 array [H, W, 3] or [H, W], got {_described(array)}; convert it first"
        )
    copy = torch.from_numpy(np.array(array))  # a copy: torch cannot hold read-only or mirrored arrays
    return copy.expand(3, *copy.shape).contiguous() if is_grey else copy.permute(2, 0, 1).contiguous()


def _from_tensor(tensor: Tensor) -> Tensor:
    expected = "expected an image as a tensor [3, H, W], uint8 or floating in 0..1"
    if tensor.ndim != 3 or tensor.shape[0] != 3 or tensor.numel() == 0:
        hint = "; move the channels to the front with permute(2, 0, 1)" if tensor.shape[-1:] == (3,) else ""
        raise InvalidArgumentError(f"{expected}, got {_described(tensor)}{hint}")
    if tensor.dtype == torch.uint8:
        return tensor
    if not tensor.is_floating_point():
        raise InvalidArgumentError(f"{expected}, got {_described(tensor)}; convert it with .to(torch.uint8)")
    values = tensor.detach().float()
    low, high = (float(v) for v in torch.stack(values.aminmax()))
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise InvalidArgumentError(f"{expected}, got values in {low:g}..{high:g}; scale them, or give uint8")
    return (values * 255).round().to(torch.uint8)


def _described(value: object) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
