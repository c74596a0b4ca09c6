"""Files are written whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from panscape.errors import InvalidArgumentError


@contextmanager
def atomic_write(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends well, it takes the place of ``path``.

    A reader sees the old file or the whole new one, never a part. When the block raises, nothing is left behind.

    Args:
        path: the file to write; its folder must exist.
        durable: return only when the file is on the disk, so that it outlives a loss of power, too.

    Raises:
        InvalidArgumentError: the folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InvalidArgumentError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    # The suffix stays last: writers such as Pillow choose the format by it.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        if durable:
            _sync(temporary)  # before the rename, or the name could outlive the content
        os.replace(temporary, path)  # noqa: PTH105 - Path.replace reads like str.replace here
        if durable and os.name != "nt":  # Windows has no descriptors of folders
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | Path, content: object) -> None:
    """Write ``content`` as JSON, whole or not at all.

    Args:
        path: the file to write; its folder must exist.
        content: dicts, lists, strings and numbers.

    Raises:
        InvalidArgumentError: the folder does not exist.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
