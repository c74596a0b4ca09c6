"""Shared by all formats: category ids of dataset files, and reading of label images."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.images import open_image
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap


def source_ids(panoptic: PanopticMap, labels: LabelSpace | None) -> list[int]:
    """Return the category id of each segment in the dataset files of ``labels``; without labels, the category itself.

    Raises:
        InvalidArgumentError: a category is not in ``labels``.
    """
    category: list[int] = panoptic.category.tolist()
    if labels is None:
        return category
    if category and max(category) >= len(labels):
        raise InvalidArgumentError(
            f"expected categories 0..{len(labels) - 1} of label space {labels.name!r}, got {max(category)}; "
            "use the label space of the map"
        )
    return [labels[c].source_id for c in category]


def load_label_image(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read the pixel values of a label image, integers [H, W]. A palette is ignored.

    Raises:
        UnreadableFileError: the file is missing, damaged, or has more than one channel.
    """
    with open_image(path) as image:
        mode = image.mode
        numbers = np.array(image)
    if numbers.ndim != 2 or numbers.dtype.kind not in "iub":
        raise UnreadableFileError(
            path,
            f"expected a label image with one integer per pixel, got mode {mode}; write it as 8-bit or 16-bit grey",
        )
    return numbers.astype(np.uint8) if numbers.dtype == bool else numbers
