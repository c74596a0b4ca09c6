"""The common interface of readers: sources of maps in files, with the names of their images."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from panscape.errors import InvalidAnnotationError, UnreadableFileError
from panscape.formats.issues import Issue, IssueKind
from panscape.formats.keys import city_key_of, key_of
from panscape.geometry import Size
from panscape.image_files import open_image
from panscape.input_files import FileNameError, require_file
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap

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
        image: name of the file of its image, according to the file; None if not stated.
    """

    name: str
    file: str
    keys: tuple[str | None, ...]
    content: Any
    fault: Issue | None = None
    image: str | None = None


class Reading(NamedTuple):
    """The result of reading one image from a file.

    Attributes:
        panoptic: the map; None if it cannot be read. Ambiguous segments are void.
        issues: the issues found.
        numbers: ids of the segments in the file, in the order of the map.
        areas: areas of the segments as stated in the file; None if not stated.
        error: why the file cannot be read; None if it can, or if its description is the reason.
    """

    panoptic: PanopticMap | None
    issues: tuple[Issue, ...] = ()
    numbers: tuple[int, ...] = ()
    areas: tuple[int | None, ...] = ()
    error: UnreadableFileError | None = None

    def require_map(self) -> PanopticMap:
        """Return the map if there is no issue except notes, as training needs it.

        Raises:
            UnreadableFileError: the file cannot be read.
            InvalidAnnotationError: there is another issue; the message names its file.
        """
        if self.error is not None:
            raise self.error
        for issue in self.issues:
            if not issue.is_note:
                raise InvalidAnnotationError(str(issue))
        if self.panoptic is None:
            raise InvalidAnnotationError("expected a map or the reason why there is none")
        return self.panoptic


class Reader(Protocol):
    """Reads the map of an entry; issues are part of the result and never raised."""

    def __call__(self, entry: Entry, labels: LabelSpace, size: Size | None = None) -> Reading:
        """Read it.

        Args:
            entry: of the source.
            labels: the categories; their source ids are those in the file.
            size: of the image. A file with another size in its header is not decoded. None accepts any size.
        """
        ...


@dataclass(frozen=True, slots=True)
class AnnotationSource:
    """All maps of the predictions or of the ground truth.

    Attributes:
        path: as passed by the user.
        form: display name of its format.
        entries: in the order of the files.
        labels: the label space in the files or of their format; None if unknown.
        issues: issues that belong to no entry.
        read: reads the map of an entry.
        labels_fault: why the label space in the files is invalid; it matters only if no other is given.
        is_indexed: whether category ids are usually positions in the label space, not ids of dataset files.
    """

    path: Path
    form: str
    entries: Sequence[Entry]
    labels: LabelSpace | None
    issues: Sequence[Issue]
    read: Reader
    labels_fault: InvalidAnnotationError | None = None
    is_indexed: bool = False


def entries_of_files(folder: Path, files: Sequence[Path]) -> list[Entry]:
    """Return the entries of files that contain one map each, named by their paths in the folder without suffix.

    Of files with the same name, the last one is an entry, which cannot be read.
    """
    entries: dict[str, Entry] = {}
    for path in files:
        name = path.relative_to(folder).with_suffix("").as_posix()
        fault = None
        if name in entries:
            what = f"expected one file for {name}, got {entries[name].file} as well; remove one"
            fault = Issue(str(path), IssueKind.DUPLICATE, what)
        keys = (key_of(name), key_of(path.stem), None, city_key_of(path.stem))
        entries[name] = Entry(name, str(path), keys, path, fault)
    return list(entries.values())


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


def unreadable(entry: Entry, error: UnreadableFileError) -> Reading:
    """Return the reading of a file that cannot be read."""
    what = " ".join(str(error).removeprefix(f"{error.path}: ").split())
    kinds = {OtherSizeError: IssueKind.SIZE, FileNameError: IssueKind.PATH}
    kind = kinds.get(type(error), IssueKind.UNREADABLE)
    return Reading(None, (Issue(entry.file, kind, what),), error=error)
