"""Open image files of unknown origin: formats, size limit, repairs without loss, and errors that name the remedy."""

from __future__ import annotations

import io
import math
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from panscape import tiff_files
from panscape.errors import InvalidArgumentError, PanscapeError, UnreadableFileError, in_one_line
from panscape.file_kinds import kind_of
from panscape.input_files import require_file, to_path
from panscape.notes import note_once

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

_ANIMATED = {"GIF", "PNG", "WEBP", "AVIF"}  # other formats use frames for thumbnails, depth and reduced versions
_HEIF_SUFFIXES = ".heic .heif .hif"
_HEIF = re.compile(rb"....ftyp(?!.*avi[fs]).*(hei[cxms]|hev[cxms])", re.DOTALL)  # brands in the first box

IMAGE_SUFFIXES = frozenset(f"{' '.join(_FORMATS.values())} {_HEIF_SUFFIXES}".split())
"""File name suffixes of images in a folder, in lower case."""

# Exceptions that Pillow's readers raise on damaged files.
DAMAGE = (
    *(OSError, EOFError, SyntaxError, ValueError, LookupError, TypeError, ArithmeticError, RuntimeError, MemoryError),
    *(AttributeError, AssertionError, struct.error, zlib.error),
)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)

_START = 64  # bytes that identify a format
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}  # all that the pixels depend on
_JPEG_END = b"\xff\xd9"

_limit: int | None = None  # of pixels, by the innermost pixel_limit


class UnsuitableValuesError(ValueError):
    """An image was read, but the range of its values is unknown or unsupported."""


@contextmanager
def open_image(path: str | os.PathLike[str]) -> Iterator[ImageFile]:
    """Open an image; all errors of Pillow while the block decodes it become one kind of error.

    A PNG with damaged metadata is opened without these, with a note.

    Args:
        path: a file in one of the formats of :data:`IMAGE_SUFFIXES`, whatever its name.

    Raises:
        UnreadableFileError: the file is missing, not an image or damaged, or it is larger than :func:`pixel_limit`
            allows.
    """
    given, path = path, to_path(path)
    if "://" in os.fspath(given):
        raise UnreadableFileError(given, "URLs are not supported; download the file and give its path")
    require_file(path)
    libtiff_lines: list[str] = []
    with _one_error(path, libtiff_lines), path.open("rb") as stream:
        start = stream.read(_START)
        is_tiff = start[:2] in (b"II", b"MM")
        with (
            tiff_files.captured_lines(libtiff_lines) if is_tiff else nullcontext(),
            _opened(stream, start, path) as image,
        ):
            yield image


def decode(image: Image.Image, path: str | os.PathLike[str]) -> Image.Image:
    """Decode the pixels of an opened image.

    Returns:
        The image, or a copy of it if nothing but the end marker of a JPEG is missing, with a note.
    """
    try:
        image.load()
    except OSError:
        completed = _completed_jpeg(Path(path).read_bytes()) if image.format in ("JPEG", "MPO") else None
        if completed is None:
            raise
        note_once(path, "the end marker of the JPEG is missing, but no pixel")
        return completed
    return image


@contextmanager
def pixel_limit(num_pixels: int) -> Iterator[None]:
    """Refuse larger images within the block, in the whole process, in place of Pillow's own limit.

    Args:
        num_pixels: the largest number of pixels of an image.

    Raises:
        InvalidArgumentError: it is below 1.
    """
    if num_pixels < 1:
        raise InvalidArgumentError(f"expected a largest number of pixels of at least 1, got {num_pixels}")
    global _limit
    before, _limit = (_limit, Image.MAX_IMAGE_PIXELS), num_pixels
    Image.MAX_IMAGE_PIXELS = None  # Pillow would warn above it, and refuse above twice this number only
    try:
        yield
    finally:
        _limit, Image.MAX_IMAGE_PIXELS = before


def _largest() -> float:
    """Return the largest number of pixels of an image; infinity without a limit."""
    if _limit is not None:
        return _limit
    return math.inf if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def require_within_limit(path: str | os.PathLike[str], height: int, width: int) -> None:
    """Check the size of an opened image, or of a frame of a video.

    Raises:
        UnreadableFileError: it is larger than :func:`pixel_limit` allows.
    """
    if height * width > _largest():
        raise UnreadableFileError(path, _too_large(f"{height}x{width}"))


def is_within_limit(height: int, width: int) -> bool:
    """Return whether an image is neither refused nor warned of because of its size."""
    return height * width <= min(_largest(), Image.MAX_IMAGE_PIXELS or math.inf)


def _too_large(found: object) -> str:
    return (
        f"the image is larger than the limit of {_largest()} pixels ({found}); downscale it, "
        "split it into tiles, or raise the limit: panscape predict --max-pixels, in Python PIL.Image.MAX_IMAGE_PIXELS"
    )


@contextmanager
def _one_error(path: Path, lines: list[str]) -> Iterator[None]:
    try:
        yield
    except _BOMB as error:
        found = re.search(r"\d+ pixels", str(error))
        raise UnreadableFileError(path, _too_large(found.group() if found else error)) from error
    except UnsuitableValuesError as error:
        raise UnreadableFileError(path, str(error)) from error
    except UnidentifiedImageError as error:
        raise UnreadableFileError(path, _diagnosis(path)) from error
    except PanscapeError:
        raise
    except DAMAGE as error:
        reason = lines[0] if lines else in_one_line(error)
        raise UnreadableFileError(
            path, f"expected a whole image in a format that Pillow reads, but {reason}; replace the file"
        ) from error


def _opened(stream: IO[bytes], start: bytes, path: Path) -> ImageFile:
    if _HEIF.match(start):
        return _open_heif(stream, path)
    layout = tiff_files.layout_of(stream)
    if layout is not None and (fault := layout.fault(path)):
        raise UnreadableFileError(path, fault)
    try:
        image = _open_listed(stream, start)
    except DAMAGE:
        if layout is not None:
            raise UnreadableFileError(
                path, f"expected bands that Pillow reads, got {layout}; {layout.conversion(path)}"
            ) from None
        if not start.startswith(_PNG_SIGNATURE):
            raise
        stream.seek(0)
        data = stream.read()
        reduced = _without_metadata(data)
        if reduced == data:
            raise
        image = _open_listed(io.BytesIO(reduced), start)
        note_once(path, "its damaged metadata is ignored; the pixels are whole")
    require_within_limit(path, image.height, image.width)
    if layout is not None:
        tiff_files.note_unused_bands(image, layout, path)
    if image.format in _ANIMATED and getattr(image, "is_animated", False):
        note_once(path, "it is an animation, of which only the first frame is used")
    return image


def _open_listed(stream: IO[bytes], start: bytes) -> ImageFile:
    stream.seek(0)
    if start.startswith((_PNG_SIGNATURE, _JPEG_SIGNATURE)):
        Image.preinit()  # a third of the time that all plugins take
    else:
        Image.init()
    return Image.open(stream, formats=[name for name in _FORMATS if name in Image.OPEN])


def _open_heif(stream: IO[bytes], path: Path) -> ImageFile:
    try:
        from pi_heif import HeifImageFile  # decoders under the LGPL; pillow-heif contains an encoder under the GPL
    except ImportError as error:
        raise UnreadableFileError(
            path,
            "reading HEIC needs pi_heif; install it with: pip install 'panscape[heif]', or export the photo as JPEG",
        ) from error
    stream.seek(0)
    image: ImageFile = HeifImageFile(stream)
    require_within_limit(path, image.height, image.width)
    return image


def _without_metadata(data: bytes) -> bytes:
    """Return a PNG with those chunks only that its pixels depend on."""
    kept, position = [data[:8]], 8
    while position + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if name in _CHUNKS:
            kept.append(data[position:end])
        position = end
    return b"".join(kept)


def _completed_jpeg(data: bytes) -> Image.Image | None:
    """Return the image of a JPEG without its end marker; None if pixels are missing too.

    Missing pixels would depend on what follows the data, so two different continuations tell.
    """
    data = data.rstrip(b"\xff")
    decoded = []
    for continuation in (b"", b"\x55" * 64):
        with Image.open(io.BytesIO(data + continuation + _JPEG_END), formats=["JPEG"]) as image:
            image.load()
            decoded.append(image)
    first, second = decoded
    return first if first.tobytes() == second.tobytes() else None


def _diagnosis(path: Path) -> str:
    """Return why no format fits a file, and what to do."""
    kind = kind_of(path)
    if kind is not None:
        return f"expected an image, got {kind[0]}; {kind[1]}"
    return "expected a whole image in a format that Pillow reads, got something else; replace the file"
