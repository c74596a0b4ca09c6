"""Build the augmentation transforms of a recipe."""

from __future__ import annotations

from typing import NamedTuple

from panscape.datasets.segment_sampling import SegmentSampler
from panscape.labels import LabelSpace
from panscape.training.config import Augmentation
from panscape.training.data.stream import SegmentCrops
from panscape.transforms import (
    ColorJitter,
    Compose,
    CopyPaste,
    GaussianBlur,
    RandomCrop,
    RandomFlip,
    RandomSizeCrop,
    RareCategoryCrop,
    ResizeShortestEdge,
    Rotation,
    ScaleJitter,
    Transform,
)


class AugmentationSteps(NamedTuple):
    """The transforms that a :class:`~panscape.training.data.stream.SampleStream` applies to samples.

    Attributes:
        augment: resize, crop, rotate and flip; without the first two if ``crops`` does them.
        crops: crop at segments that are sampled; None if images are.
        copy_paste: paste objects of another sample; None to paste none.
        appearance: change colors and sharpness; None to keep them.
    """

    augment: Transform
    crops: SegmentCrops | None
    copy_paste: CopyPaste | None
    appearance: Transform | None


def build_augmentation(
    options: Augmentation,
    labels: LabelSpace,
    rarity: tuple[float, ...] | None = None,
    sampler: SegmentSampler | None = None,
) -> AugmentationSteps:
    """Return the transforms of a recipe.

    Args:
        options: the augmentation options of the recipe.
        labels: defines the thing categories, whose objects can be pasted.
        rarity: repeat factor of each category, see
            :func:`panscape.datasets.repeat_factor_sampling.category_repeat_factors`; needed for crops at rare
            categories.
        sampler: of segments and their scales; None to sample images.
    """
    transforms: list[Transform] = []
    if sampler is None:
        transforms += _resize_and_crop(options, rarity)
    if options.rotation != "none":
        transforms.append(Rotation(options.rotation, options.max_angle))
    if options.flip:
        transforms.append(RandomFlip(options.flip))
    copy_paste = CopyPaste(labels.thing_ids, options.copy_paste) if options.copy_paste and labels.thing_ids else None
    crops = None if sampler is None else SegmentCrops(sampler, options.crop)
    return AugmentationSteps(Compose(tuple(transforms)), crops, copy_paste, _appearance(options))


def _appearance(options: Augmentation) -> Transform | None:
    transforms: list[Transform] = []
    if options.color_jitter:
        spread = options.color_jitter_strength
        transforms.append(ColorJitter(spread, spread, spread, options.color_jitter_hue, options.color_jitter))
    if options.blur:
        transforms.append(GaussianBlur(options.blur_sigma, options.blur))
    return Compose(tuple(transforms)) if transforms else None


def _resize_and_crop(options: Augmentation, rarity: tuple[float, ...] | None) -> list[Transform]:
    transforms: list[Transform] = []
    if options.random_size_crop:
        transforms.append(RandomSizeCrop(options.random_size_crop))
    if options.shortest_sides:
        transforms.append(ResizeShortestEdge(options.shortest_sides, options.longest_side))
    elif options.scale != (1.0, 1.0):
        transforms.append(ScaleJitter(*options.scale, options.scale_distribution))
    if rarity is not None and options.rare_crop:
        return [*transforms, RareCategoryCrop(options.crop, rarity, options.rare_crop)]
    return [*transforms, RandomCrop(options.crop)]
