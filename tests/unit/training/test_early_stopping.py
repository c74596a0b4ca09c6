"""When a training stops, and which of its evaluations is the best."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from panscape.errors import InvalidArgumentError
from panscape.recipes import get_recipe
from panscape.training.config import Recipe
from panscape.training.early_stopping import EarlyStopping, EvaluationHistory

NAN = math.nan


def line(step: int, loss: float = 0.0, head: float = 0.0, sq: float = 0.0) -> dict[str, Any]:
    """An evaluation as in memory, with a loss of two parts."""
    return {
        "step": step,
        "val": {"panoptic": {"things": {"sq": sq}}, "semantic_head": {"mean_iou": head}},
        "val_losses": {"semantic": loss - 1, "center": 1.0},
    }


def from_file(content: dict[str, Any]) -> dict[str, Any]:
    """The same as a resumed run reads it; the metrics file has null for nan."""
    return json.loads(json.dumps(content).replace("NaN", "null"))


@pytest.mark.parametrize(
    ("patience", "losses", "stop", "best"),
    [
        (2, [5, 4, 3, 2, 1], None, 50),
        (2, [5, 3, 4, 3.5, 1], 40, 20),
        (2, [5, 3, 4, 2, 3, 2], 60, 40),  # as good as the best is no improvement
        (1, [5, 5], 20, 10),
        (3, [5, NAN, NAN, 4, NAN, NAN, NAN], 70, 40),
        (2, [NAN, NAN, 1], 20, None),
        (0, [5, 6, 7, 8], None, None),
    ],
)
def test_a_training_stops_after_patience_evaluations_without_a_lower_loss(patience, losses, stop, best):
    for read in (dict, from_file):
        history = EvaluationHistory(EarlyStopping(patience))
        stopped = None
        for step, loss in zip(range(10, 100, 10), losses, strict=False):
            state, history = history.state_dict(), EvaluationHistory(EarlyStopping(patience))
            history.load_state_dict(state)  # as after a resume
            history.add(read(line(step, loss)))
            if history.is_over:
                stopped = step
                break
        assert (stopped, history.best_step) == (stop, best)


def test_it_goes_on_while_any_metric_improves_and_the_first_one_decides_which_is_the_best():
    history = EvaluationHistory(EarlyStopping(2, ("loss", "head-miou", "things-sq")))
    values = [(5, 0.1, 0.1), (4, 0.1, NAN), (6, 0.2, 0.1), (6, 0.2, 0.0), (6, 0.2, 0.3), (7, 0.2, 0.3), (7, 0.1, 0.3)]
    over = []
    for step, value in enumerate(values, start=1):
        history.add(line(step, *value))
        over.append(history.is_over)
    assert over == [False] * 6 + [True]
    assert history.best_step == 2
    assert history.reason == "no improvement of loss or head-miou or things-sq since step 5 (patience 2)"


def test_evaluations_without_the_loss_do_not_count():
    history = EvaluationHistory(EarlyStopping(1))
    for step in (1, 2, 3):
        history.add({"step": step, "val": {}})
    assert (history.is_over, history.num_worse, history.best_step) == (False, 0, None)


def test_a_state_of_other_metrics_is_not_used():
    history, other = EvaluationHistory(EarlyStopping(1)), EvaluationHistory(EarlyStopping(1, ("head-miou",)))
    for step in (1, 2):
        history.add(line(step))
    assert history.is_over
    other.load_state_dict(history.state_dict())
    assert (other.is_over, other.best_step) == (False, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patience": -1}, "patience of 0 or more, got -1"),
        ({"metrics": ("iou",)}, r'metrics\[0\] "loss", "pq", .* or "head-miou", got \'iou\''),
        ({"metrics": ()}, r'metrics as one or several different names, such as \("loss",\), got \(\)'),
        ({"metrics": ("pq", "pq")}, r"metrics as one or several different names, .* got \('pq', 'pq'\)"),
        ({"metrics": "pq"}, "metrics as a tuple, got 'pq'"),
    ],
)
def test_options_that_make_no_sense(values, message):
    with pytest.raises(InvalidArgumentError, match=f"^expected {message}"):
        EarlyStopping(**values)


def test_patience_needs_evaluations():
    town = get_recipe("town")
    with pytest.raises(InvalidArgumentError, match=r"eval_every above 0, got 0, with early_stopping.patience 3"):
        Recipe("mine", town.model, town.data, eval_every=0, early_stopping=EarlyStopping(3))
