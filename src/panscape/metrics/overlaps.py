"""Overlaps of predicted and true segments: the contingency table of ids that all metrics share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.ops.contingency_table import ContingencyTable, contingency_table
from panscape.panoptic import PanopticMap


def overlaps(prediction: PanopticMap, truth: PanopticMap) -> ContingencyTable:
    """Count the pixels of every pair of true and predicted segments; the metrics of one image can share the result.

    Args:
        prediction: of the same size as ``truth``, on any device.
        truth: on any device, on which the pixels are counted.

    Returns:
        The pairs of ids (0 is void) that occur, ascending by truth, then by prediction, on the CPU.

    Raises:
        InvalidArgumentError: the maps differ in size.
    """
    predicted_ids = prediction.ids.to(truth.ids.device)
    histogram = contingency_table(truth.ids, predicted_ids, truth.num_segments, prediction.num_segments)
    return ContingencyTable(*(part.cpu() for part in histogram))


def areas_of(ids: NDArray[np.int64], area: NDArray[np.int64], num_segments: int) -> NDArray[np.int64]:
    """Sum pixel counts by id.

    Args:
        ids: int64 [N], ids of one map, from all or some entries of a histogram.
        area: int64 [N], the pixels of each entry.
        num_segments: S, of the map.

    Returns:
        int64 [S + 1]; position 0 is void.
    """
    areas = np.zeros(num_segments + 1, np.int64)
    np.add.at(areas, ids, area)
    return areas


def categories_of(annotation: PanopticMap, void: int) -> NDArray[np.int64]:
    """Return the category of every id of a map, int64 [S + 1]; position 0 is void and has the category ``void``."""
    return np.concatenate([np.array([void], np.int64), annotation.category.cpu().numpy()])


def crowds_of(annotation: PanopticMap) -> NDArray[np.bool_]:
    """Return which ids of a map are crowds, bool [S + 1]; position 0 is void and False."""
    is_crowd = np.zeros(annotation.num_segments + 1, dtype=bool)
    if annotation.crowd is not None:
        is_crowd[1:] = annotation.crowd.cpu().numpy()
    return is_crowd


def require_categories(labels: LabelSpace, prediction: PanopticMap, truth: PanopticMap) -> None:
    """Check that two maps are given, and that all of their categories are in a label space.

    Raises:
        InvalidArgumentError: one is not a map, or a map has labels with other names, or a category that ``labels`` does
            not have.
    """
    for name, one in (("prediction", prediction), ("truth", truth)):
        if not isinstance(one, PanopticMap):
            raise InvalidArgumentError(
                f"expected the {name} as a PanopticMap, got {type(one).__name__}; convert it: with "
                "PanopticMap.from_transformers a result of transformers, with PanopticMap.from_coco a COCO PNG and its "
                "segments_info, with PanopticMap.from_ids an array of ids, with panscape.formats.decode_label_divisor "
                "arrays of categories and instances as category * 1000 + instance"
            )
        if one.labels is not None and one.labels.names != labels.names:
            raise InvalidArgumentError(
                f"expected maps of label space {labels.name!r}, got a {name} of {one.labels.name!r}, whose categories "
                "have other names; evaluate with the label space that the maps were made with"
            )
        category = one.category
        largest = int(category.max()) if category.numel() else -1
        if largest >= len(labels):
            raise InvalidArgumentError(
                f"expected category ids in 0..{len(labels) - 1} (label space {labels.name!r}), got {largest} in the "
                f"{name}; evaluate with the label space that the maps were made with"
            )
