"""HTML elements. All text is escaped, except :class:`Html`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


class Html(str):
    """Text that is already HTML."""

    __slots__ = ()


def text(value: object) -> Html:
    """Return a value as HTML: escaped, unless it is already HTML."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def joined(parts: Iterable[Html], between: str = "") -> Html:
    """Return concatenated parts."""
    return Html(between.join(parts))


_WITHOUT_END = ("img", "input")


def element(tag: str, *children: object, **attributes: object) -> Html:
    """Return ``<tag ...>children</tag>``, or ``<tag ...>`` for void elements.

    Args:
        tag: its name.
        children: escaped unless they are HTML.
        attributes: ``class_`` is ``class``, other underscores are hyphens; None and False omit the attribute, True
            writes it without a value.
    """
    written = []
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        written.append(f" {name}" if value is True else f' {name}="{escape(str(value))}"')
    end = "" if tag in _WITHOUT_END else f"</{tag}>"
    return Html(f"<{tag}{''.join(written)}>{''.join(text(child) for child in children)}{end}")


def embedded_json(content: Any, identifier: str) -> Html:
    """Return data for the script of the page, escaped so that it cannot close its element."""
    written = (
        json.dumps(content, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c").replace("&", "\\u0026")
    )
    return Html(f'<script type="application/json" id="{escape(identifier)}">{written}</script>')


def swatch(color: Sequence[int] | str) -> Html:
    """Return a small square of a colour."""
    value = color if isinstance(color, str) else f"rgb({', '.join(map(str, color))})"
    return element("i", class_="swatch", style=f"--color:{value}", aria_hidden="true")


def points(fraction: float, decimals: int = 1) -> str:
    """Return a fraction in percent; a dash for nan."""
    return NOTHING if math.isnan(fraction) else f"{100 * fraction:.{decimals}f}"


def signed(fraction: float, decimals: int = 1) -> str:
    """Return a difference in percent with its sign; a dash for nan."""
    return NOTHING if math.isnan(fraction) else f"{100 * fraction:+.{decimals}f}".replace("-", MINUS)


def span(low: float, high: float, decimals: int = 1) -> str:
    """Return the ends of an interval in percent; nothing for nan."""
    return "" if math.isnan(low) or math.isnan(high) else f"{points(low, decimals)} to {points(high, decimals)}"


def share(fraction: float) -> str:
    """Return a fraction as a length in CSS, within 0..100 %."""
    return f"{100 * min(max(0.0 if math.isnan(fraction) else fraction, 0.0), 1.0):.2f}%"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: of the head.
        is_text: whether it is left-aligned and sorted as text.
        hint: tooltip of the head.
        is_sortable: whether the table can be sorted by it.
    """

    title: str
    is_text: bool = False
    hint: str | None = None
    is_sortable: bool = True


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes:
        content: the displayed content.
        value: sort key; None to sort by the content.
        classes: CSS classes.
        style: CSS style.
        hint: tooltip.
    """

    content: object
    value: float | str | None = None
    classes: str = ""
    style: str | None = None
    hint: str | None = None


def number(fraction: float, *, bar: bool = False, hint: str | None = None, decimals: int = 1) -> Cell:
    """Return the cell of a fraction in percent; ``bar`` also draws it as a bar."""
    content = element("span", points(fraction, decimals))
    style = f"--share:{share(fraction)}" if bar else None
    return Cell(content, fraction, "bar" if bar else "", style, hint)


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[Cell | object]],
    *,
    caption: str = "",
    identifier: str | None = None,
    sortable: bool = True,
    sorted_by: Mapping[int, str] | None = None,
    is_full: bool = False,
) -> Html:
    """Return a table; the first cell of each row is its head.

    Args:
        columns: from left to right.
        rows: with one cell per column; other values than :class:`Cell` are displayed directly.
        caption: above the table.
        identifier: its id, for the script.
        sortable: whether buttons in the head sort the table.
        sorted_by: initial sort order ("ascending" or "descending") by column.
        is_full: whether it is as wide as the page.
    """
    heads = []
    for position, column in enumerate(columns):
        label = (
            element("button", column.title, type="button") if sortable and column.is_sortable else text(column.title)
        )
        order = (sorted_by or {}).get(position)
        kind = "text" if column.is_text else None
        heads.append(element("th", label, scope="col", class_=kind, title=column.hint, aria_sort=order))
    body = []
    for row in rows:
        cells = []
        for position, (column, content) in enumerate(zip(columns, row, strict=True)):
            cell = content if isinstance(content, Cell) else Cell(content)
            value = cell.value
            if isinstance(value, float):
                value = "" if math.isnan(value) else f"{value:.6g}"
            classes = " ".join(filter(None, ("text" if column.is_text else "", cell.classes))) or None
            attributes = {"class_": classes, "style": cell.style, "title": cell.hint, "data_v": value}
            if position == 0:
                attributes["scope"] = "row"
            cells.append(element("td" if position else "th", cell.content, **attributes))
        body.append(element("tr", *cells))
    classes = " ".join(name for name, is_on in (("sortable", sortable), ("full", is_full)) if is_on) or None
    return element(
        "table",
        element("caption", element("span", caption)) if caption else "",
        element("thead", element("tr", *heads)),
        element("tbody", *body),
        class_=classes,
        id=identifier,
    )


def wide(content: Html) -> Html:
    """Return a horizontally scrollable container, accessible by keyboard."""
    return element("div", content, class_="wide", tabindex="0")


def tall(content: Html, label: str) -> Html:
    """Return a vertically scrollable container."""
    return element("div", content, class_="tall", tabindex="0", role="region", aria_label=label)


def section(identifier: str, title: str, *content: object) -> Html:
    """Return a section of the page."""
    return element("section", element("h2", title), *content, id=identifier)
