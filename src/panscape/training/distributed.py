"""`Distributed`: collective calls of the training processes, with errors that are raised in all of them.

If a single process left, the others would wait for its gradients. So any action that may fail in one of them, other
than by a bug, is followed by the exchange of a flag, after which all continue or all raise the same error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar, cast

import torch
from lightning_fabric import Fabric
from torch import distributed

from panscape.errors import PanscapeError, ProcessLostError

_T = TypeVar("_T")
_LOST = re.compile(r"connection (?:was )?(?:closed|reset|refused)|broken pipe|socket closed", re.IGNORECASE)


class Distributed:
    """The processes of a training, seen from one of them; a context manager around their collective work.

    When all fail with the same error, rank 0 raises it, and the others exit silently.

    Args:
        fabric: launched.
        is_group_ours: destroy the default process group of torch.distributed at the end.

    Attributes:
        count: number of processes.
        is_first: whether this is rank 0, which writes files and logs.
    """

    def __init__(self, fabric: Fabric, *, is_group_ours: bool = False) -> None:
        self.count, self.is_first = fabric.world_size, fabric.is_global_zero
        # On the CPU: a flag must not wait for the computations of a GPU.
        self._group: Any = distributed.new_group(backend="gloo") if self.count > 1 else None
        self._is_group_ours = is_group_ours
        self._failed_together = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.count == 1:
            return
        if self._is_group_ours and (error is None or self._failed_together):  # else it would wait for other processes
            distributed.destroy_process_group()
        if isinstance(error, RuntimeError) and not isinstance(error, PanscapeError) and _LOST.search(str(error)):
            raise ProcessLostError(" ".join(str(error).split())) from error
        if self._failed_together and not self.is_first:
            # The exit code of the run is that of rank 0. A nonzero one here would make Fabric's launcher kill rank 0,
            # possibly before it has printed its error.
            raise SystemExit(0) from error

    def rank_zero(self, action: Callable[[], _T]) -> _T:
        """Call ``action`` in rank 0 only; all processes return its result or raise its error.

        Args:
            action: raises a PanscapeError or an OSError if it fails.
        """
        if self.count == 1:
            return action()
        outcome = [_attempt(action) if self.is_first else (None, None)]
        distributed.broadcast_object_list(outcome, 0, group=self._group)
        result, failure = outcome[0]
        if failure is not None:
            self.fail(failure)
        return cast(_T, result)

    def sync_call(self, action: Callable[[], _T]) -> _T:
        """Call ``action`` in every process and return this one's result; an error in one is raised in all.

        Args:
            action: raises a PanscapeError or an OSError if it fails; must not contain collective calls.
        """
        if self.count == 1:
            return action()
        result, failure = _attempt(action)
        if self.any(failure is not None):
            self.fail(next(error for error in self.all_gather(failure) if error is not None))
        return cast(_T, result)

    def fail(self, error: BaseException) -> NoReturn:
        """Raise an error that all processes raise at this point."""
        self._failed_together = True
        raise error

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process; all must call this."""
        if self.count == 1:
            return flag
        number = torch.tensor(int(flag))
        distributed.all_reduce(number, group=self._group)
        return bool(number)

    def all_gather(self, value: _T) -> list[_T]:
        """Return the values of all processes; all must call this."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        distributed.all_gather_object(found, value, group=self._group)
        return found


def _attempt(action: Callable[[], _T]) -> tuple[_T | None, PanscapeError | OSError | None]:
    try:
        return action(), None
    except (PanscapeError, OSError) as error:
        return None, error
