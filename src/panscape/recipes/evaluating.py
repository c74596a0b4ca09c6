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
from panscape.datasets.sample import PanopticDataset, Sample
from panscape.evaluation_options import EvaluationOptions
from panscape.inference.console import bar_on_terminal
from panscape.inference.decode_arguments import set_decoding
from panscape.inference.predictor import choose_device
from panscape.labels import LabelSpace
from panscape.metrics.rules import Rules, get_rules
from panscape.models.panoptic_model import PanopticModel
from panscape.panoptic import PanopticMap
from panscape.precision import Precision
from panscape.recipes import get_recipe
from panscape.representations.decoding_options import decoding_options
from panscape.scoring.command import require_places
from panscape.scoring.problems import Kind, Problem
from panscape.scoring.records import PictureRecord, record_of
from panscape.scoring.report import write_report
from panscape.scoring.results import write_results
from panscape.training.evaluation import Predicted, evaluate, predict_sample
from panscape.training.samples import OnBadSample, SkippedSample, load_sample
from panscape.training.speed import SpeedReport, measure_speed


@dataclass(frozen=True, slots=True, eq=False)
class ModelScores:
    """What was found of a model, as reports and comparisons take it; what a page shows is predicted again.

    Attributes:
        model: that was evaluated, on its device.
        dataset: whose pictures it saw.
        numbers: of the scored pictures in the dataset, by their names.
        predictions: the model's name.
        truth: the data's name.
        records: one for each scored picture.
        problems: pictures that were left out.
        summary: the reports of all metrics as plain dicts, among other facts.
        oracle: what came from the truth.
        precision: of the numbers inside the network.
        rules: of panoptic quality.
    """

    model: PanopticModel
    dataset: PanopticDataset
    numbers: Mapping[str, int]
    predictions: Path
    truth: Path
    records: Sequence[PictureRecord]
    problems: Sequence[Problem]
    summary: Mapping[str, Any]
    oracle: Sequence[str]
    precision: Precision
    rules: Rules

    @property
    def labels(self) -> LabelSpace:
        """The categories."""
        return self.model.labels

    def to_dict(self) -> dict[str, Any]:
        """Return the reports of all metrics under their names, among other facts."""
        return dict(self.summary)

    def maps_of(self, name: str) -> tuple[PanopticMap, PanopticMap]:
        """Predict one scored picture again, and return its truth as well.

        Raises:
            BadSampleError: its files have changed since and cannot be read.
        """
        sample = load_sample(self.dataset, self.numbers[name])
        return predict_sample(self.model, sample, oracle=self.oracle, precision=self.precision), sample.truth

    def photo_of(self, name: str) -> Tensor:
        """Return one scored picture itself, uint8 [3, H, W].

        Raises:
            BadSampleError: its files have changed since and cannot be read.
        """
        return load_sample(self.dataset, self.numbers[name]).image

    def rules_of(self, name: str) -> Rules:
        """Return the rules by which one scored picture was judged: the same for all."""
        return self.rules


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
    on_bad_sample: OnBadSample,
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
        limit: of pictures; 0 for all.
        decode: options of post-processing, as :mod:`panscape.inference.decode_arguments` takes them.
        options: what is measured.
        device: where to predict.
        precision: of the numbers inside the network.
        speed: also measure images per second.
        workers: processes that read ahead.
        on_bad_sample: what to do at a picture that cannot be used.
        as_json: print one JSON object in place of tables.
        out: also write a JSON that can be compared with others.
        report: also write a page to look at.

    Returns:
        0, or 1 if pictures were left out.
    """
    require_places(out, report)
    chosen = choose_device(device)
    dataset = get_recipe(recipe).data.load(data, split)
    model = load(name, labels=dataset.labels).to(chosen)
    set_decoding(model, decode, "panscape evaluate")
    bad: list[SkippedSample] = []
    numbers: dict[str, int] = {}
    records: list[PictureRecord] = []

    def remember(number: int, sample: Sample, prediction: Predicted) -> None:
        numbers[sample.name] = number
        records.append(
            record_of(
                sample.name,
                prediction.map,
                sample.truth,
                model.labels,
                rules=options.rules,
                semantic=prediction.semantic,
            )
        )

    with bar_on_terminal("pictures") as progress:
        found = evaluate(
            model,
            dataset,
            precision=precision,
            oracle=oracle,
            limit=limit,
            options=options,
            workers=workers,
            on_bad_sample=on_bad_sample,
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
        "pictures": count,
        "skipped": [{"picture": picture, "error": error} for picture, error in bad],
        "rules": options.rules,
        **found.to_dict(),
        **({} if timed is None else {"speed": timed.to_dict()}),
    }
    if as_json:
        print(json.dumps(summary))
    else:
        perfect = f" with the truth's {', '.join(oracle)}" if oracle else ""
        pictures = f"{count} picture" if count == 1 else f"{count} pictures"
        given = f" with {' '.join(decode)}" if decode else ""
        print(f"{name}{given} on {pictures} of {recipe} {split}{perfect}, rules of {options.rules}\n\n{found}")
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
        problems=[Problem(picture, Kind.UNREADABLE, error.removeprefix(f"{picture}: ")) for picture, error in bad],
        summary=summary,
        oracle=oracle,
        precision=precision,
        rules=get_rules(options.rules),
    )
    if out is not None:
        write_results(out, scores)
    if report is not None:
        write_report(report, scores)
        if not as_json:
            print(f"\nreport: {report}")
    return 1 if bad else 0


def _speed_of(model: PanopticModel, dataset: PanopticDataset, precision: Precision, limit: int) -> SpeedReport:
    with bar_on_terminal("pictures, for their speed") as progress:
        return measure_speed(model, dataset, precision=precision, limit=limit, progress=progress)


def _tell_skipped(bad: Sequence[SkippedSample], num_pictures: int) -> None:
    """Print which pictures were left out."""
    if bad:
        print(f"panscape: {len(bad)} of {num_pictures} pictures could not be used:", file=sys.stderr)
    for _, error in bad:
        print(f"  {error}", file=sys.stderr)
