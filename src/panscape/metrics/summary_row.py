"""One row of numbers for a system, as in the tables of papers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Title of each column, with where the report has its number; of several places, the first that the report has. Papers
# measure AP before fusion and mIoU on the semantic head.
_COLUMNS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "PQ": (("panoptic", "all", "pq"),),
    "PQ things": (("panoptic", "things", "pq"),),
    "PQ stuff": (("panoptic", "stuff", "pq"),),
    "AP": (("instances_before_fusion", "ap"), ("instances", "ap")),
    "mIoU": (("semantic_head", "mean_iou"), ("semantic", "mean_iou")),
    "PC": (("covering", "all", "covering"),),
    "PC things": (("covering", "things", "covering"),),
    "PC stuff": (("covering", "stuff", "covering"),),
    "PQ†": (("dagger", "all", "pq"),),
}
SUMMARY_COLUMNS = tuple(_COLUMNS)
"""The columns of Table 1 of Porzi et al., "Improving Panoptic Segmentation at All Scales", CVPR 2021, in its order."""


def summary_row(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of :data:`SUMMARY_COLUMNS`, in 0..1; nan where a report has none.

    AP is that of the objects before fusion, mIoU that of the semantic head, if they were measured; else those of the
    map. PC counts pixels (:attr:`GroupCovering.covering`).

    Args:
        report: ``EvaluationReport.to_dict()``, or the content of a file of results.
    """
    return {title: _first_number(report, places) for title, places in _COLUMNS.items()}


def _first_number(report: Mapping[str, Any], places: tuple[tuple[str, ...], ...]) -> float:
    for path in places:
        value: Any = report
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int | float):
            return float(value)
    return math.nan
