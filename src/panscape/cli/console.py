"""Console output of a run: one line or JSON object per source, and progress bars."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from panscape.inference.pipeline import FileError, FileResult
from panscape.inference.sources import Source

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_WIDEST_NAME = 48


class Reporter:
    """Prints one line for each source as soon as it is done; a context manager.

    Lines of predicted sources go to standard output, failures to standard error. On a terminal, a bar shows the
    progress of a run over several sources or a video.

    Args:
        sources: the sources of the run.
        as_json: print one JSON object per line, failures included (as ``source`` and ``error``).
    """

    def __init__(self, sources: list[Source], *, as_json: bool = False) -> None:
        self._num_sources = len(sources)
        self._num_done = 0
        self._as_json = as_json
        self._column = min(_WIDEST_NAME, max((len(str(s.path)) for s in sources), default=0))
        self._has_bar = sys.stderr.isatty() and (len(sources) > 1 or any(s.is_video for s in sources))
        if as_json and sys.stdout.isatty():
            self._has_bar = False
        self._exits = ExitStack()
        self._progress: Progress | None = None
        self._console: Console | None = None

    def __enter__(self) -> Self:
        if self._has_bar:
            from rich.console import Console
            from rich.progress import Progress

            # If lines and bar share a terminal, they must use one console, or they overwrite each other.
            is_shared = sys.stdout.isatty()
            console = Console(stderr=not is_shared)
            self._console = console if is_shared else None
            self._progress = self._exits.enter_context(
                Progress(console=console, transient=True, redirect_stdout=False, redirect_stderr=True)
            )
            self._sources_task = self._progress.add_task("sources", total=self._num_sources)
            self._frames_task = self._progress.add_task("frames", visible=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def tell(self, outcome: FileResult | FileError) -> None:
        """Print the line of a source that was predicted or has failed."""
        self._num_done += 1
        if self._progress is not None:
            self._progress.update(self._sources_task, completed=self._num_done)
            self._progress.update(self._frames_task, visible=False)
        if self._as_json:
            self._print(json.dumps(outcome.to_dict()))
        elif isinstance(outcome, FileResult):
            self._print(self._line(outcome))
        else:
            print(f"panscape: {outcome.source}: {outcome.error}", file=sys.stderr)

    def frame(self, source: Source, index: int, num_frames: int | None) -> None:
        """Advance the progress bar of a video."""
        if self._progress is not None:
            self._progress.update(
                self._frames_task,
                description=source.path.name,
                completed=index,
                total=max(index, num_frames) if num_frames else None,
                visible=True,
            )

    def _line(self, done: FileResult) -> str:
        times = done.times
        frames = f"{done.frames} frames, " if done.frames > 1 else ""
        return (
            f"{done.source:<{self._column}}  {f'{done.height}x{done.width}':>9}  {frames}{done.segments:3} segments  "
            f"read {times.read:6.1f}  network {times.network:7.1f}  post-process {times.postprocess:6.1f}  "
            f"write {times.write:6.1f} ms{' a frame' if done.frames > 1 else ''}"
        )

    def _print(self, line: str) -> None:
        if self._console is not None:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, total) that updates a progress bar on a terminal and does nothing elsewhere.

    Args:
        what: the counted unit, for example "images".
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
