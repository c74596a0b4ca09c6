"""A folder of your own: settings that follow from what lies in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from panscape.datasets.folder import find_folder
from panscape.datasets.sample import PanopticDataset
from panscape.errors import BadSampleError
from panscape.recipes.data_options import FolderData
from panscape.recipes.model_options import SwiftNetOptions
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.training.recipe import Augmentation, Optimizer, Recipe, Schedule
from panscape.training.samples import load_sample

_LOOKED_AT = 20  # pictures whose size is taken for that of all
_LARGEST_CROP = 512
_LARGEST_PICTURE = 2048
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
        The recipe for a thousand pictures of 480x640; :func:`derive` gives that of a folder.
    """
    return recipe_for(num_pictures=1000, height=480, width=640)


def derive(root: Path, data: FolderData | None = None) -> Derived:
    """Return a recipe for the folder.

    Args:
        root: see :func:`panscape.datasets.folder.own_folder`.
        data: how to read it.

    Raises:
        PanscapeError: as :func:`panscape.datasets.folder.own_folder`; or none of the pictures looked at can be used.
    """
    data = data or FolderData()
    found = find_folder(root)
    train, val = data.load(root, "train"), data.load(root, "val")
    height, width = _size_of_pictures(train)
    recipe = replace(recipe_for(len(train), height, width), data=data)
    labels = train.labels
    form = "COCO panoptic form" if found.kind == "coco" else "category masks"
    notes = [
        f"{root}: {form}, {len(labels)} categories ({len(labels.thing_ids)} things), "
        f"{len(train)} pictures to train on, {len(val)} to evaluate on, mostly {height}x{width}"
    ]
    if not found.is_split:
        notes.append(f"no val pictures lie apart: every {data.hold_out}th picture is held out to evaluate on")
    if not found.is_named:
        notes.append(
            "no categories.json: categories are called by their numbers and all are stuff; to name them and to make "
            'things of some, write {"name": ..., "categories": [{"name", "is_thing", "source_id", "color"}, ...]}'
        )
    crop = recipe.augmentation.crop
    notes.append(f"chosen, where no option says otherwise: crops of {crop[0]}x{crop[1]}, {recipe.steps} steps")
    return Derived(recipe, tuple(notes))


def recipe_for(num_pictures: int, height: int, width: int) -> Recipe:
    """Return a recipe for pictures of about one size.

    Lengths and areas of the representation are Cityscapes' times the ratio of the pictures' sizes. Pictures are learnt
    at half to twice the size at which they are predicted.

    Args:
        num_pictures: to train on.
        height: of a typical picture, pixels.
        width: likewise.
    """
    shrunk = min(1.0, _LARGEST_PICTURE / max(height, width))
    crop = (_crop_side(height * shrunk), _crop_side(width * shrunk))
    share = min(1.0, height * width * shrunk**2 / _CITYSCAPES_AREA)
    batch_size = 8
    steps = round(min(max(_EPOCHS * num_pictures // batch_size, _STEPS[0]), _STEPS[1]), -2)
    representation = CenterRepresentation(
        sigma=round(max(4.0, 10 * share**0.5), 1),
        small_area=max(64, round(4096 * share)),
        semantic_fraction=0.5,
        offset_loss_weight=round(min(0.01, 0.0025 / share**0.5), 4),  # offsets are as much shorter as pictures are
        decoding=CenterDecoding(stuff_area=max(16, round(2048 * share))),
    )
    return Recipe(
        name="own",
        model=SwiftNetOptions(
            backbone="residual_xs" if num_pictures < 30 else "residual_s",
            width=64 if min(crop) <= 320 else 96,
            longest_side=min(_LARGEST_PICTURE, -(-max(height, width) * 4 // 96) * 32),  # a third more than the typical
            representation=representation,
        ),
        data=FolderData(),
        augmentation=Augmentation(crop=crop, scale=(round(0.5 * shrunk, 3), round(2 * shrunk, 3)), recolor=1.0),
        optimizer=Optimizer("adamw", learning_rate=2e-3, weight_decay=0.02, clip_norm=10.0),
        schedule=Schedule("cosine", warmup_steps=200),
        steps=steps,
        batch_size=batch_size,
        average_decay=0.998,
        eval_every=max(500, steps // 1000 * 100),
        eval_pictures=200,
    )


def _crop_side(length: float) -> int:
    return min(_LARGEST_CROP, max(64, int(length) // 32 * 32))


def _size_of_pictures(dataset: PanopticDataset) -> tuple[int, int]:
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
