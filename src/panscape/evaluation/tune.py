"""Tuning of post-processing options on images with ground truth.

The network runs once per image. Its outputs are stored, and each option in turn is tried at several values, with the
others at their best values so far (coordinate descent), for a few rounds. The number of trials is the sum of the
numbers of values, not their product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from panscape.datasets.base import PanopticDataset
from panscape.datasets.load import OnError, SkippedSample, load_sample
from panscape.errors import BadSampleError, InvalidArgumentError, UnknownNameError
from panscape.evaluation.evaluate_model import require_same_labels
from panscape.evaluation.options import DEFAULT_INFERENCE, InferenceOptions
from panscape.evaluation.output_cache import CachedImage, OutputCache
from panscape.metrics import EvaluationReport, Evaluator, Protocol
from panscape.models.base import PanopticModel, in_eval_mode
from panscape.models.prediction import run_network
from panscape.precision import Precision, autocast, require_precision
from panscape.representations.decoding_options import decoding_options, replace_options
from panscape.spread import evenly_spread

Metric = Literal["pq", "things-pq", "stuff-pq", "miou"]

_METRICS: Mapping[str, Callable[[EvaluationReport], float]] = {
    "pq": lambda report: report.panoptic.all.pq,
    "things-pq": lambda report: report.panoptic.things.pq,
    "stuff-pq": lambda report: report.panoptic.stuff.pq,
    "miou": lambda report: report.semantic.mean_iou,
}

# Values to try by option, in the order of trials: fixed values, or factors of the current value.
_VALUES: Mapping[str, tuple[Any, ...]] = {
    "min_score": (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5),
    "threshold": (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4),
    "mask_threshold": (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    "nms_iou": (0.4, 0.5, 0.6, 0.7),
    "max_overlap": (0.3, 0.5, 0.7),
    "stuff_on_uncovered": (False, True),
    "one_category": (False, True),
    "largest_part": (False, True),
}
_FACTORS: Mapping[str, tuple[float, ...]] = {
    "nms_kernel": (0.4, 0.7, 1.4, 2.5),
    "stuff_area": (0.25, 0.5, 2, 4),
    "thing_area": (0, 0.25, 0.5, 2, 4),
    "leftover_area": (0, 0.5, 2, 4),
}
_ODD = ("nms_kernel",)
_AREA = 64  # pixels, if the current area is 0 and has no multiples


@dataclass(frozen=True, slots=True)
class Sweep:
    """One option at several values, with the others at their best values so far.

    Attributes:
        option: its name.
        values: ascending, including the model's own and the previous value.
        scores: the metric of each value in 0..1; nan if undefined.
        before: the previous value.
        chosen: the best value; among equal ones, the nearest to the previous value.
        is_at_edge: whether the chosen value is the lowest or highest one tried, values beyond it are valid, and the
            scores differ.
    """

    option: str
    values: tuple[Any, ...]
    scores: tuple[float, ...]
    before: Any
    chosen: Any
    is_at_edge: bool


@dataclass(frozen=True, slots=True)
class TuningReport:
    """The result of :func:`tune`.

    Attributes:
        metric: the metric that was maximized.
        num_images: number of images.
        before: the metric with the model's own decoding options, in 0..1.
        after: the metric with the chosen options, on the same images.
        start: the model's own decoding options.
        decoding: the chosen options.
        sweeps: in the order of execution.
    """

    metric: Metric
    num_images: int
    before: float
    after: float
    start: Any
    decoding: Any
    sweeps: tuple[Sweep, ...]

    @property
    def changes(self) -> dict[str, tuple[Any, Any]]:
        """Values before and after of each changed option."""
        old, new = decoding_options(self.start), decoding_options(self.decoding)
        return {name: (old[name].value, new[name].value) for name in old if old[name].value != new[name].value}

    @property
    def gains(self) -> dict[str, float]:
        """Gain of each change alone: the metric minus its value with the model's own value for that option."""
        own = decoding_options(self.start)
        last = {sweep.option: dict(zip(sweep.values, sweep.scores, strict=True)) for sweep in self.last_sweeps}
        return {name: last[name][new] - last[name][own[name].value] for name, (_, new) in self.changes.items()}

    @property
    def last_sweeps(self) -> list[Sweep]:
        """The last sweep of each option, with the best values of the others."""
        return list({sweep.option: sweep for sweep in self.sweeps}.values())


def default_grid(decoding: Any) -> dict[str, tuple[Any, ...]]:
    """Return the default values to try for each option, ascending, including the current one.

    Options are in the order of trials, those with the largest usual effect first.

    Args:
        decoding: decoding options of a model; None if it has none.
    """
    options = decoding_options(decoding)
    grid: dict[str, tuple[Any, ...]] = {}
    for name in (*_VALUES, *_FACTORS):
        if name not in options:
            continue
        present = options[name].value
        multiples = [round((present or _AREA) * factor) for factor in _FACTORS.get(name, ())]
        multiples = [value // 2 * 2 + 1 for value in multiples] if name in _ODD else multiples
        values = (value for value in (*_VALUES.get(name, ()), *multiples) if _is_valid(decoding, name, value))
        grid[name] = tuple(sorted({present, *values}))
    return grid


def tune(
    model: PanopticModel,
    dataset: PanopticDataset,
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    metric: Metric = "pq",
    rounds: int = 2,
    protocol: str | Protocol = "coco",
    inference: InferenceOptions = DEFAULT_INFERENCE,
    skipped: Callable[[SkippedSample], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TuningReport:
    """Choose post-processing options of a model; the model is not changed.

    Scores are those of :func:`~panscape.evaluation.evaluate_model.evaluate` on the same images. The network's outputs
    are stored in a temporary folder, see :mod:`panscape.evaluation.output_cache`.

    Args:
        model: on the device to use.
        dataset: of the model's label space; images have their original size, without augmentation.
        grid: values to try by option; the model's own value is always included. By default :func:`default_grid`.
        metric: the metric to maximize: "pq", "things-pq", "stuff-pq", or "miou" of the map.
        rounds: maximum number of rounds over all options; stops after a round without changes.
        protocol: of PQ, see :data:`panscape.metrics.protocol.PROTOCOLS`.
        inference: images to use, precision, and what to do with an image that cannot be used.
        skipped: called with each skipped image.
        progress: called with the number of images decoded so far and the number expected.

    Raises:
        InvalidArgumentError: the model has no decoding options, a value is out of range, the label spaces differ,
            there is no image, the metric is undefined on the images, or the outputs do not fit on the disk.
        UnknownNameError: no option, metric or protocol has this name.
        BadSampleError: an image cannot be used and is not to be skipped; or no image can be used.
    """
    if metric not in get_args(Metric):
        raise UnknownNameError("metric", metric, get_args(Metric))
    if rounds < 1 or inference.limit < 0:
        raise InvalidArgumentError(
            f"expected rounds of 1 or more and limit of 0 or more, got {rounds} and {inference.limit}"
        )
    require_same_labels(model, dataset)
    require_precision(inference.precision, model.mean.device)
    chosen_grid = _checked_grid(model, grid)
    numbers = evenly_spread(len(dataset), inference.limit)
    with OutputCache(len(numbers), model.mean.device) as kept:
        counter = _Counter(progress, len(numbers) * (2 + len(chosen_grid)))
        bad = _run_network(model, dataset, numbers, kept, inference.precision, inference.on_error, counter)
        if not len(kept):
            raise BadSampleError(
                bad[0].image, bad[0].reason, f"this is the first of {len(bad)}, none of which can be used"
            )
        for sample in bad:
            if skipped is not None:
                skipped(sample)
        return _descend(_Trials(model, kept, metric, protocol, counter), chosen_grid, rounds)


@dataclass(slots=True)
class _Counter:
    """Progress of decoded images; a sweep counts each image once for all its values."""

    progress: Callable[[int, int], None] | None
    total: int
    done: int = 0

    def __call__(self) -> None:
        self.done += 1
        self.total = max(self.total, self.done)
        if self.progress is not None:
            self.progress(self.done, self.total)


class _Trials:
    """Scores of decoding options on the stored images, with a cache."""

    def __init__(
        self, model: PanopticModel, kept: OutputCache, metric: Metric, protocol: str | Protocol, counter: _Counter
    ) -> None:
        self.model, self.kept, self.metric, self.protocol, self.counter = model, kept, metric, protocol, counter
        self._known: dict[Any, float] = {}

    def scores(self, decodings: Sequence[Any]) -> list[float]:
        """Return the score of each set of options."""
        new = [decoding for decoding in dict.fromkeys(decodings) if decoding not in self._known]
        if new:
            self._known |= dict(zip(new, self._measure(new), strict=True))
        else:
            self.counter.total -= len(self.kept)
        return [self._known[decoding] for decoding in decodings]

    @torch.inference_mode()
    def _measure(self, decodings: Sequence[Any]) -> list[float]:
        evaluators = [Evaluator(self.model.labels, self.protocol) for _ in decodings]
        own, spec = self.model.decoding, self.model.spec
        try:
            for image in self.kept:
                for decoding, evaluator in zip(decodings, evaluators, strict=True):
                    self.model.replace_decoding(decoding)
                    (found,) = self.model.postprocess(image.outputs, [self.model.geometry(image.truth.size)])
                    evaluator.update(found.to("cpu"), image.truth)
                self.counter()
        finally:
            self.model.replace_decoding(own)
            self.model.spec = spec
        return [_METRICS[self.metric](evaluator.compute()) for evaluator in evaluators]


def _descend(trials: _Trials, grid: Mapping[str, Sequence[Any]], rounds: int) -> TuningReport:
    start = best = trials.model.decoding
    (before,) = trials.scores([start])
    if math.isnan(before):
        raise InvalidArgumentError(
            f"{trials.metric} is undefined on these {len(trials.kept)} images, as their ground truth has no such "
            "segments; use more images with --limit, or another metric"
        )
    sweeps: list[Sweep] = []
    for _ in range(rounds):
        before_round = best
        trials.counter.total = trials.counter.done + len(trials.kept) * len(grid)
        for name, values in grid.items():
            sweep = _sweep(trials, best, name, values)
            sweeps.append(sweep)
            best = replace_options(best, {name: sweep.chosen})
        if best == before_round:
            break
    (after,) = trials.scores([best])
    return TuningReport(trials.metric, len(trials.kept), before, after, start, best, tuple(sweeps))


def _sweep(trials: _Trials, best: Any, name: str, values: Collection[Any]) -> Sweep:
    present = decoding_options(best)[name].value
    tried = sorted(values)
    scores = trials.scores([replace_options(best, {name: value}) for value in tried])
    highest = max(score for score in scores if not math.isnan(score))
    here = tried.index(present)
    chosen = min((i for i, score in enumerate(scores) if score == highest), key=lambda i: abs(i - here))
    # If all values have the same score, values beyond them are no better.
    varies = any(score != highest for score in scores)
    at_edge = varies and (
        (chosen == 0 and _has_values_beyond(best, name, tried[0], -1))
        or (chosen == len(tried) - 1 and _has_values_beyond(best, name, tried[-1], 1))
    )
    return Sweep(name, tuple(tried), tuple(scores), present, tried[chosen], at_edge)


def _has_values_beyond(decoding: Any, name: str, value: Any, direction: int) -> bool:
    """Return whether a numeric option has valid values below (-1) or above (1) this one."""
    if isinstance(value, (bool, str)):
        return False
    steps = (1, 2) if isinstance(value, int) else (1e-3,)  # 2 for options with odd values
    return any(_is_valid(decoding, name, value + direction * step) for step in steps)


def _is_valid(decoding: Any, name: str, value: Any) -> bool:
    try:
        replace_options(decoding, {name: value})
    except InvalidArgumentError:
        return False
    return True


def _checked_grid(model: PanopticModel, grid: Mapping[str, Sequence[Any]] | None) -> dict[str, tuple[Any, ...]]:
    """Return the grid with the model's own values added; invalid values raise before anything runs."""
    if model.decoding is None:
        raise InvalidArgumentError(f"expected a model with decoding options, but {type(model).__name__} has none")
    checked = {}
    own = decoding_options(model.decoding)
    for name, values in (default_grid(model.decoding) if grid is None else grid).items():
        decodings = [replace_options(model.decoding, {name: value}) for value in values]
        if not values:
            raise InvalidArgumentError(f"expected at least one value to try for {name}, got none")
        found = {decoding_options(decoding)[name].value for decoding in decodings}
        checked[name] = tuple(sorted(found | {own[name].value}))
    return checked


@torch.inference_mode()
def _run_network(
    model: PanopticModel,
    dataset: PanopticDataset,
    numbers: Sequence[int],
    kept: OutputCache,
    precision: Precision,
    on_error: OnError,
    counter: _Counter,
) -> list[SkippedSample]:
    """Store the outputs of each image; return the images that cannot be used."""
    bad = []
    device = model.mean.device
    with in_eval_mode(model):
        for number in numbers:
            try:
                sample = load_sample(dataset, number)
            except BadSampleError as error:
                if on_error == "raise":
                    raise
                bad.append(SkippedSample(error.image, error.reason))
                continue
            geometry = model.geometry(sample.truth.size)
            _, outputs = run_network(model, [sample.image], [geometry], device, precision=autocast(precision, device))
            kept.keep(CachedImage(outputs, sample.truth))
            counter()
    return bad
