"""What recipes say about their data: one class for each data set, with the folders it expects below ``--data``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from panscape.datasets.bsb import bsb
from panscape.datasets.cityscapes import Cityscapes
from panscape.datasets.coco_panoptic import CocoPanoptic
from panscape.datasets.folder import own_folder
from panscape.datasets.masks import aerial, camvid
from panscape.datasets.memory import InMemory
from panscape.datasets.sample import PanopticDataset
from panscape.datasets.town import View, town
from panscape.datasets.vistas import vistas
from panscape.errors import InvalidArgumentError
from panscape.training.recipe import DataOptions

Split = Literal["train", "val"]


@dataclass(frozen=True)
class CityscapesData(DataOptions):
    """Cityscapes with fine annotations, as unpacked.

    ::

        DATA/leftImg8bit/{train,val}/CITY/NAME_leftImg8bit.png
        DATA/gtFine/{train,val}/CITY/NAME_gtFine_instanceIds.png
    """

    def load(self, root: Path | None, split: Split) -> PanopticDataset:
        """See :class:`~panscape.datasets.cityscapes.Cityscapes`."""
        return Cityscapes(_given(root, "leftImg8bit and gtFine"), split)


@dataclass(frozen=True)
class CocoPanopticData(DataOptions):
    """COCO with panoptic annotations, as unpacked.

    ::

        DATA/{train,val}2017/NAME.jpg
        DATA/annotations/panoptic_{train,val}2017.json
        DATA/annotations/panoptic_{train,val}2017/NAME.png
    """

    def load(self, root: Path | None, split: Split) -> PanopticDataset:
        """See :class:`~panscape.datasets.coco_panoptic.CocoPanoptic`."""
        folder = _given(root, "train2017, val2017 and annotations")
        annotations = folder / "annotations" / f"panoptic_{split}2017"
        return CocoPanoptic(annotations.with_suffix(".json"), annotations, folder / f"{split}2017")


@dataclass(frozen=True)
class VistasData(DataOptions):
    """Mapillary Vistas v1.2, as unpacked.

    ::

        DATA/{training,validation}/images/NAME.jpg
        DATA/{training,validation}/panoptic/panoptic_2018.json
        DATA/{training,validation}/panoptic/NAME.png
    """

    def load(self, root: Path | None, split: Split) -> PanopticDataset:
        """See :func:`~panscape.datasets.vistas.vistas`."""
        return vistas(_given(root, "training and validation"), split)


@dataclass(frozen=True)
class BsbData(DataOptions):
    """BSB Aerial in COCO panoptic form.

    ::

        DATA/{train,val}/NAME.tif
        DATA/annotations/panoptic_{train,val}.json
        DATA/annotations/panoptic_{train,val}/NAME.png
    """

    def load(self, root: Path | None, split: Split) -> PanopticDataset:
        """See :func:`~panscape.datasets.bsb.bsb`."""
        return bsb(_given(root, "train, val and annotations"), split)


@dataclass(frozen=True)
class TownData(DataOptions):
    """Scenes of a small town, drawn when they are needed; ``--data`` is not used."""

    size: tuple[int, int] = (256, 256)
    """Height and width of the scenes, pixels."""

    view: View = "both"
    """"street", "above" or "both"."""

    length: int = 100_000
    """Scenes to train on."""

    val_length: int = 100
    """Scenes to evaluate on, kept in memory."""

    def load(self, root: Path | None, split: Split) -> PanopticDataset:
        """See :func:`~panscape.datasets.town.town`."""
        if split == "train":
            return town("train", self.length, self.size, self.view)
        return InMemory(town("val", self.val_length, self.size, self.view))


@dataclass(frozen=True)
class CamVidData(DataOptions):
    """CamVid as published with the SegNet tutorial, one category a pixel; kept in memory (600 MB).

    ::

        DATA/images/{train,val}/NAME.jpg
        DATA/labels/{train,val}/NAME.png
    """

    def load(self, root: Path | None, split: Split) -> PanopticDataset:
        """See :func:`~panscape.datasets.masks.camvid`."""
        return InMemory(camvid(_given(root, "images and labels"), split))


@dataclass(frozen=True)
class AerialData(DataOptions):
    """Satellite pictures of Dubai, one category a pixel; kept in memory (700 MB).

    ::

        DATA/images/{train,val}/NAME.jpg
        DATA/labels/{train,val}/NAME.png
    """

    def load(self, root: Path | None, split: Split) -> PanopticDataset:
        """See :func:`~panscape.datasets.masks.aerial`."""
        return InMemory(aerial(_given(root, "images and labels"), split))


@dataclass(frozen=True)
class FolderData(DataOptions):
    """A folder of your own: COCO panoptic form or category masks.

    ::

        (a) DATA/annotations/panoptic_train.json    (b) DATA/images/train/NAME.jpg
            DATA/annotations/panoptic_train/*.png       DATA/labels/train/NAME.png
            DATA/train/*.jpg or DATA/images/*.jpg       DATA/categories.json, or numbers are names

    and ``val`` likewise, or every tenth picture is held out.
    """

    hold_out: int = 10
    """Where no val pictures lie apart, every this many-th is not learnt from but evaluated on."""

    min_area: int = 50
    """In masks, objects of fewer pixels become void."""

    void: int = 255
    """In masks, the number of pixels without category."""

    def load(self, root: Path | None, split: Split) -> PanopticDataset:
        """See :func:`~panscape.datasets.folder.own_folder`."""
        return own_folder(self.folder(root), split, hold_out=self.hold_out, min_area=self.min_area, void=self.void)

    def folder(self, root: Path | None) -> Path:
        """Return the folder.

        Raises:
            InvalidArgumentError: none was given.
        """
        return _given(root, "your pictures and their annotations")


def _given(root: Path | None, what: str) -> Path:
    if root is None:
        raise InvalidArgumentError(f"expected the folder of {what}, got none; give --data DIR")
    return root
