"""`panscape evaluate MODEL --recipe NAME`: a model on the data of a recipe, as tables, JSON and a page."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from panscape import load
from panscape.cli.console import progress_bar
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
from panscape.recipes import get_recipe
from panscape.representations.decoding_options import decoding_options


@dataclass(frozen=True, slots=True, eq=False)
class ModelScores:
    """What was found of a model, as reports and comparisons take it; what a page shows is predicted again.

    Attributes:
        model: that was evaluated, on its device.
        dataset: whose images it saw.
        numbers: of the scored images in the dataset, by their names.
        predictions: the model's name.
        truth: the data's name.
        records: one for each scored image.
        problems: images that were left out.
        summary: the reports of all metrics as plain dicts, among other facts.
        oracle: what came from the truth.
        precision: of the numbers inside the network.
        protocol: of panoptic quality.
    """

    model: PanopticModel
    dataset: PanopticDataset
    numbers: Mapping[str, int]
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
        """Return the reports of all metrics under their names, among other facts."""
        return dict(self.summary)

    def maps_of(self, name: str) -> tuple[PanopticMap, PanopticMap]:
        """Predict one scored image again, and return its truth as well.

        Raises:
            BadSampleError: its files have changed since and cannot be read.
        """
        sample = load_sample(self.dataset, self.numbers[name])
        return predict_sample(self.model, sample, oracle=self.oracle, precision=self.precision), sample.truth

    def photo_of(self, name: str) -> Tensor:
        """Return one scored image itself, uint8 [3, H, W].

        Raises:
            BadSampleError: its files have changed since and cannot be read.
        """
        return load_sample(self.dataset, self.numbers[name]).image

    def protocol_of(self, name: str) -> Protocol:
        """Return the rules by which one scored image was judged: the same for all."""
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
    """Evaluate a model; print tables or JSON, write what was asked for.

    Args:
        name: of a bundled model, or a path, see :func:`panscape.load`.
        recipe: whose data to take.
        data: their folder; drawn data need none.
        split: which part of them.
        oracle: parts of the network's outputs to be replaced by the truth's.
        limit: of images; 0 for all.
        decode: options of post-processing, as :mod:`panscape.cli.decode_arguments` takes them.
        options: what is measured.
        device: where to predict.
        precision: of the numbers inside the network.
        speed: also measure images per second.
        workers: processes that read ahead.
        on_error: what to do at an image that cannot be used.
        as_json: print one JSON object in place of tables.
        out: also write a JSON that can be compared with others.
        report: also write a page to look at.

    Returns:
        0, or 1 if images were left out.
    """
    require_places(out, report)
    chosen = choose_device(device)
    dataset = get_recipe(recipe).data.load(data, split)
    model = load(name, labels=dataset.labels).to(chosen)
    apply_arguments(model, decode, "panscape evaluate")
    bad: list[SkippedSample] = []
    numbers: dict[str, int] = {}
    records: list[ImageRecord] = []

    def remember(number: int, sample: Sample, prediction: Predicted) -> None:
        numbers[sample.name] = number
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

    with progress_bar("images") as progress:
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
            progress=progress,
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
        perfect = f" with the truth's {', '.join(oracle)}" if oracle else ""
        images = f"{count} image" if count == 1 else f"{count} images"
        given = f" with {' '.join(decode)}" if decode else ""
        print(f"{name}{given} on {images} of {recipe} {split}{perfect}, protocol {options.protocol}\n\n{found}")
        if timed is not None:
            print(f"\n{timed}")
        _tell_skipped(bad, count + len(bad))
    scores = ModelScores(
        model=model,
        dataset=dataset,
        numbers=numbers,
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
    with progress_bar("images, for their speed") as progress:
        return measure_speed(model, dataset, precision=precision, limit=limit, progress=progress)


def _tell_skipped(bad: Sequence[SkippedSample], num_images: int) -> None:
    """Print which images were left out."""
    if bad:
        print(f"panscape: {len(bad)} of {num_images} images could not be used:", file=sys.stderr)
    for _, error in bad:
        print(f"  {error}", file=sys.stderr)
