"""The common interface of readers: sources of maps in files, with the names of their images."""

from __future__ import annotations

import re
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from panscape.errors import PanscapeError, UnreadableFileError, shown
from panscape.formats.problems import IssueKind, Problem
from panscape.geometry import Size
from panscape.images import open_image
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap

_CITYSCAPES_NAME = re.compile(r"([^\W\d_][^\W_]*(?:-[^\W_]+)*_\d{6}_\d{6})(?:_\w+)?")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = struct.Struct(">8s4x4s2I")  # the signature; length and name of the first chunk; width and height


class OtherSizeError(UnreadableFileError):
    """The size in the header of a file differs from its image. The file is not decoded, as it may exhaust memory.

    Args:
        path: the file.
        found: the size in its header.
        expected: the size of the ground truth.
    """

    def __init__(self, path: object, found: Size, expected: Size) -> None:
        reason = f"expected {expected.height}x{expected.width} pixels like its truth, got {found.height}x{found.width}"
        super().__init__(path, f"{reason}; write it at that size")


@dataclass(frozen=True, slots=True)
class Entry:
    """The map of one image in a file, before it is read.

    Attributes:
        name: display name of the image.
        file: the file of the map, for messages.
        keys: names of the image that other files may use, the most reliable first; None for unavailable ones.
        content: input of the reader of its format.
        fault: the reason why it cannot be read, if already known.
    """

    name: str
    file: str
    keys: tuple[str | None, ...]
    content: Any
    fault: Problem | None = None


class Reading(NamedTuple):
    """The result of reading one image from a file.

    Attributes:
        panoptic: the map; None if it cannot be read. Ambiguous segments are void.
        problems: the issues found.
        numbers: ids of the segments in the file, in the order of the map.
        areas: areas of the segments as stated in the file; None if not stated.
    """

    panoptic: PanopticMap | None
    problems: tuple[Problem, ...] = ()
    numbers: tuple[int, ...] = ()
    areas: tuple[int | None, ...] = ()


class Reader(Protocol):
    """Reads the map of an entry; issues are part of the result and never raised."""

    def __call__(self, entry: Entry, labels: LabelSpace, size: Size | None = None) -> Reading:
        """Read it.

        Args:
            entry: of the source.
            labels: the categories.
            size: of the image. A file with another size in its header is not decoded. None accepts any size.
        """
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """All maps of the predictions or of the ground truth.

    Attributes:
        path: as passed by the user.
        form: display name of its format.
        entries: in the order of the files.
        labels: the label space in the files or of their format; None if unknown.
        problems: issues that belong to no entry.
        read: reads the map of an entry.
    """

    path: Path
    form: str
    entries: Sequence[Entry]
    labels: LabelSpace | None
    problems: Sequence[Problem]
    read: Reader


def key_of(name: object) -> str | None:
    """Return the normalized name for comparing images: numbers without leading zeros; None for invalid names."""
    if isinstance(name, bool) or not isinstance(name, int | str):
        return None
    text = str(name) if not isinstance(name, int) or abs(name) < 10**18 else shown(name)
    return text.lstrip("0") or "0" if text.isascii() and text.isdigit() else text


def city_key_of(name: object) -> str | None:
    """Return the prefix ``city_sequence_frame`` of a Cityscapes file name; None for other names."""
    found = _CITYSCAPES_NAME.fullmatch(name) if isinstance(name, str) else None
    return found[1] if found else None


def require_file(path: Path) -> None:
    """Check that a path is a regular file, as others may block or never end.

    Raises:
        UnreadableFileError: it is not.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UnreadableFileError(path, "no such file; check its name and folder") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL or a lone surrogate in a name from a JSON
        raise UnreadableFileError(path, f"cannot be read ({getattr(error, 'strerror', error)})") from error
    if not stat.S_ISREG(mode):
        raise UnreadableFileError(path, "expected a file, got a folder or a device")


def require_png(path: Path, size: Size | None = None) -> None:
    """Check that a file is a PNG, so that no decoder of another format reads it, and that it has the expected size.

    Args:
        path: of the file.
        size: of the image; None accepts any.

    Raises:
        UnreadableFileError: it is not a PNG.
        OtherSizeError: the size in its header differs. No pixel is decoded.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            start = file.read(_PNG_HEADER.size)
    except OSError as error:
        raise UnreadableFileError(path, f"cannot be read ({error.strerror})") from error
    if not start.startswith(_PNG_SIGNATURE):
        raise UnreadableFileError(path, "expected a PNG, got something else; other formats do not preserve ids")
    if size is None:
        return
    if len(start) == _PNG_HEADER.size:
        _, chunk, width, height = _PNG_HEADER.unpack(start)
        if chunk == b"IHDR":
            require_size(
                path, Size(height, width), size
            )  # before Pillow, whose error for huge images does not contain the size
    with open_image(path) as image:  # reads no pixels; of several headers Pillow uses the last
        last = Size(image.height, image.width)
    require_size(path, last, size)


def require_size(path: Path, found: Size, expected: Size | None) -> None:
    """Check the size in a header.

    Raises:
        OtherSizeError: it differs from the expected size.
    """
    if expected is not None and tuple(found) != tuple(expected):
        raise OtherSizeError(path, found, expected)


def inside(folder: Path, name: object) -> Path | str:
    """Return the path of a file named in a JSON, or an error message.

    Args:
        folder: the base of the name; the path must not leave it, also not through links.
        name: from the JSON.
    """
    if not isinstance(name, str) or not name:
        return f"expected the name of a file, got {shown(name)}"
    refused = f"expected a file in {folder}, got {shown(name)}, which is outside; move the file there"
    parts = re.split(r"[/\\]", name)
    if ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:", name):
        return refused
    path = folder / name
    try:
        is_inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a name with NUL or too long; circular links
        return f"expected the name of a file, got {shown(name)}"
    return path if is_inside else refused


def unreadable(entry: Entry, error: PanscapeError) -> Reading:
    """Return the reading of a file that cannot be read."""
    path = error.path if isinstance(error, UnreadableFileError) else entry.file
    what = " ".join(str(error).removeprefix(f"{path}: ").split())
    kind = IssueKind.SIZE if isinstance(error, OtherSizeError) else IssueKind.UNREADABLE
    return Reading(None, (Problem(entry.file, kind, what),))
