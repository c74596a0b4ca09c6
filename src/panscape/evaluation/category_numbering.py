"""Detect predictions whose category ids follow another numbering than those of the ground truth.

Predicted segments that overlap a true segment with an IoU above 0.5 have a category in both files. If these categories
contradict each other, but agree under another numbering, the scores say nothing about the predictions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from panscape.errors import listed
from panscape.formats.issues import Issue, IssueKind
from panscape.formats.reading.base import AnnotationSource
from panscape.formats.reading.numbering import DATASET, FROM_ONE, INDEX, NAMES, renumbered, same_names
from panscape.formats.reading.pairing import EntryPair
from panscape.labels import Category, LabelSpace
from panscape.metrics.overlaps import areas_of, overlaps

_MOST_IMAGES = 10
_LARGEST_ID = 1000
_LEAST_SEGMENTS = 2
_LEAST_AGREEMENT = 0.7
_LEAST_GAIN = 0.1
_LEAST_RENUMBERED = 3  # categories; of fewer, a model may just take one for the other

_Counts = Mapping[tuple[int, int], int]


def other_numbering(
    pairs: Sequence[EntryPair],
    predictions: AnnotationSource,
    truth: AnnotationSource,
    labels: LabelSpace,
    numbering: str | None,
) -> Issue | None:
    """Return an issue that names the numbering under which nearly all segments agree; None if it is the current one.

    Args:
        pairs: images with predictions; up to 10 of them are read.
        predictions: as read from the files, with the ids in them.
        truth: the ground truth.
        labels: the label space of the ground truth.
        numbering: of the evaluation; see :func:`panscape.formats.reading.numbering.in_numbering`.
    """
    default = INDEX if predictions.is_indexed else DATASET
    current = numbering or default
    counts = _matched_categories(pairs, predictions, truth, labels)
    total = sum(counts.values())
    now = _agreeing(counts, renumbered(labels, current, predictions.labels).id_of_source)
    least = max(now + _LEAST_SEGMENTS, now + _LEAST_GAIN * total, _LEAST_AGREEMENT * total)
    if total < least:
        return None
    for name, ids in _numberings(labels, predictions.labels, default):
        agreeing = _agreeing(counts, ids)
        if agreeing >= least:
            with_it = f"with --label-ids {name} {agreeing} agree; use it"
            if name == default:
                with_it = f"without --label-ids {agreeing} agree; omit it"
            what = (
                f"expected category ids as in {truth.path}, where {now} of {total} overlapping segments of "
                f"{min(len(pairs), _MOST_IMAGES)} images agree; {with_it}"
            )
            return Issue(str(predictions.path), IssueKind.NUMBERING, what)
    renumbering = _renumbering(counts)
    agreeing = _agreeing(counts, renumbering)
    if agreeing < max(least, now + total / 2) or len(renumbering) < _LEAST_RENUMBERED:
        return None
    seen = [f"{number} ({labels[category].name})" for number, category in sorted(renumbering.items())]
    what = (
        f"expected category ids as in {truth.path}, where {now} of {total} overlapping segments agree; the predictions "
        f"seem to have others: {listed(seen)}; renumber them, or give their label space as JSON with --label-ids"
    )
    return Issue(str(predictions.path), IssueKind.NUMBERING, what)


def _matched_categories(
    pairs: Sequence[EntryPair], predictions: AnnotationSource, truth: AnnotationSource, labels: LabelSpace
) -> _Counts:
    """Count pairs of segments with an IoU above 0.5 by (id in the prediction, category of the truth)."""
    counts: Counter[tuple[int, int]] = Counter()
    chosen = [pair for pair in pairs if pair.prediction is not None]
    for pair in chosen[:: max(1, len(chosen) // _MOST_IMAGES)][:_MOST_IMAGES]:
        true = truth.read(pair.truth, labels).panoptic
        if true is None or pair.prediction is None:
            continue
        predicted = predictions.read(pair.prediction, _any_id(), true.size).panoptic
        if predicted is None or predicted.size != true.size:
            continue
        table = [part.numpy() for part in overlaps(predicted, true)]
        areas = [
            areas_of(ids, table[2], segmentation.num_segments)[ids]
            for ids, segmentation in zip(table[:2], (true, predicted), strict=True)
        ]
        is_matched = (2 * table[2] > areas[0] + areas[1] - table[2]) & (table[0] > 0) & (table[1] > 0)
        rows = [ids[is_matched] - 1 for ids in table[:2]]
        counts.update(
            zip(predicted.category.numpy()[rows[1]].tolist(), true.category.numpy()[rows[0]].tolist(), strict=True)
        )
    return counts


@cache
def _any_id() -> LabelSpace:
    """Return a label space whose categories are the ids in the files."""
    return LabelSpace("ids", tuple(Category(f"id {n}", True, n, (0, 0, 0)) for n in range(_LARGEST_ID)))


def _agreeing(counts: _Counts, category_of: Mapping[int, int]) -> int:
    return sum(count for (number, category), count in counts.items() if category_of.get(number) == category)


def _numberings(
    labels: LabelSpace, of_files: LabelSpace | None, default: str
) -> Iterator[tuple[str, Mapping[int, int]]]:
    """Return the known numberings with the category of each id, the most probable first."""
    yield default, renumbered(labels, default, None).id_of_source
    if of_files is not None and same_names(labels, of_files):
        yield NAMES, renumbered(labels, NAMES, of_files).id_of_source
    for name in (INDEX, FROM_ONE, DATASET):
        yield name, renumbered(labels, name, None).id_of_source
    for name in LabelSpace.bundled():
        if same_names(labels, LabelSpace.load(name)):
            yield name, renumbered(labels, name, None).id_of_source


def _renumbering(counts: _Counts) -> dict[int, int]:
    """Return for each id the category with most matches; no category belongs to two ids."""
    found: dict[int, int] = {}
    for (number, category), _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if number not in found and category not in found.values():
            found[number] = category
    return found
