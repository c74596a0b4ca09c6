"""The command line.

This module imports nothing heavy: options are plain dataclasses, and each command imports its dependencies in ``run``.
So the help and errors about options appear at once.

Exit codes: 0 success; 1 some inputs were skipped, the others were processed; 2 the command failed; 130 interrupted.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from time import perf_counter

from panscape.cli.licences import split_accepted
from panscape.cli.messages import on_stderr, split_verbosity
from panscape.cli.short_predict import parse_short
from panscape.errors import PanscapeError

_logger = logging.getLogger(__name__)

# For errors of the system that no part of panscape describes better.
_REMEDIES = {
    errno.ENOSPC: "free space, or write to another disk",
    errno.EDQUOT: "free space, or write to another disk",
    errno.EROFS: "write to another disk",
    errno.EACCES: "change its permissions, or give another path",
    errno.ENAMETOOLONG: "give a shorter name",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; by default those of the process. -v, -q and --accept-licence may
            stand anywhere.

    Returns:
        The exit code, see the top of this file. The help exits the process with 0 at once.
    """
    arguments, level = split_verbosity(sys.argv[1:] if argv is None else argv)
    with on_stderr(level), _interrupted_by_sigterm():
        started = perf_counter()
        code = _run(arguments)
        _logger.debug("exit code %d after %.1f s", code, perf_counter() - started)
    return code


def _run(arguments: list[str]) -> int:
    """Run a command and report its errors; return the exit code."""
    try:
        arguments, accepted = split_accepted(arguments)
        if accepted:
            from panscape.zoo import accept_licence

            for model in accepted:
                accept_licence(model)
        short = parse_short(arguments)
        if short is not None:
            return short.run()
        from panscape.cli.commands import run_command

        return run_command(arguments)
    except (PanscapeError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader of standard output has closed it; exit silently
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        message = _in_one_line(error)
        _logger.exception(message, exc_info=_logger.isEnabledFor(logging.DEBUG))
        return 2
    except ImportError:
        if find_spec("torch") is not None:
            raise
        _logger.error(  # noqa: TRY400 - the trace names only what is left out on purpose
            "panscape-runtime predicts images with exported networks that have centres, at the sizes that these take: "
            "panscape predict SOURCE --model FILE.onnx --out DIR; install panscape for all else"
        )
        return 2
    except KeyboardInterrupt:
        print("panscape: interrupted", file=sys.stderr)
        return 130


def _in_one_line(error: PanscapeError | OSError) -> str:
    if isinstance(error, PanscapeError) or error.errno is None:
        return " ".join(str(error).split())
    file = "cannot write" if error.filename is None else error.filename
    return f"{file}: {error.strerror}; {_REMEDIES.get(error.errno, 'check the path and the disk')}"


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt like Ctrl-C, so that commands complete or remove what they were writing."""
    if threading.current_thread() is not threading.main_thread():  # only it may set handlers
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
