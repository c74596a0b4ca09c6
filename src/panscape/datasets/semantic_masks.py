"""Datasets of semantic masks; instances are the connected components of each thing category.

Two touching objects of a category become one, since semantic masks do not separate them. This applies equally to the
ground truth of training and of evaluation, as both are read here.
"""

from __future__ import annotations

import os
from collections.abc import Set
from dataclasses import replace
from functools import partial
from pathlib import Path

from panscape.datasets.base import MapSources
from panscape.datasets.file_pairs import files_by_name, pair_files, with_plain_names
from panscape.datasets.mask_folders import LAYOUT, mask_folders_of
from panscape.datasets.paired_dataset import PairedDataset
from panscape.formats.reading.masks import MASK_SUFFIXES, open_masks
from panscape.formats.semantic_masks import require_mask_options
from panscape.labels import LabelSpace


class SemanticMaskDataset(PairedDataset):
    """Images with one category per pixel, in two folders.

    ``IMAGES/NAME.jpg`` (or another image format) belongs to ``MASKS/NAME.png`` (or .tif, .tiff, .bmp), a grey or
    palette image whose values are the source ids of ``labels``. All masks may have a common ending, as in
    ``NAME_mask.png``, and images may be in subfolders, with their masks in the same ones. The map of each image is the
    result of :func:`panscape.formats.from_semantic_mask`.

    Args:
        images: the folder of the images.
        masks: the folder of the masks.
        labels: the categories.
        min_area: in pixels; smaller connected components of a thing category become void.
        void: the value of pixels without category; -1 for none; by default 255, or none if that is a category.
        apply_orientation: rotate and mirror images as their EXIF tag says; False if masks were drawn on the stored
            pixels.
        is_recursive: read subfolders too.

    Raises:
        UnreadableFileError: a folder is missing or empty; on access, a file is damaged.
        InvalidAnnotationError: an image has no labels or labels no image; on access, their sizes differ or a value
            is not a category.
        InvalidArgumentError: ``min_area`` is below 1, or ``void`` is a category.
    """

    def __init__(
        self,
        images: str | os.PathLike[str],
        masks: str | os.PathLike[str],
        labels: LabelSpace,
        *,
        min_area: int = 50,
        void: int | None = None,
        apply_orientation: bool = True,
        is_recursive: bool = True,
    ) -> None:
        require_mask_options(labels, min_area, void)
        self.labels = labels
        self.apply_orientation = apply_orientation
        self.bit_depth: int | None = None
        self._options = min_area, void
        image_folder, mask_folder = Path(images), Path(masks)
        files_of = partial(files_by_name, layout=LAYOUT, is_recursive=is_recursive, with_folders=True)
        found, files = files_of(image_folder), files_of(mask_folder, suffixes=MASK_SUFFIXES)
        self._source = open_masks(mask_folder, list(files.values()), min_area=min_area, void=void)
        ending = _common_ending(found.keys(), files.keys())
        truths = [replace(entry, name=entry.name.removesuffix(ending)) for entry in self._source.entries]
        pairs = pair_files(
            found,
            {entry.name: entry for entry in truths},
            lambda image: mask_folder / image.relative_to(image_folder).with_suffix(".png"),
            image_folder,
        )
        self._pairs = with_plain_names(pairs)

    def map_sources(self) -> MapSources:
        """Return the masks and the options of their components."""
        return MapSources([pair.truth.content for pair in self._pairs], self._options)


def _common_ending(images: Set[str], masks: Set[str]) -> str:
    """Return what follows the names of the images in the names of all masks; empty if there is nothing in common."""
    first = min(images)
    endings = sorted(mask[len(first) :] for mask in masks - images if mask.startswith(first))
    stems = {ending: {mask[: -len(ending)] for mask in masks if mask.endswith(ending)} for ending in endings}
    return next((e for e in endings if len(stems[e]) == len(masks) and stems[e] <= images), "")


def open_split(
    root: str | os.PathLike[str], split: str, labels: LabelSpace, *, min_area: int = 50, void: int | None = None
) -> SemanticMaskDataset:
    """Open a split of a folder; see :func:`~panscape.datasets.mask_folders.find_mask_folders` for its layout.

    Args:
        root: the folder.
        split: its name.
        labels: the categories.
        min_area: see :class:`SemanticMaskDataset`.
        void: likewise.

    Raises:
        PanscapeError: as :class:`SemanticMaskDataset`.
    """
    images, masks, is_recursive = mask_folders_of(root, split)
    return SemanticMaskDataset(images, masks, labels, min_area=min_area, void=void, is_recursive=is_recursive)


def camvid(root: str | os.PathLike[str], split: str) -> SemanticMaskDataset:
    """Return CamVid as published with the SegNet tutorial: 480x360 photos from a moving car, 11 categories.

    Signs, cars, pedestrians and bicyclists of at least 50 pixels are instances.

    Source: Brostow et al., "Semantic object classes in video: a high-definition ground truth database", 2008;
    Badrinarayanan et al., "SegNet", 2015.
    """
    return open_split(root, split, LabelSpace.load("camvid"), min_area=50, void=11)


def aerial(root: str | os.PathLike[str], split: str) -> SemanticMaskDataset:
    """Return the satellite images of Dubai by Humans in the Loop and MBRSC (CC0): 5 categories.

    Buildings of at least 100 pixels are instances.
    """
    return open_split(root, split, LabelSpace.load("aerial"), min_area=100, void=255)
