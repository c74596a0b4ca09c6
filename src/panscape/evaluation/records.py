"""Per-image records of an evaluation: a few kilobytes each, sufficient for all tables and intervals."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidAnnotationError, InvalidArgumentError
from panscape.geometry import Size
from panscape.labels import LabelSpace
from panscape.metrics.error_types import NUM_ROWS, SIZE_NAMES, count_errors, find_errors
from panscape.metrics.matching import SegmentMatches, match_segments
from panscape.metrics.overlaps import overlaps, require_categories
from panscape.metrics.panoptic_quality import count_matches
from panscape.metrics.protocol import Protocol, get_protocol
from panscape.metrics.semantic_iou import count_confusion, map_of_semantic
from panscape.ops.contingency_table import ContingencyTable
from panscape.ops.runs import run_ends
from panscape.panoptic import PanopticMap

_MOST = 2**40  # more pixels than any image has, and small enough to be summed


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One evaluated image, as values that can be summed over images.

    Attributes:
        name: of the image, unique within a set.
        size: (height, width) of its maps.
        truth_digest: :func:`truth_digest` of its ground truth.
        quality: for every category with segments (category, tp, fp, fn, sum of IoU), categories ascending.
        confusion: the non-zero pixel counts (category of the truth, category of the prediction, pixels), ascending;
            predicted void is category K. Void in the truth is left out.
        errors: the non-zero rows of the error counts (category, type, size, fn, fp, gain), ascending, as in
            :class:`~panscape.metrics.error_breakdown.ErrorBreakdown`.
        confused: segments with classification errors: (category of the truth, category of the prediction, number),
            ascending.
        head_confusion: as ``confusion``, for the semantic head alone; None without one.
    """

    name: str
    size: Size
    truth_digest: str
    quality: tuple[tuple[int, int, int, int, float], ...]
    confusion: tuple[tuple[int, int, int], ...]
    errors: tuple[tuple[int, int, int, int, int, float], ...]
    confused: tuple[tuple[int, int, int], ...]
    head_confusion: tuple[tuple[int, int, int], ...] | None = None

    @property
    def pq(self) -> float:
        """Mean PQ over the categories of this image, in 0..1; nan without segments."""
        each = [iou_sum / (tp + 0.5 * fp + 0.5 * fn) for _, tp, fp, fn, iou_sum in self.quality]
        return sum(each) / len(each) if each else float("nan")

    def require_ranges(self, num_categories: int, file: str) -> None:
        """Check the ranges of all values, as those of a file may be invalid.

        Args:
            num_categories: K.
            file: of the record, for the message.

        Raises:
            InvalidAnnotationError: a category, type, size or count is out of range.
        """
        categories = [row[0] for row in self.quality] + [row[0] for row in self.errors]
        head = self.head_confusion or ()
        categories += [row[0] for row in (*self.confusion, *self.confused, *head)]
        counts: list[float] = [*self.size]
        counts += [value for row in self.quality for value in row[1:]]
        counts += [row[2] for row in (*self.confusion, *self.confused, *head)]
        counts += [value for row in self.errors for value in row[3:]]
        limits: dict[str, tuple[Sequence[float], int]] = {
            "category": (categories, num_categories),
            "predicted category": ([row[1] for row in (*self.confusion, *self.confused, *head)], num_categories + 1),
            "error type": ([row[1] for row in self.errors], NUM_ROWS),
            "size class": ([row[2] for row in self.errors], len(SIZE_NAMES)),
            "count": (counts, _MOST + 1),
        }
        for what, (values, limit) in limits.items():
            wrong = next((value for value in values if not 0 <= value < limit), None)
            if wrong is not None:
                raise InvalidAnnotationError(
                    f"{file}: expected each {what} of {self.name!r} in 0..{limit - 1}, got {wrong}; evaluate again"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return lists and numbers for JSON; the inverse of :meth:`from_dict`."""
        return {
            "name": self.name,
            "size": list(self.size),
            "truth_digest": self.truth_digest,
            "quality": [list(row) for row in self.quality],
            "confusion": [list(row) for row in self.confusion],
            "errors": [list(row) for row in self.errors],
            "confused": [list(row) for row in self.confused],
            **({} if self.head_confusion is None else {"head_confusion": [list(row) for row in self.head_confusion]}),
        }

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> ImageRecord:
        """Create a record from the result of :meth:`to_dict`.

        Raises:
            InvalidArgumentError: a field is missing or has the wrong type.
        """
        try:
            height, width = description["size"]
            return cls(
                name=str(description["name"]),
                size=Size(int(height), int(width)),
                truth_digest=str(description["truth_digest"]),
                quality=tuple((int(c), int(t), int(p), int(n), float(s)) for c, t, p, n, s in description["quality"]),
                confusion=_triples(description["confusion"]),
                errors=tuple(
                    (int(c), int(k), int(s), int(n), int(p), float(g)) for c, k, s, n, p, g in description["errors"]
                ),
                confused=_triples(description["confused"]),
                head_confusion=_triples(description["head_confusion"]) if "head_confusion" in description else None,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InvalidArgumentError(
                f"expected the record of an image, but {type(error).__name__}: {error}; evaluate the image again"
            ) from error


def record_of(
    name: str,
    prediction: PanopticMap,
    truth: PanopticMap,
    labels: LabelSpace,
    histogram: ContingencyTable | None = None,
    matches: SegmentMatches | None = None,
    protocol: str | Protocol = "coco",
    semantic: Tensor | None = None,
) -> ImageRecord:
    """Return the record of one image.

    Args:
        name: of the image.
        prediction: of the same size as ``truth``.
        truth: with its crowds, if any.
        labels: the label space of both.
        histogram: the result of :func:`~panscape.metrics.overlaps.overlaps` for both maps, if already computed.
        matches: the result of :func:`~panscape.metrics.matching.match_segments` under the protocol, if computed.
        protocol: of panoptic quality; also defines the errors.
        semantic: prediction of a semantic head alone, category ids [H, W], if there is one.

    Raises:
        InvalidArgumentError: the maps differ in size or have a category that the label space lacks.
        UnknownNameError: no protocol has this name.
    """
    require_categories(labels, prediction, truth)
    protocol = get_protocol(protocol)
    histogram = overlaps(prediction, truth) if histogram is None else histogram
    if matches is None:
        matches = match_segments(prediction, truth, histogram, protocol, labels.stuff_ids)
    errors = find_errors(prediction, truth, histogram, matches, protocol, labels.stuff_ids)
    of_truth, of_prediction = truth.category.cpu().numpy(), prediction.category.cpu().numpy()

    num = len(labels)
    quality = count_matches(prediction, truth, matches, num)
    present = np.flatnonzero(quality.any(axis=1))

    taken = (errors.taken_for >= 0).nonzero()[0]
    pairs, numbers = np.unique(
        np.stack([of_truth[taken], of_prediction[errors.taken_for[taken]]], 1), axis=0, return_counts=True
    )
    counts = count_errors(errors, matches, prediction, truth)
    cells, where = np.unique(counts.cell // 3, return_inverse=True)
    values = np.zeros((len(cells), 3))
    values[where, counts.cell % 3] = counts.value
    return ImageRecord(
        name=name,
        size=Size(*truth.size),
        truth_digest=truth_digest(truth),
        quality=tuple(
            (c, int(tp), int(fp), int(fn), iou_sum)
            for c, (tp, fp, fn, iou_sum) in zip(present.tolist(), quality[present].tolist(), strict=True)
        ),
        confusion=_counted(count_confusion(prediction, truth, num, histogram)),
        errors=tuple(
            (*_place(cell), int(num_fn), int(num_fp), gain)
            for cell, (num_fn, num_fp, gain) in zip(cells.tolist(), values.tolist(), strict=True)
        ),
        confused=tuple((a, b, n) for (a, b), n in zip(pairs.tolist(), numbers.tolist(), strict=True)),
        head_confusion=(
            None if semantic is None else _counted(count_confusion(map_of_semantic(semantic, labels), truth, num))
        ),
    )


def _counted(pixels: Tensor) -> tuple[tuple[int, int, int], ...]:
    """Return the non-zero cells of a matrix as (row, column, value), ascending."""
    rows, columns = pixels.nonzero().unbind(1)
    return tuple(zip(rows.tolist(), columns.tolist(), pixels[rows, columns].tolist(), strict=True))


def truth_digest(truth: PanopticMap) -> str:
    """Return a digest of 16 hexadecimal digits, equal for equal ground truth in any format and order of segments.

    It is computed from the category, area, position and crowd flag of each segment. The position is the sum of pixel
    positions, so another outline, or two segments that swap places, change the digest.

    Args:
        truth: on any device.
    """
    ids = truth.ids.cpu().numpy()
    stop = run_ends(ids)  # runs of equal ids are many times fewer than pixels
    length = np.diff(stop, prepend=0)
    parts = (length, length * (2 * stop - length - 1))  # pixels, and twice their positions
    area, place = (np.bincount(ids.reshape(-1)[stop - 1], part, truth.num_segments + 1)[1:] for part in parts)
    crowd = np.zeros(len(area), bool) if truth.crowd is None else truth.crowd.cpu().numpy()
    rows = np.stack([truth.category.cpu().numpy(), crowd, area, place], axis=1).astype("<i8")[area > 0]
    rows = rows[np.lexsort(rows.T)]
    size = np.array(truth.size, "<i8")
    return hashlib.blake2b(size.tobytes() + rows.tobytes(), digest_size=8).hexdigest()


def error_counts(records: Iterable[ImageRecord], num_categories: int) -> NDArray[np.float64]:
    """Return the summed error counts of all records, float64 [K, 8, 5, 3].

    Args:
        records: of any images.
        num_categories: K.
    """
    counts = np.zeros((num_categories, NUM_ROWS, len(SIZE_NAMES), 3))
    for record in records:
        for category, error_type, size, *values in record.errors:
            counts[category, error_type, size] += values
    return counts


def _place(cell: int) -> tuple[int, int, int]:
    """Return (category, type, size) of a row of the error counts."""
    category, rest = divmod(cell, NUM_ROWS * len(SIZE_NAMES))
    return category, *divmod(rest, len(SIZE_NAMES))


def _triples(rows: Sequence[Sequence[Any]]) -> tuple[tuple[int, int, int], ...]:
    return tuple((int(a), int(b), int(n)) for a, b, n in rows)
