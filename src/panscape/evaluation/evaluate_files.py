"""Evaluate predictions of any tool from files: metrics, per-image records and issues of the files.

Images are decoded and counted by several threads, as Pillow and the kernels release the GIL. Results are combined in
the order of the images, so they are bit-identical for any number of threads.

Unreadable parts of a prediction are void, hence missed: the whole image if the file is missing, unreadable or of
another size, else the ambiguous segments. An image with an ambiguous ground truth is skipped.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from panscape.datasets.load import SkippedSample
from panscape.errors import InvalidAnnotationError, InvalidArgumentError, listed
from panscape.evaluation.category_numbering import other_numbering
from panscape.evaluation.evaluators import create_evaluator
from panscape.evaluation.open_files import FilePairs, open_pairs
from panscape.evaluation.options import DEFAULT_OPTIONS, DEFAULT_READING, EvaluationOptions, ReadingOptions
from panscape.evaluation.records import ImageRecord, record_of
from panscape.formats.issues import Issue, IssueKind, count_by_kind
from panscape.formats.reading.base import AnnotationSource, Reading
from panscape.formats.reading.pairing import EntryPair
from panscape.labels import LabelSpace
from panscape.metrics.evaluator import EvaluationReport, Evaluator
from panscape.metrics.matching import match_segments
from panscape.metrics.overlaps import overlaps
from panscape.metrics.protocol import PROTOCOLS, Protocol, get_protocol
from panscape.panoptic import PanopticMap

_SUSPICIOUS = 0.5  # PQ below which the numbering of categories is checked


@dataclass(frozen=True, slots=True)
class FileEvaluation:
    """The results for a set of images; ``str()`` returns tables in percent.

    Attributes:
        predictions: path, as passed by the user.
        truth: likewise.
        labels: the categories.
        protocol: name of the protocol of panoptic quality, or its description if it has none.
        report: of all metrics.
        records: one for each scored image, in the order of the ground truth.
        issues: all issues of the files, notes included, in the order of the images.
        num_images: number of images in the ground truth.
        skipped: images without a usable ground truth.
        sources: sources of predictions and ground truth, to read single images again.
        pairs: the files of each scored image by its name.
        protocols: protocol of each image by its name; stricter for images with issues.
    """

    predictions: Path
    truth: Path
    labels: LabelSpace
    protocol: str
    report: EvaluationReport
    records: tuple[ImageRecord, ...]
    issues: tuple[Issue, ...]
    num_images: int
    skipped: tuple[SkippedSample, ...]
    sources: tuple[AnnotationSource, AnnotationSource]
    pairs: Mapping[str, EntryPair]
    protocols: Mapping[str, Protocol]

    @property
    def num_issues(self) -> int:
        """Number of issues that affect the result, without notes."""
        return sum(not issue.is_note for issue in self.issues)

    def __str__(self) -> str:
        return str(self.report)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON; None stands for nan."""
        return {
            "predictions": str(self.predictions),
            "truth": str(self.truth),
            "labels": self.labels.name,
            "protocol": self.protocol,
            "images": len(self.records),
            "skipped": [{"image": image, "error": error} for image, error in self.skipped],
            **self.report.to_dict(),
            "issues": [issue.to_dict() for issue in self.issues],
            "issue_counts": count_by_kind(self.issues),
        }

    def maps_of(self, name: str) -> tuple[PanopticMap, PanopticMap]:
        """Read prediction and ground truth of one evaluated image again.

        Args:
            name: of a record.

        Raises:
            InvalidAnnotationError: the files have changed since and cannot be read.
        """
        truth, prediction, _ = _read(self.pairs[name], *self.sources, self.labels)
        if truth.panoptic is None or prediction.panoptic is None:
            raise InvalidAnnotationError(f"{self.pairs[name].truth.file}: was evaluated, but can no longer be read")
        return prediction.panoptic, truth.panoptic

    def protocol_of(self, name: str) -> Protocol:
        """Return the protocol of one evaluated image.

        Args:
            name: of a record.
        """
        return self.protocols[name]


def evaluate_files(
    predictions: str | os.PathLike[str],
    truth: str | os.PathLike[str],
    *,
    options: EvaluationOptions = DEFAULT_OPTIONS,
    reading: ReadingOptions = DEFAULT_READING,
    progress: Callable[[int, int], None] | None = None,
) -> FileEvaluation:
    """Evaluate predictions against the ground truth.

    Args:
        predictions: a JSON or a folder, in any of the forms of :mod:`panscape.formats.reading.pairing`.
        truth: likewise.
        options: the metrics and the protocol. Average precision requires scores; its memory grows with the images.
        reading: label space, folders of PNGs, number of threads, and whether to raise at the first issue.
        progress: called after each image with the number done and the total.

    Raises:
        UnreadableFileError: a path does not exist or has no known format.
        InvalidAnnotationError: a JSON has another format; no prediction belongs to an image, or no ground truth can be
            used; or there is an issue and ``reading.strict`` is set.
        InvalidArgumentError: an option is out of range, or the categories are unknown; or ``ap`` is used for
            predictions without scores.
        UnknownNameError: no label space or protocol has this name.
    """
    if reading.threads < 0:
        raise InvalidArgumentError(f"expected threads of 0 or more, got {reading.threads}; use 0 for one per processor")
    protocol = get_protocol(options.protocol)
    opened = open_pairs(Path(predictions), Path(truth), reading)
    space, pairs, found = opened.labels, opened.pairs, [*opened.issues]
    new_evaluator = partial(create_evaluator, space, options)
    total = new_evaluator(protocol)
    records, protocols, skipped = [], {}, []
    _stop_if(reading.strict, found)
    score = partial(_score_pair, opened=opened, protocol=protocol, new_evaluator=new_evaluator)
    with _in_order(score, pairs, reading.threads) as outcomes:
        for done, (pair, outcome) in enumerate(zip(pairs, outcomes, strict=True), start=1):
            found += outcome.issues
            _stop_if(reading.strict, outcome.issues)
            if outcome.result is not None:
                record, image_protocol, image = outcome.result
                total.merge(image, same_protocol=False)
                records.append(record)
                protocols[record.name] = image_protocol
            else:
                error = next((str(issue) for issue in outcome.issues if not issue.is_note), "no usable ground truth")
                skipped.append(SkippedSample(pair.name, error))
            if progress is not None:
                progress(done, len(pairs))
    if not records:
        raise _no_usable_truth(opened, found)
    report = total.compute()
    of_set = _issues_of_set(report, opened, found, reading)
    _stop_if(reading.strict, of_set)
    return FileEvaluation(
        predictions=Path(predictions),
        truth=Path(truth),
        labels=space,
        protocol=next((name for name, known in PROTOCOLS.items() if known == protocol), str(protocol)),
        report=report,
        records=tuple(records),
        issues=(*of_set, *found),
        num_images=len(pairs),
        skipped=tuple(skipped),
        sources=(opened.predictions, opened.truth),
        pairs={pair.name: pair for pair in pairs if pair.name in protocols},
        protocols=protocols,
    )


def _no_usable_truth(opened: FilePairs, found: list[Issue]) -> InvalidAnnotationError:
    first = next((issue for issue in found if not issue.is_note), None)
    what = "" if first is None else f"; the first issue: {first}"
    if first is not None and first.kind is IssueKind.CATEGORY and opened.truth.labels is None:
        what += "; for train ids or other positions use --label-ids index"
    return InvalidAnnotationError(
        f"{opened.truth.path}: expected a usable ground truth, got none of {len(opened.pairs)}{what}"
    )


def _issues_of_set(
    report: EvaluationReport, opened: FilePairs, found: list[Issue], reading: ReadingOptions
) -> list[Issue]:
    """Return issues that make all scores meaningless: ground truth without segments, ids of another numbering."""
    quality = report.panoptic.all.pq
    if math.isnan(quality):
        what = (
            "expected segments in the ground truth, got only void and crowds in all "
            f"{len(opened.pairs)} images; check its ids"
        )
        return [Issue(str(opened.truth.path), IssueKind.NO_SEGMENTS, what)]
    if quality > _SUSPICIOUS and not any(issue.kind is IssueKind.CATEGORY for issue in found):
        return []
    issue = other_numbering(opened.pairs, opened.files, opened.truth, opened.labels, reading.label_ids)
    return [] if issue is None else [issue]


def _stop_if(strict: bool, issues: tuple[Issue, ...] | list[Issue]) -> None:
    first = next((issue for issue in issues if not issue.is_note), None)
    if strict and first is not None:
        raise InvalidAnnotationError(str(first))


class _Result(NamedTuple):
    """The results of one image."""

    record: ImageRecord
    protocol: Protocol
    evaluator: Evaluator


class _Outcome(NamedTuple):
    """The outcome of one image; ``result`` is None if its ground truth cannot be used."""

    issues: tuple[Issue, ...]
    result: _Result | None = None


@contextmanager
def _in_order(
    work: Callable[[EntryPair], _Outcome], pairs: list[EntryPair], threads: int
) -> Iterator[Iterator[_Outcome]]:
    """Run the work on several threads; give the results in the order of the pairs, with a bounded queue."""
    num_threads = min(threads or os.cpu_count() or 1, len(pairs))
    if num_threads <= 1:
        yield map(work, pairs)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # otherwise each of these threads would start as many again
    pool = ThreadPoolExecutor(num_threads, "panscape-score")
    try:
        yield _queued(pool, work, pairs, 2 * num_threads)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _queued(
    pool: ThreadPoolExecutor, work: Callable[[EntryPair], _Outcome], pairs: list[EntryPair], depth: int
) -> Iterator[_Outcome]:
    waiting: deque[Future[_Outcome]] = deque()
    yield work(pairs[0])  # compile kernels once, before the other threads need them
    for pair in pairs[1:]:
        waiting.append(pool.submit(work, pair))
        if len(waiting) > depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _score_pair(
    pair: EntryPair, opened: FilePairs, protocol: Protocol, new_evaluator: Callable[[Protocol], Evaluator]
) -> _Outcome:
    labels = opened.labels
    truth, prediction, issues = _read(pair, opened.predictions, opened.truth, labels)
    if truth.panoptic is None or prediction.panoptic is None:
        return _Outcome(issues)
    if any(not issue.is_note for issue in issues):
        # Some protocols excuse predicted void. Void from unreadable predictions is not excused.
        protocol = replace(protocol, predicted_void_leaves_union=False, predicted_void_excuses_misses=False)
    histogram = overlaps(prediction.panoptic, truth.panoptic)
    issues += _check_areas(pair.truth.file, truth, histogram.truth, histogram.area, compare=True)
    if pair.prediction is not None:
        issues += _check_areas(pair.prediction.file, prediction, histogram.prediction, histogram.area, compare=False)
    evaluator = new_evaluator(protocol)
    if evaluator.instances is not None:
        try:
            evaluator.instances.require_scores(prediction.panoptic)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(
                f'{prediction_file(pair)}: expected a "score" in 0..1 for every segment, by which average precision '
                '(--ap) ranks them, found none or not for all; write "score" into segments_info (Cityscapes instance '
                "ids have no scores: use COCO panoptic format or arrays), or omit --ap"
            ) from error
    matches = match_segments(prediction.panoptic, truth.panoptic, histogram, protocol, labels.stuff_ids)
    evaluator.update(prediction.panoptic, truth.panoptic, histogram=histogram, matches=matches)
    record = record_of(pair.name, prediction.panoptic, truth.panoptic, labels, histogram, matches, protocol)
    return _Outcome(issues, _Result(record, protocol, evaluator))


def _read(
    pair: EntryPair, prediction_source: AnnotationSource, truth_source: AnnotationSource, labels: LabelSpace
) -> tuple[Reading, Reading, tuple[Issue, ...]]:
    """Read both maps of an image.

    Returns:
        Ground truth and prediction, both without a map if the ground truth is ambiguous. Else the map of the
        prediction has the size of the ground truth and is void where it is unreadable. And the issues.
    """
    nothing = Reading(None)
    truth = truth_source.read(pair.truth, labels)
    if truth.panoptic is None or any(not issue.is_note for issue in truth.issues):
        # A missing prediction is not a second issue, as the image is skipped.
        return nothing, nothing, truth.issues
    size = truth.panoptic.size
    if pair.prediction is None:
        what = f"expected a prediction in {prediction_source.path}, found none; all segments count as missed"
        prediction = Reading(None, (Issue(pair.name, IssueKind.MISSING_PREDICTION, what),))
    else:
        prediction = prediction_source.read(pair.prediction, labels, size)
    if prediction.panoptic is not None and prediction.panoptic.size != size:
        (height, width), file = prediction.panoptic.size, prediction_file(pair)
        what = f"expected {size.height}x{size.width} pixels like its truth, got {height}x{width}; write it at that size"
        prediction = Reading(None, (*prediction.issues, Issue(file, IssueKind.SIZE, what)))
    if prediction.panoptic is None:
        prediction = prediction._replace(panoptic=PanopticMap.empty(size), numbers=(), areas=())
    return truth, prediction, (*truth.issues, *prediction.issues)


def prediction_file(pair: EntryPair) -> str:
    """Return the display name of the prediction of an image."""
    return pair.name if pair.prediction is None else pair.prediction.file


def _check_areas(file: str, reading: Reading, ids: Tensor, areas: Tensor, *, compare: bool) -> tuple[Issue, ...]:
    """Report descriptions without pixels and, with ``compare``, areas that contradict the pixels."""
    if not reading.numbers:
        return ()
    counts = np.bincount(ids.numpy(), areas.numpy(), minlength=len(reading.numbers) + 1)[1:].astype(int).tolist()
    issues = []
    empty = [number for number, count in zip(reading.numbers, counts, strict=True) if count == 0]
    if empty:
        what = f"expected pixels for every described segment, found none for {listed(empty)}; they are ignored"
        issues.append(Issue(file, IssueKind.WITHOUT_PIXELS, what))
    different = [
        f"{number} ({stated}, has {count})"
        for number, stated, count in zip(reading.numbers, reading.areas, counts, strict=True)
        if compare and count and stated is not None and stated != count
    ]
    if different:
        what = (
            f"expected the areas in the JSON to equal the pixels, got others for {listed(different)}; "
            "panopticapi uses the JSON, panscape counts pixels"
        )
        issues.append(Issue(file, IssueKind.AREA, what))
    return tuple(issues)
