"""Image files that Pillow cannot write: deep colors, bands and damage."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def file_of(tmp_path, content, name="image.tif"):
    """A file with this content."""
    path = tmp_path / name
    path.write_bytes(content)
    return path


def chunk(kind, data):
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels, extra=b""):
    """A PNG of 16-bit pixels [H, W, 2, 3 or 4], by its specification; ``extra`` chunks come before the pixels."""
    height, width, bands = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[bands], 0, 0, 0)
    chunks = [chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(pixels, *, photometric=2, extra=(), order="<", planar=1, compression=1, tags=()):
    """A TIFF of pixels [H, W, bands] of any type, in one strip (one for each band if planar)."""
    height, width, bands = pixels.shape
    values = pixels.astype(pixels.dtype.newbyteorder(order))
    strips = [values[..., i].tobytes() for i in range(bands)] if planar == 2 else [values.tobytes()]
    if compression == 8:
        strips = [zlib.compress(strip) for strip in strips]
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    bits = 8 * pixels.dtype.itemsize
    starts = [8 + sum(map(len, strips[:i])) for i in range(len(strips))]
    entries = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * bands),
        259: (3, [compression]),
        262: (3, [photometric]),
        273: (4, starts),
        277: (3, [bands]),
        278: (4, [height]),
        279: (4, list(map(len, strips))),
        284: (3, [planar]),
        339: (3, [kind] * bands),
        **({338: (3, list(extra))} if extra else {}),
        **dict(tags),
    }
    body = b"".join(strips)
    directory_at = 8 + len(body)
    outside_at = directory_at + 2 + 12 * len(entries) + 4
    directory, outside = struct.pack(f"{order}H", len(entries)), b""
    for tag, (form, numbers) in sorted(entries.items()):
        data = struct.pack(f"{order}{len(numbers)}{'H' if form == 3 else 'I'}", *numbers)
        if len(data) > 4:
            value = struct.pack(f"{order}I", outside_at + len(outside))
            outside += data
        else:
            value = data.ljust(4, b"\0")
        directory += struct.pack(f"{order}HHI", tag, form, len(numbers)) + value
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, directory_at)
    return start + body + directory + struct.pack(f"{order}I", 0) + outside


def ramp(height, width, bands, highest, dtype=np.uint16):
    """Values 0 to ``highest``, which differ between bands."""
    flat = np.linspace(0, highest, height * width * bands).round().astype(dtype)
    return flat.reshape(bands, height, width).transpose(1, 2, 0)
