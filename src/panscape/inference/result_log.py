"""The record of an output folder: which options made each result, so that a repeated run predicts what is missing."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from panscape.atomic_io import atomic_write
from panscape.errors import UnwritableFileError
from panscape.inference.results import restored
from panscape.inference.sources import SourceFile, name_key
from panscape.serialization import to_plain

LOG_NAME = "predictions.jsonl"
"""Name of the record in output folders."""


@dataclass(frozen=True, slots=True)
class LoggedResult:
    """The results of a source.

    Attributes:
        name: name of the results.
        source: path of the source, relative to the output folder.
        stamp: size in bytes and time of the last change of the source, in nanoseconds.
        options: digest of the options that made the results.
        is_complete: whether all results were written; false for a video that was interrupted.
        files: sizes of the results in bytes, by path relative to the output folder.
        maps: image and annotation of each map in COCO panoptic format.
        result: fields of the :class:`~panscape.inference.results.FileResult`.
    """

    name: str
    source: str
    stamp: list[int]
    options: str
    is_complete: bool
    files: dict[str, int]
    maps: list[list[dict[str, Any]]]
    result: dict[str, Any]


class ResultLog:
    """The results in an output folder, by source, in ``predictions.jsonl``.

    A line is appended when the results of a source are complete, and when earlier results are about to be replaced. So
    the log is right after a kill at any moment. A damaged line is ignored: its source is predicted again.

    Args:
        folder: the output folder; it must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG_NAME
        self._folder = folder
        self._lock = threading.Lock()
        self._results: dict[str, LoggedResult] = {}
        self._names: dict[str, str] = {}  # by source
        self._options: dict[str, dict[str, Any]] = {}
        self._file: BinaryIO | None = None
        text = self.path.read_bytes() if self.path.is_file() else b""
        self._is_cut = text[-1:] not in (b"", b"\n")  # by a kill
        for line in _json_lines(text):
            with suppress(AttributeError, KeyError, TypeError, ValueError):  # a line from elsewhere
                self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        if "digest" in line:
            self._options[line["digest"]] = dict(line["made_with"])
        elif "replacing" in line:
            self._results.pop(name_key(line["replacing"]), None)
        else:
            result = LoggedResult(**line)
            self._require_usable(result)
            # The name depends on the other sources of a run: the source may have results of another name.
            before = self._results.get(name_key(self._names.get(result.source, result.name)))
            if before is not None and before.source == result.source:
                del self._results[name_key(before.name)]
            self._results[name_key(result.name)] = result
            self._names[result.source] = result.name

    def _require_usable(self, result: LoggedResult) -> None:
        """Raise one of the errors that a line from elsewhere may cause, by doing what is done with a line."""
        if result.is_complete:
            restored(result.result, SourceFile(Path(result.source), result.name), self._folder)
        self._folder.joinpath(
            *result.files.keys(), *((image | annotation)["file_name"] for image, annotation in result.maps)
        )
        hash(result.options)

    @property
    def results(self) -> list[LoggedResult]:
        """The results, sorted by the path of their source."""
        return sorted(self._results.values(), key=lambda result: Path(result.source))

    def get(self, name: str) -> LoggedResult | None:
        """Return the results of this name."""
        return self._results.get(name_key(name))

    def options_of(self, result: LoggedResult) -> Mapping[str, Any]:
        """Return the options that made results; empty if they are unknown."""
        return self._options.get(result.options, {})

    def source(self, source: SourceFile) -> str:
        """Return the path of a source as it is recorded: relative to the folder, so that both can be moved together."""
        path = os.path.abspath(source.path)  # noqa: PTH100 - links stay as given
        try:
            return Path(os.path.relpath(path, self._folder)).as_posix()
        except ValueError:  # on another drive
            return Path(path).as_posix()

    def is_done(self, source: SourceFile, options: str) -> bool:
        """Return whether these options have made the results of a source, which is unchanged, as their sizes are."""
        result = self.get(source.name)
        return (
            result is not None
            and result.is_complete
            and (result.options, result.source) == (options, self.source(source))
            and result.stamp == stamp(source.path)
            and all(stamp(self._folder / file)[:1] == [size] for file, size in result.files.items())
        )

    def add(self, result: LoggedResult, options: Mapping[str, Any]) -> None:
        """Record results with the options of their digest, as plain JSON values; may be called in any thread."""
        lines = [] if result.options in self._options else [{"digest": result.options, "made_with": options}]
        self._append(*lines, to_plain(result))

    def remove(self, name: str) -> None:
        """Record that the results of this name are about to be replaced; may be called in any thread."""
        if self.get(name) is not None:
            self._append({"replacing": name})

    def _append(self, *lines: dict[str, Any]) -> None:
        with self._lock:
            try:
                if self._file is None:
                    self._file = self.path.open("ab", buffering=0)
                    if self._is_cut:
                        self._file.write(b"\n")
                for line in lines:
                    self._file.write(json.dumps(line).encode() + b"\n")
                    self._take(line)
            except OSError as error:
                raise UnwritableFileError(self.path, f"{error.strerror}; free space, or give another --out") from error

    def close(self) -> None:
        """Write the log without replaced results, atomically, if this run has changed it."""
        if self._file is None:
            return
        self._file.close()
        used = {result.options for result in self._results.values()}
        lines: list[dict[str, Any]] = [
            {"digest": digest, "made_with": options} for digest, options in self._options.items() if digest in used
        ]
        lines += [to_plain(result) for result in self.results]
        with atomic_write(self.path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def stamp(path: Path) -> list[int]:
    """Return size and time of the last change of a file; empty if there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return []
    return [status.st_size, status.st_mtime_ns]


def digest_of(options: Mapping[str, Any]) -> str:
    """Return a digest of options that are plain JSON values."""
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the names of the options that differ."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name), new.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found += [f"{name}.{inner}" for inner in differences(one, other)]
        elif one != other:
            found.append(name)
    return found


def _json_lines(text: bytes) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        with suppress(ValueError, RecursionError):  # cut off, or from elsewhere
            content = json.loads(line)
            if isinstance(content, dict):
                yield content
