"""Score the predictions of any tool, from files: every metric, what is remembered of each picture, what is wrong.

Pictures are decoded and counted by several threads: Pillow and the kernels let others run meanwhile. What was found is
put together in the order of the pictures, so that the numbers are the same bits for any number of threads.

What cannot be read of a prediction counts as void, hence as missed: the whole picture if the file is missing,
unreadable or of another size, else the segments in doubt. A truth that is in doubt leaves its picture out.
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
from panscape.evaluation_options import DEFAULT_OPTIONS, EvaluationOptions
from panscape.kernels.joint_histogram import JointHistogram
from panscape.labels import LabelSpace
from panscape.metrics.evaluator import EvaluationReport, Evaluator, create_evaluator
from panscape.metrics.matching import SegmentMatches, match_segments
from panscape.metrics.overlaps import overlaps
from panscape.metrics.rules import RULES, Rules, get_rules
from panscape.panoptic import PanopticMap
from panscape.scoring.entries import Reading, Source
from panscape.scoring.problems import Kind, Problem, counted
from panscape.scoring.records import PictureRecord, record_of
from panscape.scoring.sources import EntryPair, find_source, label_space, paired


@dataclass(frozen=True, slots=True)
class Scores:
    """What was found in a set of pictures; ``str()`` gives tables in percent.

    Attributes:
        predictions: path, as it was given.
        truth: likewise.
        labels: the categories.
        rules: of panoptic quality: their name, or what they are if they have none.
        report: of all metrics.
        records: one for each scored picture, in the order of the truth.
        problems: all that is wrong with the files, notes among it, in the order of the pictures.
        num_pictures: in the truth.
        sources: where predictions and truth lie, to read single pictures again.
        pairs: the files of each scored picture by its name.
        picture_rules: by which each picture was judged, by its name: stricter ones than the others where files were in
            doubt.
    """

    predictions: Path
    truth: Path
    labels: LabelSpace
    rules: str
    report: EvaluationReport
    records: tuple[PictureRecord, ...]
    problems: tuple[Problem, ...]
    num_pictures: int
    sources: tuple[Source, Source]
    pairs: Mapping[str, EntryPair]
    picture_rules: Mapping[str, Rules]

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
            "rules": self.rules,
            "pictures": len(self.records),
            "left_out": self.num_pictures - len(self.records),
            **self.report.to_dict(),
            "problems": [problem.to_dict() for problem in self.problems],
            "problem_counts": counted(self.problems),
        }

    def maps_of(self, name: str) -> tuple[PanopticMap, PanopticMap]:
        """Read prediction and truth of one scored picture again, as they were scored.

        Args:
            name: of a record.

        Raises:
            InvalidAnnotationError: the files have changed since and cannot be read.
        """
        truth, prediction, _ = _read(self.pairs[name], *self.sources, self.labels)
        if truth.panoptic is None or prediction.panoptic is None:
            raise InvalidAnnotationError(f"{self.pairs[name].truth.file}: was scored, but cannot be read any more")
        return prediction.panoptic, truth.panoptic

    def rules_of(self, name: str) -> Rules:
        """Return the rules by which one scored picture was judged.

        Args:
            name: of a record.
        """
        return self.picture_rules[name]


def score(
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
        predictions: a JSON or a folder, in any of the forms of :mod:`panscape.scoring.sources`.
        truth: likewise.
        labels: name of a bundled label space or path of one; by default the categories of the truth.
        prediction_pngs: folder of the PNGs of a JSON, where they are not beside it.
        truth_pngs: likewise.
        by_source_id: in arrays, ``label_id`` is the number that the dataset's files use, not a position.
        options: what is measured. Average precision is for predictions with scores; its memory grows with the
            pictures.
        workers: threads; 0 for one each processor.
        strict: stop at the first problem.
        progress: called after each picture with the number done and the number of all.

    Raises:
        UnreadableFileError: there is nothing at a path, or nothing that is known.
        InvalidAnnotationError: a JSON has another form; no prediction belongs to a picture, or no truth can be used;
            or there is a problem and ``strict`` is set.
        InvalidArgumentError: an option is out of its range, or nobody says what the categories are; or ``ap`` is asked
            of predictions without scores, or ``ap_sizes`` of Cityscapes, whose rules know no sizes.
        UnknownNameError: no label space or rules have this name.
    """
    if workers < 0:
        raise InvalidArgumentError(f"expected workers of 0 or more, got {workers}")
    rules = get_rules(options.rules)
    true = find_source(Path(truth), pngs=_path(truth_pngs), by_source_id=by_source_id)
    predicted = find_source(Path(predictions), pngs=_path(prediction_pngs), by_source_id=by_source_id)
    space = label_space(labels, true)
    pairs, problems = paired(predicted, true)
    # Results repeat the pictures of the truth, also of those that a tool was not asked for.
    found = [*true.problems, *(p for p in predicted.problems if p.kind is not Kind.MISSING_TRUTH), *problems]
    new_evaluator = partial(create_evaluator, space, options)
    total = new_evaluator(rules)
    records, picture_rules = [], {}
    _stop_if(strict, found)
    outcomes = _in_order(lambda pair: _score_pair(pair, predicted, true, space, rules, new_evaluator), pairs, workers)
    for done, outcome in enumerate(outcomes, start=1):
        found += outcome.problems
        _stop_if(strict, outcome.problems)
        if outcome.judged is not None:
            record, judged_by, of_picture = outcome.judged
            _add(total, of_picture)
            records.append(record)
            picture_rules[record.name] = judged_by
        if progress is not None:
            progress(done, len(pairs))
    if not records:
        first = next((f"; the first problem: {p}" for p in found if not p.is_note), "")
        raise InvalidAnnotationError(f"{truth}: expected a truth that can be used, got none of {len(pairs)}{first}")
    return Scores(
        Path(predictions),
        Path(truth),
        space,
        next((name for name, known in RULES.items() if known == rules), str(rules)),
        total.compute(),
        tuple(records),
        tuple(found),
        len(pairs),
        (predicted, true),
        {pair.name: pair for pair in pairs if pair.name in picture_rules},
        picture_rules,
    )


def _path(path: str | os.PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path)


def _stop_if(strict: bool, problems: tuple[Problem, ...] | list[Problem]) -> None:
    first = next((problem for problem in problems if not problem.is_note), None)
    if strict and first is not None:
        raise InvalidAnnotationError(str(first))


class _Judged(NamedTuple):
    """One picture, judged."""

    record: PictureRecord
    rules: Rules
    evaluator: Evaluator


class _Outcome(NamedTuple):
    """What one picture gave; ``judged`` is None if its truth cannot be used."""

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
    rules: Rules,
    new_evaluator: Callable[[Rules], Evaluator],
) -> _Outcome:
    truth, prediction, problems = _read(pair, predicted, true, labels)
    if truth.panoptic is None or prediction.panoptic is None:
        return _Outcome(problems)
    if any(not problem.is_note for problem in problems):
        # Some rules forgive void in predictions. What is void because it could not be read is not forgiven.
        rules = replace(rules, predicted_void_leaves_union=False, predicted_void_excuses_misses=False)
    histogram = overlaps(prediction.panoptic, truth.panoptic)
    problems += _check_areas(pair.truth.file, truth, histogram.truth, histogram.area, compare=True)
    if pair.prediction is not None:
        problems += _check_areas(pair.prediction.file, prediction, histogram.prediction, histogram.area, compare=False)
    evaluator = new_evaluator(rules)
    if evaluator.instances is not None and prediction.panoptic.score is None and prediction.panoptic.num_segments:
        raise InvalidArgumentError(
            f'{prediction_file(pair)}: expected a "score" in 0..1 of every segment, by which average precision (--ap) '
            'ranks them, found none or not of all; have your tool write "score" into segments_info (instance ids of '
            "Cityscapes cannot hold any: use COCO panoptic form or arrays), or leave --ap out"
        )
    matches = match_segments(prediction.panoptic, truth.panoptic, histogram, rules, labels.stuff_ids)
    _count(evaluator, prediction.panoptic, truth.panoptic, histogram, matches)
    record = record_of(pair.name, prediction.panoptic, truth.panoptic, labels, histogram, matches, rules)
    return _Outcome(problems, _Judged(record, rules, evaluator))


def _count(
    evaluator: Evaluator,
    prediction: PanopticMap,
    truth: PanopticMap,
    histogram: JointHistogram,
    matches: SegmentMatches,
) -> None:
    """Let an evaluator take a picture into account, of which overlaps and matches are known already."""
    evaluator.panoptic.update(prediction, truth, histogram, matches)
    evaluator.dagger.update(prediction, truth, histogram, matches)
    others = (evaluator.semantic, evaluator.covering, evaluator.instances, evaluator.instance_iou, evaluator.boundary)
    for metric in others:
        if metric is not None:
            metric.update(prediction, truth, histogram)


def _add(total: Evaluator, of_picture: Evaluator) -> None:
    """Add a picture that was judged by the same rules, or by stricter ones, which could not be merged."""
    states = of_picture.states
    for name, state in total.states.items():
        state += states[name]
    if total.instances is not None and of_picture.instances is not None:
        total.instances.merge(of_picture.instances)


def _read(
    pair: EntryPair, predicted: Source, true: Source, labels: LabelSpace
) -> tuple[Reading, Reading, tuple[Problem, ...]]:
    """Read both maps of a picture.

    Returns:
        Truth and prediction, both without a map if the truth is in doubt; else the prediction's map has the size of the
        truth, and is void where it could not be read. And what is wrong.
    """
    nothing = Reading(None)
    truth = true.read(pair.truth, labels)
    if truth.panoptic is None or any(not problem.is_note for problem in truth.problems):
        # A prediction that is missing besides is no second problem: nothing of this picture counts.
        return nothing, nothing, truth.problems
    size = truth.panoptic.size
    if pair.prediction is None:
        what = f"expected a prediction in {predicted.path}, found none; all of its segments count as missed"
        prediction = Reading(None, (Problem(pair.name, Kind.MISSING_PREDICTION, what),))
    else:
        prediction = predicted.read(pair.prediction, labels, size)
    if prediction.panoptic is not None and prediction.panoptic.size != size:
        (height, width), file = prediction.panoptic.size, prediction_file(pair)
        what = f"expected {size.height}x{size.width} pixels like its truth, got {height}x{width}; write it at that size"
        prediction = Reading(None, (*prediction.problems, Problem(file, Kind.SIZE, what)))
    if prediction.panoptic is None:
        prediction = prediction._replace(panoptic=PanopticMap.empty(size), numbers=(), areas=())
    return truth, prediction, (*truth.problems, *prediction.problems)


def prediction_file(pair: EntryPair) -> str:
    """Return how the prediction of a picture is called in messages."""
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
        problems.append(Problem(file, Kind.WITHOUT_PIXELS, what))
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
        problems.append(Problem(file, Kind.AREA, what))
    return tuple(problems)
