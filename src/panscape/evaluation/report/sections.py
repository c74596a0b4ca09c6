"""The report sections of one run, each a function from the report data to HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from panscape.evaluation.bootstrap import Interval, Statistics, small_sample_warning
from panscape.evaluation.records import ImageRecord
from panscape.evaluation.report.figures import KIND_COLORS, Figure, WorstCase, kind_number
from panscape.evaluation.report.html import (
    NOTHING,
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
    swatch,
    table,
    tall,
    wide,
)
from panscape.formats.problems import Problem, count_by_kind
from panscape.labels import LabelSpace
from panscape.metrics.error_analysis import ErrorKind
from panscape.metrics.error_costs import ErrorReport
from panscape.metrics.object_sizes import LARGEST_AREA
from panscape.visualize import category_colors

KIND_MEANINGS = {
    ErrorKind.CLASSIFICATION: "found with IoU above 0.5, but with another category; fixed: category corrected",
    ErrorKind.UNDERSEGMENTATION: "one prediction covers most of several objects; fixed: cut along the truth",
    ErrorKind.OVERSEGMENTATION: "one object was predicted in several pieces; fixed: pieces merged",
    ErrorKind.MISSED: "no prediction matches it; fixed: found, with the mean IoU of its category",
    ErrorKind.BACKGROUND: "a prediction without any object it could match; fixed: removed",
    ErrorKind.LOCALIZATION: "the right object with an inaccurate outline, matched or not; fixed: perfect outline",
    ErrorKind.VOID: "predicted as void, or predicted where the truth is mostly void or crowd; fixed: found, or removed",
}
_MOST_ROWS = 5000
_MOST_PROBLEMS = 300


class ReportData(NamedTuple):
    """The data of all report sections.

    Attributes:
        labels: the categories.
        records: of all images.
        problems: issues of the files.
        summary: the reports of all metrics as plain dicts.
        values: metrics of the whole set, B = 1.
        ends: their intervals.
        errors: the error breakdown.
        samples: number of draws for the intervals.
    """

    labels: LabelSpace
    records: Sequence[ImageRecord]
    problems: Sequence[Problem]
    summary: Mapping[str, Any]
    values: Statistics
    ends: Interval
    errors: ErrorReport
    samples: int


def category_name(labels: LabelSpace, category: int) -> Html:
    """Return the colour and name of a category."""
    if category >= len(labels):
        return Html("void")
    return joined([swatch(category_colors(labels)[category].tolist()), Html(element("span", labels[category].name))])


def kind_name(kind: ErrorKind) -> Html:
    """Return the colour and name of an error type."""
    return joined([swatch(KIND_COLORS[kind]), Html(element("span", kind.title))])


# Headline


def headline(found: ReportData) -> Html:
    """Return the headline metrics with their intervals."""
    low, high = found.ends.low, found.ends.high
    places = {"PQ": (0, 0), "PQ of things": (1, 0), "PQ of stuff": (2, 0), "SQ": (0, 1), "RQ": (0, 2)}
    entries = [(name, found.values.groups[0, *at], low.groups[at], high.groups[at]) for name, at in places.items()]
    head = found.values.head_mean_iou[0]
    title = "mIoU" if math.isnan(head) else "mIoU of the map"
    entries.append((title, found.values.mean_iou[0], low.mean_iou, high.mean_iou))
    if not math.isnan(head):
        entries.append(("mIoU of the semantic head", head, low.head_mean_iou, high.head_mean_iou))
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
            entries.append((title, value, math.nan, math.nan))
    cards = [_card(*entry, is_main=i == 0) for i, entry in enumerate(entries)]
    note = (
        f"In percent. Below each value its 95 % bootstrap interval from {found.samples:,} draws of "
        f"{len(found.records):,} images: the variation over other images of the same kind."
    )
    protocol_pq = _looked_up(found.summary, "panoptic", "all", "pq")
    if protocol_pq is not None and abs(protocol_pq - entries[0][1]) > 1e-6:
        note += (
            f" The protocol of this evaluation uses another mean over categories: PQ {points(protocol_pq)}. Here "
            "categories that do not occur are left out."
        )
    speed = found.summary.get("speed")
    if speed is not None:
        parts = ", ".join(
            f"{title} {speed[key]['images_per_second']:.1f} ({speed[key]['median_ms']:.1f} ms)"
            for title, key in (("network", "network"), ("post-processing", "post_processing"), ("both", "both"))
        )
        note += f" Images per second, and the median time per image: {parts}; {speed['conditions']}."
    body = [
        element("dl", *cards, class_="numbers"),
        warning(len(found.records)),
        element("p", note, class_="soft foot"),
    ]
    return section("result", "Result", *body)


def warning(num_images: int) -> Html:
    """Return the warning about intervals from few images; empty if there are enough."""
    told = small_sample_warning(num_images)
    return element("p", told, class_="caution") if told else Html()


def _looked_up(summary: Mapping[str, Any], *path: str) -> float | None:
    """Return a number of the summary, or None if it has none there."""
    value: Any = summary
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def _card(title: str, value: float, low: float, high: float, *, is_main: bool) -> Html:
    rest = []
    if not math.isnan(low):
        style = f"--low:{share(low)};--high:{share(high)};--at:{share(value)}"
        rest = [element("span", element("i"), element("b"), class_="interval", style=style, aria_hidden="true")]
        rest.append(element("small", span(low, high)))
    body = element("dd", element("div", points(value), class_="value"), *rest)
    return element("div", element("dt", title), body, class_="main" if is_main else None)


# Categories


def categories(found: ReportData) -> Html:
    """Return the table of all categories that occur."""
    low, high = found.ends.low.categories, found.ends.high.categories
    counts = np.zeros((len(found.labels), 3), int)
    for record in found.records:
        for category, tp, fp, fn, _ in record.quality:
            counts[category] += (tp, fp, fn)
    others = {column: values for column, path in _OTHERS.items() if (values := _by_category(found, *path))}
    columns = [
        Column("category", True),
        Column("kind", True),
        Column("PQ"),
        Column("95 % interval", hint="sorted by width"),
        Column("SQ", hint="mean IoU of the segments found"),
        Column("RQ", hint="recognition quality, the F1 score"),
        Column("TP", hint="true positives"),
        Column("FP", hint="false positives"),
        Column("FN", hint="false negatives"),
        Column("IoU", hint="of all pixels of the category, in the map"),
        *others,
        Column("main error", True, "without outlines of matched segments, which SQ measures"),
        Column("ΔPQ", hint="gain in PQ of the category if this error type were fixed"),
    ]
    rows = []
    for i, described in enumerate(found.labels):
        values = found.values.categories[0, i]
        if math.isnan(values[0]) and math.isnan(found.values.ious[0, i]):
            continue
        of_kind = {kind: cost.per_category[described.name] for kind, cost in found.errors.kinds.items()}
        of_kind[ErrorKind.LOCALIZATION] = found.errors.near_misses.per_category[described.name]
        worst = max(of_kind, key=lambda kind: np.nan_to_num(of_kind[kind]))
        is_dear = of_kind[worst] >= 5e-5
        hints = [f"95 % interval {span(low[i, j], high[i, j])}" for j in range(3)]
        rows.append(
            [
                Cell(category_name(found.labels, i), described.name, "name"),
                Cell("thing" if described.is_thing else "stuff"),
                number(values[0], bar=True, hint=hints[0]),
                Cell(element("small", span(low[i, 0], high[i, 0])), float(high[i, 0] - low[i, 0])),
                number(values[1], hint=hints[1]),
                number(values[2], hint=hints[2]),
                *(Cell(int(count)) for count in counts[i]),
                number(found.values.ious[0, i]),
                *(number(values[i]) for values in others.values()),
                Cell(kind_name(worst) if is_dear else NOTHING, worst.title if is_dear else ""),
                number(of_kind[worst] if is_dear else math.nan),
            ]
        )
    absent = len(found.labels) - len(rows)
    caption = "Click a column head to sort. " + (
        f"{absent} categories do not occur and are left out." if absent else ""
    )
    grid = table(columns, rows, caption=caption.strip(), identifier="category-table", is_full=True)
    return section("categories", "Categories", _filter("category-table", "categories"), wide(grid))


_OTHERS = {
    Column("PC", hint="parsing covering"): ("covering", "covering"),
    Column("head IoU", hint="of all pixels of the category, in the prediction of the semantic head alone"): (
        "semantic_head",
        "iou",
    ),
    Column("iIoU", hint="IoU of the map's pixels in which every object weighs the same; of things"): (
        "instance_iou",
        "iou",
    ),
    Column("head iIoU", hint="the same for the semantic head alone"): ("instance_iou_head", "iou"),
    Column("AP", hint="average precision of the map's objects, mean over IoU from 0.50 to 0.95; of things"): (
        "instances",
        "ap",
    ),
    Column("AP before fusion", hint="the same for the objects before fusion"): (
        "instances_before_fusion",
        "ap",
    ),
}
"""Columns of categories that have them, and where in the summary they are: the metric and its number."""


def _by_category(found: ReportData, metric: str, name: str) -> list[float]:
    """Return a metric's number of every category, nan where it has none; nothing if it was not measured."""
    values = [_looked_up(found.summary, metric, "per_category", category.name, name) for category in found.labels]
    is_measured = any(value is not None for value in values)
    return [math.nan if value is None else value for value in values] if is_measured else []


def _filter(identifier: str, what: str) -> Html:
    field = element("input", type="search", data_filters=identifier, placeholder="part of a name")
    return element("div", element("label", f"Show {what} with ", field), class_="controls", hidden=True)


def objects(found: ReportData) -> Html:
    """Return the average precision of objects by their size; nothing if it was not measured."""
    of_map, before_fusion = (found.summary.get(name, {}) for name in ("instances", "instances_before_fusion"))
    if not of_map.get("by_size"):
        return Html()
    captions = ["Of the map's objects. ", "Of the objects before fusion. "] if before_fusion else [""]
    tables = [
        _sizes(report["by_size"], caption) for report, caption in zip((of_map, before_fusion), captions, strict=False)
    ]
    return section("objects", "Objects by size", *tables)


def _sizes(sizes: Mapping[str, Any], caption: str) -> Html:
    columns = [
        Column("size", True),
        Column("pixels", hint="area of the smallest and of the largest object"),
        Column("objects"),
        Column("AP", hint="average precision, mean over IoU from 0.50 to 0.95 and categories"),
        Column("AR", hint="recall, likewise"),
    ]
    rows = []
    for name, size in sizes.items():
        precision, recall = (math.nan if size[key] is None else size[key] for key in ("ap", "recall"))
        end = f"to {size['largest']:,.0f}" if size["largest"] < LARGEST_AREA else "on"
        cells = [Cell(f"{size['smallest']:,.0f} {end}"), Cell(size["num_objects"]), number(precision, bar=True)]
        rows.append([Cell(name), *cells, number(recall)])
    caption += "Average precision ranks objects by their score. Percentiles refer to the areas of true objects."
    return wide(table(columns, rows, caption=caption, sortable=False))


# Images and files


def cases(drawn: Sequence[tuple[WorstCase, Sequence[Figure]]], num_left_out: int) -> Html:
    """Return the worst images with truth, prediction and errors."""
    legend = element("ul", *(element("li", kind_name(kind)) for kind in ErrorKind), class_="legend")
    parts = []
    for chosen, figures in drawn:
        name, pq = chosen.record.name, points(chosen.record.pq)
        numbers = {kind: kind_number(chosen.record, kind) for kind in ErrorKind}
        told = ", ".join(f"{kind.title} {count}" for kind, count in numbers.items() if count)
        boxes = [
            element(
                "figure",
                element(
                    "img",
                    src=f.uri,
                    alt=f"{f.caption} of {name}",
                    height=f.size[0],
                    width=f.size[1],
                    loading="lazy",
                ),
                element("figcaption", f.caption),
                tabindex="0",
            )
            for f in figures
        ]
        title = element("h3", name, " ", element("small", f"PQ {pq} · {chosen.reason}"))
        body = [title, element("p", told, class_="soft") if told else "", element("div", *boxes, class_="figures")]
        parts.append(element("div", *body, class_="case"))
    more = f" {num_left_out} more were left out to keep this page small." if num_left_out else ""
    note = "Images with the lowest PQ, and with the most errors of each type. Click an image to enlarge it." + more
    return section("worst", "Worst images", element("p", note, class_="soft"), legend, *parts)


def images(found: ReportData) -> Html:
    """Return the table of all images, the worst first."""
    columns = [
        Column("image", True),
        Column("PQ", hint="mean over the categories of this image alone"),
        Column("TP"),
        Column("FP"),
        Column("FN"),
        *(Column(kind.title, hint=f"false negatives and positives: {KIND_MEANINGS[kind]}") for kind in ErrorKind),
    ]
    ranked = sorted(found.records, key=lambda r: (math.isnan(r.pq), r.pq if not math.isnan(r.pq) else 0, r.name))
    rows = []
    for record in ranked[:_MOST_ROWS]:
        counts = [sum(row[column] for row in record.quality) for column in (1, 2, 3)]
        kinds = [kind_number(record, kind) for kind in ErrorKind]
        rows.append([Cell(record.name, classes="name"), number(record.pq), *counts, *kinds])
    caption = "PQ of one image is the mean over its own categories; PQ of the set is not the mean of these."
    if len(ranked) > _MOST_ROWS:
        caption += f" The {_MOST_ROWS:,} worst of {len(ranked):,}."
    grid = table(columns, rows, caption=caption, identifier="image-table", sorted_by={1: "ascending"}, is_full=True)
    window = tall(grid, "All images")
    return section("images", "All images", _filter("image-table", "images"), window)


def files(found: ReportData) -> Html:
    """Return the table of file issues."""
    counts = ", ".join(f"{kind} {count}" for kind, count in count_by_kind(found.problems).items())
    by_file = [(file, [p.what for p in group]) for file, group in groupby(found.problems, key=lambda p: p.file)]
    rows = [
        [Cell(file, classes="name"), Cell("; ".join(what), classes="name")] for file, what in by_file[:_MOST_PROBLEMS]
    ]
    caption = counts + (
        f". The first {_MOST_PROBLEMS} of {len(by_file)} files." if len(by_file) > _MOST_PROBLEMS else ""
    )
    heads = [Column("file", True), Column("what", True)]
    grid = tall(table(heads, rows, caption=caption, is_full=True), "Invalid files")
    note = "Unreadable parts of a prediction count as missed; images with an ambiguous ground truth are skipped."
    return section("files", "Invalid files", element("p", note, class_="soft"), grid)
