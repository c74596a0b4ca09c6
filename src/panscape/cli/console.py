"""Console output of "panscape predict": one line or JSON object per source."""

from __future__ import annotations

import json
import logging
import sys
from types import TracebackType
from typing import Self

from panscape.inference.results import FileError, FileResult
from panscape.inference.sources import SourceFile
from panscape.progress import ProgressBar

_logger = logging.getLogger(__name__)

_WIDEST_NAME = 48


class ResultPrinter:
    """Prints one line for each source as soon as it is done; a context manager.

    Lines of predicted sources go to standard output, failures are logged. On a terminal, a bar shows the
    progress of a run over several sources or a video.

    Args:
        sources: the sources of the run.
        as_json: print one JSON object per line, failures included (as ``source`` and ``error``).
    """

    def __init__(self, sources: list[SourceFile], *, as_json: bool = False) -> None:
        self._num_done = 0
        self._as_json = as_json
        self._column = min(_WIDEST_NAME, max((len(str(s.path)) for s in sources), default=0))
        self._counts_frames = len(sources) == 1
        has_bar = len(sources) > 1 or any(s.is_video for s in sources)
        # If lines and bar share a terminal, they must use one stream, or they overwrite each other.
        self._is_shared = sys.stdout.isatty() and sys.stderr.isatty() and not as_json
        self._bar = ProgressBar(
            "frames" if self._counts_frames else "sources",
            None if self._counts_frames else len(sources),
            stream=sys.stdout if self._is_shared else sys.stderr,
            is_hidden=not has_bar or (as_json and sys.stdout.isatty()),
        )

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def on_result(self, outcome: FileResult | FileError) -> None:
        """Print the line of a source that was predicted or has failed."""
        self._num_done += 1
        self._bar.show("")
        if not self._counts_frames:
            self._bar.update(self._num_done)
        if self._as_json:
            self._print(json.dumps(outcome.to_dict()))
        elif isinstance(outcome, FileResult):
            self._print(self._line(outcome))
        else:
            _logger.error("%s: %s", outcome.source, outcome.error)

    def on_frame(self, source: SourceFile, index: int, num_frames: int | None) -> None:
        """Show the progress of a video: below the bar, or with the bar if it is the only source."""
        total = max(index, num_frames) if num_frames else None
        if self._counts_frames:
            self._bar.update(index, total)
        else:
            self._bar.show(f"{source.path.name}: frame {index}" + (f" of {total}" if total else ""))

    def _line(self, done: FileResult) -> str:
        times = done.times
        frames = f"{done.frames} frames, " if done.frames > 1 else ""
        return (
            f"{done.source:<{self._column}}  {f'{done.height}x{done.width}':>9}  "
            f"{frames}{done.num_segments:3} segments  "
            f"read {times.read:6.1f}  network {times.network:7.1f}  post-process {times.postprocess:6.1f}  "
            f"write {times.write:6.1f} ms{' a frame' if done.frames > 1 else ''}"
        )

    def _print(self, line: str) -> None:
        if self._is_shared:
            self._bar.print(line)
        else:
            print(line, flush=True)
