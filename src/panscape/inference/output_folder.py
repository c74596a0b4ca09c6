"""The output folder of a prediction: overlays, maps in COCO panoptic format, and sheets of network outputs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.formats import CocoPanopticWriter
from panscape.formats.coco_files import WrittenMap
from panscape.geometry import Size, size_with_longest_side
from panscape.images import resize_images, save_jpeg, save_png
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.visualize import PANEL_TITLES, draw, draw_segments, make_grid

ImageFormat = Literal["png", "jpeg"]

_SHEET_TILE = 800  # longest side of an image on a sheet of network outputs, in pixels


class OutputFolder:
    """Writes results; a context manager that writes the description of all maps at the end, if no error occurred.

    Images, maps and sheets may be written by several threads at the same time.

    Layout: ``<name>.jpg`` (or ``.png``) is the overlay, ``panoptic/<name>.png`` the map, ``panoptic.json`` describes
    all maps (both in COCO panoptic format), ``<name>_panels.jpg`` (or ``.png``) is a sheet of the network's outputs,
    ``<name>.mp4`` the overlay of a video. Every file is written completely or not at all.

    ``file_name`` of an image in ``panoptic.json`` is its path relative to the common folder of all sources. For a video
    frame it is the name of the map, in a folder named like the video's path.

    Args:
        folder: created if it does not exist.
        labels: label space of the maps.
        style: :func:`panscape.draw`, or a partial of it with the options of the overlays.
        legend: append a legend to the overlays of images, not of videos.
        image_format: encoding of the overlays of images and of the sheets.

    Raises:
        InvalidArgumentError: the path of the folder is a file, or an option of the overlays has an invalid value.
    """

    def __init__(
        self,
        folder: Path,
        labels: LabelSpace,
        *,
        style: Callable[..., Tensor] = draw,
        legend: bool = False,
        image_format: ImageFormat = "jpeg",
    ) -> None:
        style(torch.zeros(3, 1, 1, dtype=torch.uint8), PanopticMap.empty((1, 1)), labels)  # checks the options
        make_folder(folder, "results")
        self.folder = folder
        self.labels = labels
        self._style = style
        self._legend = legend
        self._suffix, self._save = ("png", save_png) if image_format == "png" else ("jpg", save_jpeg)
        self._json = folder / "panoptic.json"
        self._maps: CocoPanopticWriter | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._maps is not None:
            self._maps.close()

    def overlay(self, image: Tensor, result: PanopticMap) -> Tensor:
        """Draw a map over its image with the folder's options, without a legend."""
        return self._style(image, result, self.labels)

    def write_map(self, name: str, result: PanopticMap, image: str) -> WrittenMap:
        """Write a map; ``image`` is the image path in ``panoptic.json``, see :meth:`record`."""
        with self._lock:
            if self._maps is None:  # the first map: an earlier run's description must not outlive its maps
                self._json.unlink(missing_ok=True)
                self._maps = CocoPanopticWriter(self._json, self.folder / "panoptic", self.labels)
        return self._maps.write_png(name, result, image=image)

    def record(self, written: WrittenMap) -> None:
        """Record a map in ``panoptic.json``, which lists maps in the order of these calls."""
        if self._maps is not None:
            self._maps.record(written)

    def write_overlay(self, name: str, image: Tensor, result: PanopticMap) -> Path:
        """Draw a map over its image and write the overlay."""
        path = self.folder / f"{name}.{self._suffix}"
        self._save(path, self._style(image, result, self.labels, legend=self._legend))
        return path

    def write_panels(self, name: str, image: Tensor, result: PanopticMap, panels: dict[str, Tensor]) -> Path:
        """Write image, outputs, map and overlay as one sheet."""
        path = self.folder / f"{name}_panels.{self._suffix}"
        self._save(path, debug_sheet(image, result, self.labels, panels))
        return path


def make_folder(folder: Path, purpose: str) -> None:
    """Create a folder and its parents if they do not exist.

    Raises:
        InvalidArgumentError: the path or a parent is a file; the message contains ``purpose``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InvalidArgumentError(f"expected a folder for {purpose}, but {error.filename} is a file") from error


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
    if max(image.shape[1:]) > _SHEET_TILE:
        size = size_with_longest_side(Size(*image.shape[1:]), _SHEET_TILE)
        result = result.resize(*size).compact()
        image, panels = _downscaled(image, size), {name: _downscaled(panel, size) for name, panel in panels.items()}
    tiles = {"image": image.cpu()}
    tiles |= {PANEL_TITLES.get(name, name): panel for name, panel in panels.items()}
    tiles["panoptic segmentation"] = draw_segments(result, labels)
    tiles["overlay"] = draw(image, result, labels)
    return make_grid(list(tiles.values()), list(tiles), columns=2 if is_wide else 3)


def _downscaled(image: Tensor, size: Size) -> Tensor:
    return (resize_images(image[None].float() / 255, size)[0] * 255).round().to(torch.uint8)
