"""The HTML report of an evaluation: one self-contained page, readable without its script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from panscape.errors import PanscapeError
from panscape.evaluation.bootstrap import NUM_SAMPLES, image_sums, intervals, resampled, totals
from panscape.evaluation.compare import Comparison
from panscape.evaluation.records import error_counts
from panscape.evaluation.report import sections
from panscape.evaluation.report.comparison import comparison_values
from panscape.evaluation.report.confusion import confusion
from panscape.evaluation.report.error_breakdown import errors
from panscape.evaluation.report.figures import (
    WorstCase,
    choose,
    draw_case,
    find_images,
    image_of,
    load_photo,
)
from panscape.evaluation.report.html import Figure, write_page
from panscape.evaluation.report.runs import runs_values
from panscape.evaluation.results import Evaluation
from panscape.metrics.error_breakdown import report_errors
from panscape.metrics.protocol import get_protocol
from panscape.panoptic import PanopticMap

NUM_WORST = 8
_MOST_IMAGE_BYTES = 3_500_000


def write_report(
    path: str | Path,
    scores: Evaluation,
    *,
    images: str | Path | None = None,
    comparison: Comparison | None = None,
    runs: Mapping[str, Evaluation] | None = None,
    title: str | None = None,
    num_worst: int = NUM_WORST,
    samples: int = NUM_SAMPLES,
    seed: int = 0,
) -> None:
    """Write the report atomically.

    Args:
        path: the file to write; its folder must exist.
        scores: the results. Images are drawn if it has ``maps_of(name)``, which returns (prediction, truth); with
            ``photo_of(name)``, which returns uint8 [3, H, W], they include the image itself. Errors are drawn under
            the protocol ``protocol_of(name)``, without it under that of panopticapi.
        images: a folder of the images, found by their names. Without it, and without ``photo_of``, only maps are shown.
        comparison: with another run, if any.
        runs: the compared runs by name, if any, for one table and one chart.
        title: of the report; by default the path of the predictions, or the compared runs.
        num_worst: number of images with the lowest PQ to show.
        samples: number of draws for the intervals.
        seed: of the draws.

    Raises:
        InvalidArgumentError: the folder of the report does not exist.
        UnreadableFileError: the folder of images does not exist.
    """
    found_images = {} if images is None else find_images(Path(images))
    found = _found(scores, samples, seed)
    maps_of = getattr(scores, "maps_of", None)
    chosen = [] if maps_of is None else choose(scores.records, num_worst)
    drawn = _drawn(chosen, scores, maps_of, found_images) if maps_of else []
    if title is None:
        title = f"Panoptic quality of {'/'.join(scores.predictions.parts[-2:])}"
        if comparison is not None:
            title = f"From {comparison.first} to {comparison.second}"
    write_page(
        path,
        "report.html.jinja",
        title=title,
        facts=_facts(scores),
        types=sections.type_heads(),
        runs=runs_values(runs or {}),
        comparison=comparison and comparison_values(comparison),
        result=sections.result(found),
        errors=errors(found),
        categories=sections.categories(found),
        objects=sections.objects(found),
        confusion=confusion(found),
        worst=sections.worst(drawn, len(chosen) - len(drawn)) if drawn else None,
        images=sections.images(found),
        files=sections.files(scores.issues) if scores.issues else None,
    )


def _found(scores: Evaluation, samples: int, seed: int) -> sections.ReportData:
    labels = scores.labels
    sums = image_sums(scores.records, len(labels))
    return sections.ReportData(
        labels=labels,
        records=scores.records,
        issues=scores.issues,
        summary=scores.to_dict(),
        values=totals(sums, labels),
        ends=intervals(resampled(sums, labels, samples, seed)),
        errors=report_errors(error_counts(scores.records, len(labels)), labels),
        samples=samples,
    )


def _drawn(
    chosen: Sequence[WorstCase],
    scores: Evaluation,
    maps_of: Callable[[str], tuple[PanopticMap, PanopticMap]],
    images: dict[str, Path],
) -> list[tuple[WorstCase, list[Figure]]]:
    """Draw the chosen images up to a size limit of the page; files that have changed since are skipped."""
    photo_of, protocol_of = getattr(scores, "photo_of", None), getattr(scores, "protocol_of", None)
    drawn: list[tuple[WorstCase, list[Figure]]] = []
    room = _MOST_IMAGE_BYTES
    for each in chosen:
        name = each.record.name
        try:
            prediction, truth = maps_of(name)
            photo = load_photo(image_of(name, images)) if photo_of is None else photo_of(name)
        except PanscapeError:
            continue
        protocol = get_protocol("coco") if protocol_of is None else protocol_of(name)
        figures = draw_case(prediction, truth, scores.labels, protocol, photo)
        room -= sum(len(figure.uri) for figure in figures)
        if room < 0:
            break
        drawn.append((each, figures))
    return drawn


def _facts(scores: Evaluation) -> list[str]:
    num_things, protocol = len(scores.labels.thing_ids), scores.to_dict().get("protocol")
    return [
        f"{len(scores.records):,} {'image' if len(scores.records) == 1 else 'images'}",
        f"label space {scores.labels.name}: {num_things} things and {len(scores.labels) - num_things} stuff",
        *([] if protocol is None else [f"protocol {protocol}"]),
        f"predictions: {scores.predictions}",
        f"ground truth: {scores.truth}",
    ]
