"""Sheets that show an image, the outputs of the network and the map side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.geometry import Size, size_with_longest_side
from panscape.images import resize_images
from panscape.labels import LabelSpace
from panscape.map_arrays import MapArrays
from panscape.panoptic import PanopticMap
from panscape.visualize import PANEL_TITLES, draw, draw_segments, make_grid
from panscape.visualize.pixels import to_pixels

_TILE = 800  # longest side of an image on a sheet, in pixels


def debug_sheet(image: Tensor, result: PanopticMap, labels: LabelSpace, panels: dict[str, Tensor]) -> Tensor:
    """Put an image, the network's outputs and the map on one sheet, in the order of the paper's Figures 3 and 4.

    Parts with a side of more than 800 pixels are downscaled before lines and names are drawn.

    Args:
        image: uint8 [3, H, W].
        result: the map of the image.
        labels: label space of the map.
        panels: visualisations of the network's outputs, of the same size, by name.

    Returns:
        uint8 [3, H', W'].
    """
    is_wide = image.shape[2] > 1.2 * image.shape[1]
    if max(image.shape[1:]) > _TILE:
        size = size_with_longest_side(Size(*image.shape[1:]), _TILE)
        result = result.resize(*size).compact()
        image, panels = _downscaled(image, size), {name: _downscaled(panel, size) for name, panel in panels.items()}
    tiles = {"image": image.cpu()}
    tiles |= {PANEL_TITLES.get(name, name): panel for name, panel in panels.items()}
    tiles["panoptic segmentation"] = draw_segments(result, labels)
    tiles["overlay"] = draw(image, result, labels)
    return make_grid(list(tiles.values()), list(tiles), columns=2 if is_wide else 3)


def debug_sheet_pixels(
    image: NDArray[np.uint8], result: MapArrays, labels: LabelSpace, panels: Mapping[str, Tensor]
) -> NDArray[np.uint8]:
    """Return :func:`debug_sheet` of arrays as pixels, uint8 [H', W', 3]."""
    sheet = debug_sheet(torch.from_numpy(image), PanopticMap.from_arrays(result), labels, dict(panels))
    return to_pixels(sheet)


def _downscaled(image: Tensor, size: Size) -> Tensor:
    return (resize_images(image[None].float() / 255, size)[0] * 255).round().to(torch.uint8)
