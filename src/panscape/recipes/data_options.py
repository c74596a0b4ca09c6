"""Dataset options of recipes: one class per dataset, with the folder layout expected below ``--data``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from panscape.datasets.ade20k import ADE20K_SPLITS, Ade20k, Segments, ade20k_images
from panscape.datasets.base import PanopticDataset
from panscape.datasets.bsb_aerial import BSB_SPLITS, bsb
from panscape.datasets.cityscapes import CITYSCAPES_SPLITS, Cityscapes, cityscapes_images
from panscape.datasets.coco_panoptic import COCO_SPLITS, CocoPanoptic, coco_images, listed_images
from panscape.datasets.folder import Subset, folder_splits_of, from_folder
from panscape.datasets.in_memory import InMemoryDataset
from panscape.datasets.india_driving import IDD_SPLITS, IndiaDriving, idd_images
from panscape.datasets.load import OnError
from panscape.datasets.mapillary_vistas import VISTAS_SPLITS, vistas, vistas_images
from panscape.datasets.mask_folders import mask_folders_of, mask_splits
from panscape.datasets.semantic_masks import SemanticMaskDataset, aerial, camvid
from panscape.datasets.splits import ImageFile, Splits, image_files
from panscape.datasets.statistics import count_pixels, data_notes
from panscape.datasets.town import View, town
from panscape.errors import InvalidArgumentError
from panscape.progress import ProgressBar
from panscape.training.config import DataOptions


@dataclass(frozen=True)
class CityscapesData(DataOptions):
    """Cityscapes with fine annotations, as unpacked.

    ::

        DATA/leftImg8bit/{train,val}/CITY/NAME_leftImg8bit.png
        DATA/gtFine/{train,val}/CITY/NAME_gtFine_instanceIds.png

    Images of ``test`` and ``train_extra`` can be predicted.
    """

    def splits(self, root: Path | None) -> Splits:
        """See :data:`~panscape.datasets.cityscapes.CITYSCAPES_SPLITS`."""
        return CITYSCAPES_SPLITS

    def load(self, root: Path | None, split: str) -> PanopticDataset:
        """See :class:`~panscape.datasets.cityscapes.Cityscapes`."""
        return Cityscapes(_require_root(root, "leftImg8bit and gtFine"), self.splits(root).require_truth(split))

    def images(self, root: Path | None, split: str) -> list[ImageFile]:
        """See :func:`~panscape.datasets.cityscapes.cityscapes_images`."""
        return cityscapes_images(_require_root(root, "leftImg8bit"), split)


@dataclass(frozen=True)
class CocoPanopticData(DataOptions):
    """COCO with panoptic annotations, as unpacked.

    ::

        DATA/{train,val}2017/NAME.jpg
        DATA/annotations/panoptic_{train,val}2017.json
        DATA/annotations/panoptic_{train,val}2017/NAME.png

    Images of ``test`` and ``test-dev`` can be predicted::

        DATA/test2017/NAME.jpg
        DATA/annotations/image_info_{test,test-dev}2017.json
    """

    def splits(self, root: Path | None) -> Splits:
        """See :data:`~panscape.datasets.coco_panoptic.COCO_SPLITS`."""
        return COCO_SPLITS

    def load(self, root: Path | None, split: str) -> PanopticDataset:
        """See :class:`~panscape.datasets.coco_panoptic.CocoPanoptic`."""
        folder = _require_root(root, "train2017, val2017 and annotations")
        split = self.splits(root).require_truth(split)
        annotations = folder / "annotations" / f"panoptic_{split}2017"
        return CocoPanoptic(annotations.with_suffix(".json"), annotations, folder / f"{split}2017")

    def images(self, root: Path | None, split: str) -> list[ImageFile]:
        """See :func:`~panscape.datasets.coco_panoptic.coco_images`."""
        return coco_images(_require_root(root, "test2017 and annotations"), split)


@dataclass(frozen=True)
class Ade20kData(DataOptions):
    """ADE20K with 150 categories, as unpacked.

    ::

        DATA/images/{training,validation}/NAME.jpg
        DATA/annotations/{training,validation}/NAME.png
        DATA/annotations_instance/{training,validation}/NAME.png
    """

    segments: Segments = "panoptic"
    """Segments: "panoptic" for objects and stuff, or "semantic" for one of each category."""

    def splits(self, root: Path | None) -> Splits:
        """See :data:`~panscape.datasets.ade20k.ADE20K_SPLITS`."""
        return ADE20K_SPLITS

    def load(self, root: Path | None, split: str) -> PanopticDataset:
        """See :class:`~panscape.datasets.ade20k.Ade20k`."""
        return Ade20k(_require_root(root, "images, annotations and annotations_instance"), split, self.segments)

    def images(self, root: Path | None, split: str) -> list[ImageFile]:
        """See :func:`~panscape.datasets.ade20k.ade20k_images`."""
        return ade20k_images(_require_root(root, "images"), split)


@dataclass(frozen=True)
class VistasData(DataOptions):
    """Mapillary Vistas v1.2, as unpacked.

    ::

        DATA/{training,validation}/images/NAME.jpg
        DATA/{training,validation}/panoptic/panoptic_2018.json
        DATA/{training,validation}/panoptic/NAME.png

    Images of ``test`` can be predicted: ``DATA/testing/images/NAME.jpg``.
    """

    def splits(self, root: Path | None) -> Splits:
        """See :data:`~panscape.datasets.mapillary_vistas.VISTAS_SPLITS`."""
        return VISTAS_SPLITS

    def load(self, root: Path | None, split: str) -> PanopticDataset:
        """See :func:`~panscape.datasets.mapillary_vistas.vistas`."""
        return vistas(_require_root(root, "training and validation"), split)

    def images(self, root: Path | None, split: str) -> list[ImageFile]:
        """See :func:`~panscape.datasets.mapillary_vistas.vistas_images`."""
        return vistas_images(_require_root(root, "training, validation and testing"), split)


@dataclass(frozen=True)
class IddData(DataOptions):
    """IDD, the India Driving Dataset, as unpacked.

    ::

        DATA/leftImg8bit/{train,val}/DRIVE/NAME_leftImg8bit.png (or .jpg)
        DATA/gtFine/{train,val}/DRIVE/NAME_gtFine_polygons.json

    Images of ``test`` can be predicted. ``NAME_gtFine_instancelevel3Ids.png`` of the published tools are read instead
    of the polygons if they exist.
    """

    def splits(self, root: Path | None) -> Splits:
        """See :data:`~panscape.datasets.india_driving.IDD_SPLITS`."""
        return IDD_SPLITS

    def load(self, root: Path | None, split: str) -> PanopticDataset:
        """See :class:`~panscape.datasets.india_driving.IndiaDriving`."""
        return IndiaDriving(_require_root(root, "leftImg8bit and gtFine"), split)

    def images(self, root: Path | None, split: str) -> list[ImageFile]:
        """See :func:`~panscape.datasets.india_driving.idd_images`."""
        return idd_images(_require_root(root, "leftImg8bit"), split)


@dataclass(frozen=True)
class BsbData(DataOptions):
    """BSB Aerial in COCO panoptic format.

    ::

        DATA/{train,val,test}/NAME.tif
        DATA/annotations/panoptic_{train,val,test}.json
        DATA/annotations/panoptic_{train,val,test}/NAME.png
    """

    def splits(self, root: Path | None) -> Splits:
        """See :data:`~panscape.datasets.bsb_aerial.BSB_SPLITS`."""
        return BSB_SPLITS

    def load(self, root: Path | None, split: str) -> PanopticDataset:
        """See :func:`~panscape.datasets.bsb_aerial.bsb`."""
        return bsb(_require_root(root, "train, val and annotations"), split)

    def images(self, root: Path | None, split: str) -> list[ImageFile]:
        """Return the images that the JSON of the split lists."""
        folder, split = _require_root(root, "train, val and annotations"), BSB_SPLITS.require(split)
        return listed_images(folder / "annotations" / f"panoptic_{split}.json", folder / split)


@dataclass(frozen=True)
class TownData(DataOptions):
    """Synthetic scenes of a small town, rendered on demand; ``--data`` is not used."""

    size: tuple[int, int] = (256, 256)
    """Height and width of the scenes, pixels."""

    view: View = "both"
    """Camera position: "street", "above" or "both"."""

    length: int = 100_000
    """Number of training scenes."""

    val_length: int = 100
    """Number of validation scenes, kept in memory; "test" has as many."""

    def splits(self, root: Path | None) -> Splits:
        """Return the splits, which share no scene."""
        return Splits("the town", ("train", "val", "test"))

    def load(self, root: Path | None, split: str) -> PanopticDataset:
        """See :func:`~panscape.datasets.town.town`."""
        if self.splits(root).require_truth(split) == "train":
            return town("train", self.length, self.size, self.view)
        return InMemoryDataset(town(split, self.val_length, self.size, self.view))


@dataclass(frozen=True)
class CamVidData(DataOptions):
    """CamVid as published with the SegNet tutorial, with semantic masks; kept in memory (600 MB).

    ::

        DATA/images/{train,val}/NAME.jpg
        DATA/labels/{train,val}/NAME.png

    Folders beside ``train`` and ``val``, such as ``test``, are further splits.
    """

    def splits(self, root: Path | None) -> Splits:
        """Return train, val, and the other folders in ``images`` and ``labels``."""
        return mask_splits("CamVid", _require_root(root, "images and labels"))

    def load(self, root: Path | None, split: str) -> PanopticDataset:
        """See :func:`~panscape.datasets.semantic_masks.camvid`."""
        split = self.splits(root).require_truth(split)
        return InMemoryDataset(camvid(_require_root(root, "images and labels"), split))

    def images(self, root: Path | None, split: str) -> list[ImageFile]:
        """Return the images of a folder in ``images``."""
        return _images_of_masks(_require_root(root, "images and labels"), self.splits(root).require(split))


@dataclass(frozen=True)
class AerialData(DataOptions):
    """Satellite images of Dubai, with semantic masks; kept in memory (700 MB).

    ::

        DATA/images/{train,val}/NAME.jpg
        DATA/labels/{train,val}/NAME.png

    Folders beside ``train`` and ``val``, such as ``test``, are further splits.
    """

    def splits(self, root: Path | None) -> Splits:
        """Return train, val, and the other folders in ``images`` and ``labels``."""
        return mask_splits("the aerial images of Dubai", _require_root(root, "images and labels"))

    def load(self, root: Path | None, split: str) -> PanopticDataset:
        """See :func:`~panscape.datasets.semantic_masks.aerial`."""
        split = self.splits(root).require_truth(split)
        return InMemoryDataset(aerial(_require_root(root, "images and labels"), split))

    def images(self, root: Path | None, split: str) -> list[ImageFile]:
        """Return the images of a folder in ``images``."""
        return _images_of_masks(_require_root(root, "images and labels"), self.splits(root).require(split))


@dataclass(frozen=True)
class FolderData(DataOptions):
    """A folder of your own, in COCO panoptic format or with semantic masks.

    ::

        (a) DATA/annotations/panoptic_train.json    (b) DATA/images/train/NAME.jpg
            DATA/annotations/panoptic_train/*.png       DATA/labels/train/NAME.png
            DATA/train/*.jpg or DATA/images/*.jpg       DATA/categories.json, or ids become names

    and the same for ``val``; without it, every tenth image is held out. Other splits, such as ``test``, can be
    evaluated. ``labels`` may be called ``masks`` or ``annotations``, and ``val`` ``valid`` or ``validation``.
    """

    hold_out: int = 10
    """Interval of held-out images if there is no val split: one of this many images is used for validation."""

    min_area: int = 50
    """Minimum area of objects in semantic masks, pixels; smaller ones become void."""

    void: int | None = None
    """Id of pixels without category in semantic masks, -1 for none; by default 255, unless that is a category."""

    apply_orientation: bool = True
    """Rotate and mirror images as their EXIF orientation says; not if labels were drawn on the stored pixels."""

    bit_depth: int | None = None
    """Number of bits of white in images of 16 bits, 8 to 16; by default what the training images show."""

    def splits(self, root: Path | None) -> Splits:
        """See :func:`~panscape.datasets.folder.folder_splits_of`."""
        return folder_splits_of(self.folder(root))

    def load(self, root: Path | None, split: str) -> PanopticDataset:
        """See :func:`~panscape.datasets.folder.from_folder`."""
        return self._dataset(root, split)

    def inspect(self, train: PanopticDataset, val: PanopticDataset, on_error: OnError) -> tuple[str, ...]:
        """See :func:`~panscape.datasets.statistics.data_notes`."""
        with ProgressBar("inspecting images") as bar:
            counts = [count_pixels(split, on_error=on_error, progress=bar.update) for split in (train, val)]
        return data_notes(*counts)

    def images(self, root: Path | None, split: str) -> list[ImageFile]:
        """Return the images of a split, including folders in ``images`` without labels."""
        splits = self.splits(root)
        if splits.require(split) in splits.without_truth:
            return _images_of_masks(self.folder(root), splits.require(split))
        return self._dataset(root, split).image_files

    def _dataset(self, root: Path | None, split: str) -> CocoPanoptic | SemanticMaskDataset | Subset:
        return from_folder(
            self.folder(root),
            split,
            hold_out=self.hold_out,
            min_area=self.min_area,
            void=self.void,
            apply_orientation=self.apply_orientation,
            bit_depth=self.bit_depth,
        )

    def folder(self, root: Path | None) -> Path:
        """Return the folder.

        Raises:
            InvalidArgumentError: ``root`` is None.
        """
        return _require_root(root, "your images and their annotations")


def _images_of_masks(root: Path, split: str) -> list[ImageFile]:
    folders = mask_folders_of(root, split)
    return image_files(folders.images, "DATA/images/SPLIT/NAME.jpg", is_recursive=folders.is_recursive)


def _require_root(root: Path | None, what: str) -> Path:
    if root is None:
        raise InvalidArgumentError(f"expected the folder of {what}, got none; give --data DIR")
    return root
