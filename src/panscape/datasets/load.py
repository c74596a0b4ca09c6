"""Load and check samples of a dataset, with errors that name the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from panscape.datasets.base import PanopticDataset, Sample
from panscape.errors import BadSampleError, InvalidAnnotationError, PanscapeError
from panscape.panoptic import PanopticMap

OnError = Literal["raise", "skip"]


class SkippedSample(NamedTuple):
    """An invalid image that was skipped and replaced.

    Attributes:
        image: its file or name.
        reason: the error; begins with the file or name.
    """

    image: str
    reason: str


def load_sample(dataset: PanopticDataset, index: int) -> Sample:
    """Return a sample whose image, ground truth and label space are consistent.

    Raises:
        BadSampleError: it cannot be read, or it is inconsistent; the message names the file if it is known.
    """
    name = f"image {index} of the dataset"
    try:
        sample = dataset[index]
        name = sample.name
        _check(sample, len(dataset.labels))
    except (PanscapeError, OSError) as error:
        raise bad_sample(error, name) from error
    return sample


def truth_of(dataset: PanopticDataset, index: int) -> PanopticMap:
    """Return the map at ``index``, without decoding the image if the dataset has a method ``truth_of(index)``."""
    known: Callable[[int], PanopticMap] | None = getattr(dataset, "truth_of", None)
    return known(index) if known else dataset[index].truth


def categories_of(dataset: PanopticDataset, *, on_error: OnError = "raise") -> list[set[int]]:
    """Return the category ids in each image, for :func:`panscape.datasets.repeat_factor_sampling.repeat_factors`.

    A method ``categories_of(index)`` of the dataset is used if it exists, since it need not read images.

    Args:
        dataset: without such a method, each of its maps is read once.
        on_error: "raise" raises the error of an image that cannot be read; "skip" returns no category for it.

    Raises:
        BadSampleError: an image cannot be read.
    """
    known = getattr(dataset, "categories_of", None)
    found: list[set[int]] = []
    for index in range(len(dataset)):
        try:
            found.append(set(known(index) if known else truth_of(dataset, index).category.tolist()))
        except (PanscapeError, OSError) as error:
            if on_error == "raise":
                raise bad_sample(error, f"image {index} of the dataset") from error
            found.append(set())
    return found


def _check(sample: Sample, num_categories: int) -> None:
    image, truth = sample.image, sample.truth
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise InvalidAnnotationError(f"expected an image as uint8 [3, H, W], got {image.dtype} {list(image.shape)}")
    if tuple(image.shape[1:]) != tuple(truth.size):
        raise InvalidAnnotationError(
            f"expected labels of {image.shape[1]}x{image.shape[2]} pixels like the image, got "
            f"{truth.size.height}x{truth.size.width}"
        )
    if truth.num_segments and int(truth.category.max()) >= num_categories:
        raise InvalidAnnotationError(
            f"expected category ids in 0..{num_categories - 1}, got {int(truth.category.max())}"
        )


def bad_sample(error: PanscapeError | OSError, name: str) -> BadSampleError:
    """Return the error about a sample, with the file that ``error`` is about, or else ``name``."""
    file = getattr(error, "path", None) or getattr(error, "filename", None)
    if file is None:
        start = Path(str(error).partition(": ")[0])  # errors about annotations begin with their file
        file = start if start.is_file() else None
    return BadSampleError(file or name, str(error))
