"""Logs of a training on disk: metrics as JSON lines, and curves and images for TensorBoard."""

from __future__ import annotations

import io
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from panscape.atomic_io import atomic_write


class EventLog:
    """Writes ``metrics.jsonl`` and the event file of TensorBoard; a context manager.

    A resumed training writes to the same folder: the entries of an earlier run for ``first_step`` and later steps are
    removed from ``metrics.jsonl`` and hidden in TensorBoard, so that each step has one line and one point.

    Every record is written without a buffer, completely or not at all, so that a killed process or a full disk loses no
    earlier record.

    Args:
        folder: must exist.
        first_step: first step of this run.

    Attributes:
        time_before: seconds that earlier runs took up to ``first_step``, according to their lines.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self._folder = folder
        self._first_step = first_step
        self._lines: _GrowingFile | None = None
        self._events: _GrowingFile | None = None
        self.time_before = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close both files."""
        for file in (self._lines, self._events):
            if file is not None:
                file.close()
        self._lines = self._events = None

    def open(self) -> None:
        """Remove the lines of later steps from an earlier run's file, then open both files.

        Raises:
            OSError: a file cannot be read or written.
        """
        self.time_before = _keep_before(self._folder / "metrics.jsonl", self._first_step)
        self._lines = _GrowingFile(self._folder / "metrics.jsonl")
        self._events = self._new_events()

    def line(self, content: Mapping[str, Any]) -> None:
        """Append a JSON object; numbers that are not finite become null.

        Raises:
            OSError: the line could not be written; the file is unchanged.
        """
        if self._lines is not None:
            self._lines.append(json.dumps(_without_nan(content), allow_nan=False).encode() + b"\n")

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Add a point to each TensorBoard curve; values that are None or not finite are omitted.

        Raises:
            OSError: the points could not be written; the file is unchanged.
        """
        from torch.utils.tensorboard.summary import scalar

        records = [
            _event(step, summary=scalar(tag, value))  # type: ignore[no-untyped-call]
            for tag, value in values.items()
            if value is not None and math.isfinite(value)
        ]
        if self._events is not None:
            self._events.append(b"".join(records))

    def image(self, step: int, tag: str, rgb: Tensor) -> None:
        """Add an image to TensorBoard.

        Args:
            step: step of the training.
            tag: its heading in TensorBoard.
            rgb: uint8 [3, H, W].

        Raises:
            OSError: it could not be written; the file is unchanged.
        """
        from torch.utils.tensorboard import summary as summaries

        if self._events is not None:
            summary = summaries.image(tag, rgb.cpu().numpy(), dataformats="CHW")  # type: ignore[no-untyped-call]
            self._events.append(_event(step, summary=summary))

    def _new_events(self) -> _GrowingFile:
        """Open a new event file, since TensorBoard stops reading a file at an incomplete record of a killed process."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        seconds, fraction = divmod(time.time_ns(), 10**9)
        folder = self._folder / "tensorboard"
        folder.mkdir(exist_ok=True)
        # TensorBoard identifies event files by their name and reads them in the order of names.
        file = _GrowingFile(folder / f"events.out.tfevents.{seconds:010d}.{fraction:09d}")
        started = SessionLog(status=SessionLog.START)
        head = _event(self._first_step, file_version="brain.Event:2") + _event(self._first_step, session_log=started)
        try:
            file.append(head)
        except OSError:
            file.close()
            raise
        return file


class _GrowingFile:
    """A file to which complete records are appended; a record that does not fit on the disk is removed again."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)  # without a buffer, an error is raised for the record that caused it

    def append(self, record: bytes) -> None:
        length = self._file.seek(0, os.SEEK_END)
        rest = memoryview(record)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(length)
            raise

    def close(self) -> None:
        self._file.close()


def _event(step: int, **content: Any) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    record = io.BytesIO()
    RecordWriter(record).write(Event(wall_time=time.time(), step=step, **content).SerializeToString())
    return record.getvalue()


def _keep_before(path: Path, step: int) -> float:
    """Remove the lines of ``step`` and later, and truncated lines; return the last remaining time."""
    if not path.exists():
        return 0.0
    old = path.read_bytes().splitlines(keepends=True)
    kept, seconds = [], 0.0
    for line in old:
        try:
            content = json.loads(line)
            if content["step"] >= step or not line.endswith(b"\n"):
                continue
            seconds = float(content.get("time", seconds))
        except (ValueError, TypeError, KeyError, AttributeError):  # a killed process may leave a truncated line
            continue
        kept.append(line)
    if len(kept) < len(old):
        with atomic_write(path) as temporary:
            temporary.write_bytes(b"".join(kept))
    return seconds


def _without_nan(value: Any) -> Any:
    """Return the same dicts and numbers with None instead of nan and infinities."""
    if isinstance(value, Mapping):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
