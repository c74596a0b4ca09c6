"""The errors panscape raises for its users; each composes its own remedy.

Every error derives from :class:`PanscapeError` and from the built-in exception a caller would expect, so that both
``except PanscapeError`` and ``except ValueError`` work.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class PanscapeError(Exception):
    """Base of every error that panscape raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes send their errors pickled; the default would call __init__ with the finished message.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[PanscapeError], args: tuple[Any, ...], state: dict[str, Any]) -> PanscapeError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidMapError(PanscapeError, ValueError):
    """A panoptic map was given parts that do not belong together."""


class InvalidLabelSpaceError(PanscapeError, ValueError):
    """A label space contradicts itself."""


class InvalidAnnotationError(PanscapeError, ValueError):
    """An annotation or prediction on disk contradicts its own description."""


class InvalidArgumentError(PanscapeError, ValueError):
    """An argument has a value, shape or type that the call cannot use."""


class UnreadableFileError(PanscapeError, OSError):
    """A file could not be read as what it was taken for.

    Args:
        path: the file.
        reason: what went wrong, and what to do.
    """

    def __init__(self, path: object, reason: str) -> None:
        self.path = path
        super().__init__(f"{path}: {reason}")


class UnwritableFileError(PanscapeError, OSError):
    """A file could not be written; what was there before is as it was.

    Args:
        path: the file.
        reason: what went wrong, and what to do.
    """

    def __init__(self, path: object, reason: str) -> None:
        self.path = path
        super().__init__(f"cannot write {path}: {reason}")


class DiskFullError(UnwritableFileError):
    """A file found no room: the disk or a quota is full, or the file would be larger than is allowed."""


class UnknownNameError(PanscapeError, KeyError):
    """A name is not in the table it was looked up in; the nearest known names are suggested.

    Args:
        kind: what was looked up, for example "model".
        name: what was asked for.
        known: the names in the table.
        list_all: list them all beside the suggestion; for short tables that depend on what the user chose before.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, list_all: bool = False) -> None:
        known = sorted(known)
        close = difflib.get_close_matches(name, known, n=3)
        table = f"known: {', '.join(known) or 'none'}"
        suggestion = f"did you mean {' or '.join(close)}?"
        hint = f"{suggestion} {table}" if close and list_all else suggestion if close else table
        self.message = f"unknown {kind} {name!r}; {hint}"
        super().__init__(self.message)

    def __str__(self) -> str:  # KeyError prints its argument's repr
        return self.message


class MissingExtraError(PanscapeError, ImportError):
    """A command needs a package that a plain installation leaves out.

    Args:
        package: the import name that is missing.
        extra: the extra of panscape that brings it.
        purpose: what it is needed for.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}; install it with: pip install 'panscape[{extra}]'")


class CheckpointMismatchError(PanscapeError, ValueError):
    """A checkpoint and a model do not fit each other tensor by tensor.

    Args:
        path: the checkpoint.
        missing: names that the model needs and the checkpoint lacks.
        unused: names that the checkpoint has and the model has no place for.
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
        reason: what is wrong with it; may begin with the file.
        remedy: what to do.
    """

    def __init__(
        self,
        image: object,
        reason: str,
        remedy: str = "repair or remove it, or leave out what cannot be used with --on-error skip",
    ) -> None:
        self.image = str(image)
        reason = " ".join(reason.split())
        self.reason = reason if reason.startswith(self.image) else f"{self.image}: {reason}"
        super().__init__(f"{self.reason}; {remedy}")


class WorkerDiedError(PanscapeError, RuntimeError):
    """A process that prepares training images is gone.

    Args:
        detail: what is known of its end.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(
            f"a process that prepares training images died: {detail}. Most often memory ran out, or the shared "
            "memory in /dev/shm; give the same command with fewer --workers and --resume to go on from the last "
            "checkpoint"
        )


class ProcessLostError(PanscapeError, RuntimeError):
    """Another process of a training on several has ended.

    Args:
        detail: how it was noticed.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(
            f"another process of this training has ended ({detail}); what it printed tells why; mend that, then give "
            "the same command with --resume to go on from the last checkpoint"
        )


class TrainingDivergedError(PanscapeError, FloatingPointError):
    """A loss or a gradient is not finite.

    Args:
        step: at which.
        losses: by name; where all are finite, it is the gradient that is not.
        names: of the images in the batch.
        checkpoint: the last good one.
    """

    def __init__(self, step: int, losses: Mapping[str, float], names: Sequence[str], checkpoint: str) -> None:
        values = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        what, remedy = f"the loss is not finite ({values})", "a lower learning rate or a grad_clip_norm"
        if all(map(math.isfinite, losses.values())):
            # Clipping divides by the norm, which is not finite either.
            what = f"the gradient is not finite, although the loss is ({values}),"
            remedy = "a lower learning rate, or with --precision fp32"
        super().__init__(
            f"{what} at step {step}, images {', '.join(names)}; {checkpoint}; look at these images and their labels, "
            "which --resume would meet again; if they are right, start another run from this one's folder "
            "(--init-from) "
            f"with {remedy}"
        )


def shown(value: object) -> str:
    """Return something from a file so that it can be printed: short, and without characters that do something."""
    try:
        text = repr(value)
    except RecursionError:  # lists in lists in lists
        text = type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}..."


def listed(values: Sequence[object]) -> str:
    """Return the first few values and how many more there are."""
    first = ", ".join(map(str, values[:5]))
    return f"{first} and {len(values) - 5} more" if len(values) > 5 else first
