"""Repeat factor sampling: how often and in which order images are sampled in an epoch.

Images of rare categories are repeated within an epoch, as for Mapillary Vistas in Panoptic SwiftNet's released code
and for LVIS (Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019, repeat factor
sampling): the factor of a category that occurs in the fraction f of all images is max(1, sqrt(threshold / f)).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import torch
from torch import Generator, Tensor

from panscape.errors import InvalidArgumentError


def repeat_factors(categories: Sequence[Collection[int]], threshold: float) -> Tensor:
    """Return how often each image is sampled per epoch: the largest factor of its categories.

    Args:
        categories: category ids in each image.
        threshold: fraction of the images, 0..1, below which a category is rare. 0 repeats nothing.

    Returns:
        float64 [N], at least 1; an image without categories has 1.

    Raises:
        InvalidArgumentError: the threshold is out of range.
    """
    factors = _category_factors(categories, threshold)
    largest = [max((factors[category] for category in image), default=1.0) for image in categories]
    return torch.tensor(largest, dtype=torch.float64)


def category_repeat_factors(categories: Sequence[Collection[int]], threshold: float, num_categories: int) -> Tensor:
    """Return the factor of each category: above 1 if it is rare.

    Args:
        categories: category ids in each image.
        threshold: as in :func:`repeat_factors`.
        num_categories: number of categories in the label space.

    Returns:
        float64 [num_categories], at least 1; a category that occurs in no image gets 1.

    Raises:
        InvalidArgumentError: the threshold is out of range, or an image has a category that is not in the label space.
    """
    factors = _category_factors(categories, threshold)
    if factors and not 0 <= min(factors) <= max(factors) < num_categories:
        raise InvalidArgumentError(
            f"expected category ids in 0..{num_categories - 1}, got {min(factors)}..{max(factors)}; "
            "the images were read with another label space"
        )
    rarity = torch.ones(num_categories, dtype=torch.float64)
    for category, factor in factors.items():
        rarity[category] = factor
    return rarity


def stochastic_round(repeats: Tensor, generator: Generator) -> Tensor:
    """Round factors randomly for one epoch: 2.3 becomes 3 with probability 0.3, else 2.

    Args:
        repeats: float64 [N], finite and at least 1, so that every epoch contains every image.
        generator: source of randomness; N numbers are drawn from it.

    Returns:
        int64 [N].

    Raises:
        InvalidArgumentError: a factor is below 1 or not finite.
    """
    if repeats.numel() and not (float(repeats.min()) >= 1 and bool(torch.isfinite(repeats).all())):
        raise InvalidArgumentError(
            f"expected finite repeat factors of at least 1, got {float(repeats.min())}..{float(repeats.max())}"
        )
    whole = repeats.floor()
    is_more = torch.rand(repeats.shape, generator=generator, dtype=torch.float64) < repeats - whole
    return whole.long() + is_more


def epoch_order(repeats: Tensor | None, length: int, generator: Generator) -> Tensor:
    """Return the images of one epoch in random order.

    Args:
        repeats: float64 [length], mean number of samples of each image (see :func:`stochastic_round`); None samples
            each image once.
        length: number of images.
        generator: source of randomness, first for the rounding, then for the order.

    Returns:
        int64, indices in 0..length - 1; its length varies between epochs if factors are not integers.

    Raises:
        InvalidArgumentError: the number of factors differs from the number of images, or a factor is out of range.
    """
    if repeats is None:
        return torch.randperm(length, generator=generator)
    if repeats.shape != (length,):
        raise InvalidArgumentError(f"expected a repeat factor for each of {length} images, got {list(repeats.shape)}")
    drawn = torch.repeat_interleave(torch.arange(length), stochastic_round(repeats, generator))
    return drawn[torch.randperm(len(drawn), generator=generator)]


def _category_factors(categories: Sequence[Collection[int]], threshold: float) -> dict[int, float]:
    if not 0 <= threshold <= 1:
        raise InvalidArgumentError(f"expected a threshold as a fraction of the images in 0..1, got {threshold}")
    images = Counter(category for image in categories for category in set(image))
    return {category: max(1.0, (threshold * len(categories) / count) ** 0.5) for category, count in images.items()}
