"""HTML pages from the templates in ``templates/``: one self-contained file, in which all values are escaped."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image
from torch import Tensor

from panscape.atomic_io import atomic_write
from panscape.labels import LabelSpace
from panscape.visualize import category_colors

if TYPE_CHECKING:
    from jinja2 import Environment

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
Name = tuple[str, tuple[int, int, int] | None]
"""A name and the colour of its swatch, if any."""


def write_page(path: str | Path, template: str, **values: object) -> None:
    """Render a template and write the page atomically.

    Args:
        path: the file to write; its folder must exist.
        template: a file of ``templates/`` that extends ``page.html.jinja``.
        values: the variables of the template; text is plain text, and never becomes markup.

    Raises:
        InvalidArgumentError: the folder of the page does not exist.
    """
    page = _environment().get_template(template).render(values)
    with atomic_write(path) as temporary:
        # Names of files and categories may contain text that UTF-8 cannot encode.
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader("panscape.evaluation.report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters = (percent, signed_percent, percent_interval, css_percent, sort_key, sha256)
    environment.filters.update({each.__name__: each for each in filters})
    environment.tests["nan"] = math.isnan
    environment.globals["category_name"] = category_name
    # Styles and scripts are part of the package; everything else is escaped.
    environment.globals["asset"] = lambda name: Markup(loader.get_source(environment, name)[0])  # noqa: S704
    return environment


def category_name(labels: LabelSpace, category: int) -> Name:
    """Return the name and colour of a category; K is void."""
    if category >= len(labels):
        return "void", None
    red, green, blue = category_colors(labels)[category].tolist()
    return labels[category].name, (red, green, blue)


def percent(fraction: float, decimals: int = 1) -> str:
    """Return a fraction in percent; a dash for nan."""
    return NOTHING if math.isnan(fraction) else f"{100 * fraction:.{decimals}f}"


def signed_percent(fraction: float, decimals: int = 1) -> str:
    """Return a difference in percent with its sign; a dash for nan."""
    return NOTHING if math.isnan(fraction) else f"{100 * fraction:+.{decimals}f}".replace("-", MINUS)


def percent_interval(low: float, high: float) -> str:
    """Return the ends of an interval in percent; nothing for nan."""
    return "" if math.isnan(low) or math.isnan(high) else f"{percent(low)} to {percent(high)}"


def css_percent(fraction: float) -> str:
    """Return a fraction as a length in CSS, within 0..100 %."""
    return f"{100 * min(max(0.0 if math.isnan(fraction) else fraction, 0.0), 1.0):.2f}%"


def sort_key(value: float | str) -> str:
    """Return the text by which the script of the report sorts a cell; nothing for nan."""
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:.9g}"


def sha256(script: str) -> str:
    """Return the digest by which a content security policy allows a script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


class Figure(NamedTuple):
    """One embedded image.

    Attributes:
        caption: its title.
        uri: the image as a data URI.
        size: (height, width) in pixels.
    """

    caption: str
    uri: str
    size: tuple[int, int]


def figure(caption: str, image: Tensor, *, is_photo: bool) -> Figure:
    """Return an image, uint8 [3, H, W], for a page: photos as JPEG, drawings as PNG without loss."""
    height, width = image.shape[1:]
    encoded = Image.fromarray(image.cpu().permute(1, 2, 0).contiguous().numpy())
    buffer = io.BytesIO()
    options: dict[str, Any] = {"format": "JPEG", "quality": 85} if is_photo else {"format": "PNG", "optimize": True}
    encoded.save(buffer, **options)
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Figure(caption, f"data:image/{options['format'].lower()};base64,{content}", (height, width))
