"""Open the files of an evaluation: predictions and ground truth in one label space, paired by image."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

from panscape.errors import listed
from panscape.evaluation.options import ReadingOptions
from panscape.formats.issues import Issue, IssueKind
from panscape.formats.reading.base import AnnotationSource
from panscape.formats.reading.masks import void_notes
from panscape.formats.reading.numbering import DATASET, FROM_ONE, INDEX, in_numbering, listed_ids, with_ids
from panscape.formats.reading.pairing import EntryPair, find_source, label_space, paired
from panscape.formats.semantic_masks import require_mask_options
from panscape.labels import LabelSpace


class FilePairs(NamedTuple):
    """Predictions and ground truth of an evaluation.

    Attributes:
        predictions: with the category ids of ``labels``.
        truth: likewise.
        files: the predictions with the category ids in them.
        labels: the categories.
        pairs: the files of each image, in the order of the ground truth.
        issues: those of the set; those of single images appear when they are read.
    """

    predictions: AnnotationSource
    truth: AnnotationSource
    files: AnnotationSource
    labels: LabelSpace
    pairs: list[EntryPair]
    issues: list[Issue]


def open_pairs(predictions: Path, truth: Path, reading: ReadingOptions) -> FilePairs:
    """Open predictions and ground truth in one label space, and pair them by image.

    Raises:
        UnreadableFileError: a path does not exist or has no known format.
        InvalidAnnotationError: a JSON has another format, or no prediction belongs to an image.
        InvalidArgumentError: an option is out of range, or the categories are unknown.
        UnknownNameError: there is no such label space.
    """
    find = partial(find_source, min_area=reading.min_area, void=reading.void)
    true, files = find(truth, pngs=reading.gt_dir), find(predictions, pngs=reading.pred_dir)
    labels = label_space(reading.labels, true)
    require_mask_options(labels, reading.min_area, reading.void)
    predicted = in_numbering(files, labels, reading.label_ids)
    if true.labels is None:
        numbering = reading.label_ids if reading.label_ids in (INDEX, FROM_ONE, DATASET) else None
        true = in_numbering(true, labels, numbering)
    else:  # the ids of the ground truth are those of its categories
        true = with_ids(true, listed_ids(true, labels))
    pairs, unpaired = paired(predicted, true)
    # Results repeat the images of the ground truth, also those that were not predicted; its thing flags decide.
    of_predictions = [p for p in files.issues if p.kind not in (IssueKind.MISSING_TRUTH, IssueKind.FLAGS)]
    of_truth = [p for p in true.issues if reading.labels is None or p.kind is not IssueKind.FLAGS]
    notes = [note for source in (true, files) for note in void_notes(source, labels, reading.void)]
    notes += _notes_on_colors(true.path, labels)
    return FilePairs(predicted, true, files, labels, pairs, [*of_truth, *of_predictions, *unpaired, *notes])


def _notes_on_colors(truth: Path, labels: LabelSpace) -> list[Issue]:
    if not labels.same_colors or labels.name in LabelSpace.bundled():
        return []
    same = listed([" = ".join(names) for names in labels.same_colors])
    what = f"expected a color for each category, got one for {same}; they look alike in the images of a report"
    return [Issue(str(truth), IssueKind.COLORS, what)]
