"""Open files that users or other files name, and check the types of values of JSON.

Only regular files inside their folder are opened, and JSON in any Unicode encoding.

Names in a dataset's JSON are untrusted: they may leave the folder, name a pipe that blocks forever, or come from a
system with other separators or without upper and lower case.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from panscape.errors import InvalidArgumentError, UnreadableFileError, listed, shown

_POINTER_HEAD = b"version https://git-lfs.github.com/spec/"
_LARGEST_POINTER = 1023  # bytes, of its specification
_LARGEST_EXACT = 2**53  # up to it, a float represents every integer


class FileNameError(UnreadableFileError):
    """A name in a file is not the name of a file inside the expected folder."""


def to_path(given: object, expected: str = "a path") -> Path:
    """Return what a caller gives as a path.

    Raises:
        InvalidArgumentError: it is neither text nor a path, or it is empty, which would be the working directory.
    """
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(text, str) or not text:
        raise InvalidArgumentError(f"expected {expected}, got {'an empty one' if text == '' else type(given).__name__}")
    return Path(text)


def require_file(path: Path) -> None:
    """Check that a path is a regular file, as others may block or never end, and not a mere pointer of git-lfs.

    Raises:
        UnreadableFileError: it is not.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise UnreadableFileError(path, "no such file; check its name and folder") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL or a lone surrogate in a name from a JSON
        raise UnreadableFileError(path, f"cannot be read ({getattr(error, 'strerror', error)})") from error
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableFileError(path, "expected a file, got a folder; give one of the files in it")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFileError(path, "expected a file, got a pipe or a device")
    if status.st_size <= _LARGEST_POINTER and _is_git_lfs_pointer(path):
        raise UnreadableFileError(
            path, "this is a pointer of git-lfs without the file's content; run: git lfs pull, or download the file"
        )


def _is_git_lfs_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_POINTER_HEAD)) == _POINTER_HEAD
    except OSError:  # raised again when it is read
        return False


def read_file(path: Path) -> bytes:
    """Read a regular file.

    Raises:
        UnreadableFileError: it is missing, not a regular file, or cannot be read.
    """
    require_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableFileError(path, f"cannot be read ({error.strerror})") from error


def load_json(path: Path) -> Any:
    """Read a JSON with any content, in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        UnreadableFileError: it is missing, not a regular file, or not JSON.
    """
    return parse_json(path, read_file(path))


def parse_json(path: Path, text: bytes) -> Any:
    """Parse the JSON of a file; see :func:`load_json`.

    Args:
        path: the file, for the error.
        text: its content, or a part of it.

    Raises:
        UnreadableFileError: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableFileError(path, f"expected JSON, but {error}") from error


def to_integer(value: object) -> int | None:
    """Return a number of a JSON as an integer; None if it is none, has a fraction, or is no number."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_EXACT:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def is_flag(value: object) -> bool:
    """Return whether a value of a JSON is 0, 1, true or false; text and lists are not."""
    return isinstance(value, int | float) and value in (0, 1)


class FileFolder:
    """A folder with files that a JSON names.

    Args:
        path: the folder.
        follow_links: also open files that symbolic links inside the folder point to outside of it. For the user's own
            datasets, as caches and data versioning tools make folders of links; not for files from untrusted sources.
    """

    def __init__(self, path: Path, *, follow_links: bool = False) -> None:
        self.path = path
        self._follow_links = follow_links
        self._real = path.resolve()
        self._names: dict[Path, dict[str, str | None]] = {}  # of each searched folder: by name in lower case

    def find(self, name: object) -> Path:
        r"""Return the path of a file, which need not exist.

        ``\`` separates folders like ``/``. If there is no such file, the one whose name differs in case only is
        returned.

        Args:
            name: from a JSON; it must not leave the folder, without ``follow_links`` also not through links.

        Raises:
            FileNameError: it is no name, or it is outside.
        """
        if not isinstance(name, str) or not name or "\0" in name:
            raise FileNameError(self.path, f"expected the name of a file, got {shown(name)}")
        parts = name.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:", name):
            raise self._outside(name)
        path = self.path.joinpath(*parts)
        try:
            if not os.path.lexists(path):
                path = self._in_any_case(parts) or path
            links = [p for p in (path, *path.parents[: len(parts) - 1]) if p.is_symlink()]
            is_inside = not links or self._follow_links or path.resolve().is_relative_to(self._real)
        except (OSError, ValueError, RuntimeError):  # a name that is too long; circular links
            raise FileNameError(self.path, f"expected the name of a file, got {shown(name)}") from None
        if not is_inside:
            raise self._outside(name)
        return path

    def _outside(self, name: str) -> FileNameError:
        return FileNameError(
            self.path, f"expected a file in {self.path}, got {shown(name)}, which is outside; move the file there"
        )

    def _in_any_case(self, parts: list[str]) -> Path | None:
        """Return the path whose parts differ from ``parts`` in case only; None if there is none or several."""
        path = self.path
        for part in parts:
            if path not in self._names:
                names: dict[str, str | None] = {}
                for entry in os.listdir(path) if path.is_dir() else []:  # noqa: PTH208 - names are enough
                    names[entry.casefold()] = None if entry.casefold() in names else entry
                self._names[path] = names
            found = self._names[path].get(part.casefold())
            if found is None:
                return None
            path /= found
        return path


def find_files(
    folder: Path,
    suffixes: Collection[str] | None = None,
    ending: str = "",
    *,
    is_recursive: bool = True,
    faults: dict[Path, UnreadableFileError] | None = None,
) -> list[Path]:
    """Return the visible files of a folder and its subfolders, sorted by path.

    Args:
        folder: the folder; links to other folders are followed, but no folder is searched twice.
        suffixes: of the files, in lower case; the case of names never matters. None for all files.
        ending: of the stems of the files.
        is_recursive: search subfolders too.
        faults: receives the folders that cannot be listed, with their errors; None raises the first.

    Raises:
        UnreadableFileError: a folder cannot be listed, without ``faults``.
    """
    found = _walk(folder, set() if is_recursive else None, faults)
    return sorted(
        p
        for p in found
        if (suffixes is None or p.suffix.lower() in suffixes) and p.stem.casefold().endswith(ending.casefold())
    )


def counts_by_suffix(paths: Iterable[Path]) -> str:
    """Return how many files have each suffix, the five most frequent first: "12 .txt, 1 .xml", or "nothing"."""
    counts = Counter(path.suffix.lower() or "without suffix" for path in paths)
    parts = [f"{number} {suffix}" for suffix, number in sorted(counts.items(), key=lambda c: (-c[1], c[0]))]
    return listed(parts) or "nothing"


def _walk(
    folder: Path, visited: set[tuple[int, int]] | None, faults: dict[Path, UnreadableFileError] | None
) -> Iterator[Path]:
    try:
        if visited is not None:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in visited:  # a link to a folder above it
                return
            visited.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            visible = [(entry, _is_folder(entry)) for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        fault = UnreadableFileError(folder, f"cannot list this folder ({error.strerror}); check its permissions")
        if faults is None:
            raise fault from error
        faults[folder] = fault
        return
    for entry, is_folder in visible:
        if not is_folder:
            yield Path(entry.path)
        elif visited is not None:
            yield from _walk(Path(entry.path), visited, faults)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
