"""The progress bar of a training on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text


class ProgressBar:
    """Two lines at the bottom of a terminal: progress and speed, and below them the losses.

    A context manager; the lines disappear at its end. Text printed meanwhile appears above them.

    Args:
        stream: a terminal.
        steps: number of steps of the whole training.
        done: number of steps completed before this run.
    """

    def __init__(self, stream: TextIO, steps: int, done: int) -> None:
        self._console = Console(file=stream)
        # Standard output may be a pipe; its text must not appear on the terminal.
        self._progress = _TwoLines(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.percentage:.0f} %"),
            TextColumn("{task.fields[pace]}", markup=False),
            console=self._console,
            transient=True,
            expand=True,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._progress.add_task("training", total=steps, completed=done, pace="")

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def move(self, step: int) -> None:
        """Show ``step`` as completed."""
        self._progress.update(self._task, completed=step)

    def show(self, losses: str, pace: str) -> None:
        """Replace the losses, and the text with speed and time left."""
        self._progress.losses = losses
        self._progress.update(self._task, pace=pace)

    def call(self, activity: str) -> None:
        """Replace the word before the bar."""
        self._progress.update(self._task, description=activity)

    def print(self, text: str) -> None:
        """Print above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class _TwoLines(Progress):
    losses = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.losses:
            yield Text(self.losses, no_wrap=True, overflow="ellipsis", style="dim")
