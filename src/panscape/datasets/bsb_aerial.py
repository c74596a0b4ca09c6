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
from panscape.formats import bundled_if_same, load_coco_json
from panscape.labels import LabelSpace

_LAYOUT = (
    "ROOT/image_SPLIT, ROOT/panoptic_SPLIT and ROOT/annotations/panoptic_SPLIT.json; or ROOT/SPLIT, "
    "ROOT/annotations/panoptic_SPLIT and ROOT/annotations/panoptic_SPLIT.json"
)
_UNDESCRIBED_AREA = 10  # pixels; the authors' generator does not describe segments up to this area
BSB_SPLITS = Splits("BSB Aerial", ("train", "val", "test"))
"""The splits of the published dataset."""


def bsb(root: str | os.PathLike[str], split: str) -> CocoPanoptic:
    """Return BSB Aerial, whose annotations are in COCO panoptic format.

    The publication does not name the folders; that of the authors' generator, or the layout of COCO, is expected::

        ROOT/image_train/NUMBER.tiff               ROOT/train/NAME.tif  (or another image format)
        ROOT/panoptic_train/NUMBER.png             ROOT/annotations/panoptic_train/NAME.png
        ROOT/annotations/panoptic_train.json       ROOT/annotations/panoptic_train.json

    and ``val`` and ``test`` likewise. The label space is called ``"bsb"``. If the JSON lists no categories, as that of
    the generator, or the same, it is the bundled one of that name: its numbers 1 to 14 are inferred from the order in
    which the authors list the categories, and its colors are ours. The generator does not describe segments of up to
    10 pixels; they are void. Commas after the last entry of a list are ignored.

    Source: https://github.com/abilius-app/Panoptic-Generator.

    Args:
        root: the folder of ``annotations``.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Raises:
        InvalidArgumentError: the split does not exist.
        UnreadableFileError: the JSON is missing; or as :class:`CocoPanoptic`.
        InvalidAnnotationError: as :class:`CocoPanoptic`.
    """
    split = BSB_SPLITS.require_truth(split)
    folder = Path(root)
    json_path = folder / "annotations" / f"panoptic_{split}.json"
    if not json_path.is_file():
        raise UnreadableFileError(json_path, f"no such file; expected {_LAYOUT}; rename the folders accordingly")
    images, annotations = folder / split, json_path.with_suffix("")
    if (folder / f"image_{split}").is_dir():
        images, annotations = folder / f"image_{split}", folder / f"panoptic_{split}"
    content = load_coco_json(json_path)
    listed = content.labels()
    labels = LabelSpace.load("bsb") if listed is None else bundled_if_same(LabelSpace("bsb", listed.categories), "bsb")
    return CocoPanoptic(content, annotations, images, labels, undescribed_area=_UNDESCRIBED_AREA)
