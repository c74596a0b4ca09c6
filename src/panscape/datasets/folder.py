"""A folder of your own: COCO panoptic form or category masks, recognised by what lies in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from panscape.datasets.base import Sample
from panscape.datasets.coco_panoptic import CocoPanoptic
from panscape.datasets.semantic_masks import SemanticMaskDataset
from panscape.datasets.splits import ImageFile, Splits, folder_splits, in_usual_order
from panscape.errors import InvalidAnnotationError, InvalidArgumentError, UnreadableFileError
from panscape.formats import labels_from_coco, load_label_image
from panscape.images import IMAGE_SUFFIXES
from panscape.labels import LabelSpace

LAYOUTS = """(a) COCO panoptic form: ROOT/annotations/panoptic_train.json, its PNGs in ROOT/annotations/panoptic_train \
and the images in ROOT/train or ROOT/images; (b) category masks: ROOT/images/train/NAME.jpg with \
ROOT/labels/train/NAME.png, and ROOT/categories.json to name the categories"""

_NAME = "own"  # of the label space: it must not change when the folder moves
_MOST_CATEGORIES = 250


class Subset:
    """Some samples of another dataset.

    Args:
        dataset: the other one.
        indices: positions in it.
    """

    def __init__(self, dataset: CocoPanoptic | SemanticMaskDataset, indices: Sequence[int]) -> None:
        self._dataset, self._indices = dataset, list(indices)

    @property
    def labels(self) -> LabelSpace:
        """The label space of every truth."""
        return self._dataset.labels

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[self._indices[index]]

    @property
    def image_files(self) -> list[ImageFile]:
        """The images without their ground truth, in the order of the samples."""
        files = self._dataset.image_files
        return [files[index] for index in self._indices]

    def categories_of(self, index: int) -> frozenset[int]:
        """Return the ids of the categories in the map at ``index``; read from the map where nothing shorter tells."""
        there = self._indices[index]
        if isinstance(self._dataset, CocoPanoptic):
            return self._dataset.categories_of(there)
        return frozenset(self._dataset[there].truth.category.tolist())


class FoundFolder(NamedTuple):
    """What a folder holds.

    Attributes:
        kind: the form of its annotations.
        is_split: whether the images to evaluate on lie apart; if not, some are held out.
        is_named: whether the categories have names; if not, they are called by their numbers and are all stuff.
    """

    kind: Literal["coco", "masks"]
    is_split: bool
    is_named: bool


def find_folder(root: str | os.PathLike[str]) -> FoundFolder:
    """Return what the folder holds.

    Raises:
        UnreadableFileError: there is no such folder, or it holds neither layout; both are named.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise UnreadableFileError(folder, f"no such folder; expected one with {LAYOUTS}")
    if _json_path(folder, "train"):
        return FoundFolder("coco", _json_path(folder, "val") is not None, is_named=True)
    if all((folder / kind).is_dir() for kind in ("images", "labels")):
        is_split = all((folder / kind / "val").is_dir() for kind in ("images", "labels"))
        return FoundFolder("masks", is_split, is_named=(folder / "categories.json").is_file())
    there = ", ".join(sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))[:8])
    raise UnreadableFileError(folder, f"expected {LAYOUTS}; found {there or 'nothing'}")


def folder_splits_of(root: str | os.PathLike[str]) -> Splits:
    """Return the splits of a folder of your own: train, val, and others whose images and annotations lie there.

    Raises:
        UnreadableFileError: as :func:`find_folder`.
    """
    folder, found = Path(root), find_folder(root)
    if found.kind == "masks":
        return folder_splits(str(folder), folder)
    jsons = [path.stem for place in (folder / "annotations", folder) for path in place.glob("panoptic_*.json")]
    others = {stem.removeprefix("panoptic_").removesuffix("2017") for stem in jsons}
    return Splits(str(folder), in_usual_order({"train", "val"} | others))


def from_folder(
    root: str | os.PathLike[str], split: str, *, hold_out: int = 10, min_area: int = 50, void: int = 255
) -> CocoPanoptic | SemanticMaskDataset | Subset:
    """Open a folder of your own, in one of two layouts.

    (a) COCO panoptic form, with the names COCO has (``panoptic_train2017.json``) or without the year, or one
    ``ROOT/panoptic.json`` for all images::

        ROOT/annotations/panoptic_train.json     the JSON; its categories say what is a thing
        ROOT/annotations/panoptic_train/*.png    or ROOT/panoptic_train
        ROOT/train/*.jpg                         or ROOT/images/train, or ROOT/images

    (b) Category masks, one number a pixel; touching pixels of a thing category are an object::

        ROOT/images/train/NAME.jpg    or ROOT/images/NAME.jpg
        ROOT/labels/train/NAME.png    or ROOT/labels/NAME.png
        ROOT/categories.json          a label space as LabelSpace.load reads it; source_id is the number in the masks

    Without ``categories.json`` every number in the masks is a stuff category called ``category_NUMBER``; a mask that
    cannot be read adds none, and its error comes when its image is asked for. In both layouts, ``val`` holds the
    images to evaluate on. Without it every ``hold_out``-th image, in the order of names (COCO panoptic form: of the
    JSON), is kept for that.

    Args:
        root: the folder.
        split: ``"train"``, ``"val"``, or another one of :func:`folder_splits_of`, such as ``"test"``.
        hold_out: see above, at least 2.
        min_area: in masks, connected parts of a thing category of fewer pixels become void.
        void: in masks, the number of pixels without category.

    Returns:
        The images of the split; label spaces are the same for all.

    Raises:
        UnreadableFileError: the folder holds neither layout, or a file is missing.
        InvalidAnnotationError: annotations contradict themselves or the images.
        InvalidArgumentError: there is no such split, ``hold_out`` is below 2, or there is only one image.
    """
    if hold_out < 2:
        raise InvalidArgumentError(f"expected to hold out every 2nd image or fewer, got hold_out={hold_out}")
    folder, found = Path(root), find_folder(root)
    split = folder_splits_of(root).require_truth(split)
    lies_apart = found.is_split or split not in ("train", "val")
    opened_split = split if lies_apart else "train"
    dataset = _coco(folder, opened_split) if found.kind == "coco" else _masks(folder, opened_split, min_area, void)
    if lies_apart:
        return dataset
    if len(dataset) < 2:
        raise InvalidArgumentError(
            f"{folder}: expected at least two images, one to train on and one to evaluate on, got {len(dataset)}"
        )
    held_out = set(range(hold_out - 1, len(dataset), hold_out)) or {len(dataset) - 1}
    return Subset(dataset, [i for i in range(len(dataset)) if (i in held_out) == (split == "val")])


def _json_path(folder: Path, split: str) -> Path | None:
    found = [
        path for place in (folder / "annotations", folder) for path in sorted(place.glob(f"panoptic_{split}*.json"))
    ]
    if split == "train":
        whole = (folder / "annotations" / "panoptic.json", folder / "panoptic.json")
        found += [path for path in whole if path.is_file()]
    return found[0] if found else None


def _coco(folder: Path, split: str) -> CocoPanoptic:
    train = _coco_part(folder, "train")
    if train.labels.name != "coco_panoptic":
        train.labels = LabelSpace(_NAME, train.labels.categories)
    # The categories of the images to train on hold for all.
    return train if split == "train" else _coco_part(folder, split, train.labels)


def _coco_part(folder: Path, split: str, labels: LabelSpace | None = None) -> CocoPanoptic:
    path = _json_path(folder, split) or folder / "annotations" / f"panoptic_{split}.json"
    part = path.stem.removeprefix("panoptic").removeprefix("_")
    annotations = _folder_of("PNGs", path, [path.with_suffix(""), folder / path.stem])
    parts = [folder / part, folder / "images" / part] if part else []
    images = _folder_of("images", path, [*parts, folder / "images"])
    return CocoPanoptic(path, annotations, images, labels)


def _folder_of(what: str, json_path: Path, places: Sequence[Path]) -> Path:
    for place in places:
        if place.is_dir():
            return place
    listed = " or ".join(str(place) for place in places)
    raise UnreadableFileError(json_path, f"expected its {what} in {listed}, found no such folder; move them there")


def _masks(folder: Path, split: str, min_area: int, void: int) -> SemanticMaskDataset:
    names = folder / "categories.json"
    labels = LabelSpace.load(names) if names.is_file() else _numbered_labels(folder, void)
    return SemanticMaskDataset(folder, _part_of(folder, split), labels, min_area=min_area, void=void)


def _part_of(folder: Path, split: str) -> str:
    """Return the folder below ``images`` and ``labels``; "." where images lie in them directly."""
    return split if (folder / "images" / split).is_dir() or (folder / "labels" / split).is_dir() else "."


def _numbered_labels(folder: Path, void: int) -> LabelSpace:
    numbers: set[int] = set()
    unreadable: list[UnreadableFileError] = []
    for path in sorted((folder / "labels").rglob("*.png")):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            try:
                numbers.update(np.unique(load_label_image(path)).tolist())
            except UnreadableFileError as error:  # whoever asks for this image learns of it, and may leave it out
                unreadable.append(error)
        if len(numbers - {void}) > _MOST_CATEGORIES:
            raise InvalidAnnotationError(
                f"{path}: expected one number for each category, got more than {_MOST_CATEGORIES} different ones so "
                "far; numbers of objects belong into COCO panoptic form"
            )
    numbers.discard(void)
    if not numbers and unreadable:
        raise unreadable[0]
    if not numbers:
        raise UnreadableFileError(folder / "labels", f"expected PNGs with numbers of categories, found none; {LAYOUTS}")
    listed = [{"id": number, "name": f"category_{number}", "isthing": 0} for number in sorted(numbers)]
    return labels_from_coco(_NAME, listed)
