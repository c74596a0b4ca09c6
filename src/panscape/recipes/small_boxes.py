"""Small networks of dense detections, and what the paper's choices are worth on drawn scenes.

``town_boxes``, ``street_boxes`` and ``aerial_boxes`` learn what the small networks of :mod:`panscape.recipes.small` do,
from the same pictures and by the same schedule. The rows ``town_boxes_...`` repeat Table 3 of Real-Time Panoptic
Segmentation from Dense Detections at a small size, each the same but for what its name says. ``town_boxes_light`` is
ours, to be compared with ``town_boxes_mask_loss``.

Pictures have a twelfth of the pixels of Cityscapes' or fewer, and so lengths are divided by 3.5 or so: there are four
levels, at strides 4 to 32. Towers have two layers of 48 channels (the paper: four of 256 and 128), and the mask loss
looks at no more than 20 objects of a picture.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from panscape.recipes.data_options import AerialData, CamVidData, TownData
from panscape.recipes.model_options import DenseDetectionsOptions
from panscape.representations.dense_boxes import DenseBoxDecoding, DenseBoxRepresentation
from panscape.representations.merging import PastingRules
from panscape.training.recipe import Augmentation, Optimizer, Recipe, Schedule

_TOWN_SCALE = 1.5  # as for the town of centres: small things are lost at the scene's own size
_REPRESENTATION = DenseBoxRepresentation(level_ends=(32.0, 64.0, 128.0), finest_stride=4, max_mask_queries=20)
_OPTIMIZER = Optimizer("adamw", learning_rate=2e-3, weight_decay=0.02, clip_norm=10.0)
_SCHEDULE = Schedule("cosine", warmup_steps=200)


def town_boxes() -> Recipe:
    """The drawn town by dense detections.

    ::

        panscape train town_boxes --out OUT --precision bf16
        hardware, hours: one core of a CPU, not measured yet
        ours, val:       not measured yet
    """
    return Recipe(
        name="town_boxes",
        model=_small(stuff_area=450, working_scale=_TOWN_SCALE),
        data=TownData(length=1_000_000),
        augmentation=Augmentation(crop=(384, 384), scale=(_TOWN_SCALE, _TOWN_SCALE)),
        optimizer=_OPTIMIZER,
        schedule=_SCHEDULE,
        steps=14_000,
        batch_size=8,
        average_decay=0.999,
        eval_every=2000,
    )


def street_boxes() -> Recipe:
    """CamVid, photos from a moving car, by dense detections.

    ::

        panscape train street_boxes --data DIR --start street --out OUT --precision bf16
        hardware, hours: one core of a CPU beside other work, 1.2 for 1311 steps after those of street
        ours, val:       PQ 57.8, mIoU 62.0 in two parts, see docs/bundled_models.md
    """
    return Recipe(
        name="street_boxes",
        model=_small(stuff_area=100, longest_side=640),
        data=CamVidData(),
        augmentation=Augmentation(crop=(256, 320), scale=(0.6, 1.8), recolor=1.0, copy_paste=0.5),
        optimizer=_OPTIMIZER,
        schedule=_SCHEDULE,
        steps=6000,
        batch_size=8,
        average_decay=0.998,
        eval_every=2000,
    )


def aerial_boxes() -> Recipe:
    """Satellite pictures of Dubai by dense detections.

    ::

        panscape train aerial_boxes --data DIR --out OUT --precision bf16
        hardware, hours: one core of a CPU, not measured yet
        ours, val:       not measured yet
    """
    return Recipe(
        name="aerial_boxes",
        model=_small(stuff_area=4096, longest_side=1800),
        data=AerialData(),
        augmentation=Augmentation(
            crop=(256, 256),
            scale=(0.6, 1.5),
            rotation="right_angles",
            recolor=1.0,
            recolor_spread=0.3,
            recolor_hue=0.0,  # a tinge of green is what tells vegetation from asphalt
        ),
        optimizer=_OPTIMIZER,
        schedule=_SCHEDULE,
        steps=4500,
        batch_size=8,
        average_decay=0.999,
        eval_every=2000,
    )


def town_boxes_one_tower() -> Recipe:
    """Evidence on the town: dense detections with one tower.

    ::

        panscape train town_boxes_one_tower --out OUT --precision bf16 --seed 0
        hardware, hours: one core of a CPU, not measured yet
        ours, val:       not measured yet
    """
    return _row("one_tower", towers=1, levelness=False, mask_loss=False)


def town_boxes_two_towers() -> Recipe:
    """Evidence on the town: dense detections with two towers.

    ::

        panscape train town_boxes_two_towers --out OUT --precision bf16 --seed 0
        hardware, hours: one core of a CPU, not measured yet
        ours, val:       not measured yet
    """
    return _row("two_towers", levelness=False, mask_loss=False)


def town_boxes_levelness() -> Recipe:
    """Evidence on the town: dense detections with two towers and levelness.

    ::

        panscape train town_boxes_levelness --out OUT --precision bf16 --seed 0
        hardware, hours: one core of a CPU, not measured yet
        ours, val:       not measured yet
    """
    return _row("levelness", mask_loss=False)


def town_boxes_mask_loss() -> Recipe:
    """Evidence on the town: dense detections with two towers, levelness and the mask loss.

    ::

        panscape train town_boxes_mask_loss --out OUT --precision bf16 --seed 0
        hardware, hours: one core of a CPU, not measured yet
        ours, val:       not measured yet
    """
    return _row("mask_loss")


def town_boxes_weak() -> Recipe:
    """Evidence on the town: dense detections learnt from boxes, without masks.

    ::

        panscape train town_boxes_weak --out OUT --precision bf16 --seed 0
        hardware, hours: one core of a CPU, not measured yet
        ours, val:       not measured yet
    """
    return _row("weak", mask_loss=False, supervision="boxes")


def town_boxes_light() -> Recipe:
    """Evidence on the town: the light network of dense detections, one tower at half the width.

    ::

        panscape train town_boxes_light --out OUT --precision bf16 --seed 0
        hardware, hours: one core of a CPU, not measured yet
        ours, val:       not measured yet
    """
    # As dense_detections_light: one tower as wide as the semantic one, on a pyramid of as many channels.
    return _row("light", towers=1, width=24)


def _small(stuff_area: int, longest_side: int | None = None, working_scale: float = 1.0) -> DenseDetectionsOptions:
    return DenseDetectionsOptions(
        "residual_s",
        box_width=48,
        semantic_width=48,
        fpn_width=48,
        tower_depth=2,
        initial_distance=16.0,
        longest_side=longest_side,
        working_scale=working_scale,
        representation=replace(_REPRESENTATION, decoding=_decoding(stuff_area)),
    )


def _row(
    row: str,
    towers: Literal[1, 2] = 2,
    levelness: bool = True,
    mask_loss: bool = True,
    supervision: Literal["masks", "boxes"] = "masks",
    width: int = 48,
) -> Recipe:
    representation = replace(
        _REPRESENTATION,
        supervision=supervision,
        mask_loss_weight=1.0 if mask_loss else 0.0,
        decoding=_decoding(stuff_area=100),
    )
    return Recipe(
        name=f"town_boxes_{row}",
        model=DenseDetectionsOptions(
            "residual_xs",
            towers,
            levelness,
            box_width=width,
            semantic_width=24,
            fpn_width=width,
            tower_depth=2,
            initial_distance=16.0,
            representation=representation,
        ),
        data=TownData(size=(256, 256), view="street", length=3000, val_length=200),
        augmentation=Augmentation(crop=(256, 256), scale=(1.0, 1.0)),
        optimizer=_OPTIMIZER,
        schedule=replace(_SCHEDULE, warmup_steps=100),
        steps=1200,
        batch_size=8,
        average_decay=0.99,
        eval_every=0,
    )


def _decoding(stuff_area: int) -> DenseBoxDecoding:
    # Scores are a product of two numbers below 1, and networks that train for an hour are seldom sure of either. So are
    # masks, and a small object's boxes agree less. Both values are the best on training pictures of CamVid.
    return DenseBoxDecoding(mask_threshold=0.15, rules=PastingRules(min_score=0.25, stuff_area=stuff_area))
