"""Disks and folders that refuse what is asked of them."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def room_for(num_bytes: int) -> Iterator[None]:
    """Let the kernel refuse to write more than ``num_bytes`` to a file."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writes = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # an import would leave a cut file in a cache, which breaks every later import
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        sys.dont_write_bytecode = writes


def refuse_to_list(monkeypatch: pytest.MonkeyPatch, locked: Path) -> None:
    """Let the system refuse to list a folder, to the superuser too."""
    scandir = os.scandir

    def refusing(folder):
        if Path(folder).absolute() == locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
