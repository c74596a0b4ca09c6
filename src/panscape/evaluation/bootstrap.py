"""Bootstrap confidence intervals over images.

N images are one sample of a larger population. Another sample is simulated by drawing N of the images with replacement;
all metrics are recomputed from the sums of their counts. The interval is the middle 95 % of 1,000 such results
(percentile bootstrap: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979). It covers the variation over
images of the same kind, not over trainings or annotators.

A category that occurs in few images is missing from some draws. It is then left out of the means, as in PQ; its own
interval uses the draws that contain it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from panscape.evaluation.records import ImageRecord
from panscape.labels import LabelSpace
from panscape.metrics.error_breakdown import group_cost, pq_if_fixed
from panscape.metrics.error_types import MATCHED_ROW, NUM_ROWS, ErrorType

_Floats = NDArray[np.float64]

NUM_SAMPLES = 1000
LEVEL = 0.95
"""The fraction of the draws inside an interval."""

FEW_IMAGES = 20
"""A warning is shown for fewer images. A percentile interval has about the following fraction of the width of Student's
interval for a mean of N values: sqrt((N - 1) / N) * 1.96 / t: 0.91 with 20 values, 0.82 with 10, 0.63 with 5."""
_MAP, _HEAD = NUM_ROWS * 3, NUM_ROWS * 3 + 3
_COLUMNS = NUM_ROWS * 3 + 6  # error counts without sizes, then tp, fp and fn in pixels, of maps and of a semantic head
_CELLS_AT_ONCE = 2_000_000  # floats of a chunk of resampled sums


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """All metrics with intervals, for B sets of images at once; nan without segments or pixels.

    Attributes:
        groups: float64 [B, 3, 3], PQ, SQ and RQ of all, things and stuff, in 0..1.
        categories: float64 [B, K, 3], likewise for every category.
        mean_iou: float64 [B], over pixels of the maps.
        head_mean_iou: float64 [B], of a semantic head alone; nan if the records have none.
        ious: float64 [B, K], of the maps.
        costs: float64 [B, 7], gain in PQ over all categories if an error type is fixed (ΔPQ).
    """

    groups: _Floats
    categories: _Floats
    mean_iou: _Floats
    head_mean_iou: _Floats
    ious: _Floats
    costs: _Floats

    def __sub__(self, other: Statistics) -> Statistics:
        return Statistics(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """Lower and upper ends of intervals, in the shapes of :class:`Statistics` without B."""

    low: Statistics
    high: Statistics


def small_sample_warning(num_images: int) -> str:
    """Return a warning about intervals from few images; empty if there are enough."""
    if num_images >= FEW_IMAGES:
        return ""
    several = "one image" if num_images == 1 else f"{num_images} images"
    hint = f"Intervals from fewer than {FEW_IMAGES} are rough and mostly too narrow."
    return f"Caution: only {several}. {hint}"


def image_sums(records: Sequence[ImageRecord], num_categories: int) -> csr_array:
    """Return the counts of every image, float64 [N, K * 30], which can be summed over any subset of images."""
    images: list[int] = []
    columns: list[int] = []
    values: list[float] = []

    def put(image: int, category: int, column: int, value: float) -> None:
        images.append(image)
        columns.append(category * _COLUMNS + column)
        values.append(value)

    for i, record in enumerate(records):
        for category, row, _, *counts in record.errors:
            for j, value in enumerate(counts):
                if value:
                    put(i, category, row * 3 + j, value)
        for column, confusion in ((_MAP, record.confusion), (_HEAD, record.head_confusion or ())):
            for category, predicted, pixels in confusion:
                if category == predicted:
                    put(i, category, column, pixels)
                else:
                    put(i, category, column + 2, pixels)
                    if predicted < num_categories:
                        put(i, predicted, column + 1, pixels)
    shape = (len(records), num_categories * _COLUMNS)
    return csr_array((np.array(values, np.float64), (np.array(images, np.intp), np.array(columns, np.intp))), shape)


def statistics_of(sums: _Floats, labels: LabelSpace) -> Statistics:
    """Compute all metrics from sums over images.

    Args:
        sums: float64 [B, K * 30], sums of rows of :func:`image_sums`.
        labels: with K categories.
    """
    table = sums.reshape(len(sums), len(labels), _COLUMNS)
    counts = table[..., : NUM_ROWS * 3].reshape(*table.shape[:2], NUM_ROWS, 1, 3)
    matched = counts[..., MATCHED_ROW, 0, :]
    tp, iou_sum = matched[..., 0], matched[..., 2]
    errors = counts[..., :MATCHED_ROW, :, :]
    wrong = errors[..., 0, :2].sum((-1, -2))
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = tp + wrong / 2
        sq = np.where(weight > 0, iou_sum / np.maximum(tp, 1), np.nan)
        categories = np.stack([iou_sum / weight, sq, tp / weight], -1)
        ious, head_ious = (table[..., at] / table[..., at : at + 3].sum(-1) for at in (_MAP, _HEAD))
    members = (range(len(labels)), labels.thing_ids, labels.stuff_ids)
    costs = np.empty((len(sums), len(ErrorType)))
    for error_type in ErrorType:
        fixed = np.zeros_like(errors)
        fixed[..., error_type, :, :] = errors[..., error_type, :, :]
        costs[:, error_type] = group_cost(categories[..., 0], pq_if_fixed(counts, fixed))
    return Statistics(
        groups=np.stack([_means(categories[:, list(ids)]) for ids in members], 1),
        categories=categories,
        mean_iou=_means(ious),
        head_mean_iou=_means(head_ious),
        ious=ious,
        costs=costs,
    )


def _means(values: _Floats) -> _Floats:
    """Average over axis 1, without nan."""
    present = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(present, values, 0).sum(1) / present.sum(1), np.float64)


def totals(sums: csr_array, labels: LabelSpace) -> Statistics:
    """Compute everything of the set itself, B = 1."""
    return statistics_of(np.asarray(sums.sum(0), np.float64)[None], labels)


def resampled(sums: csr_array, labels: LabelSpace, samples: int = NUM_SAMPLES, seed: int = 0) -> Statistics:
    """Compute all metrics for ``samples`` bootstrap draws of the images.

    Records of two runs on the same images in the same order get the same draws with the same seed, so that their
    differences are paired.

    Args:
        sums: of N images, from :func:`image_sums`.
        labels: with K categories.
        samples: B.
        seed: of the draws.
    """
    per_chunk = max(1, _CELLS_AT_ONCE // max(sums.shape))
    chunks = [statistics_of(weights @ sums, labels) for weights in _draws(sums.shape[0], samples, seed, per_chunk)]
    return Statistics(*(np.concatenate([getattr(chunk, f.name) for chunk in chunks]) for f in fields(Statistics)))


def _draws(num_images: int, samples: int, seed: int, per_chunk: int) -> Iterator[_Floats]:
    """Yield how often each image is in each draw, float64 [b, N]; the chunks do not change the draws."""
    generator = np.random.default_rng(seed)
    for start in range(0, samples, per_chunk):
        number = min(per_chunk, samples - start)
        picks = generator.integers(0, num_images, (number, num_images))
        cells = picks + np.arange(number)[:, None] * num_images
        counts = np.bincount(cells.ravel(), minlength=number * num_images)
        yield counts.reshape(number, num_images).astype(np.float64)


def intervals(draws: Statistics) -> Interval:
    """Return the percentile intervals of draws; nan if no draw has a value.

    Args:
        draws: with B of any number.
    """
    ends = (50 * (1 - LEVEL), 50 * (1 + LEVEL))
    lows, highs = [], []
    for field in fields(draws):
        values = getattr(draws, field.name)
        flat = values.reshape(len(values), -1)
        low, high = np.full(flat.shape[1], np.nan), np.full(flat.shape[1], np.nan)
        for i, column in enumerate(flat.T):
            known = column[~np.isnan(column)]
            if len(known):
                low[i], high[i] = np.percentile(known, ends)
        lows.append(low.reshape(values.shape[1:]))
        highs.append(high.reshape(values.shape[1:]))
    return Interval(Statistics(*lows), Statistics(*highs))
