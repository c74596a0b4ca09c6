"""Checkpoints of a training, written atomically and verified when read.

A file is a header of :data:`_HEADER` (a magic string for the layout, length and SHA-256 of the rest) followed by the
output of ``torch.save``. Truncation and changed bits are always detected.
"""

from __future__ import annotations

import hashlib
import logging
import re
import struct
from collections import OrderedDict
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from panscape.atomic_io import atomic_write, remove_leftovers
from panscape.errors import DiskFullError, InvalidArgumentError, UnreadableFileError, UnwritableFileError

_logger = logging.getLogger(__name__)

CHECKPOINTS_IN_RUN = "checkpoints"
"""Name of the folder of checkpoints in run directories."""
_MAGIC = b"panscape state 1"
_HEADER = struct.Struct(f"<{len(_MAGIC)}sQ32s")
_NAME = re.compile(r"step_(\d+)\.ckpt")
_PLAIN = (type(None), bool, int, float, str, bytes)


class Checkpoints:
    """The checkpoints of one run, in their own folder.

    Args:
        folder: created if needed; unfinished files of a killed process are removed. Only one process at a time may save
            into it.
        keep: number of newest checkpoints to keep.

    Attributes:
        kept_step: a step whose checkpoint is kept, too; None for none.

    Raises:
        UnwritableFileError: the folder cannot be created.
    """

    def __init__(self, folder: Path, keep: int = 3) -> None:
        if keep < 1:
            raise InvalidArgumentError(f"expected to keep at least one checkpoint, got {keep}")
        self.folder = folder
        self.keep = keep
        self.kept_step: int | None = None
        self._damaged: set[int] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
        except OSError as error:
            raise UnwritableFileError(folder, f"{error.strerror}; give a writable folder") from error

    def path(self, step: int) -> Path:
        """Return the file of a step."""
        return _path(self.folder, step)

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write a checkpoint, then remove the oldest ones beyond ``keep``.

        When this returns, the file is on the disk; when it raises, the folder is unchanged.

        Args:
            step: number of completed steps.
            state: tensors, numbers, strings, bytes and None, in dicts, lists and tuples.

        Raises:
            InvalidArgumentError: the state contains another type.
            DiskFullError: the disk is full.
            UnwritableFileError: the file cannot be written for another reason.
        """
        content = {"step": step, "state": dict(state)}
        _require_plain(content["state"], "state")
        path = self.path(step)
        size = 0
        try:
            with atomic_write(path, durable=True) as temporary, temporary.open("xb") as file:
                file.write(bytes(_HEADER.size))
                payload = _Payload(file)
                torch.save(content, cast(IO[bytes], payload))  # torch.save needs only write and flush
                size = _HEADER.size + payload.size
                if payload.error is not None:
                    raise payload.error
                file.seek(0)
                file.write(_HEADER.pack(_MAGIC, payload.size, payload.digest.digest()))
        except OSError as error:
            reason = f"{error.strerror or error}; earlier checkpoints are unchanged"
            if isinstance(error, DiskFullError):
                raise DiskFullError(
                    path,
                    f"it needs {size:,} bytes: {reason}; free space in {self.folder}, then repeat the command with "
                    "--resume",
                ) from error
            raise UnwritableFileError(path, f"{reason}; repeat the command with --resume") from error
        self._damaged.discard(step)
        self._remove_old()
        return path

    def _remove_old(self) -> None:
        whole = [step for step in saved_steps(self.folder) if step not in self._damaged]
        for step in saved_steps(self.folder):
            if step < whole[-self.keep :][0] and step != self.kept_step:
                self.path(step).unlink(missing_ok=True)

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """Read the newest intact checkpoint to the CPU; no file is changed. Damaged ones are skipped with a warning.

        Returns:
            The number of completed steps and the state; None if there is no checkpoint.

        Raises:
            UnreadableFileError: there are checkpoints, and all are damaged.
        """
        return _newest(self.folder, self._damaged)

    def load_step(self, step: int) -> dict[str, Any] | None:
        """Read the checkpoint of a step to the CPU; None with a warning if it is missing or damaged."""
        try:
            return _load(self.path(step), step)
        except _DamagedError as error:
            _logger.warning("checkpoint %s of the best evaluation cannot be read (%s)", self.path(step).name, error)
            return None


def load_newest(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Read the newest intact checkpoint of another run, which may be in progress; see :meth:`Checkpoints.load`."""
    return _newest(folder, set())


def _newest(folder: Path, damaged: set[int]) -> tuple[int, dict[str, Any]] | None:
    damage: list[str] = []
    for step in reversed(saved_steps(folder)):
        path = _path(folder, step)
        try:
            state = _load(path, step)
        except _DamagedError as error:
            damaged.add(step)
            damage.append(f"checkpoint {path.name} is damaged ({error})")
            continue
        for line in damage:
            _logger.warning("%s; using %s", line, path.name)
        return step, state
    if damage:
        raise UnreadableFileError(
            folder,
            f"no checkpoint is intact: {'; '.join(damage)}; restore one from a copy, or use another folder",
        )
    return None


def _path(folder: Path, step: int) -> Path:
    return folder / f"step_{step:08d}.ckpt"


def saved_steps(folder: Path) -> list[int]:
    """Return the steps of the checkpoints in ``folder``, intact or not, in ascending order."""
    if not folder.is_dir():
        return []
    return sorted(int(m[1]) for path in folder.iterdir() if (m := _NAME.fullmatch(path.name)))


class _DamagedError(Exception):
    """A checkpoint file is damaged; the message is the reason."""


def _load(path: Path, step: int) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            _check(file, path.stat().st_size)
            file.seek(_HEADER.size)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise _DamagedError(error.strerror or str(error)) from error
    if content["step"] != step:
        raise _DamagedError(f"it was written as step {content['step']}")
    state: dict[str, Any] = content["state"]
    return state


def _check(file: BufferedReader, size: int) -> None:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise _DamagedError(f"expected at least {_HEADER.size} bytes, found {size}")
    magic, length, digest = _HEADER.unpack(header)
    if magic != _MAGIC:
        raise _DamagedError(f"expected it to begin with {_MAGIC!r}, found {magic!r}")
    if size != _HEADER.size + length:
        raise _DamagedError(f"expected {_HEADER.size + length} bytes, found {size}")
    if hashlib.file_digest(file, "sha256").digest() != digest:  # from here to the end
        raise _DamagedError("its SHA-256 does not match its content")


class _Payload:
    """A file for ``torch.save`` that computes size and hash of the data written.

    After an error it continues to count, to report the required space, and because an exception would have to pass
    through the C++ code of torch.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        num = memoryview(data).nbytes
        self.size += num
        if self.error is None:
            self.digest.update(data)
            try:
                self.file.write(data)
            except OSError as error:
                self.error = error
        return num

    def flush(self) -> None:
        """Do nothing: the file is flushed when it is closed."""


def _require_plain(value: Any, name: str) -> None:
    """Reject on saving what ``torch.load(weights_only=True)`` would reject on resuming."""
    if type(value) in (dict, OrderedDict):
        for key, part in value.items():
            _require_plain(key, f"a key of {name}")
            _require_plain(part, f"{name}.{key}")
    elif type(value) in (list, tuple):
        for i, part in enumerate(value):
            _require_plain(part, f"{name}.{i}")
    elif type(value) not in _PLAIN and not isinstance(value, Tensor):
        raise InvalidArgumentError(
            f"expected tensors, numbers, strings, dicts, lists and tuples in a checkpoint, got a "
            f"{type(value).__qualname__} as {name}"
        )
