"""PNG of ids, written and read in a fraction of a general library's time.

A general encoder tries five filters on every row. Of ids, the difference to the row above is nearly always zero, and
runs of zeros need no search for longer matches. A general decoder reverses the filters byte by byte.

zlib-ng compresses and decompresses where a wheel of it exists, else the standard library.

Source: the PNG specification, https://www.w3.org/TR/png-3/.
"""

from __future__ import annotations

import os
import struct
import zlib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from panscape.image_files import is_within_limit
from panscape.input_files import to_path
from panscape.ops.png_filters import unfilter

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")  # width, height, bits, kind of color, compression, filter method, interlacing
_GREY, _RGB = 0, 2
_PIXELS = {(8, _GREY): 1, (16, _GREY): 2, (8, _RGB): 3}  # bytes of a pixel by bits and kind of color
_UP = 2  # the filter type of a row that is written as the difference to the one above


@cache
def _compression() -> ModuleType:
    """Return zlib-ng if it is installed, else zlib, which takes several times as long."""
    try:
        from zlib_ng import zlib_ng
    except ImportError:
        return zlib
    return zlib_ng


def encode_id_png(pixels: NDArray[Any]) -> bytes:
    """Return the PNG of ids.

    Args:
        pixels: at least one; uint8 [H, W, 3] for ids as colors, uint8 or uint16 [H, W] for grey.
    """
    height, width = pixels.shape[:2]
    values = np.ascontiguousarray(pixels if pixels.itemsize == 1 else pixels.astype(">u2")).view(np.uint8)
    values = values.reshape(height, -1)
    rows = np.empty((height, 1 + values.shape[1]), np.uint8)
    rows[:, 0] = _UP
    rows[0, 1:] = values[0]  # above the first row are zeros
    np.subtract(values[1:], values[:-1], out=rows[1:, 1:])  # modulo 256
    stream = _compression().compressobj(level=1, strategy=zlib.Z_RLE)
    data = stream.compress(rows.data) + stream.flush()
    header = _HEADER.pack(width, height, 8 * pixels.itemsize, _RGB if pixels.ndim == 3 else _GREY, 0, 0, 0)
    return b"".join([_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", data), _chunk(b"IEND", b"")])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def load_id_png(path: str | os.PathLike[str]) -> NDArray[Any] | None:
    """Read a PNG as most label images are written: without metadata, interlacing, palette and transparency.

    Returns:
        The same as from Pillow: uint8 [H, W, 3], or uint8 or uint16 [H, W]. None for any other file, such as one that
        is damaged, missing or above the limit of pixels: Pillow may read it, or has an error.
    """
    content = _read(to_path(path))
    png = _parse(content)
    if png is None or not is_within_limit(png.height, png.width):
        return None
    pixel = _PIXELS[png.bits, png.color]
    size = png.height * (1 + png.width * pixel)
    stream = _compression().decompressobj()
    try:
        filtered = stream.decompress(png.data, size)
        rest = stream.decompress(stream.unconsumed_tail, 1)  # the checksum, and nothing more
    except _compression().error:
        return None
    if len(filtered) != size or rest or not stream.eof or stream.unused_data:
        return None
    rows = unfilter(np.frombuffer(filtered, np.uint8), png.height, pixel)
    if rows is None:
        return None
    if png.bits == 16:
        return rows.view(">u2").astype(np.uint16)
    return rows.reshape(png.height, png.width, 3) if png.color == _RGB else rows


def _read(path: Path) -> bytes:
    """Return the content of a PNG; nothing if it is another file, or a pipe, or missing."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                if file.read(len(_SIGNATURE)) == _SIGNATURE:
                    return _SIGNATURE + file.read()
    except OSError:
        pass
    return b""


class _Content(NamedTuple):
    """What the chunks of a PNG contain."""

    height: int
    width: int
    bits: int
    color: int
    data: bytes


def _parse(content: bytes) -> _Content | None:
    """Return the content of a whole PNG that :func:`load_id_png` reads; None for any other file."""
    if not content.startswith(_SIGNATURE):
        return None
    header, position = b"", len(_SIGNATURE)
    data: list[bytes] = []
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if end > len(content):
            return None
        chunk = content[position + 8 : end - 4]
        if zlib.crc32(chunk, zlib.crc32(kind)) != int.from_bytes(content[end - 4 : end]):
            return None
        position = end
        if kind == b"IHDR" and not header and not data and length == _HEADER.size:
            header = chunk
        elif kind == b"IDAT" and header:
            data.append(chunk)
        elif kind == b"IEND" and data and not length and position == len(content):
            width, height, bits, color, *methods = _HEADER.unpack(header)
            if any(methods) or (bits, color) not in _PIXELS or not height or not width:
                return None
            return _Content(height, width, bits, color, b"".join(data))
        else:
            return None
    return None
