"""The folder of results: overlays, maps in COCO panoptic form, and sheets of what the network said."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.formats import CocoPanopticWriter
from panscape.images import save_png
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.visualize import PANEL_TITLES, draw, draw_segments, make_grid


class OutputFolder:
    """Writes results; a context manager, so that the description of all maps comes last and only when all went well.

    Layout: ``<name>.png`` is the overlay, ``panoptic/<name>.png`` the map, ``panoptic.json`` describes all maps (both
    as COCO's panoptic format has it), ``<name>_panels.png`` a sheet of the network's outputs, ``<name>.mp4`` the
    overlay of a video. Every file appears whole or not at all.

    ``file_name`` of an image in ``panoptic.json`` is its path from the folder that all sources have in common; that of
    a video's frame is the map's name in a folder that has the video's path.

    Args:
        folder: is made if it does not exist.
        labels: of the maps.
        opacity: of the overlays' colours, see :func:`panscape.draw`.
        names: write names on the overlays.

    Raises:
        InvalidArgumentError: a file lies where the folder should be.
    """

    def __init__(self, folder: Path, labels: LabelSpace, *, opacity: float = 0.5, names: bool = True) -> None:
        if not 0 <= opacity <= 1:
            raise InvalidArgumentError(f"expected an opacity from 0 to 1, got {opacity}")
        make_folder(folder, "results")
        self.folder = folder
        self.labels = labels
        self._opacity = opacity
        self._names = names
        self._json = folder / "panoptic.json"
        self._maps: CocoPanopticWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._maps is not None:
            self._maps.close()

    def overlay(self, image: Tensor, result: PanopticMap) -> Tensor:
        """Draw a map over its image with the folder's settings."""
        return draw(image, result, self.labels, opacity=self._opacity, names=self._names)

    def write_map(self, name: str, result: PanopticMap, image: str) -> Path:
        """Write a map; ``image`` is the path noted beside it."""
        if self._maps is None:
            # An earlier run's description would be wrong as soon as one of its maps is replaced.
            self._json.unlink(missing_ok=True)
            self._maps = CocoPanopticWriter(self._json, self.folder / "panoptic", self.labels)
        return self._maps.write(name, result, image=image)

    def write_overlay(self, name: str, image: Tensor, result: PanopticMap) -> Path:
        """Draw a map over its image and write that."""
        path = self.folder / f"{name}.png"
        save_png(path, self.overlay(image, result))
        return path

    def write_panels(self, name: str, image: Tensor, result: PanopticMap, panels: dict[str, Tensor]) -> Path:
        """Write image, outputs, map and overlay as one sheet."""
        path = self.folder / f"{name}_panels.png"
        save_png(path, debug_sheet(image, result, self.labels, panels))
        return path


def make_folder(folder: Path, purpose: str) -> None:
    """Make a folder, and those that it lies in, if they do not exist.

    Raises:
        InvalidArgumentError: a file lies in its place; the message names what the folder is for.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InvalidArgumentError(f"expected a folder for {purpose}, but {error.filename} is a file") from error


def debug_sheet(image: Tensor, result: PanopticMap, labels: LabelSpace, panels: dict[str, Tensor]) -> Tensor:
    """Put a panel, what the network said of it and its map on one sheet, in the order of the paper's Figures 3 and 4.

    Args:
        image: uint8 [3, H, W].
        result: its map.
        labels: of the map.
        panels: the network's outputs as tiles of the same size, by name.

    Returns:
        uint8 [3, H', W'].
    """
    tiles = {"image": image.cpu()}
    tiles |= {PANEL_TITLES.get(name, name): panel for name, panel in panels.items()}
    tiles["panoptic segmentation"] = draw_segments(result, labels)
    tiles["overlay"] = draw(image, result, labels)
    is_wide = image.shape[2] > 1.2 * image.shape[1]
    return make_grid(list(tiles.values()), list(tiles), columns=2 if is_wide else 3)
