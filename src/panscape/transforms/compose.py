"""One transform after another."""

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
    """Anything that turns an image and its truth into another image and its truth."""

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return the new image (uint8 [3, H', W']) and its truth (of size H' x W')."""


@dataclass(frozen=True)
class Compose:
    """Apply transforms in order.

    A transform that only resizes and the crop right after it (see :class:`~panscape.transforms.CropTransform`) are done
    in one step that touches only the pixels of the crop. The crop is then taken at whole pixels of the source: it lies
    less than one source pixel from where the two steps would put it, for image and map alike.

    Attributes:
        transforms: in the order in which they are applied.
    """

    transforms: tuple[Transform, ...]

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return the image and truth after all transforms.

        Raises:
            InvalidArgumentError: the image is not uint8 [3, H, W], or truth has another size.
        """
        require_pair(image, truth)
        size: Size | None = None  # decided, but not yet resized to
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
