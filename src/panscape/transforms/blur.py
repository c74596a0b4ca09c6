"""Gaussian blur."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor

from panscape.constraints import OddInt, Positive, UnitInterval, check_fields
from panscape.errors import InvalidArgumentError
from panscape.panoptic import PanopticMap
from panscape.transforms.checks import require_pair
from panscape.transforms.random_numbers import uniform


@dataclass(frozen=True)
class GaussianBlur:
    """Blur the image with a Gaussian kernel, at random; the map is unchanged.

    The kernel is torchvision's: sampled at whole pixels, cut off at ``kernel_size``, with sum 1; borders are reflected.

    Attributes:
        sigma: smallest and largest standard deviation in pixels, drawn uniformly.
        probability: probability of the blur, 0..1.
        kernel_size: height and width of the kernel in pixels, odd.
    """

    sigma: tuple[Positive, Positive] = (0.1, 2.0)
    probability: UnitInterval = 0.5
    kernel_size: OddInt = 5

    def __post_init__(self) -> None:
        check_fields(self)
        if self.sigma[0] > self.sigma[1]:
            raise InvalidArgumentError(f"expected a sigma as smallest and largest value, got {self.sigma}")

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return the image, blurred or unchanged, and the same ground truth.

        Raises:
            InvalidArgumentError: a side of the image is not longer than half the kernel, so that it has no reflection.
        """
        require_pair(image, truth)
        if uniform(0, 1, generator) >= self.probability:
            return image, truth
        shortest = self.kernel_size // 2 + 1
        if min(truth.size) < shortest:
            raise InvalidArgumentError(
                f"expected an image of at least {shortest}x{shortest} pixels to blur, got "
                f"{truth.size.height}x{truth.size.width}; use larger crops or no blur"
            )
        from torchvision.transforms.v2 import functional

        return functional.gaussian_blur(image, [self.kernel_size] * 2, [uniform(*self.sigma, generator)]), truth
