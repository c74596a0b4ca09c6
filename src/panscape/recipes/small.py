"""Recipes of the bundled models, and ablations of Panoptic SwiftNet on synthetic scenes.

``town``, ``street`` and ``aerial`` train the bundled models. The rows ``town_...`` repeat Tables 6 and 8 of Panoptic
SwiftNet at a small size; each row differs from the others only in the property it is named after.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from panscape.recipes.data_options import AerialData, CamVidData, TownData
from panscape.recipes.model_options import SwiftNetOptions
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.training.config import Augmentation, ModelOptions, Optimizer, Recipe, Schedule

# The values for Cityscapes, scaled to images with a twelfth of the pixels: lengths by 1/3.5, areas by 1/12.
_STREET_REPRESENTATION = CenterRepresentation(
    sigma=4.0,
    small_area=340,
    hard_pixel_fraction=0.5,
    offset_loss_weight=0.01,
    # Without weights, poles are never predicted. Order: sky, building, pole, road, pavement, tree, sign, fence, car,
    # pedestrian, bicyclist.
    category_weights=(1.0, 1.0, 4.0, 1.0, 1.0, 1.0, 3.0, 1.5, 1.0, 2.0, 2.0),
    loss_stride=2,
    # Photos are larger than CamVid's images: edges of resized outputs are smooth, those of resized maps are stairs.
    decoding=CenterDecoding(threshold=0.2, stuff_area=100, thing_area=50, resize="outputs"),
)
_TOWN_SCALE = 2.0  # objects of 8 pixels and bicycle frames vanish in stride-4 outputs at the scenes' own size
_TOWN_REPRESENTATION = CenterRepresentation(
    sigma=8.7,
    small_area=1800,
    hard_pixel_fraction=0.5,
    offset_loss_weight=0.01,
    # More weight for rare, thin or easily confused categories: person, animal, bus, bicycle, boat, parasol.
    category_weights=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.5, 1.0, 1.5, 2.5, 2.0, 1.0, 3.0),
    loss_stride=2,
    # The bundled model's best threshold and thing area on 300 scenes of the training distribution.
    decoding=CenterDecoding(threshold=0.25, nms_kernel=15, stuff_area=800, thing_area=330),
)
_AERIAL_REPRESENTATION = CenterRepresentation(
    sigma=6.0,
    small_area=500,
    hard_pixel_fraction=0.5,
    offset_loss_weight=0.01,
    category_weights=(1.5, 1.0, 2.0, 1.5, 1.5),  # building, land, road, vegetation, water
    loss_stride=2,
    # 19 of 20 stuff regions in the training images cover more than this share of their image. Of 100, 300, 600 and
    # 1000 pixels, 600 is the best thing area on every third training image.
    decoding=CenterDecoding(nms_kernel=41, stuff_area=4096, thing_area=600, stuff_share=0.0115),
)
# Separate from the town's, which is tuned for the bundled model: rows are compared with each other.
_ROW_REPRESENTATION = CenterRepresentation(
    sigma=5.0,
    small_area=500,
    hard_pixel_fraction=0.5,
    loss_stride=2,
    decoding=CenterDecoding(threshold=0.2, stuff_area=100, thing_area=48),
)
_OPTIMIZER = Optimizer("adamw", learning_rate=2e-3, weight_decay=0.02, grad_clip_norm=10.0)
_SCHEDULE = Schedule("cosine", warmup_steps=200)


def town() -> Recipe:
    """Synthetic scenes, street and aerial view; needs no data.

    ::

        panscape train town --out OUT --precision bf16
        hardware, hours: one CPU core under other load, 7.6 for 30,100 steps
        ours, val:       PQ 70.6, mIoU 85.7 (semantic head 86.6) after 30,100 steps in six runs, see
                         docs/bundled_models.md
    """
    return Recipe(
        name="town",
        model=SwiftNetOptions(
            "residual_s",
            levels=3,
            width=64,
            longest_side=1024,  # no upsampled scene is larger
            test_scale=_TOWN_SCALE,
            representation=_TOWN_REPRESENTATION,
        ),
        data=TownData(length=1_000_000),
        augmentation=Augmentation(crop=(384, 384), scale=(_TOWN_SCALE, _TOWN_SCALE)),
        optimizer=_OPTIMIZER,
        schedule=_SCHEDULE,
        steps=14_000,
        batch_size=8,
        ema_decay=0.999,
        eval_every=2000,
    )


def street() -> Recipe:
    """CamVid (street scenes).

    ::

        panscape train street --data DIR --out OUT --precision bf16
        hardware, hours: one CPU core under other load, 1.4
        ours, val:       PQ 56.4, mIoU 62.7 (semantic head 64.0) in two runs, see docs/bundled_models.md
    """
    return Recipe(
        name="street",
        model=SwiftNetOptions(
            "residual_s", levels=3, width=64, longest_side=640, representation=_STREET_REPRESENTATION
        ),
        data=CamVidData(),
        augmentation=Augmentation(crop=(256, 320), scale=(0.6, 1.8), color_jitter=1.0, copy_paste=0.5),
        optimizer=_OPTIMIZER,
        schedule=_SCHEDULE,
        steps=6000,
        batch_size=8,
        ema_decay=0.998,
        eval_every=2000,
    )


def aerial() -> Recipe:
    """Satellite images of Dubai.

    ::

        panscape train aerial --data DIR --out OUT --precision bf16
        hardware, hours: one CPU core under other load, 4.5 for 9200 steps after those of town
        ours, val:       PQ 35.0, mIoU 57.6 (semantic head 57.1) in several runs, started from town, see
                         docs/bundled_models.md
    """
    return Recipe(
        name="aerial",
        model=SwiftNetOptions("residual_s", width=64, longest_side=1800, representation=_AERIAL_REPRESENTATION),
        data=AerialData(),
        augmentation=Augmentation(
            crop=(256, 256),
            scale=(0.6, 1.5),
            rotation="right_angles",
            color_jitter=1.0,
            color_jitter_strength=0.3,
            color_jitter_hue=0.0,  # a slight green separates vegetation from asphalt
        ),
        optimizer=_OPTIMIZER,
        schedule=_SCHEDULE,
        steps=4500,
        batch_size=8,
        ema_decay=0.999,
        eval_every=2000,
    )


def town_pyrx1() -> Recipe:
    """Ablation on synthetic scenes: one level.

    ::

        panscape train town_pyrx1 --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 800 steps
        ours, val:       PQ 22.3 +- 0.5, mIoU 35.1 after 800 steps, two seeds, see docs/performance.md
    """
    return _row("town_pyrx1", levels=1)


def town_spp() -> Recipe:
    """Ablation on synthetic scenes: one level with spatial pyramid pooling.

    ::

        panscape train town_spp --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 800 steps
        ours, val:       PQ 23.0 +- 0.6, mIoU 35.9 after 800 steps, two seeds, see docs/performance.md
    """
    return _row("town_spp", levels=1, context="spp")


def town_pyrx2() -> Recipe:
    """Ablation on synthetic scenes: two levels.

    ::

        panscape train town_pyrx2 --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 800 steps
        ours, val:       PQ 23.9 +- 0.2, mIoU 37.3 after 800 steps, two seeds, see docs/performance.md
    """
    return _row("town_pyrx2", levels=2)


def town_pyrx3() -> Recipe:
    """Ablation on synthetic scenes: three levels, offset weights in four regions.

    ::

        panscape train town_pyrx3 --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 800 steps
        ours, val:       PQ 24.0 +- 0.2, mIoU 36.8 after 800 steps, two seeds, see docs/performance.md
    """
    return _row("town_pyrx3")


def town_l1() -> Recipe:
    """Ablation on synthetic scenes: plain L1 offset loss.

    ::

        panscape train town_l1 --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 800 steps
        ours, val:       PQ 23.1 +- 0.8, mIoU 34.9 after 800 steps, two seeds, see docs/performance.md
    """
    return _row("town_l1", boundary_alphas=())


def town_regions3() -> Recipe:
    """Ablation on synthetic scenes: offset weights in three regions.

    ::

        panscape train town_regions3 --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 800 steps
        ours, val:       PQ 23.9 +- 0.4, mIoU 36.9 after 800 steps, two seeds, see docs/performance.md
    """
    return _row("town_regions3", boundary_alphas=(8.0, 4.0, 1.0))


def town_regions8() -> Recipe:
    """Ablation on synthetic scenes: offset weights in eight regions.

    ::

        panscape train town_regions8 --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 800 steps
        ours, val:       PQ 23.4 +- 0.0, mIoU 36.4 after 800 steps, two seeds, see docs/performance.md
    """
    return _row("town_regions8", boundary_alphas=(8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0))


def ablation_row(name: str, model: ModelOptions) -> Recipe:
    """Return a row of the ablations on synthetic scenes; the rows of all systems differ only in their networks.

    Args:
        name: name of the row.
        model: network of the row.
    """
    return Recipe(
        name=name,
        model=model,
        data=TownData(size=(256, 256), view="street", length=3000, val_length=200),
        augmentation=Augmentation(crop=(256, 256), scale=(1.0, 1.0)),
        optimizer=_OPTIMIZER,
        schedule=replace(_SCHEDULE, warmup_steps=100),
        steps=1200,
        batch_size=8,
        ema_decay=0.99,
        eval_every=0,
    )


def _row(
    name: str,
    levels: int = 3,
    context: Literal["pyramid", "spp"] = "pyramid",
    boundary_alphas: tuple[float, ...] = (8.0, 4.0, 2.0, 1.0),
) -> Recipe:
    # As in the paper, plain L1 has four times the weight of the weighted loss (Section 3.6).
    representation = replace(
        _ROW_REPRESENTATION,
        boundary_alphas=boundary_alphas,
        offset_loss_weight=0.01 if boundary_alphas else 0.04,
    )
    model = SwiftNetOptions("residual_xs", levels, context, width=48, representation=representation)
    return ablation_row(name, model)
