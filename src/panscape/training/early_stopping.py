"""Early stopping: its options, and the evaluations of a run, which decide when it stops and which model is the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from panscape.constraints import NonNegativeInt, check_fields
from panscape.errors import InvalidArgumentError

StopMetric = Literal["loss", "pq", "things-pq", "stuff-pq", "things-sq", "miou", "head-miou"]

_PLACES: Mapping[str, tuple[str, ...]] = {
    "pq": ("panoptic", "all", "pq"),
    "things-pq": ("panoptic", "things", "pq"),
    "stuff-pq": ("panoptic", "stuff", "pq"),
    "things-sq": ("panoptic", "things", "sq"),
    "miou": ("semantic", "mean_iou"),
    "head-miou": ("semantic_head", "mean_iou"),
}


@dataclass(frozen=True)
class EarlyStopping:
    """Early stopping of a training whose evaluations no longer improve."""

    patience: NonNegativeInt = 0
    """Stop after this many evaluations in a row without an improvement of any of the metrics, and use the model of the
    best evaluation; 0 trains all steps and uses the last model."""

    metrics: tuple[StopMetric, ...] = ("loss",)
    """Metrics on the val images: "loss", "pq", "things-pq", "stuff-pq", "things-sq" (mean IoU of matched objects),
    "miou" of the map, or "head-miou" of the semantic head. The first one decides which evaluation is the best."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.metrics or len(set(self.metrics)) < len(self.metrics):
            raise InvalidArgumentError(
                f'expected metrics as one or several different names, such as ("loss",), got {self.metrics}'
            )

    def warnings(self, eval_every: int, steps: int) -> list[str]:
        """Return what has no effect in a training of ``steps`` steps, evaluated every ``eval_every`` steps."""
        if not self.patience:
            off = "early stopping is off; give --early-stopping.patience to use its metrics"
            return [] if self == EarlyStopping() else [off]
        least = (self.patience + 1) * eval_every  # the first evaluation is an improvement
        if least < steps:
            return []
        return [f"early stopping cannot end this training before step {least}; it has {steps} steps"]


class EvaluationHistory:
    """What early stopping remembers of the evaluations of a run.

    Args:
        options: early stopping of the recipe.

    Attributes:
        best_step: step of the best evaluation by the first metric; None if there is none, or early stopping is off.
        improved_step: step of the last evaluation in which a metric improved.
        num_worse: number of evaluations since then.
    """

    def __init__(self, options: EarlyStopping) -> None:
        self.options = options
        self.best_step: int | None = None
        self.improved_step = self.num_worse = 0
        self._best: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state, for a checkpoint."""
        state = {name: getattr(self, name) for name in ("best_step", "improved_step", "num_worse")}
        return {**state, "best": dict(self._best), "metrics": list(self.options.metrics)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state, unless it is of other metrics or early stopping is off."""
        if self.options.patience and state["metrics"] == list(self.options.metrics):
            self.best_step, self.improved_step = state["best_step"], state["improved_step"]
            self.num_worse, self._best = state["num_worse"], dict(state["best"])

    @property
    def result_name(self) -> str:
        """Name of the final evaluation in the metrics: early stopping has evaluated the last step before."""
        return "best" if self.options.patience else "val"

    @property
    def is_over(self) -> bool:
        """Whether the training shall stop."""
        return 0 < self.options.patience <= self.num_worse

    @property
    def reason(self) -> str:
        """Why the training stops."""
        metrics = " or ".join(self.options.metrics)
        return f"no improvement of {metrics} since step {self.improved_step} (patience {self.options.patience})"

    def add(self, line: Mapping[str, Any]) -> None:
        """Add an evaluation.

        Args:
            line: as in the metrics file, with ``step`` and ``val``, and ``val_losses`` for the metric "loss"; it is
                ignored without these.
        """
        if not self.options.patience or ("loss" in self.options.metrics and "val_losses" not in line):
            return
        scores = {metric: _score(metric, line) for metric in self.options.metrics}
        improved = [metric for metric, score in scores.items() if score > self._best.get(metric, -math.inf)]
        self._best |= {metric: scores[metric] for metric in improved}
        self.num_worse = 0 if improved else self.num_worse + 1
        if improved:
            self.improved_step = line["step"]
        if self.options.metrics[0] in improved:
            self.best_step = line["step"]


def _score(metric: StopMetric, line: Mapping[str, Any]) -> float:
    """Return a number that is higher for better models; nan, which never improves, if the metric is undefined."""
    if metric == "loss":
        losses = line["val_losses"].values()
        return math.nan if None in losses else -sum(losses)
    value: Any = line["val"]
    for name in _PLACES[metric]:
        value = value.get(name) if isinstance(value, Mapping) else None
    return math.nan if value is None else float(value)
