"""Messages of the command line: the log records of the library, on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from panscape import notes

VERBOSITY_HELP = "-v, --verbose also prints details; -q, --quiet prints only results, warnings and errors."
_LEVELS = {"-v": logging.DEBUG, "--verbose": logging.DEBUG, "-q": logging.WARNING, "--quiet": logging.WARNING}


def split_verbosity(arguments: Sequence[str]) -> tuple[list[str], int]:
    """Separate -v and -q, which all commands accept anywhere, from the other arguments.

    Returns:
        The other arguments, and the lowest level of log records to print; the last of several options wins.
    """
    level = next((_LEVELS[argument] for argument in reversed(arguments) if argument in _LEVELS), logging.INFO)
    return [argument for argument in arguments if argument not in _LEVELS], level


@contextmanager
def on_stderr(level: int) -> Iterator[None]:
    """Print the log records of panscape to standard error, and those of other libraries only with their warnings.

    Without this, other libraries print warnings at their first use, which users can do nothing about.

    Args:
        level: lowest level of panscape's records; DEBUG also prints the warnings of other libraries.
    """
    notes.start_run()
    handler = _StderrHandler()
    handler.setFormatter(_Formatter())
    if level > logging.DEBUG:
        handler.addFilter(_is_ours)
    root, ours = logging.getLogger(), logging.getLogger("panscape")
    previous = ours.level
    ours.setLevel(level)
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        ours.setLevel(previous)


class _StderrHandler(logging.Handler):
    """Writes to the current ``sys.stderr``: a progress bar replaces it to keep the text above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # a full disk or a closed pipe must not stop a training
            print(self.format(record), file=sys.stderr, flush=True)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not _is_ours(record):
            return f"{record.name}: {text}"
        if record.levelno < logging.WARNING:
            return text
        return f"panscape: {'error' if record.levelno >= logging.ERROR else 'warning'}: {text}"


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == "panscape"
