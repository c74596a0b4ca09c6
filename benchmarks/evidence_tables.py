"""Tables of scores by row and seed, and which differences exceed the spread of seeds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from statistics import mean

from reporting import table

NAMES = {
    "pyrx1": "PYRx1",
    "spp": "SPP",
    "pyrx2": "PYRx2",
    "pyrx3": "PYRx3 (4 regions)",
    "l1": "L1",
    "regions3": "3 regions",
    "regions8": "8 regions",
}
TABLES = {"Table 6": ("pyrx1", "spp", "pyrx2", "pyrx3"), "Table 8": ("l1", "regions3", "pyrx3", "regions8")}
# PQ as published for Cityscapes val (Panoptic SwiftNet, Tables 6 and 8).
PAPER = {"pyrx1": 51.7, "spp": 53.5, "pyrx2": 54.9, "pyrx3": 55.9, "l1": 55.2, "regions3": 55.2, "regions8": 55.5}
SCORES = ("PQ", "PQ things", "PQ stuff", "SQ", "RQ", "mIoU")


def report(scores: Mapping[str, Sequence[Sequence[float]]], objects: Sequence[int], edges: Sequence[int]) -> str:
    """Return Markdown: for each of the paper's tables the scores, and the differences between its rows.

    Args:
        scores: for each row and each of its seeds, fractions: those of ``SCORES``, then PQ of things by size.
        objects: number of true objects of each size.
        edges: between the sizes, pixels.
    """
    sizes = [f"below {edges[0]}", *(f"{a} to {b}" for a, b in itertools.pairwise(edges)), f"above {edges[-1]}"]
    columns = [*SCORES, *(f"{name} px" for name in sizes)]
    parts = [
        "Percent, mean over seeds ± half the distance between the best and the worst. The last columns are PQ of "
        "things by the square root of the object's area; val has "
        + ", ".join(f"{count} of {name}" for count, name in zip(objects, sizes, strict=True))
        + ".",
    ]
    for title, rows in TABLES.items():
        found = {row: scores[row] for row in rows if row in scores}
        if found:
            parts += [f"### {title}", _means(found, columns)]
        if len(found) > 1:
            parts += [_differences(found, columns), _orders(found, columns)]
    return "\n\n".join(parts)


def _percent(runs: Sequence[Sequence[float]], column: int) -> list[float]:
    return [100 * run[column] for run in runs]


def _means(found: Mapping[str, Sequence[Sequence[float]]], columns: Sequence[str]) -> str:
    lines = []
    for row, runs in found.items():
        cells = []
        for i in range(len(columns)):
            values = _percent(runs, i)
            cells.append(f"{mean(values):.1f} ± {(max(values) - min(values)) / 2:.1f}")
        lines.append([NAMES[row], str(len(runs)), f"{PAPER[row]}", *cells])
    return table(["row", "seeds", "PQ in the paper", *columns], lines)


def _differences(found: Mapping[str, Sequence[Sequence[float]]], columns: Sequence[str]) -> str:
    spreads = []
    for i in range(len(columns)):
        values = [_percent(runs, i) for runs in found.values()]
        spreads.append(max(max(v) - min(v) for v in values))
    lines = []
    for first, second in itertools.combinations(found, 2):
        cells = [
            _difference(mean(_percent(found[second], i)) - mean(_percent(found[first], i)), spreads[i])
            for i in range(len(columns))
        ]
        lines.append([f"{NAMES[second]} minus {NAMES[first]}", f"{PAPER[second] - PAPER[first]:+.1f}", *cells])
    lines.append(["spread", "", *(f"{spread:.1f}" for spread in spreads)])
    legend = "Differences; bold are those above the spread: the largest distance between two seeds of one row."
    if min(len(runs) for runs in found.values()) < 2:
        legend = "Differences; a row has one seed only, so that there is no spread to hold them against."
        lines = [[cell.replace("**", "") for cell in line] for line in lines[:-1]]
    return f"{legend}\n\n{table(['rows', 'PQ in the paper', *columns], lines)}"


def _difference(value: float, spread: float) -> str:
    return f"**{value:+.1f}**" if abs(value) > spread else f"{value:+.1f}"


def _orders(found: Mapping[str, Sequence[Sequence[float]]], columns: Sequence[str]) -> str:
    lines = ["Orders, from the worst to the best:", ""]
    lines.append(f"- PQ in the paper: {_order({row: PAPER[row] for row in found})}")
    for i, column in enumerate(columns):
        lines.append(f"- {column}: {_order({row: mean(_percent(runs, i)) for row, runs in found.items()})}")
    return "\n".join(lines)


def _order(values: Mapping[str, float]) -> str:
    ranked = sorted(values, key=lambda row: values[row])
    text = NAMES[ranked[0]]
    for worse, better in itertools.pairwise(ranked):
        text += f" {'=' if round(values[worse], 1) == round(values[better], 1) else '<'} {NAMES[better]}"
    return text
