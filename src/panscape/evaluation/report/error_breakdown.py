"""The values of the report section with the error breakdown (ΔPQ), and the summary of what to fix first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from panscape.evaluation.report.figures import TYPE_COLORS
from panscape.evaluation.report.html import Name, percent
from panscape.evaluation.report.sections import TYPE_MEANINGS, ReportData, type_name
from panscape.metrics.error_breakdown import ErrorImpact
from panscape.metrics.error_types import SIZE_NAMES, ErrorType


def fix_first(found: ReportData) -> str:
    """Return sentences about the errors with the largest impact."""
    pq = float(found.values.groups[0, 0, 0])
    costs = sorted(found.errors.types.items(), key=lambda item: -np.nan_to_num(item[1].all))
    (error_type, cost), (next_type, next_cost) = costs[:2]
    if math.isnan(pq) or math.isnan(cost.all):
        return "There are no segments, so there are no errors to analyse."
    if cost.all < 5e-5:
        return "No error type has a noticeable impact."
    each = {n: v for n, v in cost.per_category.items() if not math.isnan(v) and v > 0}
    first = sorted(each, key=lambda n: -each[n])[:3]
    size = max(SIZE_NAMES, key=lambda name: cost.by_size[name])
    where = f"; sizes: {size} pixels" if cost.by_size[size] > 0 else ""
    sentence = (
        f"Fix first: {error_type.title}. If only these errors were fixed, PQ would rise by {percent(cost.all)} points, "
        f"from {percent(pq)} to {percent(pq + cost.all)}."
    )
    if error_type is ErrorType.LOCALIZATION:
        found_cost, missed_cost = percent(found.errors.outlines.all), percent(found.errors.near_misses.all)
        sentence += (
            f" Outlines of segments that were found account for {found_cost} points, those of segments that are missed "
            f"only because of their outline, for {missed_cost}."
        )
    if first:
        listed = first[0] if len(first) == 1 else f"{', '.join(first[:-1])} and {first[-1]}"
        sentence += f" Categories that would gain most: {listed}{where}."
    if next_cost.all >= 5e-4:
        sentence += f" Next: {next_type.title}, with {percent(next_cost.all)} points."
    return sentence


def errors(found: ReportData) -> dict[str, Any]:
    """Return the impact of each error type, in total and by size."""
    costs = sorted(found.errors.types.items(), key=lambda item: -np.nan_to_num(item[1].all))
    low, high = found.ends.low.costs, found.ends.high.costs
    scale = max(float(np.nanmax(np.append(np.nan_to_num(high), [np.nan_to_num(c.all) for _, c in costs]))), 1e-9)
    rows = []
    for error_type, cost in costs:
        rows.append(_cost_row(error_type, type_name(error_type), cost, scale, low[error_type], high[error_type]))
        if error_type is ErrorType.LOCALIZATION:
            parts = {"of matched segments": found.errors.outlines, "too inaccurate to match": found.errors.near_misses}
            rows += [_cost_row(error_type, (name, None), part, scale) for name, part in parts.items()]
    return {"fix_first": fix_first(found), "costs": rows, "sizes": _sizes(found)}


def _cost_row(
    error_type: ErrorType, name: Name, cost: ErrorImpact, scale: float, low: float = math.nan, high: float = math.nan
) -> dict[str, Any]:
    is_part = name[1] is None
    return {
        "name": name,
        "meaning": None if is_part else TYPE_MEANINGS[error_type],
        "color": TYPE_COLORS[error_type],
        "is_part": is_part,
        "cost": cost,
        "low": low,
        "high": high,
        "places": [value / scale for value in (cost.all, low, high)],
    }


def _sizes(found: ReportData) -> list[dict[str, Any]]:
    types = found.errors.types
    scale = max((np.nan_to_num(v) for cost in types.values() for v in cost.by_size.values()), default=0) or 1.0
    rows = []
    for name, size in found.errors.sizes.items():
        costs = [types[error_type].by_size[name] for error_type in ErrorType]
        rows.append(
            {
                "name": name,
                "size": size,
                "found": size.tp / size.num_truth if size.num_truth else math.nan,
                "mean_iou": size.iou_sum / size.tp if size.tp else math.nan,
                "costs": [(cost, 0.75 * np.nan_to_num(cost) / scale) for cost in costs],
            }
        )
    return rows
