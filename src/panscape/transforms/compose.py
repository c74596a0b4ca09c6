"""Composition of transforms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Generator, Tensor

from panscape.geometry import Size
from panscape.panoptic import PanopticMap
from panscape.transforms.checks import require_pair
from panscape.transforms.crop import CropTransform
from panscape.transforms.resize import ResizeTransform, resize


class Transform(Protocol):
    """A function from an image and its ground truth to a new image and its ground truth."""

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return the new image (uint8 [3, H', W']) and its ground truth (of size H' x W')."""


@dataclass(frozen=True)
class Compose:
    """Apply transforms in order.

    A transform that only resizes and the crop directly after it (see :class:`~panscape.transforms.CropTransform`) are
    merged into one step that processes only the pixels of the crop. The crop then starts at a whole pixel of the
    source, less than one source pixel from its position in two separate steps, for image and map alike.

    Attributes:
        transforms: in the order of application.
    """

    transforms: tuple[Transform, ...]

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return the image and the ground truth after all transforms.

        Raises:
            InvalidArgumentError: the image is not uint8 [3, H, W], or the ground truth has another size.
        """
        require_pair(image, truth)
        size: Size | None = None  # pending resize
        for transform in self.transforms:
            if isinstance(transform, ResizeTransform):
                size = transform.new_size(size or truth.size, generator)
            elif size is not None and isinstance(transform, CropTransform):
                image, truth = transform.crop_resized(image, truth, size, generator)
                size = None
            else:
                if size is not None:
                    image, truth = resize(image, truth, size)
                    size = None
                image, truth = transform(image, truth, generator)
        return (image, truth) if size is None else resize(image, truth, size)
