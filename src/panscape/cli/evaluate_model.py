"""`panscape evaluate MODEL --recipe NAME`: evaluates a model on the dataset of a recipe."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from panscape import load
from panscape.cli.decode_arguments import apply_arguments
from panscape.cli.options import require_writable
from panscape.cli.printing import fitted, print_json, say
from panscape.datasets.base import PanopticDataset, Sample
from panscape.datasets.load import SkippedSample, load_sample
from panscape.datasets.relabeled import relabeled
from panscape.evaluation.evaluate_model import Predicted, evaluate, predict_sample
from panscape.evaluation.records import ImageRecord, record_of
from panscape.evaluation.speed import SpeedReport, measure_speed
from panscape.formats.issues import Issue, IssueKind
from panscape.inference.device import choose_device
from panscape.labels import LabelSpace
from panscape.metrics import EvaluationReport
from panscape.metrics.protocol import Protocol, get_protocol
from panscape.models.base import PanopticModel
from panscape.panoptic import PanopticMap
from panscape.precision import Precision
from panscape.progress import ProgressBar
from panscape.representations.decoding_options import decoding_options
from panscape.runtime_options import on_runtime_of
from panscape.spread import evenly_spread

if TYPE_CHECKING:
    from panscape.cli.evaluate import Evaluate

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class ModelEvaluation:
    """Scores of a model, for reports and comparisons; images shown on a page are predicted again.

    Attributes:
        model: the evaluated model, on its device.
        dataset: the dataset it was evaluated on.
        indices: dataset index of each evaluated image, by image name.
        predictions: name of the model.
        truth: name of the dataset and split.
        records: one record per evaluated image.
        issues: skipped images.
        summary: reports of all metrics as plain dicts, and facts about the run.
        oracle: network outputs replaced by the ground truth.
        precision: numeric precision of the forward pass.
        protocol: evaluation protocol of panoptic quality.
    """

    model: PanopticModel
    dataset: PanopticDataset
    indices: Mapping[str, int]
    predictions: Path
    truth: Path
    records: Sequence[ImageRecord]
    issues: Sequence[Issue]
    summary: Mapping[str, Any]
    oracle: Sequence[str]
    precision: Precision
    protocol: Protocol

    @property
    def labels(self) -> LabelSpace:
        """The categories."""
        return self.model.labels

    def to_dict(self) -> dict[str, Any]:
        """Return the reports of all metrics by name, and facts about the run."""
        return dict(self.summary)

    def maps_of(self, name: str) -> tuple[PanopticMap, PanopticMap]:
        """Predict an evaluated image again, and return the prediction and the ground truth.

        Raises:
            BadSampleError: its files have changed since and cannot be read.
        """
        sample = load_sample(self.dataset, self.indices[name])
        return predict_sample(self.model, sample, oracle=self.oracle, precision=self.precision), sample.truth

    def photo_of(self, name: str) -> Tensor:
        """Return an evaluated image, uint8 [3, H, W].

        Raises:
            BadSampleError: its files have changed since and cannot be read.
        """
        return load_sample(self.dataset, self.indices[name]).image

    def protocol_of(self, name: str) -> Protocol:
        """Return the evaluation protocol of an image, which is the same for all."""
        return self.protocol


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """The results of a run; the lists are filled while it evaluates.

    Attributes:
        command: its options.
        recipe: name of the recipe of the dataset.
        model: on its device.
        dataset: the split.
        indices: dataset index of each image, by its name.
        records: one per image.
        skipped: images that could not be used.
    """

    command: Evaluate
    recipe: str
    model: PanopticModel
    dataset: PanopticDataset
    indices: dict[str, int] = field(default_factory=dict)
    records: list[ImageRecord] = field(default_factory=list)
    skipped: list[SkippedSample] = field(default_factory=list)

    @property
    def num_images(self) -> int:
        """Number of evaluated images."""
        return len(evenly_spread(len(self.dataset), self.command.execution.limit)) - len(self.skipped)

    def record(self, index: int, sample: Sample, prediction: Predicted) -> None:
        """Record an image for the files."""
        protocol, semantic = self.command.metric.protocol, prediction.semantic
        self.indices[sample.name] = index
        self.records.append(
            record_of(
                sample.name, prediction.map, sample.truth, self.model.labels, protocol=protocol, semantic=semantic
            )
        )

    def summary(self, report: EvaluationReport, speed: SpeedReport | None) -> dict[str, Any]:
        """Return the reports of all metrics as plain dicts, and facts about the run."""
        command = self.command
        return {
            "model": command.model,
            "recipe": self.recipe,
            "split": command.dataset.split,
            "oracle": list(command.oracles),
            "decoding": {option.name: option.value for option in decoding_options(self.model.decoding).values()},
            "images": self.num_images,
            "skipped": [{"image": image, "error": error} for image, error in self.skipped],
            "protocol": command.metric.protocol,
            "runtime": self.model.runtime,
            **report.to_dict(),
            **({} if speed is None else {"speed": speed.to_dict()}),
        }

    def scores(self, summary: Mapping[str, Any]) -> ModelEvaluation:
        """Return the results for the files."""
        command = self.command
        return ModelEvaluation(
            model=self.model,
            dataset=self.dataset,
            indices=self.indices,
            predictions=Path(command.model or ""),
            truth=Path(f"{self.recipe} {command.dataset.split}"),
            records=self.records,
            issues=[
                Issue(image, IssueKind.UNREADABLE, error.removeprefix(f"{image}: ")) for image, error in self.skipped
            ],
            summary=summary,
            oracle=command.oracles,
            precision=command.execution.precision,
            protocol=get_protocol(command.metric.protocol),
        )

    def print(self, report: EvaluationReport, speed: SpeedReport | None) -> None:
        """Print tables, and the skipped images."""
        command, count = self.command, self.num_images
        replaced = f" with ground-truth {', '.join(command.oracles)}" if command.oracles else ""
        images = f"{count} image" if count == 1 else f"{count} images"
        given = f" with {' '.join(command.decode)}" if command.decode else ""
        dataset = f"{self.recipe} {command.dataset.split}"
        title = f"{command.model}{given} on {images} of {dataset}{replaced}, protocol {command.metric.protocol}"
        say(fitted("\n\n".join(str(part) for part in (title, report, speed) if part is not None)))
        if self.skipped:
            of_all = f"{len(self.skipped)} of {count + len(self.skipped)}"
            lines = [f"  {error}" for _, error in self.skipped]
            _logger.warning("\n".join([f"{of_all} images could not be used:", *lines]))


def run_on_model(command: Evaluate) -> int:
    """Evaluate a model; print tables or JSON, and write the requested files.

    Returns:
        0, or 1 if images were skipped.
    """
    result, execution = command.result, command.execution
    require_writable(result.out, result.report)
    recipe, dataset = command.dataset.load(command.model or "", "panscape evaluate")
    model = load(command.model or "", labels=dataset.labels)
    model, precision = on_runtime_of(model, execution.runtime, execution.precision, execution.device)
    execution = replace(execution, precision=precision)
    model = model.to(choose_device(execution.device, model))
    dataset = relabeled(dataset, model.labels)
    apply_arguments(model, command.decode, "panscape evaluate")
    run = _Run(command, recipe, model, dataset)
    with ProgressBar("images") as bar:
        report = evaluate(
            model,
            dataset,
            options=command.metric,
            inference=execution,
            oracle=command.oracles,
            workers=command.workers,
            skipped=run.skipped.append,
            progress=bar.update,
            each=run.record if result.out or result.report else None,
        )
    speed = None
    if command.speed:
        with ProgressBar("images timed") as bar:
            precision, limit = execution.precision, execution.limit
            speed = measure_speed(model, dataset, precision=precision, limit=limit, progress=bar.update)
    summary = run.summary(report, speed)
    if not result.json:
        run.print(report, speed)
    result.write(run.scores(summary))
    if result.json:
        print_json(summary | result.paths)
    return 1 if run.skipped else 0
