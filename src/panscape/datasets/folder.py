"""Datasets in a user's folder: COCO panoptic format or semantic masks, detected from the layout."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from panscape.datasets.base import MapSources, Sample
from panscape.datasets.coco_panoptic import CocoPanoptic
from panscape.datasets.mask_folders import find_mask_folders, mask_splits, split_name
from panscape.datasets.segment_index import SegmentTable
from panscape.datasets.semantic_masks import SemanticMaskDataset, open_split
from panscape.datasets.splits import ImageFile, Splits, in_usual_order
from panscape.errors import InvalidAnnotationError, InvalidArgumentError, UnreadableFileError
from panscape.formats import labels_from_coco, load_label_image, unique_ids
from panscape.formats.reading.masks import find_masks
from panscape.formats.semantic_masks import INTERPOLATED, USUAL_VOID, is_interpolated
from panscape.image_depth import require_bit_depth
from panscape.image_io import find_bit_depth
from panscape.input_files import counts_by_suffix, find_files
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.progress import ProgressBar

LAYOUTS = """(a) COCO panoptic format: ROOT/annotations/panoptic_train.json, its PNGs in \
ROOT/annotations/panoptic_train and the images in ROOT/train or ROOT/images; (b) semantic masks: \
ROOT/images/train/NAME.jpg with ROOT/labels/train/NAME.png (or in masks or annotations), and ROOT/categories.json with \
the categories"""

_NAME = "from_folder"  # of the label space; it must not change when the folder is moved
_MAX_CATEGORIES = 250


class Subset:
    """A subset of the samples of a dataset.

    Args:
        dataset: the dataset.
        indices: indices of the samples in it.
    """

    def __init__(self, dataset: CocoPanoptic | SemanticMaskDataset, indices: Sequence[int]) -> None:
        self._dataset, self._indices = dataset, list(indices)

    @property
    def labels(self) -> LabelSpace:
        """The label space of the ground truth."""
        return self._dataset.labels

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[self._indices[index]]

    @property
    def apply_orientation(self) -> bool:
        """Whether images are turned as their EXIF tag says."""
        return self._dataset.apply_orientation

    @property
    def image_files(self) -> list[ImageFile]:
        """The image files without ground truth, in the order of the samples."""
        files = self._dataset.image_files
        return [files[index] for index in self._indices]

    def categories_of(self, index: int) -> frozenset[int]:
        """Return the category ids of the map at ``index``, from the JSON if there is one, else from the map."""
        source = self._indices[index]
        if isinstance(self._dataset, CocoPanoptic):
            return self._dataset.categories_of(source)
        return frozenset(self.truth_of(index).category.tolist())

    def truth_of(self, index: int) -> PanopticMap:
        """Return the map at ``index`` without reading the image."""
        return self._dataset.truth_of(self._indices[index])

    def segments_of(self, index: int) -> SegmentTable | None:
        """Return the segments of the map at ``index`` from the JSON; None if there is none."""
        return self._dataset.segments_of(self._indices[index]) if isinstance(self._dataset, CocoPanoptic) else None

    def map_sources(self) -> MapSources:
        """Return the sources of the dataset, with the indices of the samples."""
        files, options = self._dataset.map_sources()
        return MapSources(files, (*options, self._indices))


class FoundFolder(NamedTuple):
    """The detected layout of a folder.

    Attributes:
        kind: the format of its annotations.
        is_split: whether it has a val split; if not, some training images are held out.
        is_named: whether the categories have names; if not, their names are their numbers and all are stuff.
    """

    kind: Literal["coco", "masks"]
    is_split: bool
    is_named: bool


def find_folder(root: str | os.PathLike[str]) -> FoundFolder:
    """Return the layout of a folder.

    Raises:
        UnreadableFileError: the folder does not exist or has neither layout; the message describes both.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise UnreadableFileError(folder, f"no such folder; expected one with {LAYOUTS}")
    if _json_path(folder, "train"):
        return FoundFolder("coco", _json_path(folder, "val") is not None, is_named=True)
    found = find_mask_folders(folder)
    if found and not any(_json_path(folder, split) for split in ("val", "test")):
        return FoundFolder("masks", "val" in found, is_named=(folder / "categories.json").exists())
    content = ", ".join(sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))[:8])
    raise UnreadableFileError(folder, f"expected {LAYOUTS}; found {content or 'nothing'}")


def folder_splits_of(root: str | os.PathLike[str]) -> Splits:
    """Return the splits of a user's folder: train, val, and others with images and annotations.

    Raises:
        UnreadableFileError: as :func:`find_folder`.
    """
    folder, found = Path(root), find_folder(root)
    if found.kind == "masks":
        return mask_splits(str(folder), folder)
    jsons = [path.stem for place in (folder / "annotations", folder) for path in place.glob("panoptic_*.json")]
    others = {split_name(stem.removeprefix("panoptic_").removesuffix("2017")) for stem in jsons}
    return Splits(str(folder), in_usual_order({"train", "val"} | others))


def from_folder(
    root: str | os.PathLike[str],
    split: str,
    *,
    hold_out: int = 10,
    min_area: int = 50,
    void: int | None = None,
    apply_orientation: bool = True,
    bit_depth: int | None = None,
) -> CocoPanoptic | SemanticMaskDataset | Subset:
    """Open a user's folder in one of two layouts.

    (a) COCO panoptic format, with COCO's file names (``panoptic_train2017.json``) or without the year, or one
    ``ROOT/panoptic.json`` for all images::

        ROOT/annotations/panoptic_train.json     the JSON; its categories define things and stuff
        ROOT/annotations/panoptic_train/*.png    or ROOT/panoptic_train
        ROOT/train/*.jpg                         or ROOT/images/train, or ROOT/images

    (b) Semantic masks, one number per pixel; connected components of a thing category are instances::

        ROOT/images/train/NAME.jpg    or ROOT/images/NAME.jpg, or ROOT/train/images/NAME.jpg
        ROOT/labels/train/NAME.png    or ROOT/labels/NAME.png, or ROOT/train/labels/NAME.png; also NAME.tif or NAME.bmp
        ROOT/categories.json          see LabelSpace.load; source_id is the number in the masks

    Other names of these folders are those of :func:`panscape.datasets.mask_folders.find_mask_folders`.

    Without ``categories.json`` every number in the masks is a stuff category called ``category_NUMBER``; a mask that
    cannot be read adds none, and its error is raised when its image is accessed. In both layouts, ``val`` has the
    validation images. Without it, every ``hold_out``-th image, in the order of names (COCO panoptic format: of the
    JSON), is held out for validation.

    Args:
        root: the folder.
        split: ``"train"``, ``"val"``, or another one of :func:`folder_splits_of`, such as ``"test"``.
        hold_out: see above, at least 2.
        min_area: in masks, connected components of a thing category with fewer pixels become void.
        void: in masks, the value of pixels without category; -1 for none; by default 255, or none if that is a
            category.
        apply_orientation: rotate and mirror images as their EXIF tag says; False if labels were drawn on the stored
            pixels.
        bit_depth: number of bits of white in images of 16 bits; by default what the training images show.

    Returns:
        The dataset of the split; all splits have the same label space.

    Raises:
        UnreadableFileError: the folder has neither layout, or a file is missing.
        InvalidAnnotationError: annotations contradict themselves or the images.
        InvalidArgumentError: the split does not exist, ``hold_out`` or ``bit_depth`` is out of range, or there is only
            one image.
    """
    if hold_out < 2:
        raise InvalidArgumentError(f"expected hold_out of at least 2, got {hold_out}")
    require_bit_depth(bit_depth)
    folder, found = Path(root), find_folder(root)
    split = folder_splits_of(root).require_truth(split)
    is_own_split = found.is_split or split not in ("train", "val")
    opened_split = split if is_own_split else "train"

    def opened(part: str) -> CocoPanoptic | SemanticMaskDataset:
        return _coco(folder, part) if found.kind == "coco" else _masks(folder, part, min_area, void)

    dataset = opened(opened_split)
    dataset.apply_orientation = apply_orientation
    dataset.bit_depth = bit_depth or _bit_depth_of(dataset)
    if bit_depth is None and dataset.bit_depth is not None and opened_split != "train":
        dataset.bit_depth = _bit_depth_of(opened("train")) or dataset.bit_depth  # one for the whole run
    if is_own_split:
        return dataset
    if len(dataset) < 2:
        raise InvalidArgumentError(
            f"{folder}: expected at least two images, one for training and one for validation, got {len(dataset)}"
        )
    held_out = set(range(hold_out - 1, len(dataset), hold_out)) or {len(dataset) - 1}
    return Subset(dataset, [i for i in range(len(dataset)) if (i in held_out) == (split == "val")])


def _bit_depth_of(dataset: CocoPanoptic | SemanticMaskDataset) -> int | None:
    return find_bit_depth([file.path for file in dataset.image_files])


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
    # All splits use the categories of the training split.
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


def _masks(folder: Path, split: str, min_area: int, void: int | None) -> SemanticMaskDataset:
    names = folder / "categories.json"
    labels = LabelSpace.load(names) if names.exists() else _numbered_labels(folder, void)
    return open_split(folder, split, labels, min_area=min_area, void=void)


def _numbered_labels(folder: Path, void: int | None) -> LabelSpace:
    places = sorted({folders.masks for folders in find_mask_folders(folder).values() if folders.masks.is_dir()})
    files = tuple(_File.of(path) for place in places for path in find_masks(place))
    numbers, unreadable = _numbers_in(files)
    categories = sorted(numbers - {USUAL_VOID if void is None else void})
    if not categories and unreadable is not None:
        raise unreadable
    if not categories:
        what = "only void" if numbers else counts_by_suffix(file for place in places for file in find_files(place))
        raise UnreadableFileError(folder, f"expected masks with category numbers, found {what}; expected {LAYOUTS}")
    if len(categories) < 2:
        raise InvalidAnnotationError(f"{folder}: {_too_few(sorted(numbers), void)}")
    return labels_from_coco(_NAME, [{"id": n, "name": f"category_{n}", "isthing": 0} for n in categories])


class _File(NamedTuple):
    """A file and its state: if the state is the same, so is the content."""

    path: Path
    changed: int = 0
    size: int = 0

    @classmethod
    def of(cls, path: Path) -> _File:
        try:
            state = path.stat()
        except OSError:  # raised again when it is read
            return cls(path)
        return cls(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)  # each split of each opening of a folder needs the numbers of all
def _numbers_in(masks: tuple[_File, ...]) -> tuple[frozenset[int], UnreadableFileError | None]:
    """Return the numbers in masks, and the error of the first one that cannot be read."""
    numbers: set[int] = set()
    unreadable = None
    with ProgressBar("finding categories") as bar:
        for done, (path, *_) in enumerate(masks, start=1):
            bar.update(done, len(masks))
            try:
                mask = load_label_image(path)
            except UnreadableFileError as error:  # raised again when the image is accessed, where it may be skipped
                unreadable = unreadable or error
                continue
            found = unique_ids(mask)
            if len(found) <= 256 and is_interpolated(mask):  # more are the ids of objects
                raise InvalidAnnotationError(
                    f"{path}: expected one number for each category, got {len(found)} different ones; {INTERPOLATED}"
                )
            numbers.update(found)
            if len(numbers) > _MAX_CATEGORIES:
                raise InvalidAnnotationError(
                    f"{path}: expected one number for each category, got more than {_MAX_CATEGORIES} different ones so "
                    "far; use COCO panoptic format for instance ids"
                )
    return frozenset(numbers), unreadable


def _too_few(numbers: Sequence[int], void: int | None) -> str:
    """Return the error about masks with fewer than two categories, without ``categories.json``."""
    found = f"expected masks with at least two category numbers, got only {' and '.join(map(str, numbers))}"
    if void is None and USUAL_VOID in numbers:
        return (
            f"{found}, and {USUAL_VOID} is void by default; if it is a category here, use --data.void -1 (no number is "
            "void), or give both numbers a name in categories.json"
        )
    void_text = f", and {void} is void" if void in numbers else ""
    return f"{found}{void_text}; nothing can be learnt from one category; give the background a number of its own"
