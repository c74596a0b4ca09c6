"""From what a recipe says about variation to the transforms that do it."""

from __future__ import annotations

from typing import NamedTuple

from panscape.labels import LabelSpace
from panscape.training.recipe import Augmentation
from panscape.transforms import (
    Compose,
    CopyPaste,
    Photometric,
    RandomCrop,
    RandomFlip,
    RareCategoryCrop,
    Rotation,
    ScaleJitter,
    ShortestSideChoice,
    Transform,
)


class Variation(NamedTuple):
    """What a :class:`~panscape.training.samples.SampleStream` applies to samples.

    Attributes:
        augment: resize, cut out, rotate and flip.
        copy_paste: paste objects of another sample; None if none are.
        recolor: change colours; None if they stay.
    """

    augment: Transform
    copy_paste: CopyPaste | None
    recolor: Photometric | None


def variation(options: Augmentation, labels: LabelSpace, rarity: tuple[float, ...] | None = None) -> Variation:
    """Return the transforms of a recipe.

    Args:
        options: of the recipe.
        labels: tells which segments are objects that can be pasted.
        rarity: of each category, see :func:`panscape.sampling.category_rarity`; needed for crops at rare categories.
    """
    transforms: list[Transform] = []
    if options.shortest_sides:
        transforms.append(ShortestSideChoice(options.shortest_sides, options.longest_side))
    elif options.scale != (1.0, 1.0):
        transforms.append(ScaleJitter(*options.scale))
    if rarity is not None and options.rare_crop:
        transforms.append(RareCategoryCrop(options.crop, rarity, options.rare_crop))
    else:
        transforms.append(RandomCrop(options.crop))
    if options.rotation != "none":
        transforms.append(Rotation(options.rotation))
    if options.flip:
        transforms.append(RandomFlip(options.flip))
    copy_paste = CopyPaste(labels.thing_ids, options.copy_paste) if options.copy_paste and labels.thing_ids else None
    spread = options.recolor_spread
    recolor = Photometric(spread, spread, spread, options.recolor_hue, options.recolor) if options.recolor else None
    return Variation(Compose(tuple(transforms)), copy_paste, recolor)
