"""The errors that panscape raises for its users; each message contains a remedy.

Every error derives from :class:`PanscapeError` and from the matching built-in exception, so that both
``except PanscapeError`` and ``except ValueError`` work.
"""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_LONGEST_MESSAGE = 400  # characters; messages of zipfile repeat damaged content
_MOST_NAMES = 150  # of ADE20K's categories

# Unicode categories: control characters, surrogates, line and paragraph separators.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")


class PanscapeError(Exception):
    """Base class of all errors that panscape raises deliberately."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes pickle their errors; the default would call __init__ with the final message.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[PanscapeError], args: tuple[Any, ...], state: dict[str, Any]) -> PanscapeError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidMapError(PanscapeError, ValueError):
    """The parts of a panoptic map are invalid or inconsistent."""


class InvalidLabelSpaceError(PanscapeError, ValueError):
    """A label space is inconsistent."""


class InvalidAnnotationError(PanscapeError, ValueError):
    """An annotation or prediction on disk is inconsistent."""


class InvalidArgumentError(PanscapeError, ValueError):
    """An argument has an invalid value, shape or type."""


class UnreadableFileError(PanscapeError, OSError):
    """A file could not be read in the expected format.

    Args:
        path: the file.
        reason: the cause and the remedy.
    """

    def __init__(self, path: object, reason: str) -> None:
        self.path = path
        super().__init__(f"{path}: {reason}")


class UnwritableFileError(PanscapeError, OSError):
    """A file could not be written; an earlier file is unchanged.

    Args:
        path: the file.
        reason: the cause and the remedy.
        cause: the error of the system, whose number and text the new one has too.
    """

    def __init__(self, path: object, reason: str, cause: OSError | None = None) -> None:
        self.path = path
        super().__init__(f"cannot write {path}: {reason}")
        if cause is not None:
            self.errno, self.strerror = cause.errno, cause.strerror

    def __str__(self) -> str:  # OSError would print its number and text instead
        return str(self.args[0])


class DiskFullError(UnwritableFileError):
    """A file could not be written because the disk or quota is full or the file size limit is reached."""


class UnknownNameError(PanscapeError, KeyError):
    """A name is unknown; the message suggests the closest known names, or lists all of a few dozen.

    Args:
        kind: kind of the name, for example "model".
        name: the unknown name.
        known: the known names.
        list_all: list all known names beside the suggestion; for short lists that depend on other options.
        command: command that lists the names, for long lists; the message then has it instead of them.
    """

    def __init__(
        self, kind: str, name: str, known: Iterable[str], *, list_all: bool = False, command: str | None = None
    ) -> None:
        known = sorted(known)
        close = difflib.get_close_matches(str(name), known, n=3)
        table = f"known: {', '.join(known) or 'none'}" if command is None else f"{command} lists the {len(known)} known"
        if len(known) > _MOST_NAMES:
            table = f"none of the {len(known)} known names is similar"
        suggestion = f"did you mean {' or '.join(close)}?"
        hint = f"{suggestion} {table}" if close and list_all else suggestion if close else table
        self.message = f"unknown {kind} {shown(name)}; {hint}"
        super().__init__(self.message)

    def __str__(self) -> str:  # KeyError prints the repr of its argument
        return self.message


class MissingExtraError(PanscapeError, ImportError):
    """A function needs a package that the base installation does not include.

    Args:
        package: import name of the missing package.
        extra: the extra of panscape that installs it; None if the package is installed by its own name.
        purpose: the function that needs it.
    """

    def __init__(self, package: str, extra: str | None, purpose: str) -> None:
        name = package if extra is None else f"'panscape[{extra}]'"
        if extra == "tensorrt":  # its wheels on PyPI fetch the vendor's while they are installed, which often fails
            name += " --extra-index-url https://pypi.nvidia.com"
        super().__init__(f"{purpose} needs {package}; install it with: pip install {name}")


class CheckpointMismatchError(PanscapeError, ValueError):
    """The tensors of a checkpoint do not match those of the model.

    Args:
        path: the checkpoint.
        missing: names in the model that are not in the checkpoint.
        unused: names in the checkpoint that are not in the model.
        misshapen: ``name: expected shape, found shape`` lines.
        remedy: what to do.
    """

    def __init__(
        self,
        path: object,
        *,
        missing: Iterable[str] = (),
        unused: Iterable[str] = (),
        misshapen: Iterable[str] = (),
        remedy: str,
    ) -> None:
        parts = [f"{path} does not fit the model"]
        for title, names in (("missing", missing), ("unused", unused), ("of another shape", misshapen)):
            names = sorted(names)
            if names:
                shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
                parts.append(f"{len(names)} {title}: {shown}")
        super().__init__("; ".join([*parts, remedy]))


class BadSampleError(PanscapeError, ValueError):
    """An image of the training data cannot be used.

    Args:
        image: its file or name.
        reason: the error; may begin with the file.
        remedy: what to do.
    """

    def __init__(
        self,
        image: object,
        reason: str,
        remedy: str = "repair or remove it, or skip invalid images with --on-error skip",
    ) -> None:
        self.image = str(image)
        reason = " ".join(reason.split())
        self.reason = reason if reason.startswith(self.image) else f"{self.image}: {reason}"
        super().__init__(f"{self.reason}; {remedy}")


class WorkerDiedError(PanscapeError, RuntimeError):
    """A data-loader process has died.

    Args:
        detail: process id and cause of death, if known.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(
            f"a data-loader process died: {detail}. The usual cause is a lack of memory, or of shared memory in /dev/"
            "shm; repeat the command with fewer --workers and --resume to continue from the last checkpoint"
        )


class ProcessLostError(PanscapeError, RuntimeError):
    """Another process of a distributed training has ended.

    Args:
        detail: the error that revealed it.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(
            f"another process of this training has ended ({detail}); its output contains the cause; fix that, then "
            "repeat the command with --resume to continue from the last checkpoint"
        )


class TrainingDivergedError(PanscapeError, FloatingPointError):
    """A loss or a gradient is not finite.

    Args:
        step: number of the step.
        losses: by name; if all are finite, the gradient is not.
        names: names of the images in the batch.
        checkpoint: description of the last good checkpoint.
    """

    def __init__(self, step: int, losses: Mapping[str, float], names: Sequence[str], checkpoint: str) -> None:
        values = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        what, remedy = f"the loss is not finite ({values})", "a lower learning rate or a grad_clip_norm"
        if all(map(math.isfinite, losses.values())):
            # Clipping divides by the norm, which is not finite either.
            what = f"the gradient is not finite, although the loss is ({values}),"
            remedy = "a lower learning rate, or with --precision fp32"
        super().__init__(
            f"{what} at step {step}, images {', '.join(names)}; {checkpoint}; check these images and their labels, "
            "which --resume would use again; if they are correct, start another run from this run directory "
            f"(--init-from) with {remedy}"
        )


def shown(value: object) -> str:
    """Return a short printable representation of a value from a file, without control characters."""
    try:
        text = repr(value)
    except RecursionError:  # deeply nested lists
        text = type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}..."


def listed(values: Sequence[object]) -> str:
    """Return the first five values and the number of further ones."""
    first = ", ".join(map(str, values[:5]))
    return f"{first} and {len(values) - 5} more" if len(values) > 5 else first


def in_one_line(error: BaseException, file: str = "") -> str:
    """Return the message of an error on one line, or its type if it has none; long messages are truncated.

    Args:
        error: the error.
        file: name of a file, which is left out at the beginning.
    """
    text = " ".join(str(error).split()).removeprefix(f"{file}: ") or type(error).__name__
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}..."


def escape_control_chars(text: str, keep: str = "") -> str:
    """Return a text with control characters and characters that cannot be encoded replaced by escapes.

    Args:
        text: may contain names from files, which could send commands to the terminal.
        keep: control characters that remain.
    """
    return "".join(ascii(c)[1:-1] if c not in keep and unicodedata.category(c) in _UNPRINTABLE else c for c in text)
