"""Visualisation of panoptic maps and network outputs, with torch, NumPy, numba and Pillow only."""

from panscape.visualize.grid import make_grid as make_grid
from panscape.visualize.instances import segment_colors as segment_colors
from panscape.visualize.legend import append_colors as append_colors
from panscape.visualize.names import Names as Names
from panscape.visualize.outputs import PANEL_TITLES as PANEL_TITLES
from panscape.visualize.outputs import draw_boxes as draw_boxes
from panscape.visualize.outputs import draw_heatmap as draw_heatmap
from panscape.visualize.outputs import draw_offsets as draw_offsets
from panscape.visualize.overlay import draw as draw
from panscape.visualize.overlay import draw_segments as draw_segments
from panscape.visualize.overlay import draw_semantic as draw_semantic
from panscape.visualize.palette import Palette as Palette
from panscape.visualize.palette import category_colors as category_colors
