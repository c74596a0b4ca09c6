"""The chart of average precision over the sizes of objects.

As Figure 5 of Porzi et al., "Improving Panoptic Segmentation at All Scales", CVPR 2021; here with one line for each
run, or for the objects of the map and those before fusion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from panscape.metrics.object_sizes import LARGEST_AREA
from panscape.metrics.tables import format_count

Sizes = Mapping[str, Mapping[str, Any]]
"""``by_size`` of a report of average precision as plain dicts."""

WIDTH, HEIGHT = 760, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 22, 96  # margins for the titles and ticks of the axes
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
_RANGE = ("smallest", "largest", "num_objects")
_MOST_LABELLED = 2  # lines; the numbers at the points of more lines would overlap


class _Point(NamedTuple):
    x: float
    y: float
    ap: float
    hint: str
    label: float  # offset of the number from the point: above the higher line, below the lower one


def has_same_ranges(runs: Sequence[Sizes]) -> bool:
    """Return whether all runs have the same size ranges with as many objects, so that they can be compared."""
    ranges = [[(name, *(size[k] for k in _RANGE)) for name, size in _shown(sizes).items()] for sizes in runs]
    return all(each == ranges[0] for each in ranges)


def size_chart(runs: Mapping[str, Sizes]) -> dict[str, Any] | None:
    """Return the positions of everything in the chart, in units of its view box; None without sizes.

    The sizes are the percentiles if there are any, else those of COCO.

    Args:
        runs: sizes by the name of the line; all with the same ranges.
    """
    ranges = _shown(next(iter(runs.values())))
    if not ranges:
        return None
    aps = {name: [_ap(sizes[size]) for size in ranges] for name, sizes in runs.items()}
    highest = max((ap for line in aps.values() for ap in line if not math.isnan(ap)), default=0.0)
    step = next((step for step in _STEPS if 6 * step >= highest), _STEPS[-1])
    num_steps = max(1, math.ceil(round(highest / step, 9)))
    columns = [_LEFT + (WIDTH - _LEFT - _RIGHT) * (i + 0.5) / len(ranges) for i in range(len(ranges))]

    def height_of(fraction: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * fraction / (step * num_steps)

    lines = []
    for number, (name, line) in enumerate(aps.items()):
        points = [
            _Point(x, height_of(ap), ap, f"{name}, {size}: AP {100 * ap:.1f} %", _label(ap, others, number))
            for x, size, ap, others in zip(columns, ranges, line, zip(*aps.values(), strict=True), strict=True)
            if not math.isnan(ap)
        ]
        is_gap = [math.isnan(ap) for ap in line]
        lines.append({"name": name, "number": number, "points": points, "path": _path(points, is_gap)})
    return {
        "size": (WIDTH, HEIGHT),
        "frame": (_LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM),
        "grid": [(height_of(step * i), f"{100 * step * i:.0f}") for i in range(num_steps + 1)],
        "ticks": [
            (x, name.replace("-", "\N{EN DASH}"), _extent(size), format_count(size["num_objects"], "object"))
            for x, (name, size) in zip(columns, ranges.items(), strict=True)
        ],
        "lines": lines,
        "is_labelled": len(lines) <= _MOST_LABELLED,
        "is_percentile": all(name.endswith("%") for name in ranges),
    }


def _shown(sizes: Sizes) -> Sizes:
    percentiles = {name: size for name, size in sizes.items() if name.endswith("%")}
    return percentiles or sizes


def _ap(size: Mapping[str, Any]) -> float:
    return math.nan if size["ap"] is None else float(size["ap"])


def _extent(size: Mapping[str, Any]) -> str:
    if size["largest"] >= LARGEST_AREA:
        return f"from {size['smallest']:,.0f}"
    return f"{size['smallest']:,.0f} to {size['largest']:,.0f}"


def _label(ap: float, column: Sequence[float], number: int) -> float:
    """Return the offset of the number at a point of a column, so that the numbers of two lines are apart."""
    is_lower = any(ap < other or (ap == other and i < number) for i, other in enumerate(column) if i != number)
    return 19 if is_lower else -10


def _path(points: Sequence[_Point], is_gap: Sequence[bool]) -> str:
    """Return the line through the points as a path of SVG, interrupted at the gaps."""
    parts, rest, is_start = [], iter(points), True
    for gap in is_gap:
        if not gap:
            point = next(rest)
            parts.append(f"{'M' if is_start else 'L'}{point.x:.1f} {point.y:.1f}")
        is_start = gap
    return " ".join(parts)
