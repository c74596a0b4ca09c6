"""Bundled-model recipes of dense detections, and ablations of dense detections on synthetic scenes.

``town_boxes``, ``street_boxes`` and ``aerial_boxes`` are trained on the same images with the same schedule as the small
networks of :mod:`panscape.recipes.small`. The rows ``town_boxes_...`` repeat Table 3 of Real-Time Panoptic Segmentation
from Dense Detections at a small size; each differs only in the property it is named after. ``town_boxes_light`` is
ours, for comparison with ``town_boxes_mask_loss``.

Images have at most a twelfth of the pixels of Cityscapes images. Therefore there are four levels at strides 4 to 32:
each has half the stride and half the largest distance of the published level in its place, and the last level takes all
larger distances. Towers have two layers of 48 channels, in the ablation rows 48 and 24 (the paper: four of 256 and
128), and the mask loss uses at most 20 objects per image.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, cast

from panscape.recipes.model_options import DenseDetectionsOptions, SwiftNetOptions
from panscape.recipes.small import ablation_row, aerial, street, town
from panscape.representations.dense_boxes import DenseBoxDecoding, DenseBoxRepresentation
from panscape.representations.merging import MergeConfig
from panscape.training.config import Recipe

_NETWORK = DenseDetectionsOptions(
    "residual_s", box_width=48, semantic_width=48, fpn_width=48, tower_depth=2, initial_distance=16.0
)
_REPRESENTATION = DenseBoxRepresentation(level_ends=(32.0, 64.0, 128.0), finest_stride=4, max_mask_queries=20)


def town_boxes() -> Recipe:
    """Synthetic scenes, dense detections.

    ::

        panscape train town_boxes --out OUT --precision bf16
        hardware, hours: one CPU core, not measured yet
        ours, val:       not measured yet
    """
    return _by_boxes(town())


def street_boxes() -> Recipe:
    """CamVid (street scenes), dense detections.

    ::

        panscape train street_boxes --data DIR --init-from street --out OUT --precision bf16
        hardware, hours: one CPU core under other load, 1.2 for 1311 steps after those of street
        ours, val:       PQ 57.8, mIoU 62.0 (semantic head 62.0) in two runs, see docs/bundled_models.md
    """
    return _by_boxes(street())


def aerial_boxes() -> Recipe:
    """Satellite images of Dubai, dense detections.

    ::

        panscape train aerial_boxes --data DIR --init-from aerial --out OUT --precision bf16
        hardware, hours: one CPU core under other load, 0.2 for 400 steps after those of aerial
        ours, val:       PQ 21.9, mIoU 38.4 with --steps 400 --schedule.warmup-steps 50 --ema-decay 0.99
    """
    return _by_boxes(aerial())


def town_boxes_one_tower() -> Recipe:
    """Ablation on synthetic scenes: dense detections with one tower.

    ::

        panscape train town_boxes_one_tower --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 400 steps
        ours, val:       PQ 20.3 +- 0.4, mIoU 29.4 after 400 steps, two seeds, see docs/performance.md
    """
    return _row("one_tower", towers=1, levelness=False, mask_loss=False)


def town_boxes_two_towers() -> Recipe:
    """Ablation on synthetic scenes: dense detections with two towers.

    ::

        panscape train town_boxes_two_towers --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 400 steps
        ours, val:       PQ 21.0 +- 0.2, mIoU 29.8 after 400 steps, two seeds, see docs/performance.md
    """
    return _row("two_towers", levelness=False, mask_loss=False)


def town_boxes_levelness() -> Recipe:
    """Ablation on synthetic scenes: dense detections with two towers and levelness.

    ::

        panscape train town_boxes_levelness --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 400 steps
        ours, val:       PQ 20.2 +- 0.1, mIoU 29.3 after 400 steps, two seeds, see docs/performance.md
    """
    return _row("levelness", mask_loss=False)


def town_boxes_mask_loss() -> Recipe:
    """Ablation on synthetic scenes: dense detections with two towers, levelness and the mask loss.

    ::

        panscape train town_boxes_mask_loss --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 400 steps
        ours, val:       PQ 18.8 +- 0.4, mIoU 27.3 after 400 steps, two seeds, see docs/performance.md
    """
    return _row("mask_loss")


def town_boxes_weak() -> Recipe:
    """Ablation on synthetic scenes: dense detections trained on boxes instead of instance masks.

    ::

        panscape train town_boxes_weak --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 400 steps
        ours, val:       PQ 18.9 +- 0.2, mIoU 27.6 after 400 steps, two seeds, see docs/performance.md
    """
    return _row("weak", mask_loss=False, supervision="boxes")


def town_boxes_light() -> Recipe:
    """Ablation on synthetic scenes: the light network of dense detections, one tower at half the width.

    ::

        panscape train town_boxes_light --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 400 steps
        ours, val:       PQ 17.5 +- 1.2, mIoU 25.2 after 400 steps, two seeds, see docs/performance.md
    """
    # As dense_detections_light: one tower as wide as the semantic one, on an FPN with as many channels.
    return _row("light", towers=1, width=24)


def _by_boxes(recipe: Recipe) -> Recipe:
    """Return a center-based recipe changed to dense detections; images, schedule and minimum stuff area stay."""
    swiftnet = cast(SwiftNetOptions, recipe.model)
    centers = swiftnet.representation.decoding
    decoding = _decoding(centers.stuff_area, centers.stuff_share)
    model = replace(
        _NETWORK,
        longest_side=swiftnet.longest_side,
        test_scale=swiftnet.test_scale,
        representation=replace(_REPRESENTATION, decoding=decoding),
    )
    return replace(recipe, name=f"{recipe.name}_boxes", model=model)


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
    model = replace(
        _NETWORK,
        backbone="residual_xs",
        towers=towers,
        levelness=levelness,
        box_width=width,
        semantic_width=24,
        fpn_width=width,
        representation=representation,
    )
    return ablation_row(f"town_boxes_{row}", model)


def _decoding(stuff_area: int, stuff_share: float = 0.0) -> DenseBoxDecoding:
    # Scores and mask probabilities are products of numbers below 1, which are low after an hour of training, and the
    # boxes of a small object agree less. Both thresholds are the best on training images of CamVid.
    merging = MergeConfig(min_score=0.25, stuff_area=stuff_area, stuff_share=stuff_share)
    return DenseBoxDecoding(mask_threshold=0.15, merging=merging)
