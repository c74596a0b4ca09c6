"""The values of the report section with the confusion of categories."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from panscape.evaluation.report.html import category_name
from panscape.evaluation.report.sections import ReportData

_MOST_CONFUSIONS = 20


def confusion(found: ReportData) -> dict[str, Any]:
    """Return the most frequent confusions in pixels and segments, and the matrix, which the script draws."""
    num = len(found.labels)
    pixels = np.zeros((num, num + 1), np.int64)
    segments: Counter[tuple[int, int]] = Counter()
    for record in found.records:
        for row, column, count in record.confusion:
            pixels[row, column] += count
        for row, column, count in record.confused:
            segments[row, column] += count
    wrong = pixels.copy()
    np.fill_diagonal(wrong, 0)
    names = [category_name(found.labels, i) for i in range(num + 1)]
    worst = [divmod(cell, num + 1) for cell in np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSIONS].tolist()]
    sums = pixels.sum(1)
    present = sums + pixels[:, :-1].sum(0)
    involved = wrong.sum(1) + wrong[:, :-1].sum(0)
    rows, columns = pixels.nonzero()
    return {
        "pixels": [(names[i], names[j], wrong[i, j] / sums[i], int(wrong[i, j])) for i, j in worst if wrong[i, j]],
        "segments": [
            (names[i], names[j], count)
            for (i, j), count in sorted(segments.items(), key=lambda item: (-item[1], item[0]))[:_MOST_CONFUSIONS]
        ],
        "matrix": {
            "names": [name for name, _ in names],
            "cells": np.stack([rows, columns, pixels[rows, columns]], 1).tolist(),
            "order": [i for i in np.argsort(-involved, kind="stable").tolist() if present[i]],
        },
    }
