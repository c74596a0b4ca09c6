"""`panscape evaluate MODEL --recipe NAME`: evaluates a model on the dataset of a recipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from panscape import load
from panscape.cli.decode_arguments import apply_arguments
from panscape.datasets.base import PanopticDataset, Sample
from panscape.datasets.load import OnError, SkippedSample, load_sample
from panscape.evaluation.files_command import require_places
from panscape.evaluation.model import Predicted, evaluate, predict_sample
from panscape.evaluation.options import EvaluationOptions
from panscape.evaluation.records import ImageRecord, record_of
from panscape.evaluation.report.page import write_report
from panscape.evaluation.results import write_results
from panscape.evaluation.speed import SpeedReport, measure_speed
from panscape.formats.problems import IssueKind, Problem
from panscape.inference.device import choose_device
from panscape.labels import LabelSpace
from panscape.metrics.protocol import Protocol, get_protocol
from panscape.models.base import PanopticModel
from panscape.panoptic import PanopticMap
from panscape.precision import Precision
from panscape.progress import ProgressBar
from panscape.recipes import get_recipe, resolve_recipe_name
from panscape.representations.decoding_options import decoding_options


@dataclass(frozen=True, slots=True, eq=False)
class ModelScores:
    """Scores of a model, for reports and comparisons; images shown on a page are predicted again.

    Attributes:
        model: the evaluated model, on its device.
        dataset: the dataset it was evaluated on.
        indices: dataset index of each evaluated image, by image name.
        predictions: name of the model.
        truth: name of the dataset and split.
        records: one record per evaluated image.
        problems: skipped images.
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
    problems: Sequence[Problem]
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


def run_on_model(
    name: str,
    recipe: str,
    *,
    data: Path | None,
    split: str,
    oracle: Sequence[str],
    limit: int,
    decode: Sequence[str],
    options: EvaluationOptions,
    device: str,
    precision: Precision,
    speed: bool,
    workers: int,
    on_error: OnError,
    as_json: bool,
    out: Path | None,
    report: Path | None,
) -> int:
    """Evaluate a model; print tables or JSON, and write the requested files.

    Args:
        name: bundled model or path, see :func:`panscape.load`.
        recipe: name of the recipe that defines the dataset.
        data: folder of the dataset; None for synthetic datasets.
        split: name of the split.
        oracle: network outputs to replace by the ground truth.
        limit: maximum number of images; 0 for all.
        decode: post-processing options, in the format of :mod:`panscape.cli.decode_arguments`.
        options: metrics and evaluation protocol.
        device: device to predict on.
        precision: numeric precision of the forward pass.
        speed: also measure images per second.
        workers: processes that prefetch images.
        on_error: whether to raise an error or skip an image that cannot be used.
        as_json: print one JSON object instead of tables.
        out: also write a JSON file for comparisons.
        report: also write an HTML report.

    Returns:
        0, or 1 if images were skipped.
    """
    require_places(out, report)
    recipe = resolve_recipe_name(recipe)
    chosen = choose_device(device)
    dataset = get_recipe(recipe).data.load(data, split)
    model = load(name, labels=dataset.labels).to(chosen)
    apply_arguments(model, decode, "panscape evaluate")
    bad: list[SkippedSample] = []
    indices: dict[str, int] = {}
    records: list[ImageRecord] = []

    def remember(index: int, sample: Sample, prediction: Predicted) -> None:
        indices[sample.name] = index
        records.append(
            record_of(
                sample.name,
                prediction.map,
                sample.truth,
                model.labels,
                protocol=options.protocol,
                semantic=prediction.semantic,
            )
        )

    with ProgressBar("images") as bar:
        found = evaluate(
            model,
            dataset,
            precision=precision,
            oracle=oracle,
            limit=limit,
            options=options,
            workers=workers,
            on_error=on_error,
            skipped=bad.append,
            progress=bar.update,
            each=None if out is None and report is None else remember,
        )
    timed = _speed_of(model, dataset, precision, limit) if speed else None
    count = (min(limit, len(dataset)) if limit else len(dataset)) - len(bad)
    summary = {
        "model": name,
        "recipe": recipe,
        "split": split,
        "oracle": list(oracle),
        "decoding": {option.name: option.value for option in decoding_options(model.decoding).values()},
        "images": count,
        "skipped": [{"image": image, "error": error} for image, error in bad],
        "protocol": options.protocol,
        **found.to_dict(),
        **({} if timed is None else {"speed": timed.to_dict()}),
    }
    if as_json:
        print(json.dumps(summary))
    else:
        replaced = f" with ground-truth {', '.join(oracle)}" if oracle else ""
        images = f"{count} image" if count == 1 else f"{count} images"
        given = f" with {' '.join(decode)}" if decode else ""
        print(f"{name}{given} on {images} of {recipe} {split}{replaced}, protocol {options.protocol}\n\n{found}")
        if timed is not None:
            print(f"\n{timed}")
        _print_skipped(bad, count + len(bad))
    scores = ModelScores(
        model=model,
        dataset=dataset,
        indices=indices,
        predictions=Path(name),
        truth=Path(f"{recipe} {split}"),
        records=records,
        problems=[Problem(image, IssueKind.UNREADABLE, error.removeprefix(f"{image}: ")) for image, error in bad],
        summary=summary,
        oracle=oracle,
        precision=precision,
        protocol=get_protocol(options.protocol),
    )
    if out is not None:
        write_results(out, scores)
    if report is not None:
        write_report(report, scores)
        if not as_json:
            print(f"\nreport: {report}")
    return 1 if bad else 0


def _speed_of(model: PanopticModel, dataset: PanopticDataset, precision: Precision, limit: int) -> SpeedReport:
    with ProgressBar("images timed") as bar:
        return measure_speed(model, dataset, precision=precision, limit=limit, progress=bar.update)


def _print_skipped(bad: Sequence[SkippedSample], num_images: int) -> None:
    """Print the skipped images."""
    if bad:
        print(f"panscape: {len(bad)} of {num_images} images could not be used:", file=sys.stderr)
    for _, error in bad:
        print(f"  {error}", file=sys.stderr)
