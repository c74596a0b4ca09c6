"""Mapillary Vistas: street photos from all over the world, 18 000 for training and 2000 for validation.

Source: Neuhold et al., "The Mapillary Vistas Dataset for Semantic Understanding of Street Scenes", ICCV 2017. The
images are available from Mapillary after registration, for research (CC BY-NC-SA).
"""

from __future__ import annotations

import os
from pathlib import Path

from panscape.datasets.coco_panoptic import CocoPanoptic
from panscape.datasets.splits import ImageFile, Splits, image_files
from panscape.errors import UnreadableFileError
from panscape.formats import bundled_if_same
from panscape.labels import LabelSpace

_FOLDERS = {"train": "training", "val": "validation", "test": "testing"}
VISTAS_SPLITS = Splits(
    "Mapillary Vistas",
    ("train", "val"),
    {"test": "its annotations are not public"},
    {folder: split for split, folder in _FOLDERS.items()},
)
"""The splits of the published dataset."""
_LAYOUT = (
    "ROOT/training/images with ROOT/training/panoptic/panoptic_2018.json and its PNGs beside it (v1.2; in the release "
    "of v2.0 they are in ROOT/training/v1.2/panoptic), and ROOT/validation likewise"
)


def vistas(root: str | os.PathLike[str], split: str) -> CocoPanoptic:
    """Return Mapillary Vistas v1.2, read from the unpacked files without preparation.

    Its annotations are in COCO panoptic format, and the JSON lists the 65 categories, things and stuff mixed. They are
    the bundled label space ``"vistas_v1.2"``, whose name selects the published settings of models. If the JSON lists
    other categories, these form a label space called ``"vistas"``::

        ROOT/training/images/NAME.jpg              ROOT/validation/images/NAME.jpg
        ROOT/training/panoptic/panoptic_2018.json  ROOT/validation/panoptic/panoptic_2018.json
        ROOT/training/panoptic/NAME.png            ROOT/validation/panoptic/NAME.png

    The release of v2.0 has the older annotations in ``ROOT/training/v1.2/panoptic``; this layout is also supported. The
    folders may be called ``train`` and ``val``, as converters write them.

    Args:
        root: the folder of ``training`` and ``validation``.
        split: ``"train"`` or ``"val"``; the annotations of ``"test"`` are not public.

    Raises:
        InvalidArgumentError: the split does not exist or has no ground truth.
        UnreadableFileError: the annotations are missing; or as :class:`CocoPanoptic`.
        InvalidAnnotationError: as :class:`CocoPanoptic`.
    """
    folder = _folder(root, VISTAS_SPLITS.require_truth(split))
    places = [folder / "panoptic", folder / "v1.2" / "panoptic"]
    found = [place for place in places if (place / "panoptic_2018.json").is_file()]
    if not found:
        is_newer = (folder / "v2.0" / "panoptic").is_dir()
        newer = f"; {folder / 'v2.0'} has the annotations of v2.0, which are not supported" if is_newer else ""
        raise UnreadableFileError(places[0] / "panoptic_2018.json", f"no such file{newer}; expected {_LAYOUT}")
    dataset = CocoPanoptic(found[0] / "panoptic_2018.json", found[0], folder / "images")
    dataset.labels = bundled_if_same(LabelSpace("vistas", dataset.labels.categories), "vistas_v1.2")
    return dataset


def _folder(root: str | os.PathLike[str], split: str) -> Path:
    """Return the folder of a split: the published one, or that of its name if only that exists."""
    published, plain = Path(root) / _FOLDERS[split], Path(root) / split
    return plain if plain.is_dir() and not published.is_dir() else published


def vistas_images(root: str | os.PathLike[str], split: str) -> list[ImageFile]:
    """Return the images of a split of Mapillary Vistas, with or without ground truth.

    Raises:
        InvalidArgumentError: the split does not exist.
        UnreadableFileError: the folder is missing or empty.
    """
    folder = _folder(root, VISTAS_SPLITS.require(split)) / "images"
    return image_files(folder, "ROOT/testing/images/NAME.jpg, and ROOT/training and ROOT/validation likewise")
