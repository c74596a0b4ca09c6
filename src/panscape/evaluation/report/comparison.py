"""The report section that compares two runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from panscape.evaluation.compare import Comparison, Difference, ImageChange
from panscape.evaluation.report.html import Cell, Column, Html, element, number, section, share, signed, table, wide
from panscape.evaluation.report.sections import kind_name, warning

_MOST_IMAGES = 10


def comparison_section(comparison: Comparison) -> Html:
    """Return the differences of two runs and their significance."""
    only = comparison.num_only_first, comparison.num_only_second
    names = element(
        "p",
        "From ",
        element("strong", comparison.first),
        " to ",
        element("strong", comparison.second),
        f", on {comparison.num_images:,} images that both have",
        f" (left out: {only[0]:,} only in the first, {only[1]:,} only in the second)" if any(only) else "",
        ". All other sections are about ",
        element("strong", comparison.second),
        ".",
    )
    clear = [d for d in comparison.categories.values() if d.is_more_than_noise]
    better = sum(d.change > 0 for d in clear)
    chance = 0.05 * len(comparison.categories)
    note = (
        f"Of {len(comparison.categories)} categories {better} improved and {len(clear) - better} degraded by more than "
        f"noise; about {chance:.0f} are expected by chance alone. Intervals are paired: every draw uses the "
        "same images of both runs."
    )
    costs = {kind: _negative(d) for kind, d in comparison.kinds.items()}
    return section(
        "comparison",
        "What changed",
        names,
        element("p", comparison.sentence, class_="lead"),
        element("p", comparison.note) if comparison.note else "",
        warning(comparison.num_images),
        wide(_differences("", comparison.groups.items())),
        element("h3", "Error types"),
        wide(_differences("ΔPQ of", ((kind_name(kind), d) for kind, d in costs.items()), is_cost=True)),
        element("h3", "Categories"),
        element("p", note, class_="soft"),
        wide(_differences("PQ of", _by_change(comparison.categories))),
        element("div", *_images(comparison), class_="columns"),
    )


def _negative(d: Difference) -> Difference:
    """Negate costs, so that larger is better."""
    return Difference(-d.before, -d.after, -d.high, -d.low)


def _by_change(differences: dict[str, Difference]) -> list[tuple[str, Difference]]:
    """Sort by significance, then by size of the change."""
    return sorted(
        differences.items(),
        key=lambda item: (
            not item[1].is_more_than_noise,
            -abs(item[1].change) if item[1].change == item[1].change else 0,
        ),
    )


def _differences(title: str, entries: Iterable[tuple[str | Html, Difference]], *, is_cost: bool = False) -> Html:
    entries = list(entries)
    ends = [abs(v) for _, d in entries for v in (d.low, d.high, d.change) if not math.isnan(v)]
    scale = max(ends, default=0) or 1.0
    sign = -1 if is_cost else 1
    columns = [
        Column(title, True),
        Column("before"),
        Column("after"),
        Column("change"),
        Column("worse · better", True, is_sortable=False),
        Column("95 % interval", True, is_sortable=False),
        Column("verdict", True),
    ]
    rows = []
    for name, d in entries:
        verdict, kind = "could be noise", ""
        if d.is_more_than_noise:
            verdict, kind = ("better", "better") if d.low > 0 else ("worse", "worse")
        elif not d.change:
            verdict = "same"
        low, high = sorted((sign * d.low, sign * d.high))
        rows.append(
            [
                Cell(name, classes="name"),
                number(sign * d.before),
                number(sign * d.after),
                Cell(element("span", signed(sign * d.change), class_=f"strong {kind}"), sign * d.change),
                _change_cell(d.change, d.low, d.high, scale),
                Cell("" if math.isnan(d.low) else f"{signed(low)} to {signed(high)}"),
                Cell(element("span", verdict, class_=f"badge {kind}"), verdict),
            ]
        )
    return table(columns, rows, is_full=True, sortable=bool(title))


def _change_cell(change: float, low: float, high: float, scale: float) -> Cell:
    """Return the bar of a difference with its interval."""
    if math.isnan(change) or math.isnan(low):
        return Cell("")
    direction = "better" if low > 0 else "worse" if high < 0 else ""
    places = [share(0.5 + 0.5 * value / scale) for value in (low, high, change)]
    style = "--low:{};--high:{};--at:{}".format(*places)
    track = element("span", element("i"), element("b"), class_="track", style=style, aria_hidden="true")
    hint = f"{signed(change)} points, 95 % interval {signed(low)} to {signed(high)}"
    return Cell(track, change, f"change {direction}".strip(), hint=hint)


def _images(comparison: Comparison) -> list[Html]:
    changed = comparison.changed
    best = [p for p in changed if p.change > 0][:_MOST_IMAGES]
    worst = [p for p in reversed(changed) if p.change < 0][:_MOST_IMAGES]
    return [_image_table(title, rows) for title, rows in (("Most improved", best), ("Most degraded", worst)) if rows]


def _image_table(title: str, rows: Sequence[ImageChange]) -> Html:
    columns = [Column("image", True), Column("PQ before"), Column("after"), Column("change")]
    cells = [
        [
            Cell(p.name, classes="name"),
            number(p.before),
            number(p.after),
            Cell(element("span", signed(p.change), class_="better" if p.change > 0 else "worse"), p.change),
        ]
        for p in rows
    ]
    return element("div", element("h3", title), wide(table(columns, cells)))
