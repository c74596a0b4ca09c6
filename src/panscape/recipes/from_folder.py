"""A folder of your own: settings that follow from what lies in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from panscape.datasets.base import PanopticDataset
from panscape.datasets.folder import find_folder
from panscape.datasets.load import load_sample
from panscape.errors import BadSampleError
from panscape.recipes.data_options import FolderData
from panscape.recipes.model_options import SwiftNetOptions
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.training.config import Augmentation, Optimizer, Recipe, Schedule

_LOOKED_AT = 20  # images whose size is taken for that of all
_LARGEST_CROP = 512
_LARGEST_IMAGE = 2048
_EPOCHS = 300
_STEPS = (1000, 40_000)
_CITYSCAPES_AREA = 1024 * 2048


class Derived(NamedTuple):
    """A recipe for a folder.

    Attributes:
        recipe: to train by.
        notes: lines that tell the user what was found and chosen.
    """

    recipe: Recipe
    notes: tuple[str, ...]


def own() -> Recipe:
    """A folder of your own; what is not given follows from the data.

    ::

        panscape train own --data DIR --out OUT
        panscape train --data DIR --out OUT

    Returns:
        The recipe for a thousand images of 480x640; :func:`derive` gives that of a folder.
    """
    return recipe_for(num_images=1000, height=480, width=640)


def derive(root: Path, data: FolderData | None = None) -> Derived:
    """Return a recipe for the folder.

    Args:
        root: see :func:`panscape.datasets.folder.from_folder`.
        data: how to read it.

    Raises:
        PanscapeError: as :func:`panscape.datasets.folder.from_folder`; or none of the images looked at can be used.
    """
    data = data or FolderData()
    found = find_folder(root)
    train, val = data.load(root, "train"), data.load(root, "val")
    height, width = _size_of_images(train)
    recipe = replace(recipe_for(len(train), height, width), data=data)
    labels = train.labels
    form = "COCO panoptic form" if found.kind == "coco" else "category masks"
    notes = [
        f"{root}: {form}, {len(labels)} categories ({len(labels.thing_ids)} things), "
        f"{len(train)} images to train on, {len(val)} to evaluate on, mostly {height}x{width}"
    ]
    if not found.is_split:
        notes.append(f"no val images lie apart: every {data.hold_out}th image is held out to evaluate on")
    if not found.is_named:
        notes.append(
            "no categories.json: categories are called by their numbers and all are stuff; to name them and to make "
            'things of some, write {"name": ..., "categories": [{"name", "is_thing", "source_id", "color"}, ...]}'
        )
    crop = recipe.augmentation.crop
    notes.append(f"chosen, where no option says otherwise: crops of {crop[0]}x{crop[1]}, {recipe.steps} steps")
    return Derived(recipe, tuple(notes))


def recipe_for(num_images: int, height: int, width: int) -> Recipe:
    """Return a recipe for images of about one size.

    Lengths and areas of the representation are Cityscapes' times the ratio of the images' sizes. Images are learnt
    at half to twice the size at which they are predicted.

    Args:
        num_images: to train on.
        height: of a typical image, pixels.
        width: likewise.
    """
    shrunk = min(1.0, _LARGEST_IMAGE / max(height, width))
    crop = (_crop_side(height * shrunk), _crop_side(width * shrunk))
    share = min(1.0, height * width * shrunk**2 / _CITYSCAPES_AREA)
    batch_size = 8
    steps = round(min(max(_EPOCHS * num_images // batch_size, _STEPS[0]), _STEPS[1]), -2)
    representation = CenterRepresentation(
        sigma=round(max(4.0, 10 * share**0.5), 1),
        small_area=max(64, round(4096 * share)),
        hard_pixel_fraction=0.5,
        offset_loss_weight=round(min(0.01, 0.0025 / share**0.5), 4),  # offsets are as much shorter as images are
        decoding=CenterDecoding(stuff_area=max(16, round(2048 * share))),
    )
    return Recipe(
        name="own",
        model=SwiftNetOptions(
            backbone="residual_xs" if num_images < 30 else "residual_s",
            width=64 if min(crop) <= 320 else 96,
            longest_side=min(_LARGEST_IMAGE, -(-max(height, width) * 4 // 96) * 32),  # a third more than the typical
            representation=representation,
        ),
        data=FolderData(),
        augmentation=Augmentation(crop=crop, scale=(round(0.5 * shrunk, 3), round(2 * shrunk, 3)), color_jitter=1.0),
        optimizer=Optimizer("adamw", learning_rate=2e-3, weight_decay=0.02, grad_clip_norm=10.0),
        schedule=Schedule("cosine", warmup_steps=200),
        steps=steps,
        batch_size=batch_size,
        ema_decay=0.998,
        eval_every=max(500, steps // 1000 * 100),
        eval_limit=200,
    )


def _crop_side(length: float) -> int:
    return min(_LARGEST_CROP, max(64, int(length) // 32 * 32))


def _size_of_images(dataset: PanopticDataset) -> tuple[int, int]:
    step = -(-len(dataset) // _LOOKED_AT)
    sizes, bad = [], []
    for i in range(0, len(dataset), step):
        try:
            sizes.append(load_sample(dataset, i).truth.size)
        except BadSampleError as error:  # whoever trains decides what that means
            bad.append(error)
    if not sizes:
        raise bad[0]
    return int(median(size.height for size in sizes)), int(median(size.width for size in sizes))
