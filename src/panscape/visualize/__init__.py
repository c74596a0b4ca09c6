"""Visualisation of panoptic maps and network outputs, with torch, NumPy, numba and Pillow only.

Each name is imported on first use: drawing and writing maps need no torch, which takes seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from panscape.lazy_names import lazy_names

if TYPE_CHECKING:
    from panscape.visualize.grid import append_colors as append_colors
    from panscape.visualize.grid import make_grid as make_grid
    from panscape.visualize.names import Names as Names
    from panscape.visualize.outputs import PANEL_TITLES as PANEL_TITLES
    from panscape.visualize.outputs import draw_boxes as draw_boxes
    from panscape.visualize.outputs import draw_heatmap as draw_heatmap
    from panscape.visualize.outputs import draw_offsets as draw_offsets
    from panscape.visualize.overlay import draw as draw
    from panscape.visualize.overlay import draw_segments as draw_segments
    from panscape.visualize.overlay import draw_semantic as draw_semantic
    from panscape.visualize.overlay import segment_colors as segment_colors
    from panscape.visualize.palette import Palette as Palette
    from panscape.visualize.palette import category_colors as category_colors

_HOME = {
    "Names": "names",
    "PANEL_TITLES": "outputs",
    "Palette": "palette",
    "append_colors": "grid",
    "category_colors": "palette",
    "draw": "overlay",
    "draw_boxes": "outputs",
    "draw_heatmap": "outputs",
    "draw_offsets": "outputs",
    "draw_segments": "overlay",
    "draw_semantic": "overlay",
    "make_grid": "grid",
    "segment_colors": "overlay",
}

__all__ = sorted(_HOME)
__getattr__, __dir__ = lazy_names(__name__, _HOME)
