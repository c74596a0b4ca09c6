"""How notebooks show a map: an image, and a legend of its categories."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

import torch
from PIL import Image

from panscape.labels import Category, LabelSpace, generated_color
from panscape.visualize import category_colors, draw_segments

if TYPE_CHECKING:
    from panscape.panoptic import PanopticMap

_MAX_SIDE = 1024  # of the shown image; a notebook stores every image that it shows


def map_as_png(panoptic: PanopticMap) -> bytes:
    """Draw the segments of a map as a PNG, reduced to at most 1024 pixels."""
    panoptic = panoptic.to("cpu")
    scale = min(1.0, _MAX_SIDE / max(*panoptic.size, 1))
    if scale < 1:
        height, width = panoptic.size
        panoptic = panoptic.resize(max(1, round(height * scale)), max(1, round(width * scale)))
    if not panoptic.ids.numel():
        panoptic = type(panoptic).empty((1, 1))
    pixels = draw_segments(panoptic, _labels_of(panoptic))
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "PNG")
    return file.getvalue()


def map_as_html(panoptic: PanopticMap) -> str:
    """Show a map as an image with the number of segments of each category below it."""
    panoptic = panoptic.to("cpu")
    labels = _labels_of(panoptic)
    counts = torch.bincount(panoptic.category, minlength=len(labels)).tolist()
    legend = "".join(
        f"<span style='white-space:nowrap;margin-right:1em'><span style='background:rgb{tuple(color)};"
        f"padding:0 0.6em;margin-right:0.3em'></span>{html.escape(category.name)}"
        f"{f' ({count})' if category.is_thing else ''}</span> "
        for category, color, count in zip(labels, category_colors(labels).tolist(), counts, strict=True)
        if count
    )
    image = base64.b64encode(map_as_png(panoptic)).decode()
    return (
        f"<figure style='margin:0'><img style='max-width:100%' src='data:image/png;base64,{image}'>"
        f"<figcaption>{html.escape(repr(panoptic))}<br>{legend}</figcaption></figure>"
    )


def _labels_of(panoptic: PanopticMap) -> LabelSpace:
    """Return the labels of a map, or numbered categories if it has none."""
    if panoptic.labels is not None:
        return panoptic.labels
    count = int(panoptic.category.max()) + 1 if len(panoptic) else 1
    return LabelSpace("categories", tuple(Category(f"category {i}", True, i, generated_color(i)) for i in range(count)))
