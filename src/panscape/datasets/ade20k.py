"""ADE20K with 150 categories (SceneParse150): indoor and outdoor photos, 20,210 for training and 2000 for validation.

Source: Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017. The images are available from MIT for research.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from panscape.datasets.base import MapSources
from panscape.datasets.file_pairs import files_by_name, pair_files
from panscape.datasets.paired_dataset import PairedDataset
from panscape.datasets.splits import ImageFile, Splits, image_files
from panscape.formats.reading.ade20k import open_ade20k
from panscape.labels import LabelSpace

Segments = Literal["panoptic", "semantic"]
"""Objects and stuff, or one segment for each category of an image."""

_LAYOUT = (
    "ROOT/images/training/NAME.jpg with ROOT/annotations/training/NAME.png and, for objects, "
    "ROOT/annotations_instance/training/NAME.png, as unpacked from ADEChallengeData2016.zip and "
    "annotations_instance.tar, and validation likewise"
)
_WITHOUT_OBJECTS = f'{_LAYOUT}; without objects, give segments="semantic" (--data.segments semantic)'
_FOLDERS = {"train": "training", "val": "validation"}
ADE20K_SPLITS = Splits("ADE20K", ("train", "val"), {}, {folder: split for split, folder in _FOLDERS.items()})
"""The splits of the published dataset."""


def ade20k_images(root: str | os.PathLike[str], split: str) -> list[ImageFile]:
    """Return the images of a split of ADE20K, with or without ground truth.

    Raises:
        InvalidArgumentError: the split does not exist.
        UnreadableFileError: the folder is missing or empty.
    """
    return image_files(_folder(root) / "images" / _FOLDERS[ADE20K_SPLITS.require(split)], _LAYOUT)


def ade20k_labels(segments: Segments = "panoptic") -> LabelSpace:
    """Return the label space ``"ade20k_150"``, for "semantic" with all 150 categories as stuff."""
    labels = LabelSpace.load("ade20k_150")
    if segments == "panoptic":
        return labels
    return LabelSpace("ade20k_150_semantic", tuple(replace(category, is_thing=False) for category in labels))


def _folder(root: str | os.PathLike[str]) -> Path:
    """Return the folder that the archive contains, or ``root`` if it is that one."""
    inner = Path(root) / "ADEChallengeData2016"
    return inner if inner.is_dir() else Path(root)


class Ade20k(PairedDataset):
    """ADE20K with 150 categories, read from the downloaded files without preparation.

    Objects are those of the instance segmentation challenge, in 100 categories. Pixels of these categories that belong
    to no object are void, as in the panoptic annotations of MaskFormer (see :func:`panscape.formats.decode_ade20k`).

    Args:
        root: the folder of ``images``, ``annotations`` and ``annotations_instance``, or the one above it.
        split: ``"train"`` or ``"val"``.
        segments: ``"semantic"`` for one segment per category, which needs no ``annotations_instance``; see
            :func:`ade20k_labels`.

    Raises:
        InvalidArgumentError: the split does not exist.
        UnreadableFileError: a folder is missing or empty; on access, a file is damaged.
        InvalidAnnotationError: an image has no annotation or an annotation no image; on access, their sizes differ, or
            a number is no category.
    """

    def __init__(self, root: str | os.PathLike[str], split: str, segments: Segments = "panoptic") -> None:
        split = _FOLDERS[ADE20K_SPLITS.require_truth(split)]
        self.labels = ade20k_labels(segments)
        images, annotations, objects = (
            _folder(root) / kind / split for kind in ("images", "annotations", "annotations_instance")
        )
        pngs_of = partial(files_by_name, suffixes={".png"})
        found, semantic = files_by_name(images, _LAYOUT), pngs_of(annotations, _LAYOUT)
        instances = {} if segments == "semantic" else pngs_of(objects, _WITHOUT_OBJECTS)
        self._source = open_ade20k(annotations, semantic, instances, self.labels)
        entries = {entry.name: entry for entry in self._source.entries}
        self._pairs = pair_files(found, entries, lambda image: annotations / f"{image.stem}.png", images)
        if segments == "panoptic":
            with_objects = {name: entry for name, entry in entries.items() if entry.content[1] is not None}
            pair_files(found, with_objects, lambda image: objects / f"{image.stem}.png", images)

    def map_sources(self) -> MapSources:
        """Return the annotation files, by which a cache of the maps' segments is recognised."""
        return MapSources([path for pair in self._pairs for path in pair.truth.content if path is not None])
