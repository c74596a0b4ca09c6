"""Visualisation of panoptic maps and network outputs, with torch, NumPy and Pillow only."""

from panscape.visualize.draw import PANEL_TITLES as PANEL_TITLES
from panscape.visualize.draw import draw as draw
from panscape.visualize.draw import draw_heatmap as draw_heatmap
from panscape.visualize.draw import draw_offsets as draw_offsets
from panscape.visualize.draw import draw_segments as draw_segments
from panscape.visualize.draw import draw_semantic as draw_semantic
from panscape.visualize.draw import make_grid as make_grid
from panscape.visualize.palette import segment_colors as segment_colors
