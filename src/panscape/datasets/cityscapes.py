"""Cityscapes: 2048x1024 street scenes of German cities.

Source: Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016.
"""

from __future__ import annotations

import os
from pathlib import Path

from panscape.datasets.file_pairs import files_by_name, pair_files
from panscape.datasets.paired_dataset import PairedDataset
from panscape.datasets.splits import ImageFile, Splits, image_files
from panscape.formats.reading.cityscapes import open_cityscapes
from panscape.labels import LabelSpace

_IMAGE, _ANNOTATION = "_leftImg8bit", "_gtFine_instanceIds"
_LAYOUT = (
    f"ROOT/leftImg8bit/SPLIT/CITY/NAME{_IMAGE}.png with ROOT/gtFine/SPLIT/CITY/NAME{_ANNOTATION}.png, "
    "as unpacked from leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip"
)

CITYSCAPES_SPLITS = Splits(
    "Cityscapes",
    ("train", "val"),
    {
        "test": "its label files are placeholders that mark every pixel as ignored",
        "train_extra": "it has only coarse annotations, which are not supported",
    },
    has_benchmark=True,
)
"""The splits of the published dataset."""


def cityscapes_images(root: str | os.PathLike[str], split: str) -> list[ImageFile]:
    """Return the images of a split of Cityscapes, with or without ground truth.

    Raises:
        InvalidArgumentError: the split does not exist.
        UnreadableFileError: the folder is missing or empty.
    """
    folder = Path(root) / "leftImg8bit" / CITYSCAPES_SPLITS.require(split)
    return image_files(folder, _LAYOUT, ending=_IMAGE, is_recursive=True)


class Cityscapes(PairedDataset):
    """Cityscapes with fine annotations, read from the downloaded files without preparation.

    Pixels outside the 19 training categories are void; pixels of a thing category without instance ids are a crowd
    (see :func:`panscape.formats.decode_cityscapes`).

    Args:
        root: the folder of ``leftImg8bit`` and ``gtFine``.
        split: ``"train"`` or ``"val"``, or another folder's name. The annotations of ``"test"`` are not public, and
            those of ``"train_extra"`` are coarse; see :func:`cityscapes_images` for their images.
        labels: categories other than the 19; their source ids are label ids of Cityscapes.

    Raises:
        InvalidArgumentError: the split has no ground truth.
        UnreadableFileError: a folder is missing or empty; on access, a file is damaged.
        InvalidAnnotationError: an image has no annotation or an annotation no image; on access, their sizes differ.
    """

    def __init__(self, root: str | os.PathLike[str], split: str, labels: LabelSpace | None = None) -> None:
        if split in CITYSCAPES_SPLITS.without_truth:
            CITYSCAPES_SPLITS.require_truth(split)
        self.labels = labels or LabelSpace.load("cityscapes")
        images, annotations = (Path(root) / kind / split for kind in ("leftImg8bit", "gtFine"))
        found = files_by_name(images, _LAYOUT, ending=_IMAGE, suffixes={".png"}, is_recursive=True)
        files = files_by_name(annotations, _LAYOUT, ending=_ANNOTATION, suffixes={".png"}, is_recursive=True)
        self._source = open_cityscapes(annotations, list(files.values()))
        self._pairs = pair_files(
            found,
            {entry.name: entry for entry in self._source.entries},
            lambda image: annotations / image.parent.name / image.name.replace(_IMAGE, _ANNOTATION),
            images,
        )
