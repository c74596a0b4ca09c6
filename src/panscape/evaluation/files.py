"""Score the predictions of any tool, from files: every metric, what is remembered of each image, what is wrong.

Images are decoded and counted by several threads: Pillow and the kernels let others run meanwhile. What was found is
put together in the order of the images, so that the numbers are the same bits for any number of threads.

What cannot be read of a prediction counts as void, hence as missed: the whole image if the file is missing,
unreadable or of another size, else the segments in doubt. A truth that is in doubt leaves its image out.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from panscape.errors import InvalidAnnotationError, InvalidArgumentError, listed
from panscape.evaluation.evaluators import create_evaluator
from panscape.evaluation.options import DEFAULT_OPTIONS, EvaluationOptions
from panscape.evaluation.records import ImageRecord, record_of
from panscape.formats.problems import IssueKind, Problem, count_by_kind
from panscape.formats.reading.base import Reading, Source
from panscape.formats.reading.pairing import EntryPair, find_source, label_space, paired
from panscape.labels import LabelSpace
from panscape.metrics.evaluator import EvaluationReport, Evaluator
from panscape.metrics.matching import SegmentMatches, match_segments
from panscape.metrics.overlaps import overlaps
from panscape.metrics.protocol import PROTOCOLS, Protocol, get_protocol
from panscape.ops.confusion import JointHistogram
from panscape.panoptic import PanopticMap


@dataclass(frozen=True, slots=True)
class Scores:
    """What was found in a set of images; ``str()`` gives tables in percent.

    Attributes:
        predictions: path, as it was given.
        truth: likewise.
        labels: the categories.
        protocol: of panoptic quality: their name, or what they are if they have none.
        report: of all metrics.
        records: one for each scored image, in the order of the truth.
        problems: all that is wrong with the files, notes among it, in the order of the images.
        num_images: in the truth.
        sources: where predictions and truth lie, to read single images again.
        pairs: the files of each scored image by its name.
        protocols: by which each image was judged, by its name: stricter ones than the others where files were in
            doubt.
    """

    predictions: Path
    truth: Path
    labels: LabelSpace
    protocol: str
    report: EvaluationReport
    records: tuple[ImageRecord, ...]
    problems: tuple[Problem, ...]
    num_images: int
    sources: tuple[Source, Source]
    pairs: Mapping[str, EntryPair]
    protocols: Mapping[str, Protocol]

    @property
    def num_problems(self) -> int:
        """Number of problems that change what is counted; notes are not among them."""
        return sum(not problem.is_note for problem in self.problems)

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
            "left_out": self.num_images - len(self.records),
            **self.report.to_dict(),
            "problems": [problem.to_dict() for problem in self.problems],
            "problem_counts": count_by_kind(self.problems),
        }

    def maps_of(self, name: str) -> tuple[PanopticMap, PanopticMap]:
        """Read prediction and truth of one scored image again, as they were scored.

        Args:
            name: of a record.

        Raises:
            InvalidAnnotationError: the files have changed since and cannot be read.
        """
        truth, prediction, _ = _read(self.pairs[name], *self.sources, self.labels)
        if truth.panoptic is None or prediction.panoptic is None:
            raise InvalidAnnotationError(f"{self.pairs[name].truth.file}: was scored, but cannot be read any more")
        return prediction.panoptic, truth.panoptic

    def protocol_of(self, name: str) -> Protocol:
        """Return the rules by which one scored image was judged.

        Args:
            name: of a record.
        """
        return self.protocols[name]


def evaluate_files(
    predictions: str | os.PathLike[str],
    truth: str | os.PathLike[str],
    *,
    labels: str | None = None,
    prediction_pngs: str | os.PathLike[str] | None = None,
    truth_pngs: str | os.PathLike[str] | None = None,
    by_source_id: bool = False,
    options: EvaluationOptions = DEFAULT_OPTIONS,
    workers: int = 0,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Compare predictions with the truth.

    Args:
        predictions: a JSON or a folder, in any of the forms of :mod:`panscape.formats.reading.pairing`.
        truth: likewise.
        labels: name of a bundled label space or path of one; by default the categories of the truth.
        prediction_pngs: folder of the PNGs of a JSON, where they are not beside it.
        truth_pngs: likewise.
        by_source_id: in arrays, ``label_id`` is the number that the dataset's files use, not a position.
        options: what is measured. Average precision is for predictions with scores; its memory grows with the
            images.
        workers: threads; 0 for one each processor.
        strict: stop at the first problem.
        progress: called after each image with the number done and the number of all.

    Raises:
        UnreadableFileError: there is nothing at a path, or nothing that is known.
        InvalidAnnotationError: a JSON has another form; no prediction belongs to an image, or no truth can be used;
            or there is a problem and ``strict`` is set.
        InvalidArgumentError: an option is out of its range, or nobody says what the categories are; or ``ap`` is asked
            of predictions without scores, or ``ap_sizes`` of Cityscapes, whose rules know no sizes.
        UnknownNameError: no label space or rules have this name.
    """
    if workers < 0:
        raise InvalidArgumentError(f"expected workers of 0 or more, got {workers}")
    protocol = get_protocol(options.protocol)
    true = find_source(Path(truth), pngs=_path(truth_pngs), by_source_id=by_source_id)
    predicted = find_source(Path(predictions), pngs=_path(prediction_pngs), by_source_id=by_source_id)
    space = label_space(labels, true)
    pairs, problems = paired(predicted, true)
    # Results repeat the images of the truth, also of those that a tool was not asked for.
    found = [*true.problems, *(p for p in predicted.problems if p.kind is not IssueKind.MISSING_TRUTH), *problems]
    new_evaluator = partial(create_evaluator, space, options)
    total = new_evaluator(protocol)
    records, protocols = [], {}
    _stop_if(strict, found)
    outcomes = _in_order(
        lambda pair: _score_pair(pair, predicted, true, space, protocol, new_evaluator), pairs, workers
    )
    for done, outcome in enumerate(outcomes, start=1):
        found += outcome.problems
        _stop_if(strict, outcome.problems)
        if outcome.judged is not None:
            record, judged_by, image = outcome.judged
            _add(total, image)
            records.append(record)
            protocols[record.name] = judged_by
        if progress is not None:
            progress(done, len(pairs))
    if not records:
        first = next((f"; the first problem: {p}" for p in found if not p.is_note), "")
        raise InvalidAnnotationError(f"{truth}: expected a truth that can be used, got none of {len(pairs)}{first}")
    return Scores(
        Path(predictions),
        Path(truth),
        space,
        next((name for name, known in PROTOCOLS.items() if known == protocol), str(protocol)),
        total.compute(),
        tuple(records),
        tuple(found),
        len(pairs),
        (predicted, true),
        {pair.name: pair for pair in pairs if pair.name in protocols},
        protocols,
    )


def _path(path: str | os.PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path)


def _stop_if(strict: bool, problems: tuple[Problem, ...] | list[Problem]) -> None:
    first = next((problem for problem in problems if not problem.is_note), None)
    if strict and first is not None:
        raise InvalidAnnotationError(str(first))


class _Judged(NamedTuple):
    """One image, judged."""

    record: ImageRecord
    protocol: Protocol
    evaluator: Evaluator


class _Outcome(NamedTuple):
    """What one image gave; ``judged`` is None if its truth cannot be used."""

    problems: tuple[Problem, ...]
    judged: _Judged | None = None


def _in_order(work: Callable[[EntryPair], _Outcome], pairs: list[EntryPair], workers: int) -> Iterator[_Outcome]:
    """Do the work on several threads; results come in the order of the pairs, and few wait at a time."""
    num_threads = min(workers or os.cpu_count() or 1, len(pairs))
    if num_threads <= 1:
        yield from map(work, pairs)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # each of our threads would start as many again
    pool = ThreadPoolExecutor(num_threads, "panscape-score")
    try:
        waiting: deque[Future[_Outcome]] = deque()
        yield work(pairs[0])  # what is compiled on first use is so once, before the others need it
        for pair in pairs[1:]:
            waiting.append(pool.submit(work, pair))
            if len(waiting) > 2 * num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _score_pair(
    pair: EntryPair,
    predicted: Source,
    true: Source,
    labels: LabelSpace,
    protocol: Protocol,
    new_evaluator: Callable[[Protocol], Evaluator],
) -> _Outcome:
    truth, prediction, problems = _read(pair, predicted, true, labels)
    if truth.panoptic is None or prediction.panoptic is None:
        return _Outcome(problems)
    if any(not problem.is_note for problem in problems):
        # Some rules forgive void in predictions. What is void because it could not be read is not forgiven.
        protocol = replace(protocol, predicted_void_leaves_union=False, predicted_void_excuses_misses=False)
    histogram = overlaps(prediction.panoptic, truth.panoptic)
    problems += _check_areas(pair.truth.file, truth, histogram.truth, histogram.area, compare=True)
    if pair.prediction is not None:
        problems += _check_areas(pair.prediction.file, prediction, histogram.prediction, histogram.area, compare=False)
    evaluator = new_evaluator(protocol)
    if evaluator.instances is not None and prediction.panoptic.score is None and prediction.panoptic.num_segments:
        raise InvalidArgumentError(
            f'{prediction_file(pair)}: expected a "score" in 0..1 of every segment, by which average precision (--ap) '
            'ranks them, found none or not of all; have your tool write "score" into segments_info (instance ids of '
            "Cityscapes cannot hold any: use COCO panoptic form or arrays), or leave --ap out"
        )
    matches = match_segments(prediction.panoptic, truth.panoptic, histogram, protocol, labels.stuff_ids)
    _count(evaluator, prediction.panoptic, truth.panoptic, histogram, matches)
    record = record_of(pair.name, prediction.panoptic, truth.panoptic, labels, histogram, matches, protocol)
    return _Outcome(problems, _Judged(record, protocol, evaluator))


def _count(
    evaluator: Evaluator,
    prediction: PanopticMap,
    truth: PanopticMap,
    histogram: JointHistogram,
    matches: SegmentMatches,
) -> None:
    """Let an evaluator take an image into account, of which overlaps and matches are known already."""
    evaluator.panoptic.update(prediction, truth, histogram, matches)
    evaluator.dagger.update(prediction, truth, histogram, matches)
    others = (evaluator.semantic, evaluator.covering, evaluator.instances, evaluator.instance_iou, evaluator.boundary)
    for metric in others:
        if metric is not None:
            metric.update(prediction, truth, histogram)


def _add(total: Evaluator, image: Evaluator) -> None:
    """Add an image that was judged by the same rules, or by stricter ones, which could not be merged."""
    states = image.states
    for name, state in total.states.items():
        state += states[name]
    if total.instances is not None and image.instances is not None:
        total.instances.merge(image.instances)


def _read(
    pair: EntryPair, predicted: Source, true: Source, labels: LabelSpace
) -> tuple[Reading, Reading, tuple[Problem, ...]]:
    """Read both maps of an image.

    Returns:
        Truth and prediction, both without a map if the truth is in doubt; else the prediction's map has the size of the
        truth, and is void where it could not be read. And what is wrong.
    """
    nothing = Reading(None)
    truth = true.read(pair.truth, labels)
    if truth.panoptic is None or any(not problem.is_note for problem in truth.problems):
        # A prediction that is missing besides is no second problem: nothing of this image counts.
        return nothing, nothing, truth.problems
    size = truth.panoptic.size
    if pair.prediction is None:
        what = f"expected a prediction in {predicted.path}, found none; all of its segments count as missed"
        prediction = Reading(None, (Problem(pair.name, IssueKind.MISSING_PREDICTION, what),))
    else:
        prediction = predicted.read(pair.prediction, labels, size)
    if prediction.panoptic is not None and prediction.panoptic.size != size:
        (height, width), file = prediction.panoptic.size, prediction_file(pair)
        what = f"expected {size.height}x{size.width} pixels like its truth, got {height}x{width}; write it at that size"
        prediction = Reading(None, (*prediction.problems, Problem(file, IssueKind.SIZE, what)))
    if prediction.panoptic is None:
        prediction = prediction._replace(panoptic=PanopticMap.empty(size), numbers=(), areas=())
    return truth, prediction, (*truth.problems, *prediction.problems)


def prediction_file(pair: EntryPair) -> str:
    """Return how the prediction of an image is called in messages."""
    return pair.name if pair.prediction is None else pair.prediction.file


def _check_areas(file: str, reading: Reading, ids: Tensor, areas: Tensor, *, compare: bool) -> tuple[Problem, ...]:
    """Find descriptions without pixels and, if asked to, stated areas that are not those of the pixels."""
    if not reading.numbers:
        return ()
    counts = np.bincount(ids.numpy(), areas.numpy(), minlength=len(reading.numbers) + 1)[1:].astype(int).tolist()
    problems = []
    empty = [number for number, count in zip(reading.numbers, counts, strict=True) if count == 0]
    if empty:
        what = f"expected pixels of every segment described, found none of {listed(empty)}; they are not counted"
        problems.append(Problem(file, IssueKind.WITHOUT_PIXELS, what))
    different = [
        f"{number} ({stated}, has {count})"
        for number, stated, count in zip(reading.numbers, reading.areas, counts, strict=True)
        if compare and count and stated is not None and stated != count
    ]
    if different:
        what = (
            f"expected the area of every segment as its pixels have it, got other ones of {listed(different)}; "
            "panopticapi believes the JSON, pixels are counted here"
        )
        problems.append(Problem(file, IssueKind.AREA, what))
    return tuple(problems)
