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
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends well, it takes the place of ``path``.

    A reader sees the old file or the whole new one, never a part. When the block raises, nothing is left behind.

    Args:
        path: the file to write; its folder must exist.

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
        os.replace(temporary, path)  # noqa: PTH105 - Path.replace reads like str.replace here
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, content: object) -> None:
    """Write ``content`` as JSON, whole or not at all.

    Args:
        path: the file to write; its folder must exist.
        content: dicts, lists, strings and numbers.

    Raises:
        InvalidArgumentError: the folder does not exist.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
