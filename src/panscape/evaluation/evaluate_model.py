"""Evaluate a model on a dataset, in one or several processes, optionally with oracles for parts of its outputs.

Images are distributed over processes round-robin. The results of all processes are combined in the order of the images:
sums of IoU are floats, so another order would change their last bits. A single process sums as it goes; several
processes keep the result of each image, for the categories in it, until all are done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import torch
from torch import Generator, Tensor, distributed
from torch.utils.data import DataLoader, Dataset

from panscape.datasets.base import PanopticDataset, Sample
from panscape.datasets.load import OnError, SkippedSample, load_sample
from panscape.datasets.workers import _as_it_is, _start_worker, explain_worker_death
from panscape.errors import BadSampleError, InvalidArgumentError
from panscape.evaluation.evaluators import create_evaluator
from panscape.evaluation.options import DEFAULT_INFERENCE, DEFAULT_OPTIONS, EvaluationOptions, InferenceOptions
from panscape.metrics import EvaluationReport, Evaluator, InstanceAP
from panscape.models.base import PanopticModel, in_eval_mode
from panscape.models.prediction import run_network
from panscape.ops.cropped_masks import Detections
from panscape.panoptic import PanopticMap
from panscape.precision import Precision, autocast, require_precision
from panscape.spread import evenly_spread

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_COUNTS = ("semantic", "semantic_head")  # metrics with integer counts; the others sum floats


class Predicted(NamedTuple):
    """The prediction of a model for one image, at the size of the image.

    Attributes:
        map: on the CPU.
        semantic: the prediction of the semantic head alone, category ids [H, W].
        detections: the objects before fusion, if average precision is measured and the system has them; else None.
    """

    map: PanopticMap
    semantic: Tensor
    detections: Detections | None


def evaluate(
    model: PanopticModel,
    dataset: PanopticDataset,
    *,
    fabric: Fabric | None = None,
    options: EvaluationOptions = DEFAULT_OPTIONS,
    inference: InferenceOptions = DEFAULT_INFERENCE,
    oracle: Collection[str] = (),
    workers: int = 1,
    skipped: Callable[[SkippedSample], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    each: Callable[[int, Sample, Predicted], None] | None = None,
) -> EvaluationReport:
    """Compare the predictions of a model with the ground truth, at the original image sizes.

    Where ``torch.distributed`` is initialised, all processes must call this with equal arguments. Each predicts its
    share, and all return the same report, bit-identical to that of one process if the predictions are equal.

    Args:
        model: on the device to use; evaluated in eval mode; the modes of its modules are restored.
        dataset: of the model's label space.
        fabric: a launched fabric, whose precision replaces that of ``inference``.
        options: the metrics and the protocol. Average precision takes the scores of
            :meth:`PanopticModel.score_instances`, and its memory grows with the number of objects.
        inference: images to use, precision, and what to do with an image that cannot be used.
        oracle: parts of the outputs to replace by the ground truth, from ``model.oracles``. With "semantic" the
            semantic head is correct wherever the ground truth is not void. With any oracle, objects before fusion are
            not evaluated.
        workers: data loading processes; 0 loads in the main process.
        skipped: called at the end, in every process, with each skipped image in order.
        progress: called after each image of this process with the number done and the number in its share.
        each: called for every image of this process with its index in the dataset, the sample and the prediction.

    Raises:
        InvalidArgumentError: the label spaces differ, there is no image, or an option is out of range; or ``ap`` is
            used with a model without scores.
        UnknownNameError: the model has no such oracle, or no protocol has this name.
        BadSampleError: an image cannot be used and is not to be skipped; or none can. Raised in every process.
        WorkerDiedError: a data loading process was killed.
    """
    _check(model, dataset, oracle, inference, workers)
    numbers = evenly_spread(len(dataset), inference.limit)
    has_detections = model.has_detections and not oracle
    new_evaluator = partial(create_evaluator, model.labels, options, has_head=True, has_detections=has_detections)
    rank, world_size = _process()
    share = numbers[rank::world_size]
    mine = _Results(new_evaluator(), {}, {}, {})
    with in_eval_mode(model), explain_worker_death():
        for done, (number, sample) in enumerate(_prefetch(dataset, share, workers), start=1):
            if isinstance(sample, BadSampleError):
                mine.bad[number] = sample
                if inference.on_error == "raise":
                    break  # the other processes receive the error with the results
            else:
                context = autocast_of(model, fabric, inference.precision)
                prediction = _predict(model, sample, oracle, options.measures_ap, context)
                if world_size == 1:
                    _count(mine.total, prediction, sample.truth)
                else:
                    mine.keep(number, prediction, sample.truth, new_evaluator())
                if each is not None:
                    each(number, sample, prediction)
            if progress is not None:
                progress(done, len(share))
    found = _all_gather(mine, world_size)
    for _, error in _bad_samples(found, len(numbers), inference.on_error):
        if skipped is not None:
            skipped(SkippedSample(error.image, error.reason))
    return mine.total.compute() if world_size == 1 else _combined(new_evaluator(), found)


def _bad_samples(found: Sequence[_Results], num_images: int, on_error: OnError) -> list[tuple[int, BadSampleError]]:
    """Return the skipped images of all processes in order; raise where none may be skipped or none is left."""
    bad = sorted((item for results in found for item in results.bad.items()), key=lambda item: item[0])
    if bad and on_error == "raise":
        raise bad[0][1]
    if len(bad) == num_images:
        first = bad[0][1]
        raise BadSampleError(first.image, first.reason, f"this is the first of {len(bad)}, none of which can be used")
    return bad


def predict_sample(
    model: PanopticModel, sample: Sample, *, oracle: Collection[str] = (), precision: Precision = "fp32"
) -> PanopticMap:
    """Predict one image as :func:`evaluate` does, at its own size.

    Args:
        model: see :func:`evaluate`.
        sample: the image; of its ground truth, the size and the parts for ``oracle`` are used.
        oracle: see :func:`evaluate`.
        precision: see :func:`evaluate`.

    Returns:
        A map on the CPU.

    Raises:
        UnknownNameError: the model has no such oracle.
    """
    model.require_oracles(oracle)
    with in_eval_mode(model):
        return _predict(model, sample, oracle, False, autocast_of(model, None, precision)).map


def _count(evaluator: Evaluator, prediction: Predicted, truth: PanopticMap) -> None:
    evaluator.update(prediction.map, truth, semantic=prediction.semantic, detections=prediction.detections)


class _Cells(NamedTuple):
    """The non-zero entries of the state of a metric.

    Attributes:
        place: int64 [C], in the flattened state.
        value: float64 [C].
    """

    place: Tensor
    value: Tensor


class _Results(NamedTuple):
    """The results of one process.

    Attributes:
        total: all images if there is one process; else only integer counts, which can be summed in any order.
        sums: by image index and metric name, the states of metrics that sum floats, as the order of summation affects
            the last bits. Empty with one process, as is ``instances``.
        instances: by image index and name, the requested metrics of average precision, as the order of images affects
            the ranking of equal scores.
        bad: errors of images that cannot be used, by their index.
    """

    total: Evaluator
    sums: dict[int, dict[str, _Cells]]
    instances: dict[int, dict[str, InstanceAP]]
    bad: dict[int, BadSampleError]

    def keep(self, number: int, prediction: Predicted, truth: PanopticMap, evaluator: Evaluator) -> None:
        """Keep what is to be put together with that of other processes, with an evaluator for this image alone."""
        _count(evaluator, prediction, truth)
        states = {name: state.view(-1) for name, state in evaluator.states.items()}
        for name in _COUNTS:
            self.total.states[name].view(-1).add_(states.pop(name))
        places = {name: state.nonzero()[:, 0] for name, state in states.items()}
        self.sums[number] = {name: _Cells(place, states[name][place]) for name, place in places.items()}
        self.instances[number] = _precisions(evaluator)


def _precisions(evaluator: Evaluator) -> dict[str, InstanceAP]:
    """Return the metrics of average precision that an evaluator has, by name."""
    both = {"instances": evaluator.instances, "instances_before_fusion": evaluator.instances_before_fusion}
    return {name: metric for name, metric in both.items() if metric is not None}


def _combined(evaluator: Evaluator, found: Sequence[_Results]) -> EvaluationReport:
    """Combine the results of several processes."""
    sums = {number: states for results in found for number, states in results.sums.items()}
    for _, states in sorted(sums.items(), key=lambda item: item[0]):
        for name, (place, value) in states.items():
            evaluator.states[name].view(-1)[place] += value
    for results in found:
        for name in _COUNTS:
            evaluator.states[name].add_(results.total.states[name])
    instances = {number: metrics for results in found for number, metrics in results.instances.items()}
    for name, total in _precisions(evaluator).items():
        for _, metrics in sorted(instances.items(), key=lambda item: item[0]):
            total.merge(metrics[name])
    return evaluator.compute()


def _check(
    model: PanopticModel, dataset: PanopticDataset, oracle: Collection[str], inference: InferenceOptions, workers: int
) -> None:
    model.require_oracles(oracle)
    require_same_labels(model, dataset)
    if inference.limit < 0 or workers < 0:
        raise InvalidArgumentError(
            f"expected limit and workers of 0 or more, got limit={inference.limit}, workers={workers}"
        )
    if inference.on_error not in get_args(OnError):
        raise InvalidArgumentError(f'expected on_error "raise" or "skip", got {inference.on_error!r}')
    require_precision(inference.precision, model.mean.device)


def require_same_labels(model: PanopticModel, dataset: PanopticDataset) -> None:
    """Check that a dataset has images and the label space of a model.

    Raises:
        InvalidArgumentError: it does not.
    """
    mine, theirs = model.labels, dataset.labels
    if mine != theirs:
        raise InvalidArgumentError(
            f"expected a model and data of one label space, got a model for {mine.name!r} ({len(mine)} categories) and "
            f"data of {theirs.name!r} ({len(theirs)} categories)"
            + ("; their categories differ" if mine.name == theirs.name else "")
            + "; use a model that was trained for this data"
        )
    if len(dataset) == 0:
        raise InvalidArgumentError("expected at least one image to evaluate on, got an empty dataset")


def _process() -> tuple[int, int]:
    """Return this process's rank and the number of processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _all_gather(mine: _Results, world_size: int) -> list[_Results]:
    if world_size == 1:
        return [mine]
    found: list[Any] = [None] * world_size
    distributed.all_gather_object(found, mine)
    return found


def autocast_of(model: PanopticModel, fabric: Fabric | None, precision: Precision) -> AbstractContextManager[Any]:
    """Return the autocast context of a precision, or of the fabric if there is one."""
    if fabric is not None:
        return fabric.autocast()
    return autocast(precision, model.mean.device)


@torch.inference_mode()
def _predict(
    model: PanopticModel, sample: Sample, oracle: Collection[str], ap: bool, autocast: AbstractContextManager[Any]
) -> Predicted:
    """Predict a sample as :meth:`PanopticModel.predict` does, with oracles and scores.

    Scores for average precision are computed from the outputs of the network, also with oracles. Oracles use the ground
    truth at the inference size, and the map is resized to the image.
    """
    geometry = model.geometry(sample.truth.size)
    _, outputs = run_network(model, [sample.image], [geometry], model.mean.device, precision=autocast)
    (semantic,) = model.decode_semantic(outputs, [geometry])
    if not oracle:
        (detections,) = model.detect(outputs, [geometry]) if ap and model.has_detections else [None]
        (result,) = model.postprocess(outputs, [geometry], scored=ap)
        return Predicted(result.to("cpu"), semantic, detections)
    if "semantic" in oracle:
        known = sample.truth.semantic(void=-1).to(semantic.device)
        semantic = torch.where(known >= 0, known, semantic)
    truth = sample.truth.resize(*geometry.inference_size).compact() if geometry.is_resized else sample.truth
    result = model.decode_with_truth(outputs, truth, oracle)
    if ap:
        (result,) = model.score_instances(outputs, [result])
    result = result.to("cpu")
    return Predicted(result.resize(*geometry.size).compact() if geometry.is_resized else result, semantic, None)


class _Readable(Dataset[tuple[int, Sample | BadSampleError]]):
    """Samples with their indices; user errors are returned, as torch would extend their text."""

    def __init__(self, dataset: PanopticDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, number: int) -> tuple[int, Sample | BadSampleError]:
        try:
            return number, load_sample(self.dataset, number)
        except BadSampleError as error:
            return number, error


def _prefetch(
    dataset: PanopticDataset, numbers: Sequence[int], workers: int
) -> Iterator[tuple[int, Sample | BadSampleError]]:
    loader: DataLoader[Any] = DataLoader(
        _Readable(dataset),
        batch_size=None,
        sampler=numbers,
        collate_fn=_as_it_is,  # with batch_size=None it receives the items of the dataset
        num_workers=min(workers, len(numbers)),
        worker_init_fn=_start_worker,
        generator=Generator(),  # its own, so that evaluation does not change the random state of a training
    )
    return iter(loader)
