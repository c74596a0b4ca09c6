"""`FolderLock`: one process at a time writes into a folder."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from panscape.errors import InvalidArgumentError, UnwritableFileError, shown

_logger = logging.getLogger(__name__)

_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_WAIT = 0.2  # seconds between two attempts
_BYTE = 1 << 30  # the locked byte, far behind the content: Windows lets nobody read a locked one


class FolderLock:
    """A lock on an output folder, held by the process that writes into it.

    The operating system releases it when the process ends, however it ends. Processes that this one has forked do not
    inherit it. A file in the folder states who holds it; a file without a lock means nothing.

    Args:
        path: the file, in the folder.
        activity: what the process does, such as "training".
        remedy: what to do if the folder cannot be used, for messages.
    """

    def __init__(self, path: Path, activity: str, *, remedy: str = "give another --out") -> None:
        self._path, self._activity, self._remedy = path, activity, remedy
        self._descriptor: int | None = None

    def acquire(self, *, wait: bool = False) -> None:
        """Take the lock; the folder is created if needed.

        Args:
            wait: wait until the process that holds it releases it, which is noted once.

        Raises:
            InvalidArgumentError: another process holds it, unless ``wait``; or the folder is a file.
            UnwritableFileError: the folder cannot be written.
        """
        folder = self._path.parent
        if folder.exists() and not folder.is_dir():
            raise InvalidArgumentError(f"expected a folder, but {folder} is a file; {self._remedy}")
        is_noted = False
        while self._descriptor is None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                raise UnwritableFileError(folder, f"{error.strerror or error}; free space or {self._remedy}") from error
            try:
                _lock(descriptor)
            except OSError as error:
                if error.errno not in _HELD:  # such as a network drive without locks
                    _logger.warning(
                        "%s cannot be locked (%s): start no second %s in it",
                        folder,
                        error.strerror or error,
                        self._activity,
                    )
                else:
                    os.close(descriptor)
                    problem = f"{folder} is in use by another {self._activity}, {self._holder()}"
                    if not wait:
                        raise InvalidArgumentError(f"{problem}; wait for it or stop it, or {self._remedy}") from None
                    if not is_noted:
                        _logger.info("%s; waiting for it", problem)
                    is_noted = True
                    time.sleep(_WAIT)
                    continue
            if _is_same_file(descriptor, self._path):
                self._descriptor = descriptor
            else:  # the previous holder has just removed the file
                os.close(descriptor)
        record = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        with suppress(OSError):  # the record is for people; a full disk matters when results are written
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, json.dumps(record).encode() + b"\n")

    def close(self) -> None:
        """Release the lock, if it is held, and remove its file."""
        if self._descriptor is None:
            return
        if os.name != "nt":  # before the lock is released, so that the file of a later holder is not removed
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None

    def _holder(self) -> str:
        try:
            record = json.loads(self._path.read_bytes())
            return f"process {record['pid']} on {shown(record['host'])[1:-1]} since {shown(record['since'])[1:-1]}"
        except (OSError, ValueError, TypeError, KeyError):  # it is just being written
            return "which has just started"


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        # Of the process, unlike flock, whose locks live on in loader processes after a kill.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _BYTE)
