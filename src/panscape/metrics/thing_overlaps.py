"""Compact overlaps of the predicted and true objects of one image, the input of average precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.metrics.overlaps import areas_of, categories_of, crowds_of, overlaps, require_categories
from panscape.ops.contingency_table import ContingencyTable
from panscape.ops.cropped_masks import CroppedMasks
from panscape.panoptic import PanopticMap

Ints = NDArray[np.int64]


class ThingOverlaps(NamedTuple):
    """Predicted and true objects that have pixels, in the order of their maps or masks, and their overlaps.

    Attributes:
        image: int64 [P], image index of each predicted segment; ascending.
        predicted_category: int64 [P].
        score: float32 [P].
        predicted_area: int64 [P], pixels.
        on_void: int64 [P], pixels that are void in the ground truth.
        true_category: int64 [G].
        true_area: int64 [G], pixels.
        is_crowd: bool [G].
        prediction: int64 [N], predicted segment of each overlapping pair of one category, as a position.
        truth: int64 [N], true segment of each pair, as a position.
        shared: int64 [N], pixels in the intersection of each pair, at least 1.
    """

    image: Ints
    predicted_category: Ints
    score: NDArray[np.float32]
    predicted_area: Ints
    on_void: Ints
    true_category: Ints
    true_area: Ints
    is_crowd: NDArray[np.bool_]
    prediction: Ints
    truth: Ints
    shared: Ints

    def iou(self) -> NDArray[np.float64]:
        """Return the intersection over union of each pair, float64 [N]; void pixels are included."""
        union = self.predicted_area[self.prediction] + self.true_area[self.truth] - self.shared
        return self.shared / union


def thing_overlaps(
    prediction: PanopticMap, truth: PanopticMap, labels: LabelSpace, histogram: ContingencyTable | None = None
) -> ThingOverlaps:
    """Compute the overlaps of the objects of one image from its maps.

    Args:
        prediction: of the same size as ``truth``; without scores, every segment has a score of 1.
        truth: with its crowds, if any.
        labels: the label space, which separates things from stuff.
        histogram: the result of :func:`~panscape.metrics.overlaps.overlaps` for both maps, if already computed.

    Returns:
        The objects of image 0.

    Raises:
        InvalidArgumentError: the maps differ in size or have a category that the label space lacks.
    """
    require_categories(labels, prediction, truth)
    histogram = overlaps(prediction, truth) if histogram is None else histogram
    true_id, predicted_id, area = (part.cpu().numpy() for part in histogram)
    is_thing = np.array([category.is_thing for category in labels])
    true_category, predicted_category = categories_of(truth, -1), categories_of(prediction, -1)
    true_area = areas_of(true_id, area, truth.num_segments)
    predicted_area = areas_of(predicted_id, area, prediction.num_segments)
    is_void = true_id == 0
    on_void = areas_of(predicted_id[is_void], area[is_void], prediction.num_segments)
    true_rows = _object_rows(true_area, true_category, labels)
    predicted_rows = _object_rows(predicted_area, predicted_category, labels)

    score = torch.ones(prediction.num_segments) if prediction.score is None else prediction.score.detach().cpu()
    category = true_category[true_id]
    is_pair = (category == predicted_category[predicted_id]) & (category >= 0) & is_thing[category]
    return ThingOverlaps(
        image=np.zeros(len(predicted_rows), dtype=np.int64),
        predicted_category=predicted_category[predicted_rows],
        score=score.numpy()[predicted_rows - 1],
        predicted_area=predicted_area[predicted_rows],
        on_void=on_void[predicted_rows],
        true_category=true_category[true_rows],
        true_area=true_area[true_rows],
        is_crowd=crowds_of(truth)[true_rows],
        prediction=np.searchsorted(predicted_rows, predicted_id[is_pair]),
        truth=np.searchsorted(true_rows, true_id[is_pair]),
        shared=area[is_pair],
    )


def _object_rows(area: Ints, category: Ints, labels: LabelSpace) -> Ints:
    """Return the ids of things that have pixels, ascending, from the area and category of every id of a map."""
    is_thing = np.array([one.is_thing for one in labels])
    return np.flatnonzero((area > 0) & (category >= 0) & is_thing[category])


def mask_overlaps(
    masks: CroppedMasks, category: Tensor, score: Tensor, truth: PanopticMap, labels: LabelSpace
) -> ThingOverlaps:
    """Compute the overlaps of the objects of one image from predicted masks that may overlap.

    Args:
        masks: of P predicted objects; empty masks are left out.
        category: thing category of each mask in ``labels``, integers [P].
        score: of each mask, float [P].
        truth: with its crowds, if any; of the image size of the masks.
        labels: the label space, which separates things from stuff.

    Returns:
        The objects of image 0.

    Raises:
        InvalidArgumentError: there is not one category and score for each mask, a mask leaves the image, or a
            category is not a thing of the label space.
    """
    require_categories(labels, truth, truth)
    masks.check_inside(truth.size)
    of_masks, scores = category.cpu().numpy().astype(np.int64), score.detach().float().cpu().numpy()
    if not len(masks) == len(of_masks) == len(scores):
        raise InvalidArgumentError(
            f"expected a category and a score for each of the {len(masks)} masks, got {len(of_masks)} and {len(scores)}"
        )
    unknown = sorted(set(of_masks.tolist()) - set(labels.thing_ids))
    if unknown:
        raise InvalidArgumentError(
            f"expected masks of the things of {labels.name}, {list(labels.thing_ids)}, got categories {unknown}"
        )
    ids, num_ids = truth.ids.cpu().numpy(), truth.num_segments + 1
    table = np.zeros((len(masks), num_ids), dtype=np.int64)
    for row, (rows, columns, window) in zip(table, masks.to("cpu"), strict=True):
        row += np.bincount(ids[rows, columns][window.numpy()], minlength=num_ids)
    true_category = categories_of(truth, -1)
    true_area = np.bincount(ids.ravel(), minlength=num_ids)
    true_rows = _object_rows(true_area, true_category, labels)
    area = table.sum(axis=1)
    kept = np.flatnonzero(area > 0)
    of_kept = table[kept]
    is_pair = (of_kept[:, true_rows] > 0) & (of_masks[kept, None] == true_category[true_rows])
    prediction, place = np.nonzero(is_pair)
    return ThingOverlaps(
        image=np.zeros(len(kept), dtype=np.int64),
        predicted_category=of_masks[kept],
        score=scores[kept],
        predicted_area=area[kept],
        on_void=of_kept[:, 0],
        true_category=true_category[true_rows],
        true_area=true_area[true_rows],
        is_crowd=crowds_of(truth)[true_rows],
        prediction=prediction,
        truth=place,
        shared=of_kept[prediction, true_rows[place]],
    )


def pooled(images: Sequence[ThingOverlaps]) -> ThingOverlaps:
    """Concatenate the objects of several images; images are numbered in their order."""
    if not images:
        empty = np.zeros(0, dtype=np.int64)
        scores, crowds = np.zeros(0, dtype=np.float32), np.zeros(0, dtype=bool)
        return ThingOverlaps(empty, empty, scores, empty, empty, empty, empty, crowds, empty, empty, empty)
    joined = ThingOverlaps(*(np.concatenate(parts) for parts in zip(*images, strict=True)))
    num_predicted = np.array([len(image.score) for image in images])
    num_true = np.array([len(image.true_area) for image in images])
    num_pairs = [len(image.shared) for image in images]
    return joined._replace(
        image=np.repeat(np.arange(len(images)), num_predicted),
        prediction=joined.prediction + np.repeat(num_predicted.cumsum() - num_predicted, num_pairs),
        truth=joined.truth + np.repeat(num_true.cumsum() - num_true, num_pairs),
    )
