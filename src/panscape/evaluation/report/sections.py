"""The values of the report sections of one run; the templates in ``templates/report/`` display them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from panscape.evaluation.bootstrap import Interval, Statistics, small_sample_warning
from panscape.evaluation.records import ImageRecord
from panscape.evaluation.report.figures import TYPE_COLORS, WorstCase, count_of_type
from panscape.evaluation.report.html import NOTHING, Figure, Name, category_name, percent_interval
from panscape.evaluation.report.size_chart import size_chart
from panscape.formats.issues import Issue, count_by_kind
from panscape.labels import LabelSpace
from panscape.metrics.error_breakdown import ErrorReport
from panscape.metrics.error_types import ErrorType
from panscape.metrics.object_sizes import LARGEST_AREA
from panscape.metrics.tables import format_count

TYPE_MEANINGS = {
    ErrorType.CLASSIFICATION: "found with IoU above 0.5, but with another category; fixed: category corrected",
    ErrorType.UNDERSEGMENTATION: "one prediction covers most of several objects; fixed: cut along the ground truth",
    ErrorType.OVERSEGMENTATION: "one object was predicted in several pieces; fixed: pieces merged",
    ErrorType.MISSED: "no prediction matches it; fixed: found, with the mean IoU of its category",
    ErrorType.BACKGROUND: "a prediction without any object it could match; fixed: removed",
    ErrorType.LOCALIZATION: "the right object with an inaccurate outline, matched or not; fixed: perfect outline",
    ErrorType.VOID: "predicted as void, or on mostly void or crowd in the ground truth; fixed: found, or removed",
}
_MOST_ROWS = 5000
_MOST_ISSUES = 300


class ReportData(NamedTuple):
    """The data of all report sections.

    Attributes:
        labels: the categories.
        records: of all images.
        issues: issues of the files.
        summary: the reports of all metrics as plain dicts.
        values: metrics of the whole set, B = 1.
        ends: their intervals.
        errors: the error breakdown.
        samples: number of draws for the intervals.
    """

    labels: LabelSpace
    records: Sequence[ImageRecord]
    issues: Sequence[Issue]
    summary: Mapping[str, Any]
    values: Statistics
    ends: Interval
    errors: ErrorReport
    samples: int


def type_name(error_type: ErrorType) -> Name:
    """Return the name and colour of an error type."""
    return error_type.title, TYPE_COLORS[error_type]


def type_heads() -> list[dict[str, Any]]:
    """Return the heads of a table's columns of error types, which are also the entries of legends."""
    return [
        {"title": error_type.title, "hint": TYPE_MEANINGS[error_type], "color": TYPE_COLORS[error_type]}
        for error_type in ErrorType
    ]


def result(found: ReportData) -> dict[str, Any]:
    """Return the headline metrics with their intervals."""
    low, high = found.ends.low, found.ends.high
    places = {"PQ": (0, 0), "PQ of things": (1, 0), "PQ of stuff": (2, 0), "SQ": (0, 1), "RQ": (0, 2)}
    cards = [(name, found.values.groups[0, *at], low.groups[at], high.groups[at]) for name, at in places.items()]
    head = found.values.head_mean_iou[0]
    title = "mIoU" if math.isnan(head) else "map mIoU"
    cards.append((title, found.values.mean_iou[0], low.mean_iou, high.mean_iou))
    if not math.isnan(head):
        cards.append(("head mIoU", head, low.head_mean_iou, high.head_mean_iou))
    for title, path in (
        ("PQ†", ("dagger", "all", "pq")),
        ("PC", ("covering", "all", "covering")),
        ("boundary PQ", ("boundary", "all", "pq")),
        ("AP of the map's things", ("instances", "ap")),
        ("AP of things before fusion", ("instances_before_fusion", "ap")),
        ("iIoU of the map's things", ("instance_iou", "mean_iou")),
        ("iIoU of the semantic head's things", ("instance_iou_head", "mean_iou")),
    ):
        value = _looked_up(found.summary, *path)
        if value is not None:
            cards.append((title, value, math.nan, math.nan))
    protocol_pq = _looked_up(found.summary, "panoptic", "all", "pq")
    is_other = protocol_pq is not None and abs(protocol_pq - cards[0][1]) > 1e-6
    return {
        "cards": cards,
        "num_draws": f"{found.samples:,}",
        "num_images": format_count(len(found.records), "image"),
        "caution": small_sample_warning(len(found.records)),
        "protocol_pq": protocol_pq if is_other else None,
        "speed": found.summary.get("speed"),
    }


def _looked_up(summary: Mapping[str, Any], *path: str) -> float | None:
    """Return a number of the summary, or None if it has none there."""
    value: Any = summary
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


# Columns of categories that not every evaluation has: title, tooltip, and the metric and its number in the summary.
_OTHERS = (
    ("PC", "parsing covering", "covering", "covering"),
    ("head IoU", "of all pixels of the category, in the prediction of the semantic head alone", "semantic_head", "iou"),
    ("iIoU", "IoU of the map's pixels in which every object weighs the same; of things", "instance_iou", "iou"),
    ("head iIoU", "the same for the semantic head alone", "instance_iou_head", "iou"),
    ("AP", "average precision of the map's objects, mean over IoU from 0.50 to 0.95; of things", "instances", "ap"),
    ("AP before fusion", "the same for the objects before fusion", "instances_before_fusion", "ap"),
)


def categories(found: ReportData) -> dict[str, Any]:
    """Return a row for each category that occurs."""
    low, high = found.ends.low.categories, found.ends.high.categories
    counts = np.zeros((len(found.labels), 3), int)
    for record in found.records:
        for category, tp, fp, fn, _ in record.quality:
            counts[category] += (tp, fp, fn)
    columns = [(title, hint, _by_category(found, metric, name)) for title, hint, metric, name in _OTHERS]
    others = [column for column in columns if column[2]]
    rows = []
    for i, described in enumerate(found.labels):
        values = found.values.categories[0, i]
        iou = found.values.ious[0, i]
        if math.isnan(values[0]) and math.isnan(iou):
            continue
        costs = {error_type: cost.per_category[described.name] for error_type, cost in found.errors.types.items()}
        costs[ErrorType.LOCALIZATION] = found.errors.near_misses.per_category[described.name]
        worst = max(costs, key=lambda error_type: np.nan_to_num(costs[error_type]))
        is_dear = costs[worst] >= 5e-5
        rows.append(
            {
                "name": category_name(found.labels, i),
                "is_thing": described.is_thing,
                "quality": values,
                "spans": [percent_interval(low[i, j], high[i, j]) for j in range(3)],
                "width": float(high[i, 0] - low[i, 0]),
                "counts": counts[i].tolist(),
                "others": [iou, *(column[2][i] for column in others)],
                "main_error": type_name(worst) if is_dear else (NOTHING, None),
                "main_cost": costs[worst] if is_dear else math.nan,
            }
        )
    heads = [{"title": title, "hint": hint} for title, hint, _ in others]
    return {"rows": rows, "other_heads": heads, "num_absent": len(found.labels) - len(rows)}


def _by_category(found: ReportData, metric: str, name: str) -> list[float]:
    """Return a metric's number of every category, nan where it has none; nothing if it was not measured."""
    values = [_looked_up(found.summary, metric, "per_category", category.name, name) for category in found.labels]
    is_measured = any(value is not None for value in values)
    return [math.nan if value is None else value for value in values] if is_measured else []


def objects(found: ReportData) -> dict[str, Any] | None:
    """Return the average precision by object size, of the map and before fusion; None if it was not measured."""
    reports = {
        "objects of the map": found.summary.get("instances"),
        "objects before fusion": found.summary.get("instances_before_fusion"),
    }
    measured = {name: report for name, report in reports.items() if report and report.get("by_size")}
    if not measured:
        return None
    tables = [
        {"caption": f"Of the {name}. " if len(measured) > 1 else "", "rows": _sizes(report)}
        for name, report in measured.items()
    ]
    chart = size_chart({name: report["by_size"] for name, report in measured.items()})
    return {"chart": chart, "source": " and ".join(measured), "tables": tables}


def _sizes(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, size in report["by_size"].items():
        ap, recall = (math.nan if size[key] is None else size[key] for key in ("ap", "recall"))
        end = f"to {size['largest']:,.0f}" if size["largest"] < LARGEST_AREA else "on"
        pixels = f"{size['smallest']:,.0f} {end}"
        rows.append({"name": name, "pixels": pixels, "num_objects": size["num_objects"], "ap": ap, "recall": recall})
    return rows


def worst(drawn: Sequence[tuple[WorstCase, Sequence[Figure]]], num_left_out: int) -> dict[str, Any]:
    """Return the worst images with their figures and numbers of errors."""
    cases = []
    for (record, reason), figures in drawn:
        numbers = {error_type: count_of_type(record, error_type) for error_type in ErrorType}
        listed = ", ".join(f"{error_type.title} {number}" for error_type, number in numbers.items() if number)
        cases.append({"name": record.name, "pq": record.pq, "reason": reason, "errors": listed, "figures": figures})
    return {"cases": cases, "num_left_out": num_left_out}


def images(found: ReportData) -> dict[str, Any]:
    """Return (name, PQ, TP, FP, FN and numbers of errors) of all images, the worst first."""
    ranked = sorted(found.records, key=lambda r: (math.isnan(r.pq), np.nan_to_num(r.pq), r.name))
    rows = [
        (
            record.name,
            record.pq,
            [sum(row[column] for row in record.quality) for column in (1, 2, 3)]
            + [count_of_type(record, error_type) for error_type in ErrorType],
        )
        for record in ranked[:_MOST_ROWS]
    ]
    limit = f" The {_MOST_ROWS:,} worst of {len(ranked):,}." if len(ranked) > _MOST_ROWS else ""
    return {"rows": rows, "limit": limit}


def files(issues: Sequence[Issue]) -> dict[str, Any]:
    """Return the file issues by file; the caption has their counts."""
    caption = ", ".join(f"{error_type} {count}" for error_type, count in count_by_kind(issues).items())
    by_file = [(file, "; ".join(p.what for p in group)) for file, group in groupby(issues, key=lambda p: p.file)]
    if len(by_file) > _MOST_ISSUES:
        caption += f". The first {_MOST_ISSUES} of {len(by_file)} files."
    return {"caption": caption, "rows": by_file[:_MOST_ISSUES]}
