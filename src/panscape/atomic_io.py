"""Atomic file writes: a file is written completely or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from panscape.errors import DiskFullError, InvalidArgumentError, PanscapeError, UnwritableFileError
from panscape.input_files import to_path

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}(\.\w+)?")  # the temporary files of atomic_write


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which replaces ``path`` when the block succeeds.

    A reader sees the old file or the complete new one. If the block raises, the temporary file is removed.

    Args:
        path: the file to write; its folder must exist.
        durable: sync the file to the disk before returning, so that it survives a power failure.

    Raises:
        InvalidArgumentError: the folder does not exist, or ``path`` is no path.
        DiskFullError: the disk is full.
        UnwritableFileError: the system refuses the file for another reason.
    """
    path = to_path(path)
    if not path.parent.is_dir():
        raise InvalidArgumentError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    # Keep the suffix: writers such as Pillow choose the format by it.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        if durable:
            _sync(temporary)  # before the rename, else a power failure could leave the name without the content
        os.replace(temporary, path)  # noqa: PTH105 - Path.replace reads like str.replace here
        if durable and os.name != "nt":  # Windows has no file descriptors of folders
            _sync(path.parent)
    except OSError as error:
        # Errors in writing have no file name; the block may also read other files.
        if isinstance(error, PanscapeError) or error.filename not in (None, str(temporary)):
            raise
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):  # a name that is too long, or a disk that became read-only
            temporary.unlink()


def unwritable(path: Path, error: OSError) -> UnwritableFileError:
    """Return the error about a file that the system refuses to write, with a remedy."""
    if error.errno in _NO_SPACE:
        return DiskFullError(path, "the disk is full; free space, or write to another folder", error)
    remedies = {
        errno.EROFS: "the disk is read-only; write to another folder",
        errno.EACCES: "no permission; write to another folder, or change its permissions",
        errno.EPERM: "no permission; write to another folder, or change its permissions",
        errno.EISDIR: "a folder has this name; move it, or write to another folder",
        errno.ENAMETOOLONG: "the name is too long; shorten the name of the input",
    }
    reason = f"{error.strerror or error}; check the disk, or write to another folder"
    return UnwritableFileError(path, remedies.get(error.errno or 0, reason), error)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in a folder, in which no other process writes.

    Raises:
        OSError: the folder exists and cannot be read, or a file cannot be removed.
    """
    if folder.is_dir():
        for path in folder.iterdir():
            if is_leftover(path):
                path.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Return whether the name is that of a temporary file of :func:`atomic_write`."""
    return _LEFTOVER.fullmatch(path.name) is not None


def write_json(path: str | Path, content: object) -> None:
    """Write ``content`` as JSON atomically.

    Args:
        path: the file to write; its folder must exist.
        content: dicts, lists, strings and numbers.

    Raises:
        PanscapeError: as :func:`atomic_write`.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
