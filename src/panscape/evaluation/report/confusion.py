"""The report section with the confusion matrix of categories."""

from __future__ import annotations

from typing import Any

import numpy as np

from panscape.evaluation.report.html import (
    Cell,
    Column,
    Html,
    element,
    embedded_json,
    joined,
    number,
    section,
    table,
    wide,
)
from panscape.evaluation.report.sections import ReportData, category_name

_MOST_CONFUSIONS = 20


def confusion(found: ReportData) -> Html:
    """Return the most frequent confusions as a table, and the matrix, which the script draws."""
    num = len(found.labels)
    pixels = np.zeros((num, num + 1), np.int64)
    segments: dict[tuple[int, int], int] = {}
    for record in found.records:
        for row, column, count in record.confusion:
            pixels[row, column] += count
        for row, column, count in record.confused:
            segments[row, column] = segments.get((row, column), 0) + count
    sums = pixels.sum(1)
    wrong = pixels.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSIONS]
    rows = []
    for cell in order.tolist():
        row, column = divmod(cell, num + 1)
        if not wrong[row, column]:
            break
        rows.append(
            [
                Cell(category_name(found.labels, row), found.labels[row].name),
                Cell(category_name(found.labels, column), found.labels[column].name if column < num else "void"),
                number(wrong[row, column] / sums[row], bar=True),
                Cell(f"{wrong[row, column]:,}", float(wrong[row, column])),
            ]
        )
    columns = [Column("truth", True), Column("predicted as", True), Column("% of the truth's pixels"), Column("pixels")]
    lists = [
        wide(table(columns, rows, caption="Most pixels", sorted_by={3: "descending"}))
        if rows
        else element("p", "None.")
    ]
    if segments:
        taken = sorted(segments.items(), key=lambda item: (-item[1], item[0]))[:_MOST_CONFUSIONS]
        cells = [
            [
                Cell(category_name(found.labels, a), found.labels[a].name),
                Cell(category_name(found.labels, b), found.labels[b].name),
                Cell(n),
            ]
            for (a, b), n in taken
        ]
        heads = [Column("truth", True), Column("predicted as", True), Column("segments")]
        lists.append(wide(table(heads, cells, caption="Most whole segments", sorted_by={2: "descending"})))
    return section(
        "confusion",
        "Confusion of categories",
        element("div", *lists, class_="columns"),
        _matrix(found, pixels, wrong),
    )


def _matrix(found: ReportData, pixels: np.ndarray[Any, Any], wrong: np.ndarray[Any, Any]) -> Html:
    present = pixels.sum(1) + pixels[:, :-1].sum(0)
    involved = wrong.sum(1) + wrong[:, :-1].sum(0)
    order = [i for i in np.argsort(-involved, kind="stable").tolist() if present[i]]
    rows, columns = pixels.nonzero()
    data = {
        "names": [*(c.name for c in found.labels), "void"],
        "cells": np.stack([rows, columns, pixels[rows, columns]], 1).tolist(),
        "order": order,
    }
    steps = [n for n in (15, 30, 60) if n < len(order)]
    options = [element("option", f"the {n} most confused", value=n, selected=n == 30) for n in steps]
    options.append(element("option", f"all {len(order)} that occur", value="all"))
    canvas = element(
        "canvas", "", id="confusion-canvas", tabindex="0", role="img", aria_describedby="confusion-says",
        aria_label="Confusion matrix: a row for each true category, a column for each predicted one. "
        "Use the arrow keys to move between cells.",
    )  # fmt: skip
    controls = element(
        "div", element("label", "Categories: ", element("select", *options, id="confusion-choice")), class_="controls"
    )
    says = element("output", "Point at a cell, or use the arrow keys.", id="confusion-says")
    note = (
        "Each row shows the predictions for the pixels of one true category; a stronger colour is a larger fraction. "
        "Grey cells are correct."
    )
    body = [element("h3", "Matrix"), element("p", note, class_="soft"), controls, says]
    body.append(element("div", canvas, class_="matrix"))
    return joined([element("div", *body, id="confusion-matrix", hidden=True), embedded_json(data, "confusion-data")])
