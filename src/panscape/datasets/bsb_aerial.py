"""BSB Aerial: 512x512 tiles of aerial images of Brasília, 3 stuff and 11 thing categories.

Source: de Carvalho et al., "Panoptic Segmentation Meets Remote Sensing", Remote Sensing 14(4), 2022. The authors
provide the dataset on request. It has 3000 tiles for training, 200 for validation and 200 for testing.
"""

from __future__ import annotations

import os
from pathlib import Path

from panscape.datasets.coco_panoptic import CocoPanoptic
from panscape.datasets.splits import Splits
from panscape.errors import UnreadableFileError
from panscape.formats import bundled_if_same
from panscape.labels import LabelSpace

_LAYOUT = "ROOT/SPLIT with ROOT/annotations/panoptic_SPLIT.json and ROOT/annotations/panoptic_SPLIT"
BSB_SPLITS = Splits("BSB Aerial", ("train", "val", "test"))
"""The splits of the published dataset."""


def bsb(root: str | os.PathLike[str], split: str) -> CocoPanoptic:
    """Return BSB Aerial, whose annotations are in COCO panoptic format.

    The publication does not name the folders; the layout of COCO is expected::

        ROOT/train/NAME.tif  (or another image format, according to the JSON)
        ROOT/annotations/panoptic_train.json
        ROOT/annotations/panoptic_train/NAME.png

    and ``val`` and ``test`` likewise. The JSON lists the categories; the label space is called ``"bsb"``. If
    they equal those of the bundled label space of that name, it is used. Its numbers 1 to 14 are inferred from the
    order in which the authors list the categories, and its colors are ours.

    Args:
        root: the folder of ``annotations``.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Raises:
        InvalidArgumentError: the split does not exist.
        UnreadableFileError: the JSON is missing; or as :class:`CocoPanoptic`.
        InvalidAnnotationError: as :class:`CocoPanoptic`.
    """
    split = BSB_SPLITS.require_truth(split)
    annotations = Path(root) / "annotations" / f"panoptic_{split}"
    json_path = annotations.with_suffix(".json")
    if not json_path.is_file():
        raise UnreadableFileError(json_path, f"no such file; expected {_LAYOUT}; rename the folders accordingly")
    dataset = CocoPanoptic(json_path, annotations, Path(root) / split)
    dataset.labels = bundled_if_same(LabelSpace("bsb", dataset.labels.categories), "bsb")
    return dataset
