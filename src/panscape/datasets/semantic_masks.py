"""Datasets of semantic masks; instances are the connected components of each thing category.

Two touching objects of a category become one, since semantic masks do not separate them. This applies equally to the
ground truth of training and of evaluation, as both are read here.
"""

from __future__ import annotations

import os
from pathlib import Path

from panscape.datasets.base import Sample
from panscape.datasets.file_pairs import checked_sample, files_by_name, pair_files
from panscape.datasets.splits import ImageFile
from panscape.errors import InvalidAnnotationError, InvalidArgumentError
from panscape.formats import from_semantic_mask, load_label_image
from panscape.formats.reading.base import Entry
from panscape.images import load_image
from panscape.labels import LabelSpace


class SemanticMaskDataset:
    """Images with one category per pixel, in two folders.

    ``ROOT/images/SPLIT/NAME.jpg`` (or another image format) belongs to ``ROOT/labels/SPLIT/NAME.png``, a grey or
    palette PNG whose values are the source ids of ``labels``. The map of each image is the result of
    :func:`panscape.formats.from_semantic_mask`.

    Args:
        root: the folder of ``images`` and ``labels``.
        split: the subfolder of both, for example ``"train"``.
        labels: the categories.
        min_area: in pixels; smaller connected components of a thing category become void.
        void: the value of pixels without category.

    Raises:
        UnreadableFileError: a folder is missing or empty; on access, a file is damaged.
        InvalidAnnotationError: an image has no labels or labels no image; on access, their sizes differ or a value
            is not a category.
        InvalidArgumentError: ``min_area`` is below 1, or ``void`` is a category.
    """

    def __init__(
        self, root: str | os.PathLike[str], split: str, labels: LabelSpace, *, min_area: int = 50, void: int = 255
    ) -> None:
        if min_area < 1:
            raise InvalidArgumentError(f"expected min_area of at least 1 pixel, got {min_area}")
        if void in labels.id_of_source:
            raise InvalidArgumentError(
                f"expected a void value that is no category of {labels.name!r}, got void={void}, "
                f"which is {labels[labels.id_of_source[void]].name!r}"
            )
        self.labels = labels
        self.min_area = min_area
        self.void = void
        layout = "ROOT/images/SPLIT/NAME.jpg (or .png, ...) with ROOT/labels/SPLIT/NAME.png"
        images, annotations = (Path(root) / kind / split for kind in ("images", "labels"))
        found = files_by_name(images, layout)
        masks = files_by_name(annotations, layout, suffixes={".png"})
        self._pairs = pair_files(
            found,
            {name: Entry(name, str(path), (name,), path) for name, path in masks.items()},
            lambda image: annotations / f"{image.stem}.png",
            images,
        )

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def image_files(self) -> list[ImageFile]:
        """The image files without ground truth, in the order of the samples."""
        return [ImageFile(pair.name, pair.image) for pair in self._pairs]

    def __getitem__(self, index: int) -> Sample:
        pair = self._pairs[index]
        numbers = load_label_image(pair.truth.content)
        try:
            truth = from_semantic_mask(numbers, self.labels, min_area=self.min_area, void=self.void)
        except InvalidAnnotationError as error:
            raise InvalidAnnotationError(f"{pair.truth.file}: {error}") from error
        return checked_sample(pair, load_image(pair.image), truth)


def camvid(root: str | os.PathLike[str], split: str) -> SemanticMaskDataset:
    """Return CamVid as published with the SegNet tutorial: 480x360 photos from a moving car, 11 categories.

    Signs, cars, pedestrians and bicyclists of at least 50 pixels are instances.

    Source: Brostow et al., "Semantic object classes in video: a high-definition ground truth database", 2008;
    Badrinarayanan et al., "SegNet", 2015.
    """
    return SemanticMaskDataset(root, split, LabelSpace.load("camvid"), min_area=50, void=11)


def aerial(root: str | os.PathLike[str], split: str) -> SemanticMaskDataset:
    """Return the satellite images of Dubai by Humans in the Loop and MBRSC (CC0): 5 categories.

    Buildings of at least 100 pixels are instances.
    """
    return SemanticMaskDataset(root, split, LabelSpace.load("aerial"), min_area=100, void=255)
