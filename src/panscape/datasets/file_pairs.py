"""Match images and annotations by name; missing files are reported before training starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from panscape.datasets.base import Sample
from panscape.errors import InvalidAnnotationError, UnreadableFileError
from panscape.images import IMAGE_SUFFIXES
from panscape.panoptic import PanopticMap


class Pair(NamedTuple):
    """An image and its annotation on disk.

    Attributes:
        name: identifies both within their dataset.
        image: path of the image.
        annotation: path of the labels.
    """

    name: str
    image: Path
    annotation: Path


def files_by_name(folder: Path, pattern: str, name_of: Callable[[Path], str], layout: str) -> dict[str, Path]:
    """Return the images of a folder by name.

    Args:
        folder: the folder of the images.
        pattern: as in ``Path.glob``. Hidden files and files without one of :data:`~panscape.images.IMAGE_SUFFIXES` are
            ignored.
        name_of: returns the name of a file.
        layout: expected layout of the dataset, for the error message.

    Raises:
        UnreadableFileError: the folder does not exist or has no matching file.
        InvalidAnnotationError: two files have the same name.
    """
    if not folder.is_dir():
        raise UnreadableFileError(folder, f"no such folder; expected {layout}")
    found: dict[str, Path] = {}
    for path in sorted(folder.glob(pattern)):
        if path.name.startswith(".") or path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        name = name_of(path)
        if name in found:
            raise InvalidAnnotationError(
                f"{path}: expected one file called {name!r}, got {found[name].name} too; rename or remove one"
            )
        found[name] = path
    if not found:
        raise UnreadableFileError(folder, f"expected files {pattern}, found none; expected {layout}")
    return found


def pair_files(
    images: Mapping[str, Path], annotations: Mapping[str, Path], annotation_of: Callable[[Path], Path], folder: Path
) -> list[Pair]:
    """Return the pairs, sorted by name.

    Args:
        images: paths by name.
        annotations: paths by name.
        annotation_of: returns the expected path of an image's annotation, for the error message.
        folder: the folder of the images, for the error message.

    Raises:
        InvalidAnnotationError: an image has no annotation, or an annotation no image.
    """
    unmatched = sorted(images.keys() - annotations.keys())
    if unmatched:
        image = images[unmatched[0]]
        raise InvalidAnnotationError(
            f"{image}{_and_more(unmatched)}: expected its labels at {annotation_of(image)}, found none; "
            "add them, or remove the image"
        )
    unmatched = sorted(annotations.keys() - images.keys())
    if unmatched:
        raise InvalidAnnotationError(
            f"{annotations[unmatched[0]]}{_and_more(unmatched)}: expected the image {unmatched[0]!r} in {folder}, "
            "found none; add it, or remove the labels"
        )
    return [Pair(name, images[name], annotations[name]) for name in sorted(images)]


def checked_sample(pair: Pair, image: Tensor, truth: PanopticMap) -> Sample:
    """Return the sample of a pair after a check of its sizes.

    Raises:
        InvalidAnnotationError: image and map differ in size.
    """
    height, width = image.shape[1:]
    if truth.size != (height, width):
        rotated = " (rotated by its EXIF orientation?)" if truth.size == (width, height) else ""
        raise InvalidAnnotationError(
            f"{pair.annotation}: expected labels of {height}x{width} pixels like {pair.image}{rotated}, "
            f"got {truth.size.height}x{truth.size.width}; do not resize them; find the labels of this image"
        )
    return Sample(image, truth, pair.name)


def _and_more(names: Iterable[str]) -> str:
    others = len(list(names)) - 1
    return f" and {others} more" if others else ""
