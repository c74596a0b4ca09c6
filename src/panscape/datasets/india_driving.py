"""IDD, the India Driving Dataset: 1920x1080 street scenes of Indian cities, about 7000 for training and 1000 for val.

Source: Varma et al., "IDD: A Dataset for Exploring Problems of Autonomous Navigation in Unconstrained Environments",
WACV 2019. The images are available from the International Institute of Information Technology, Hyderabad, after
registration, for research.
"""

from __future__ import annotations

import os
from pathlib import Path

from panscape.datasets.file_pairs import files_by_name, pair_files
from panscape.datasets.paired_dataset import PairedDataset
from panscape.datasets.splits import ImageFile, Splits
from panscape.errors import UnreadableFileError
from panscape.formats.reading.idd import INSTANCES, POLYGONS, find_idd, open_idd
from panscape.labels import LabelSpace

_IMAGE = "_leftImg8bit"
_LAYOUT = (
    f"ROOT/leftImg8bit/SPLIT/DRIVE/NAME{_IMAGE}.png (or .jpg) with ROOT/gtFine/SPLIT/DRIVE/NAME{POLYGONS}.json, "
    "as unpacked"
)

IDD_SPLITS = Splits("IDD", ("train", "val"), {"test": "its annotations are not public"})
"""The splits of the published dataset."""


def idd_images(root: str | os.PathLike[str], split: str) -> list[ImageFile]:
    """Return the images of a split of IDD, with or without ground truth, named DRIVE_NAME.

    Raises:
        InvalidArgumentError: the split does not exist.
        UnreadableFileError: the folder is missing or empty.
    """
    return [ImageFile(name, path) for name, path in sorted(_images(root, IDD_SPLITS.require(split)).items())]


def _images(root: str | os.PathLike[str], split: str) -> dict[str, Path]:
    folder = Path(root) / "leftImg8bit" / split
    found = files_by_name(folder, _LAYOUT, ending=_IMAGE, is_recursive=True, with_folders=True)
    return {name.replace("/", "_"): path for name, path in found.items()}


class IndiaDriving(PairedDataset):
    """IDD with fine annotations, read from the downloaded files without preparation.

    The categories are the 26 of level 3, the label space ``"idd_26"``. The polygons of ``gtFine`` are painted when an
    image is read (see :func:`panscape.formats.decode_idd`). If the published tools have written instance images
    ``NAME_gtFine_instancelevel3Ids.png`` beside them, these are read instead, which is faster; the maps are the same.

    Args:
        root: the folder of ``leftImg8bit`` and ``gtFine``.
        split: ``"train"`` or ``"val"``; the annotations of ``"test"`` are not public.

    Raises:
        InvalidArgumentError: the split does not exist or has no ground truth.
        UnreadableFileError: a folder is missing or empty; on access, a file is damaged.
        InvalidAnnotationError: an image has no annotation or an annotation no image; on access, their sizes differ, or
            a label is not one of IDD.
    """

    def __init__(self, root: str | os.PathLike[str], split: str) -> None:
        split = IDD_SPLITS.require_truth(split)
        self.labels = LabelSpace.load("idd_26")
        found = _images(root, split)
        folder = Path(root) / "gtFine" / split
        files = find_idd(folder) if folder.is_dir() else []
        if not files:
            raise UnreadableFileError(folder, f"expected NAME{POLYGONS}.json, found none; expected {_LAYOUT}")
        ending = f"{INSTANCES}.png" if files[0].suffix.lower() == ".png" else f"{POLYGONS}.json"
        self._source = open_idd(folder, files)
        self._pairs = pair_files(
            found,
            {entry.name: entry for entry in self._source.entries},
            lambda image: folder / image.parent.name / f"{image.stem.removesuffix(_IMAGE)}{ending}",
            Path(root) / "leftImg8bit" / split,
        )
