"""Evaluate a model on a dataset: on one process or many, with the network's outputs as they are or partly the truth's.

Images are shared out among processes in turn. What each process found is put together in the order of the images,
whoever evaluated them: sums of IoU are floats, so that any other order would change their last bits. A process alone
adds up as it goes; several keep what they found in each image, of the categories that it has, until all are done.
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
from panscape.evaluation.options import DEFAULT_OPTIONS, EvaluationOptions
from panscape.images import resize_images
from panscape.metrics import EvaluationReport, Evaluator, InstanceAP
from panscape.models.base import PanopticModel, in_eval_mode
from panscape.ops.cropped_masks import Detections
from panscape.panoptic import PanopticMap
from panscape.precision import Precision, autocast, require_precision

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_COUNTS = ("semantic", "semantic_head")  # the metrics of an evaluator that count; the others add up floats


class Predicted(NamedTuple):
    """What a model predicts of one image, at the image's size.

    Attributes:
        map: on the CPU.
        semantic: what the semantic head alone predicts, category ids [H, W].
        detections: the objects before they became parts of the map, where average precision asks for them and the
            system has them; else None.
    """

    map: PanopticMap
    semantic: Tensor
    detections: Detections | None


def evaluate(
    model: PanopticModel,
    dataset: PanopticDataset,
    *,
    fabric: Fabric | None = None,
    precision: Precision = "fp32",
    oracle: Collection[str] = (),
    limit: int = 0,
    options: EvaluationOptions = DEFAULT_OPTIONS,
    workers: int = 1,
    on_error: OnError = "raise",
    skipped: Callable[[SkippedSample], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    each: Callable[[int, Sample, Predicted], None] | None = None,
) -> EvaluationReport:
    """Compare the predictions of a model with the truth, at the images' own sizes.

    Where ``torch.distributed`` is initialised, all processes must call this with equal arguments. Each predicts its
    share, and each returns the same report: that of one process, bit for bit, if the predictions are the same.

    Args:
        model: on the device to use; evaluated in eval mode, after which its modules have their own modes again.
        dataset: of the model's label space.
        fabric: launched; images are predicted in its precision.
        precision: without a fabric: "bf16" and "fp16" run the network in half precision where that is safe (autocast).
        oracle: parts of the network's outputs to be replaced by the truth's, of ``model.oracles``. With "semantic" the
            semantic head is right wherever the truth knows; objects before fusion are not measured with any.
        limit: evaluate no more than this many images, spread evenly over the dataset; 0 for all.
        options: what is measured, and by whose rules. Average precision takes the scores of
            :meth:`PanopticModel.score_instances`, and its memory grows with the number of objects.
        workers: processes that read ahead; 0 reads in between.
        on_error: at an image that cannot be used: "raise" raises its error, "skip" leaves it out.
        skipped: told, in every process, of each image that was left out, in their order, when all are done.
        progress: called after each image of this process with the number done and the number in its share.
        each: called with every image of this process: its number in the dataset, itself with its truth, and what was
            predicted. Nothing of them is kept here.

    Raises:
        InvalidArgumentError: the label spaces differ, there is no image, or an option is out of its range; or ``ap``
            is asked of a model that gives no scores, or ``ap_sizes`` of Cityscapes, whose rules know no sizes.
        UnknownNameError: an oracle that the model does not have, or no rules have this name.
        BadSampleError: an image cannot be used and ``on_error`` is "raise"; or none can. Raised in every process.
        WorkerDiedError: a process that reads ahead was killed.
    """
    _check(model, dataset, oracle, limit, workers, on_error)
    require_precision(precision, model.mean.device)
    numbers = evenly_spread(len(dataset), limit)
    rank, world_size = _process()
    share = numbers[rank::world_size]
    has_detections = model.has_detections and not oracle
    new_evaluator = partial(create_evaluator, model.labels, options, has_head=True, has_detections=has_detections)
    mine = _Findings(new_evaluator(), {}, {}, {})
    with in_eval_mode(model), explain_worker_death():
        for done, (number, sample) in enumerate(_read_ahead(dataset, share, workers), start=1):
            if isinstance(sample, BadSampleError):
                mine.bad[number] = sample
                if on_error == "raise":
                    break  # the other processes hear of it with the findings
            else:
                prediction = _predict(model, sample, oracle, options.measures_ap, autocast_of(model, fabric, precision))
                if world_size == 1:
                    _count(mine.total, prediction, sample.truth)
                else:
                    mine.keep(number, prediction, sample.truth, new_evaluator())
                if each is not None:
                    each(number, sample, prediction)
            if progress is not None:
                progress(done, len(share))
    found = _gathered(mine, world_size)
    bad = {number: error for findings in found for number, error in findings.bad.items()}
    if bad and on_error == "raise":
        raise bad[min(bad)]
    if len(bad) == len(numbers):
        first = bad[min(bad)]
        raise BadSampleError(first.image, first.reason, f"this is the first of {len(bad)}, none of which can be used")
    if skipped is not None:
        for _, error in sorted(bad.items()):
            skipped(SkippedSample(error.image, error.reason))
    return mine.total.compute() if world_size == 1 else _combined(new_evaluator(), found)


def predict_sample(
    model: PanopticModel, sample: Sample, *, oracle: Collection[str] = (), precision: Precision = "fp32"
) -> PanopticMap:
    """Predict one image as :func:`evaluate` does, at its own size.

    Args:
        model: see :func:`evaluate`.
        sample: the image; of its truth the size is used, and what ``oracle`` asks for.
        oracle: see :func:`evaluate`.
        precision: see :func:`evaluate`.

    Returns:
        A map on the CPU.

    Raises:
        UnknownNameError: an oracle that the model does not have.
    """
    model.require_oracles(oracle)
    with in_eval_mode(model):
        return _predict(model, sample, oracle, False, autocast_of(model, None, precision)).map


def _count(evaluator: Evaluator, prediction: Predicted, truth: PanopticMap) -> None:
    evaluator.update(prediction.map, truth, semantic=prediction.semantic, detections=prediction.detections)


class _Cells(NamedTuple):
    """What is not zero of a metric's state.

    Attributes:
        place: int64 [C], in the flattened state.
        value: float64 [C].
    """

    place: Tensor
    value: Tensor


class _Findings(NamedTuple):
    """What one process found.

    Attributes:
        total: all its images if it is alone; else only counts, which add up in any order.
        sums: of each image, by its number, what the metrics that add up floats found, by their names, as the order of
            adding up decides the last bits. Empty on one process, like the next.
        instances: metrics of average precision by the image's number and their names, as far as they are asked for,
            as the order decides between equal scores.
        bad: errors of images that cannot be used, by their number.
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


def _combined(evaluator: Evaluator, found: Sequence[_Findings]) -> EvaluationReport:
    """Put together what several processes found."""
    sums = {number: states for findings in found for number, states in findings.sums.items()}
    for _, states in sorted(sums.items(), key=lambda item: item[0]):
        for name, (place, value) in states.items():
            evaluator.states[name].view(-1)[place] += value
    for findings in found:
        for name in _COUNTS:
            evaluator.states[name].add_(findings.total.states[name])
    instances = {number: metrics for findings in found for number, metrics in findings.instances.items()}
    for name, total in _precisions(evaluator).items():
        for _, metrics in sorted(instances.items(), key=lambda item: item[0]):
            total.merge(metrics[name])
    return evaluator.compute()


def _check(
    model: PanopticModel,
    dataset: PanopticDataset,
    oracle: Collection[str],
    limit: int,
    workers: int,
    on_error: OnError,
) -> None:
    model.require_oracles(oracle)
    require_same_labels(model, dataset)
    if limit < 0 or workers < 0:
        raise InvalidArgumentError(f"expected limit and workers of 0 or more, got limit={limit}, workers={workers}")
    if on_error not in get_args(OnError):
        raise InvalidArgumentError(f'expected on_error "raise" or "skip", got {on_error!r}')


def require_same_labels(model: PanopticModel, dataset: PanopticDataset) -> None:
    """Check that a dataset has images and the label space of a model.

    Raises:
        InvalidArgumentError: that is not so.
    """
    mine, theirs = model.labels, dataset.labels
    if mine != theirs:
        raise InvalidArgumentError(
            f"expected a model and data of one label space, got a model for {mine.name!r} ({len(mine)} categories) and "
            f"data of {theirs.name!r} ({len(theirs)} categories)"
            + ("; their categories differ" if mine.name == theirs.name else "")
            + "; take a model that was trained for this data"
        )
    if len(dataset) == 0:
        raise InvalidArgumentError("expected at least one image to evaluate on, got an empty dataset")


def evenly_spread(length: int, limit: int) -> list[int]:
    """Return numbers of samples: no more than ``limit``, spread evenly over a dataset of ``length``; 0 for all."""
    count = min(limit, length) if limit else length
    return [i * length // count for i in range(count)]


def _process() -> tuple[int, int]:
    """Return this process's rank and the number of processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _gathered(mine: _Findings, world_size: int) -> list[_Findings]:
    if world_size == 1:
        return [mine]
    found: list[Any] = [None] * world_size
    distributed.all_gather_object(found, mine)
    return found


def autocast_of(model: PanopticModel, fabric: Fabric | None, precision: Precision) -> AbstractContextManager[Any]:
    """Return the context in which a network computes in a precision, or in that of a fabric if there is one."""
    if fabric is not None:
        return fabric.autocast()
    return autocast(precision, model.mean.device)


@torch.inference_mode()
def _predict(
    model: PanopticModel, sample: Sample, oracle: Collection[str], ap: bool, autocast: AbstractContextManager[Any]
) -> Predicted:
    """Predict a sample as :meth:`PanopticModel.predict` does, but for parts that come from its truth, and for scores.

    Scores for average precision are those of the network's own outputs, whatever comes from the truth. Parts are the
    truth's at the size at which the network saw the image, and the map is resized to the image.
    """
    size = sample.truth.size
    inference_size = model.inference_size(size)
    images = resize_images(sample.image[None].to(model.mean.device).float() / 255, inference_size)
    with autocast:
        outputs = model(images)
    (semantic,) = model.decode_semantic(outputs, [inference_size], [size])
    if not oracle:
        (detections,) = model.detect(outputs, [inference_size], [size]) if ap and model.has_detections else [None]
        return Predicted(
            model.postprocess(outputs, [inference_size], [size], scored=ap)[0].to("cpu"), semantic, detections
        )
    if "semantic" in oracle:
        known = sample.truth.semantic(void=-1).to(semantic.device)
        semantic = torch.where(known >= 0, known, semantic)
    truth = sample.truth if inference_size == size else sample.truth.resize(*inference_size).compact()
    result = model.decode_with_truth(outputs, truth, oracle)
    if ap:
        (result,) = model.score_instances(outputs, [result])
    result = result.to("cpu")
    return Predicted(result if inference_size == size else result.resize(*size).compact(), semantic, None)


class _Readable(Dataset[tuple[int, Sample | BadSampleError]]):
    """Samples with their numbers; errors for users are returned, as torch would lengthen their text."""

    def __init__(self, dataset: PanopticDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, number: int) -> tuple[int, Sample | BadSampleError]:
        try:
            return number, load_sample(self.dataset, number)
        except BadSampleError as error:
            return number, error


def _read_ahead(
    dataset: PanopticDataset, numbers: Sequence[int], workers: int
) -> Iterator[tuple[int, Sample | BadSampleError]]:
    loader: DataLoader[Any] = DataLoader(
        _Readable(dataset),
        batch_size=None,
        sampler=numbers,
        collate_fn=_as_it_is,  # with batch_size=None it gets what the dataset gives
        num_workers=min(workers, len(numbers)),
        worker_init_fn=_start_worker,
        generator=Generator(),  # its own, or evaluating would change the chance of a training around it
    )
    return iter(loader)
