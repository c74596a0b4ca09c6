"""Layouts of TIFF that Pillow cannot read, or reads as something else; the lines that libtiff prints."""

from __future__ import annotations

import os
import re
import shlex
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image

from panscape.notes import note_once

_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _FORMAT = 254, 258, 259, 262, 277, 284, 339
_WANTED = {_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _FORMAT}
_FORMATS = {1: "", 2: "signed ", 3: "floating-point ", 5: "complex ", 6: "complex "}
_COMPRESSIONS = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32809, 32946, 34676, 34677, 34925, 50000}  # of Pillow's libtiff
_LIBTIFF_LINE = re.compile(rb"\w*(TIFF|Decode|Setup|JPEG|Predict|Fax|Warning)\w*[,:]|tempfile\.tif:")
_capture = threading.RLock()


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """Bands and values of the first image in a TIFF, from its tags.

    Attributes:
        num_bands: number of bands.
        bits: bits of a value.
        kind: number of the sample format: 1 unsigned, 2 signed, 3 floating-point, 5 and 6 complex.
        photometric: number of the color space: 0 and 1 grey, 2 RGB.
        is_planar: whether bands are stored one after the other.
        compression: number of the compression.
        is_preview: whether it is a reduced version of another image, as in raw files of cameras.
    """

    num_bands: int
    bits: int
    kind: int
    photometric: int
    is_planar: bool
    compression: int
    is_preview: bool

    def __str__(self) -> str:
        bands = "1 band" if self.num_bands == 1 else f"{self.num_bands} bands"
        return f"{bands} of {self.bits}-bit {_FORMATS.get(self.kind, '')}values"

    def fault(self, path: Path) -> str | None:
        """Return why the image is never read as it is, with the remedy; None for an image that Pillow may read."""
        if self.is_preview:
            return "expected an image, got a raw file of a camera, whose first image is a preview; export it as TIFF"
        if self.compression not in _COMPRESSIONS:
            return f"expected a compression that Pillow reads, got number {self.compression}; {self.conversion(path)}"
        if self.kind not in (1, 2):
            return f"expected integers, got {self}, whose range is unknown; {self.conversion(path)}"
        if self.num_bands > 2 and self.photometric in (0, 1):
            return f"expected bands that are marked as red, green and blue, got {self}; {self.conversion(path)}"
        if self.num_bands > 6:
            return f"expected bands that Pillow reads, got {self}; {self.conversion(path)}"
        if self.num_bands > 1 and self.bits > 8 and self.is_planar:  # Pillow reads 8 bits or mixes up bytes
            return f"expected all bands of a pixel together, got {self}, one after the other; {self.conversion(path)}"
        return None

    def conversion(self, path: Path) -> str:
        """Return the sentence with the command that makes an image of it that can be read."""
        options, hints = [], []
        if self.num_bands > 1:
            options += ["-b 1 -b 2 -b 3"] if self.num_bands > 2 else ["-b 1"]
            hints += ["-b: the bands of red, green and blue"] if self.num_bands > 2 else []
        if self.kind != 1 or self.bits > 16:
            options.append("-ot Byte -scale LOW HIGH 0 255")
            hints.append("LOW, HIGH: the values of black and white, the same for all files")
        elif self.bits not in (8, 16):
            options.append(f"-co NBITS={8 if self.bits < 8 else 16}")
        if self.compression not in _COMPRESSIONS:
            options.append("-co COMPRESS=DEFLATE")
        if self.num_bands > 2:
            options.append("-co PHOTOMETRIC=RGB -co INTERLEAVE=PIXEL")
        names = f"{shlex.quote(str(path))} {shlex.quote(str(path.with_name(f'{path.stem}_rgb.tif')))}"
        explained = f" ({'; '.join(hints)})" if hints else ""
        return f"convert it with: gdal_translate {' '.join(options)} {names}{explained}"


def layout_of(stream: IO[bytes]) -> TiffLayout | None:
    """Return the layout of the first image of a TIFF; None if it is another file, or its tags are damaged."""
    stream.seek(0)
    try:
        tags = _tags(stream)
    except (struct.error, OverflowError, OSError, ValueError):
        return None
    if tags is None:
        return None

    def first(tag: int, default: int) -> int:
        return tags.get(tag, (default,))[0]

    return TiffLayout(
        num_bands=first(_SAMPLES, 1),
        bits=max(tags.get(_BITS, (1,))),
        kind=first(_FORMAT, 1),
        photometric=first(_PHOTOMETRIC, 0),
        is_planar=first(_PLANAR, 1) == 2,
        compression=first(_COMPRESSION, 1),
        is_preview=bool(first(_SUBFILE, 0) & 1),
    )


def _tags(stream: IO[bytes]) -> dict[int, tuple[int, ...]] | None:
    """Read the wanted tags of the first directory, for classic TIFF and BigTIFF."""
    start = stream.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    if order is None:
        return None
    (version,) = struct.unpack_from(f"{order}H", start, 2)
    if version not in (42, 43):
        return None
    is_big = version == 43
    (offset,) = struct.unpack_from(f"{order}Q" if is_big else f"{order}I", start, 8 if is_big else 4)
    stream.seek(offset)
    (count,) = struct.unpack(f"{order}Q" if is_big else f"{order}H", stream.read(8 if is_big else 2))
    entry = struct.Struct(f"{order}HHQ8s" if is_big else f"{order}HHI4s")
    directory = stream.read(entry.size * min(count, 4096))
    tags: dict[int, tuple[int, ...]] = {}
    for position in range(0, len(directory) - entry.size + 1, entry.size):
        tag, kind, number, value = entry.unpack_from(directory, position)
        code, size = {3: ("H", 2), 4: ("I", 4)}.get(kind, ("", 0))
        if tag not in _WANTED or not size or not 0 < number <= 4096:
            continue
        if number * size > len(value):
            stream.seek(struct.unpack(f"{order}Q" if is_big else f"{order}I", value)[0])
            value = stream.read(number * size)
        tags[tag] = struct.unpack_from(f"{order}{number}{code}", value)
    return tags


def note_unused_bands(image: Image.Image, layout: TiffLayout, path: Path) -> None:
    """Note the bands of an opened TIFF that Pillow leaves out."""
    used = len(image.mode.partition(";")[0].replace("X", ""))
    if layout.num_bands > used:
        which = "band 1 is" if used == 1 else f"bands 1 to {used} are"
        note_once(path, f"only {which} used of its {layout.num_bands} bands")


@contextmanager
def captured_lines(lines: list[str]) -> Iterator[None]:
    """Keep what libtiff prints from standard error; other output passes, at the end of the block.

    libtiff writes to the file descriptor; Pillow offers no way to stop it.

    Args:
        lines: receives the lines at the end of the block.
    """
    with _capture, tempfile.TemporaryFile() as caught:
        try:
            before = os.dup(2)
        except OSError:  # a process without standard error
            yield
            return
        sys.stderr.flush()
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            caught.seek(0)
            for line in caught:
                if _LIBTIFF_LINE.match(line):
                    lines.append(line.decode(errors="replace").strip().rstrip("."))
                else:
                    os.write(2, line)
