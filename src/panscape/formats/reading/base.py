"""What all formats have in common: maps of images, under names, in files."""

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
    """The header of a file says another size than its image has: it is not decoded, as it may fill the memory.

    Args:
        path: the file.
        found: what its header says.
        expected: the size of the image's truth.
    """

    def __init__(self, path: object, found: Size, expected: Size) -> None:
        reason = f"expected {expected.height}x{expected.width} pixels like its truth, got {found.height}x{found.width}"
        super().__init__(path, f"{reason}; write it at that size")


@dataclass(frozen=True, slots=True)
class Entry:
    """One image's map, as far as it is known without reading it.

    Attributes:
        name: of the image, for people.
        file: that holds the map, for messages.
        keys: names by which other files may call the image, the surest first; None where there is no such name.
        content: what the reader of its format needs.
        fault: why it cannot be read, if that is known already.
    """

    name: str
    file: str
    keys: tuple[str | None, ...]
    content: Any
    fault: Problem | None = None


class Reading(NamedTuple):
    """What a file says of one image.

    Attributes:
        panoptic: the map; None if nothing can be said. Segments in doubt are void.
        problems: what is wrong.
        numbers: by which the file calls the segments, in the order of the map.
        areas: that the file states for them; None where it states none.
    """

    panoptic: PanopticMap | None
    problems: tuple[Problem, ...] = ()
    numbers: tuple[int, ...] = ()
    areas: tuple[int | None, ...] = ()


class Reader(Protocol):
    """Reads the map of an entry; what is wrong with it is in the result, never raised."""

    def __call__(self, entry: Entry, labels: LabelSpace, size: Size | None = None) -> Reading:
        """Read it.

        Args:
            entry: of the source.
            labels: the categories.
            size: of the image. A file whose header says another one is not decoded. None takes any size.
        """
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """The maps of one side.

    Attributes:
        path: as it was given.
        form: what lies there, in words.
        entries: in the order of the files.
        labels: that the files name or that belong to their form; None if they leave it open.
        problems: that belong to no entry.
        read: reads the map of an entry.
    """

    path: Path
    form: str
    entries: Sequence[Entry]
    labels: LabelSpace | None
    problems: Sequence[Problem]
    read: Reader


def key_of(name: object) -> str | None:
    """Return a name as images are compared by it: numbers without leading zeros; None for what is no name."""
    if isinstance(name, bool) or not isinstance(name, int | str):
        return None
    text = str(name) if not isinstance(name, int) or abs(name) < 10**18 else shown(name)
    return text.lstrip("0") or "0" if text.isascii() and text.isdigit() else text


def city_key_of(name: object) -> str | None:
    """Return ``city_sequence_frame`` of a file of Cityscapes, whatever follows; None for other names."""
    found = _CITYSCAPES_NAME.fullmatch(name) if isinstance(name, str) else None
    return found[1] if found else None


def require_file(path: Path) -> None:
    """Check that a path leads to an ordinary file, as others may block or never end.

    Raises:
        UnreadableFileError: it does not.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UnreadableFileError(path, "no such file; check its name and folder") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL, or half of a surrogate pair, in a name from a JSON
        raise UnreadableFileError(path, f"cannot be read ({getattr(error, 'strerror', error)})") from error
    if not stat.S_ISREG(mode):
        raise UnreadableFileError(path, "expected a file, got a folder or a device")


def require_png(path: Path, size: Size | None = None) -> None:
    """Check that a file is a PNG, so that no reader of another format gets to see it, and that it has a size.

    Args:
        path: of the file.
        size: of the image; None takes any.

    Raises:
        UnreadableFileError: it is none.
        OtherSizeError: its header says another size. No pixel was decoded.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            start = file.read(_PNG_HEADER.size)
    except OSError as error:
        raise UnreadableFileError(path, f"cannot be read ({error.strerror})") from error
    if not start.startswith(_PNG_SIGNATURE):
        raise UnreadableFileError(path, "expected a PNG, got something else; ids survive in no other format")
    if size is None:
        return
    if len(start) == _PNG_HEADER.size:
        _, chunk, width, height = _PNG_HEADER.unpack(start)
        if chunk == b"IHDR":
            require_size(path, Size(height, width), size)  # before Pillow, whose error of huge images names no size
    with open_image(path) as image:  # reads no pixels; of several headers Pillow believes the last
        last = Size(image.height, image.width)
    require_size(path, last, size)


def require_size(path: Path, found: Size, expected: Size | None) -> None:
    """Check the size that a header says.

    Raises:
        OtherSizeError: another one is expected.
    """
    if expected is not None and tuple(found) != tuple(expected):
        raise OtherSizeError(path, found, expected)


def inside(folder: Path, name: object) -> Path | str:
    """Return the path of a file that a JSON names, or what is wrong with the name.

    Args:
        folder: which the name is relative to, and which it must not leave, by links neither.
        name: from the JSON.
    """
    if not isinstance(name, str) or not name:
        return f"expected the name of a file, got {shown(name)}"
    refused = f"expected a file in {folder}, got {shown(name)}, which leaves it; put the file there"
    parts = re.split(r"[/\\]", name)
    if ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:", name):
        return refused
    path = folder / name
    try:
        is_inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a name with NUL or too long; links in a circle
        return f"expected the name of a file, got {shown(name)}"
    return path if is_inside else refused


def unreadable(entry: Entry, error: PanscapeError) -> Reading:
    """Return the reading of a file that cannot be read."""
    path = error.path if isinstance(error, UnreadableFileError) else entry.file
    what = " ".join(str(error).removeprefix(f"{path}: ").split())
    kind = IssueKind.SIZE if isinstance(error, OtherSizeError) else IssueKind.UNREADABLE
    return Reading(None, (Problem(entry.file, kind, what),))
