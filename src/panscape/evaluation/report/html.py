"""Pieces of HTML. Every text that comes in is escaped; only :class:`Html` goes into a page as it is."""

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
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Html:
    """Return a value as HTML: escaped, unless it is HTML already."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def joined(parts: Iterable[Html], between: str = "") -> Html:
    """Return pieces one after the other."""
    return Html(between.join(parts))


_WITHOUT_END = ("img", "input")


def element(tag: str, *children: object, **attributes: object) -> Html:
    """Return ``<tag ...>children</tag>``, or ``<tag ...>`` of what holds nothing.

    Args:
        tag: its name.
        children: escaped unless they are HTML.
        attributes: ``class_`` is ``class``, other underscores are hyphens; None and False leave one out, True gives it
            no value.
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
    """Return data for the script of the page; nothing in it can end its element."""
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
        title: in its head.
        is_text: flush left, and sorted as text.
        hint: what a pointer that rests on the head is told.
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
        content: what it shows.
        value: what it is sorted by; None if that is what it shows.
        classes: of CSS.
        style: likewise.
        hint: what a pointer that rests on it is told.
    """

    content: object
    value: float | str | None = None
    classes: str = ""
    style: str | None = None
    hint: str | None = None


def number(fraction: float, *, bar: bool = False, hint: str | None = None, decimals: int = 1) -> Cell:
    """Return the cell of a fraction, in percent; ``bar`` draws it as a length, too."""
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
    """Return a table whose rows have the first cell as their head.

    Args:
        columns: from left to right.
        rows: with as many cells each; what is no :class:`Cell` is shown as it is.
        caption: above it.
        identifier: for the script.
        sortable: whether buttons in the head sort it.
        sorted_by: "ascending" or "descending" of the column by which it is sorted from the beginning.
        is_full: as wide as the page.
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
    """Return something that scrolls sideways where it does not fit; the keyboard reaches it, too."""
    return element("div", content, class_="wide", tabindex="0")


def tall(content: Html, label: str) -> Html:
    """Return something long in a window of its own."""
    return element("div", content, class_="tall", tabindex="0", role="region", aria_label=label)


def section(identifier: str, title: str, *content: object) -> Html:
    """Return a section of the page."""
    return element("section", element("h2", title), *content, id=identifier)
