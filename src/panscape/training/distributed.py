"""`Distributed` that train together: what one does for all, and what fails in all of them if it fails in one.

A process that left alone would let the others wait for its gradients. So whatever may fail in one of them, and is not a
mistake of ours, is done between two exchanges of a flag, after which all go on or all raise the same error.
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
    """The processes of a training, seen from one of them; a context manager around all that they do together.

    When all fail with one error, the first process raises it, and the others end without a word.

    Args:
        fabric: launched.
        is_group_ours: at the end, dissolve the group that torch.distributed knows.

    Attributes:
        count: of processes.
        is_first: whether this is the one that writes files and talks.
    """

    def __init__(self, fabric: Fabric, *, is_group_ours: bool = False) -> None:
        self.count, self.is_first = fabric.world_size, fabric.is_global_zero
        # Beside the device: a flag must not wait for what a GPU is still computing.
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
        if self._is_group_ours and (error is None or self._failed_together):  # else others would be waited for
            distributed.destroy_process_group()
        if isinstance(error, RuntimeError) and not isinstance(error, PanscapeError) and _LOST.search(str(error)):
            raise ProcessLostError(" ".join(str(error).split())) from error
        if self._failed_together and not self.is_first:
            # The exit code of the run is that of its first process. Another one here would make Fabric's launcher kill
            # that process, maybe before it has spoken.
            raise SystemExit(0) from error

    def rank_zero(self, action: Callable[[], _T]) -> _T:
        """Do something in the first process alone; its result, or what it raises, is everybody's.

        Args:
            action: raises a PanscapeError or an OSError if it cannot be done.
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
        """Do something in every process, and return this one's result; what one raises, all raise.

        Args:
            action: raises a PanscapeError or an OSError if it cannot be done; does nothing in which others take part.
        """
        if self.count == 1:
            return action()
        result, failure = _attempt(action)
        if self.any(failure is not None):
            self.fail(next(error for error in self.all_gather(failure) if error is not None))
        return cast(_T, result)

    def fail(self, error: BaseException) -> NoReturn:
        """Raise what all processes are about to raise."""
        self._failed_together = True
        raise error

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in one of the processes; all must call this."""
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
