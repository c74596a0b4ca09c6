"""Visualisation of panoptic maps and network outputs, with torch, NumPy and Pillow only."""

from panscape.visualize.overlay import PANEL_TITLES as PANEL_TITLES
from panscape.visualize.overlay import draw as draw
from panscape.visualize.overlay import draw_heatmap as draw_heatmap
from panscape.visualize.overlay import draw_offsets as draw_offsets
from panscape.visualize.overlay import draw_segments as draw_segments
from panscape.visualize.overlay import draw_semantic as draw_semantic
from panscape.visualize.overlay import make_grid as make_grid
from panscape.visualize.palette import segment_colors as segment_colors
