"""The report section with the error breakdown (ΔPQ), and the summary of what to fix first."""

from __future__ import annotations

import math

import numpy as np

from panscape.evaluation.report.figures import KIND_COLORS
from panscape.evaluation.report.html import (
    Cell,
    Column,
    Html,
    element,
    joined,
    number,
    points,
    section,
    share,
    span,
    table,
    wide,
)
from panscape.evaluation.report.sections import KIND_MEANINGS, ReportData, kind_name
from panscape.metrics.error_analysis import SIZE_NAMES, ErrorKind
from panscape.metrics.error_costs import ErrorImpact


def fix_first(found: ReportData) -> str:
    """Return sentences about the errors with the largest impact."""
    pq = float(found.values.groups[0, 0, 0])
    costs = sorted(found.errors.kinds.items(), key=lambda item: -np.nan_to_num(item[1].all))
    (kind, cost), (next_kind, next_cost) = costs[:2]
    if math.isnan(pq) or math.isnan(cost.all):
        return "There are no segments, so there are no errors to analyse."
    if cost.all < 5e-5:
        return "No error type has a noticeable impact."
    each = {n: v for n, v in cost.per_category.items() if not math.isnan(v) and v > 0}
    first = sorted(each, key=lambda n: -each[n])[:3]
    size = max(SIZE_NAMES, key=lambda name: cost.by_size[name])
    where = f"; sizes: {size} pixels" if cost.by_size[size] > 0 else ""
    sentence = (
        f"Fix first: {kind.title}. If only these errors were fixed, PQ would rise by {points(cost.all)} points, "
        f"from {points(pq)} to {points(pq + cost.all)}."
    )
    if kind is ErrorKind.LOCALIZATION:
        found_cost, missed_cost = points(found.errors.outlines.all), points(found.errors.near_misses.all)
        sentence += (
            f" Outlines of segments that were found account for {found_cost} points, those of segments that are missed "
            f"only because of their outline, for {missed_cost}."
        )
    if first:
        listed = first[0] if len(first) == 1 else f"{', '.join(first[:-1])} and {first[-1]}"
        sentence += f" Categories that would gain most: {listed}{where}."
    if next_cost.all >= 5e-4:
        sentence += f" Next: {next_kind.title}, with {points(next_cost.all)} points."
    return sentence


def errors(found: ReportData) -> Html:
    """Return the impact of each error type, in total and by size."""
    costs = sorted(found.errors.kinds.items(), key=lambda item: -np.nan_to_num(item[1].all))
    low, high = found.ends.low.costs, found.ends.high.costs
    scale = max(float(np.nanmax(np.append(np.nan_to_num(high), [np.nan_to_num(c.all) for _, c in costs]))), 1e-9)
    columns = [
        Column("error type", True),
        Column("ΔPQ", True),
        Column("PQ points"),
        Column("95 % interval"),
        Column("things"),
        Column("stuff"),
        Column("FN", hint="false negatives of this type"),
        Column("FP", hint="false positives of this type"),
    ]
    rows = []
    for kind, cost in costs:
        rows.append(
            _cost_row(kind, Cell(kind_name(kind), hint=KIND_MEANINGS[kind]), cost, scale, low[kind], high[kind])
        )
        if kind is ErrorKind.LOCALIZATION:
            parts = {"of matched segments": found.errors.outlines, "too inaccurate to match": found.errors.near_misses}
            for name, part in parts.items():
                rows.append(_cost_row(kind, Cell(name, classes="part"), part, scale, math.nan, math.nan, "part"))
    caption = (
        "Gain in PQ if all errors of one type were fixed and the others left unchanged (ΔPQ). The values do not add "
        "up, as one error can hide another."
    )
    meanings = [joined([element("dt", kind_name(kind)), element("dd", KIND_MEANINGS[kind])]) for kind in KIND_MEANINGS]
    return section(
        "errors",
        "Error breakdown (ΔPQ)",
        element("p", fix_first(found), class_="lead"),
        wide(table(columns, rows, caption=caption, sortable=False, is_full=True)),
        element(
            "details", element("summary", "Definition of the error types"), element("dl", *meanings, class_="kinds")
        ),
        element("h3", "By size of the segment"),
        wide(_sizes(found)),
    )


def _cost_row(
    kind: ErrorKind, name: Cell, cost: ErrorImpact, scale: float, low: float, high: float, classes: str = ""
) -> list[Cell]:
    fill = element("span", class_="fill", style=f"--share:{share(cost.all / scale)};--color:rgb{KIND_COLORS[kind]}")
    ends = f"--low:{share(low / scale)};--high:{share(high / scale)}"
    whisker = "" if math.isnan(low) else element("span", class_="whisker", style=ends)
    track = element("span", fill, whisker, class_="track", aria_hidden="true")
    return [
        name,
        Cell(track, classes=f"cost {classes}".strip()),
        Cell(points(cost.all, 2), cost.all, classes or "strong"),
        Cell(span(low, high), float(low), classes),
        Cell(points(cost.things, 2), cost.things, classes),
        Cell(points(cost.stuff, 2), cost.stuff, classes),
        Cell(cost.fn, classes=classes),
        Cell(cost.fp, classes=classes),
    ]


def _sizes(found: ReportData) -> Html:
    kinds = found.errors.kinds
    scale = max((np.nan_to_num(v) for cost in kinds.values() for v in cost.by_size.values()), default=0) or 1.0
    columns = [
        Column("size", True, "square root of the area in pixels"),
        Column("segments"),
        Column("found, %"),
        Column("mean IoU of those"),
        Column("FP"),
        *(Column(kind.title) for kind in ErrorKind),
        Column("all fixed"),
    ]
    rows = []
    for name, size in found.errors.sizes.items():
        cells = []
        for kind in ErrorKind:
            cost = kinds[kind].by_size[name]
            heat = f"--share:{0.75 * np.nan_to_num(cost) / scale:.3f}"
            cells.append(Cell(points(cost, 2), cost, "heat", heat))
        found_share = size.tp / size.num_truth if size.num_truth else math.nan
        mean_iou = size.iou_sum / size.tp if size.tp else math.nan
        rows.append(
            [
                Cell(name),
                Cell(size.num_truth),
                number(found_share, bar=True),
                number(mean_iou),
                Cell(size.fp),
                *cells,
                Cell(element("span", points(size.cost, 2), class_="strong"), size.cost),
            ]
        )
    caption = (
        "Gain in PQ points if the errors of one type and size were fixed. Sizes are square roots of areas in pixels."
    )
    return table(columns, rows, caption=caption, sortable=False)
