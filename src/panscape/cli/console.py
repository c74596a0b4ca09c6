"""Console output of "panscape predict": one line or JSON object per source."""

from __future__ import annotations

import logging
import sys
from dataclasses import fields
from types import TracebackType
from typing import Self

from panscape.cli.printing import print_json, say, terminal_columns
from panscape.errors import escape_control_chars
from panscape.inference.results import FileError, FileResult, Timings
from panscape.inference.sources import SourceFile
from panscape.progress import ProgressBar

_logger = logging.getLogger(__name__)

_WIDEST_NAME = 48
_SHORTEST_NAME = 12
_WIDTH_BESIDE_NAME = 25  # of a line for an image


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
        self.num_earlier = 0  # done by an earlier run
        self._as_json = as_json
        self._times: list[tuple[int, Timings]] = []
        columns = terminal_columns()
        self._longest = None if columns is None else max(columns - _WIDTH_BESIDE_NAME, _SHORTEST_NAME)
        widest = max((len(str(s.path)) for s in sources), default=0)
        self._column = min(self._longest or _WIDEST_NAME, _WIDEST_NAME, widest)
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
        """Print the line of a source; the text output has none for results of earlier runs."""
        self._num_done += 1
        self._bar.show("")
        if not self._counts_frames:
            self._bar.update(self._num_done)
        if self._as_json:
            print_json(outcome.to_dict())
        elif isinstance(outcome, FileError):
            _logger.error("%s: %s", escape_control_chars(outcome.source), outcome.error)
        elif outcome.is_earlier:
            self.num_earlier += 1
        else:
            self._times.append((outcome.frames, outcome.times))
            self._print(self._line(outcome))
            _logger.debug("  %s%s", _stages(outcome.times, ".1f"), " a frame" if outcome.frames > 1 else "")

    def on_frame(self, source: SourceFile, index: int, num_frames: int | None) -> None:
        """Show the progress of a video: below the bar, or with the bar if it is the only source."""
        total = max(index, num_frames) if num_frames else None
        if self._counts_frames:
            self._bar.update(index, total)
        else:
            self._bar.show(f"{source.path.name}: frame {index}" + (f" of {total}" if total else ""))

    def _line(self, done: FileResult) -> str:
        frames = f"{done.frames} frames, " if done.frames > 1 else ""
        name = escape_control_chars(done.source)
        if self._longest is not None and len(name) > self._longest:
            name = f"...{name[3 - self._longest :]}"
        size = f"{done.height}x{done.width}"
        return f"{name:<{self._column}}  {size:>9}  {frames}{done.num_segments:3} segments"

    @property
    def times(self) -> str:
        """The mean times of the stages over all predicted images and frames; empty without any."""
        count = sum(frames for frames, _ in self._times)
        if not count:
            return ""
        sums = {f.name: sum(frames * getattr(each, f.name) for frames, each in self._times) for f in fields(Timings)}
        return _stages(Timings(**{stage: total / count for stage, total in sums.items()}), ".0f")

    def _print(self, line: str) -> None:
        if self._is_shared:
            self._bar.print(line)
        else:
            say(line)


def _stages(times: Timings, form: str) -> str:
    stages = {"read": times.read, "network": times.network, "post-process": times.postprocess, "write": times.write}
    return "ms: " + ", ".join(f"{stage} {spent:{form}}" for stage, spent in stages.items())
