"""Notes on inputs that could mean something else: logged for the first of many files, once a run."""

from __future__ import annotations

import logging
import mmap
import zlib

_logger = logging.getLogger(__name__)
_noted = mmap.mmap(-1, 1 << 16)  # whether a note was logged, by its checksum; shared with forked loader processes


def note_once(subject: object, what: str) -> None:
    """Log a note as a warning, unless a run has logged it for another file.

    Args:
        subject: the first file.
        what: what is special about it and how it is treated; the same text for every file of the kind.
    """
    place = zlib.crc32(what.encode(errors="replace")) % len(_noted)
    if not _noted[place]:
        _noted[place] = 1
        _logger.warning("%s: %s (logged once; other files may be alike)", subject, what)


def start_run() -> None:
    """Let a new run log all notes again."""
    _noted[:] = bytes(len(_noted))
