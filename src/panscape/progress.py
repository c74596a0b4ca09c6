"""The progress bar of all commands, with an estimate of the time left; nothing is shown without a terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self, TextIO

from panscape.errors import escape_control_chars

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType


class TimeLeft:
    """Estimate of the time left, from the mean speed since the end of the first step, which includes start-up."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None
        self._last = (0, 0.0)

    def update(self, done: int, now: float) -> None:
        """Record that ``done`` steps are completed at ``now``, in seconds."""
        self._last = (done, now)
        if self._first is None or done < self._first[0]:
            self._first = self._last

    def seconds(self, total: int) -> float | None:
        """Return the seconds until ``total`` steps are completed; None until two steps are."""
        if self._first is None or self._last[0] == self._first[0]:
            return None
        steps, elapsed = (last - first for last, first in zip(self._last, self._first, strict=True))
        return elapsed / steps * (total - self._last[0])


class ProgressBar:
    """One line at the bottom of a terminal: activity, bar, count and time left; details appear in a line below.

    A context manager; the lines disappear at its end. Text printed meanwhile appears above them. At 60 columns and more
    nothing but the details is cut off.

    Args:
        activity: what is counted or done, for example "images".
        total: number of steps; None if it is not known yet.
        done: number of steps completed before.
        stream: output of the bar; standard error by default. If it is no terminal, nothing is shown; neither if the
            logger "panscape" is set to drop messages of level INFO.
        is_hidden: show nothing on a terminal either.
        clock: returns seconds.
    """

    def __init__(
        self,
        activity: str,
        total: int | None = None,
        *,
        done: int = 0,
        stream: TextIO | None = None,
        is_hidden: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        is_quiet = logging.getLogger("panscape").level > logging.INFO
        self.is_shown = self._stream.isatty() and not is_hidden and not is_quiet
        self._activity, self._total, self._done = activity, total, done
        self._details = ""
        self._handlers: list[logging.StreamHandler[TextIO]] = []
        self._clock = clock
        self._time_left = TimeLeft()

    def __enter__(self) -> Self:
        if not self.is_shown:
            return self
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console(file=self._stream)
        names = ("{task.description}", "{task.fields[count]}", "{task.fields[left]}")
        activity, count, left = (TextColumn(name, markup=False) for name in names)
        self._progress = Progress(activity, BarColumn(bar_width=None), count, left, console=self._console, expand=True)
        self._task = self._progress.add_task(self._activity, total=self._total, count="", left="")
        self._refill(left="")
        # Standard output may be a pipe; its text must not appear on the terminal.
        self._live = Live(
            get_renderable=self._render,
            console=self._console,
            transient=True,
            refresh_per_second=10,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._live.start(refresh=True)
        if sys.stderr is not self._stream:  # the bar has replaced it; log handlers may hold the stream itself
            for handler in (*logging.getLogger().handlers, *logging.getLogger("panscape").handlers):
                if isinstance(handler, logging.StreamHandler) and handler.stream is self._stream:
                    handler.setStream(sys.stderr)
                    self._handlers.append(handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_shown:
            for handler in self._handlers:
                handler.setStream(self._stream)
            self._live.stop()

    def update(self, done: int, total: int | None = None) -> None:
        """Show ``done`` steps as completed, of ``total`` if given."""
        if not self.is_shown:
            return
        self._done, self._total = done, self._total if total is None else total
        self._time_left.update(done, self._clock())
        seconds = None if self._total is None else self._time_left.seconds(self._total)
        self._refill(left=f"{duration(seconds)} left" if seconds else "")

    def rename(self, activity: str) -> None:
        """Replace the activity."""
        if self.is_shown:
            self._progress.update(self._task, description=activity)

    def show(self, details: str) -> None:
        """Replace the details below the bar; an empty text removes them."""
        self._details = escape_control_chars(details)

    def print(self, text: str) -> None:
        """Print above the bar, or on the stream if there is no bar."""
        text = escape_control_chars(text, keep="\n")
        if self.is_shown:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)

    def _refill(self, left: str) -> None:
        count = ""
        if self._total:  # of a constant width, so that the bar keeps its own
            count = f"{self._done:>{len(str(self._total))}}/{self._total} {100 * self._done // self._total:>3} %"
        self._progress.update(self._task, completed=self._done, total=self._total, count=count, left=left)

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        bar = self._progress.make_tasks_table(self._progress.tasks)
        details = Text(self._details, no_wrap=True, overflow="ellipsis", style="dim")
        return Group(bar, details) if self._details else bar


def duration(seconds: float) -> str:
    """Format a time with at most two units, such as "41 min" or "2 h 05 min"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"
