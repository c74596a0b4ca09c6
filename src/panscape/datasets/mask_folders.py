"""Find the folders of images and of semantic masks in a dataset, whatever their usual names and order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from panscape.datasets.splits import Splits, in_usual_order
from panscape.errors import UnreadableFileError
from panscape.image_files import IMAGE_SUFFIXES
from panscape.input_files import find_files

LAYOUT = "ROOT/images/SPLIT/NAME.jpg (or .png, ...) with ROOT/labels/SPLIT/NAME.png"
"""For error messages."""

_IMAGES = ("images",)
_MASKS = ("labels", "masks", "annotations")
_SPLITS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
_WHOLE = "train"  # the split of folders without subfolders


class MaskFolders(NamedTuple):
    """The folders of a split; one of them may not exist.

    Attributes:
        images: of the images.
        masks: of the masks.
        is_recursive: whether their subfolders belong to the split.
    """

    images: Path
    masks: Path
    is_recursive: bool = True


def find_mask_folders(root: str | os.PathLike[str]) -> Mapping[str, MaskFolders]:
    """Return the folders of each split by its name; empty if there are none.

    These are ``ROOT/images/SPLIT`` and ``ROOT/labels/SPLIT``, or ``ROOT/SPLIT/images`` and ``ROOT/SPLIT/labels``.
    ``labels`` may be called ``masks`` or ``annotations``, and a split ``training``, ``valid``, ``validation`` or
    ``testing``; the case of names does not matter. Without folders of train or val, all images are those of "train":
    directly in ``ROOT/images``, or else in its subfolders.

    Raises:
        UnreadableFileError: a folder cannot be listed.
    """
    folder = Path(root)
    images, masks = _child(folder, _IMAGES), _child(folder, _MASKS)
    if images is None or masks is None:
        children = {path: (_child(path, _IMAGES), _child(path, _MASKS)) for path in _subfolders(folder)}
        if not any(images and masks for images, masks in children.values()):
            return {}
        return {
            split_name(path.name): MaskFolders(images or path / _IMAGES[0], masks or path / _MASKS[0])
            for path, (images, masks) in children.items()
            if images or masks
        }
    names = {split_name(path.name): path.name for path in (*_subfolders(masks), *_subfolders(images))}
    of_split = {split: MaskFolders(images / name, masks / name) for split, name in names.items()}
    if {"train", "val"} & of_split.keys():
        return of_split
    is_flat = "test" in of_split or bool(find_files(images, IMAGE_SUFFIXES, is_recursive=False))
    return {**(of_split if is_flat else {}), _WHOLE: MaskFolders(images, masks, is_recursive=not is_flat)}


def mask_folders_of(root: str | os.PathLike[str], split: str) -> MaskFolders:
    """Return the folders of one split; if there are none, those that were expected, which do not exist."""
    expected = MaskFolders(Path(root) / "images" / split, Path(root) / _MASKS[0] / split)
    return find_mask_folders(root).get(split_name(split), expected)


def mask_splits(data: str, root: str | os.PathLike[str]) -> Splits:
    """Return the splits of :func:`find_mask_folders`: train, val, and others; those without masks are without truth.

    Args:
        data: name of the dataset, for error messages.
        root: the folder.
    """
    found = find_mask_folders(root)
    with_truth = {split for split, folders in found.items() if folders.images.is_dir() and folders.masks.is_dir()}
    return Splits(
        data,
        in_usual_order({"train", "val"} | with_truth),
        {
            split: f"there is no folder {found[split].masks}"
            for split in in_usual_order(found.keys() - with_truth - {"train", "val"})
            if found[split].images.is_dir()
        },
        _SPLITS,
    )


def split_name(folder: str) -> str:
    """Return the name of the split in a folder, "val" for ``valid`` for example; other names are returned unchanged."""
    name = folder.lower()
    name = _SPLITS.get(name, name)
    return name if name in ("train", "val", "test") else folder


def _child(folder: Path, names: tuple[str, ...]) -> Path | None:
    """Return the first subfolder with one of the names, in any case; None if there is none."""
    found = {path.name.lower(): path for path in _subfolders(folder)}
    return next((found[name] for name in names if name in found), None)


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UnreadableFileError(folder, f"cannot list this folder ({error.strerror})") from error
