"""Accumulators as ``torchmetrics.Metric``, for training loops that expect them.

No other module imports this one, as torchmetrics takes seconds to import.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError, MissingExtraError
from panscape.metrics.base import SummedMetric
from panscape.metrics.gpu_evaluator import GpuEvaluator
from panscape.metrics.instance_ap import InstanceAP
from panscape.metrics.thing_overlaps import ThingOverlaps

try:
    from torchmetrics import Metric
except ImportError as missing:
    raise MissingExtraError("torchmetrics", "metrics", "a metric for torchmetrics") from missing


class ReportingMetric(Metric):
    """The base of the metrics of :func:`as_torchmetric`.

    States are counts and sums that do not fit into half precision. Dtype conversions of a model, such as ``half()`` or
    ``to(torch.bfloat16)``, leave them unchanged; moves to another device apply.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def compute(self) -> dict[str, Tensor]:
        """Return the values of groups as float64 scalars, such as ``"all/pq"``; the report has those of categories."""
        numbers = _numbers(self.report().to_dict())
        return {name: torch.tensor(value, dtype=torch.float64, device=self.device) for name, value in numbers}

    @abstractmethod
    def report(self) -> Any:
        """Return the accumulator's report on all images of this process so far."""

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> ReportingMetric:
        def kept(part: Tensor) -> Tensor:
            done = fn(part)
            return done if done.dtype == part.dtype else part.to(done.device)

        super()._apply(kept, exclude_state)
        return self


class AccumulatorMetric(ReportingMetric):
    """An accumulator whose state torchmetrics keeps, moves and sums over processes; see :func:`as_torchmetric`."""

    state: Tensor

    def __init__(self, accumulator: SummedMetric[Any], **options: Any) -> None:
        """Start with no images.

        Args:
            accumulator: is copied without its images.
            options: of ``torchmetrics.Metric``.
        """
        super().__init__(**options)
        self._accumulator = copy.deepcopy(accumulator)
        self._accumulator.reset()
        self.add_state("state", default=self._accumulator.state.clone(), dist_reduce_fx="sum")

    def update(self, *image: Any, **options: Any) -> None:
        """Add one image; takes the arguments of the accumulator's ``update``."""
        self._accumulator.reset()
        self._accumulator.update(*image, **options)
        self.state += self._accumulator.state.to(self.state.device)

    def report(self) -> Any:
        """Return the accumulator's report on all images of this process so far."""
        self._accumulator.state.copy_(self.state)
        return self._accumulator.compute()

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> AccumulatorMetric:
        super()._apply(fn, exclude_state)
        if isinstance(self._accumulator, GpuEvaluator):  # the others stay on the CPU
            self._accumulator.to(self.state.device)
        return self


class InstanceAPMetric(ReportingMetric):
    """Average precision whose objects torchmetrics keeps, moves and gathers; see :func:`as_torchmetric`.

    The objects are stored in four tables of integers, to which each image adds its rows. With several processes the
    images are in the order of the processes; this only affects the ranking of equal scores.

    Attributes:
        counts: int64 [1, 3] per image: its numbers of rows in the other tables.
        predicted: int64 [P, 4] per image: category, pixels, pixels on void, bits of the score.
        true: int64 [G, 3] per image: category, pixels, crowd flag.
        shared: int64 [N, 3] per image: position of the predicted and of the true segment, pixels of the intersection.
    """

    counts: list[Tensor] | Tensor
    predicted: list[Tensor] | Tensor
    true: list[Tensor] | Tensor
    shared: list[Tensor] | Tensor

    def __init__(self, accumulator: InstanceAP, **options: Any) -> None:
        """Start with no images.

        Args:
            accumulator: is copied without its images.
            options: of ``torchmetrics.Metric``.
        """
        super().__init__(**options)
        self._accumulator = copy.copy(accumulator)
        self._accumulator.reset()
        for name in _COLUMNS:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, *image: Any, **options: Any) -> None:
        """Add one image; takes the arguments of the accumulator's ``update``."""
        self._accumulator.reset()
        self._accumulator.update(*image, **options)
        (things,) = self._accumulator.images
        self._accumulator.reset()
        for name, table in _tables(things).items():
            getattr(self, name).append(torch.from_numpy(table).to(self.device))

    def sync(self, *arguments: Any, **options: Any) -> None:
        """Gather the objects of all processes, as ``torchmetrics.Metric.sync`` does."""
        for name, columns in _COLUMNS.items():
            rows = getattr(self, name)
            if isinstance(rows, list) and not rows:  # otherwise a process without images would not send a table
                rows.append(torch.zeros(0, columns, dtype=torch.int64, device=self.device))
        super().sync(*arguments, **options)

    def report(self) -> Any:
        """Return the accumulator's report on all images of this process so far."""
        tables = {name: _joined(getattr(self, name), columns) for name, columns in _COLUMNS.items()}
        ends = tables["counts"].cumsum(axis=0)[:-1].T
        parts = [np.split(tables[name], end) for name, end in zip(("predicted", "true", "shared"), ends, strict=True)]
        accumulator = copy.copy(self._accumulator)
        images = list(zip(*parts, strict=True))
        accumulator.images = [_things(*image) for image in images] if len(tables["counts"]) else []
        return accumulator.compute()


_COLUMNS = {"counts": 3, "predicted": 4, "true": 3, "shared": 3}
_Table = NDArray[np.int64]


def _tables(things: ThingOverlaps) -> dict[str, _Table]:
    """Return one image as tables."""
    bits = things.score.view(np.int32)
    return {
        "counts": np.array([[len(things.score), len(things.true_area), len(things.shared)]], np.int64),
        "predicted": _table(things.predicted_category, things.predicted_area, things.on_void, bits),
        "true": _table(things.true_category, things.true_area, things.is_crowd),
        "shared": _table(things.prediction, things.truth, things.shared),
    }


def _table(*columns: NDArray[Any]) -> _Table:
    return np.stack([column.astype(np.int64) for column in columns], axis=1)


def _things(predicted: _Table, true: _Table, shared: _Table) -> ThingOverlaps:
    """Return the objects of an image from its tables; the inverse of :func:`_tables`."""
    return ThingOverlaps(
        image=np.zeros(len(predicted), np.int64),
        predicted_category=predicted[:, 0],
        score=predicted[:, 3].astype(np.int32).view(np.float32),
        predicted_area=predicted[:, 1],
        on_void=predicted[:, 2],
        true_category=true[:, 0],
        true_area=true[:, 1],
        is_crowd=true[:, 2].astype(bool),
        prediction=shared[:, 0],
        truth=shared[:, 1],
        shared=shared[:, 2],
    )


def _joined(rows: list[Tensor] | Tensor, columns: int) -> _Table:
    """Return the table of all images; torchmetrics has concatenated the parts that it gathered."""
    parts = [rows] if isinstance(rows, Tensor) else rows
    return np.concatenate([np.zeros((0, columns), np.int64), *(part.cpu().numpy() for part in parts)])


def as_torchmetric(accumulator: SummedMetric[Any] | InstanceAP, **options: Any) -> ReportingMetric:
    """Return a ``torchmetrics.Metric`` that wraps an accumulator.

    Its ``to(device)`` moves the state; a :class:`~panscape.metrics.GpuEvaluator` then expects its maps on that device.
    Counts and sums keep their dtype when the model that contains the metric is converted.

    Args:
        accumulator: for example a :class:`~panscape.metrics.PanopticQuality`, an
            :class:`~panscape.metrics.InstanceAP`, or a :class:`~panscape.metrics.GpuEvaluator` for all metrics
            of segments and pixels at once.
        options: of ``torchmetrics.Metric``.

    Raises:
        InvalidArgumentError: the state of the accumulator is not one tensor.
    """
    if isinstance(accumulator, InstanceAP):
        return InstanceAPMetric(accumulator, **options)
    if not isinstance(accumulator, SummedMetric):
        raise InvalidArgumentError(
            f"expected an accumulator with a tensor `state`, got {type(accumulator).__name__}; pass its parts, or a "
            "GpuEvaluator instead of an Evaluator"
        )
    return AccumulatorMetric(accumulator, **options)


def _numbers(report: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the values of a report except those of categories; nan for None."""
    for name, value in report.items():
        if isinstance(value, Mapping):
            if name != "per_category":
                yield from _numbers(value, f"{prefix}{name}/")
        elif value is None or isinstance(value, int | float):
            yield prefix + name, math.nan if value is None else float(value)
