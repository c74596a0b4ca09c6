"""Accumulators as ``torchmetrics.Metric``, for those whose training loops expect them.

Nothing of panscape imports this module, as torchmetrics takes seconds to import.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError, MissingExtraError

try:
    from torchmetrics import Metric
except ImportError as missing:
    raise MissingExtraError("torchmetrics", "metrics", "a metric for torchmetrics") from missing


class Report(Protocol):
    """What an accumulator reports."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON."""
        ...


class Accumulator(Protocol):
    """What the metrics of this package have in common.

    Attributes:
        state: all that is known of the pictures so far; adds up over pictures and processes.
    """

    state: Tensor

    def update(self, *picture: Any, **options: Any) -> None:
        """Take one picture into account."""
        ...

    def reset(self) -> None:
        """Forget all pictures."""
        ...

    def compute(self) -> Any:
        """Report on all pictures so far."""
        ...


class AccumulatorMetric(Metric):
    """An accumulator whose state torchmetrics keeps, moves and adds up over processes; see :func:`as_torchmetric`."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    state: Tensor

    def __init__(self, accumulator: Accumulator, **options: Any) -> None:
        """Start without pictures.

        Args:
            accumulator: it stays as it is; its pictures are not taken over.
            options: of ``torchmetrics.Metric``.
        """
        super().__init__(**options)
        self._accumulator = copy.deepcopy(accumulator)
        self._accumulator.reset()
        self.add_state("state", default=self._accumulator.state.clone(), dist_reduce_fx="sum")

    def update(self, *picture: Any, **options: Any) -> None:
        """Take one picture into account, as the accumulator's ``update`` does."""
        self._accumulator.reset()
        self._accumulator.update(*picture, **options)
        self.state += self._accumulator.state.to(self.state.device)

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers of groups as float64 scalars, such as ``"all/pq"``; the report has those of categories."""
        numbers = _numbers(self.report().to_dict())
        return {name: torch.tensor(value, dtype=torch.float64, device=self.state.device) for name, value in numbers}

    def report(self) -> Any:
        """Return the accumulator's report on all pictures of this process so far."""
        self._accumulator.state.copy_(self.state)
        return self._accumulator.compute()


def as_torchmetric(accumulator: Accumulator, **options: Any) -> AccumulatorMetric:
    """Return a ``torchmetrics.Metric`` that does what an accumulator does.

    Args:
        accumulator: for example a :class:`~panscape.metrics.PanopticQuality`, or a
            :class:`~panscape.metrics.DeviceEvaluator` for all numbers at once.
        options: of ``torchmetrics.Metric``.

    Raises:
        InvalidArgumentError: what the accumulator knows is not one tensor.
    """
    if not isinstance(getattr(accumulator, "state", None), Tensor):
        raise InvalidArgumentError(
            f"expected an accumulator with a tensor `state`, got {type(accumulator).__name__}; give its parts, or a "
            "DeviceEvaluator in place of an Evaluator"
        )
    return AccumulatorMetric(accumulator, **options)


def _numbers(report: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of a report but for those of categories; nan for None."""
    for name, value in report.items():
        if isinstance(value, Mapping):
            if name != "per_category":
                yield from _numbers(value, f"{prefix}{name}/")
        elif value is None or isinstance(value, int | float):
            yield prefix + name, math.nan if value is None else float(value)
