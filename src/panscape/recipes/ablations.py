"""Ablations on synthetic scenes: tables of the papers repeated with small networks.

``town_...`` repeats Tables 6 and 8 of Panoptic SwiftNet, ``town_boxes_...`` Table 3 of dense detections,
``town_relations_...`` Table 5 and Figure 9 of PISR, ``town_yolo_panoptic_...`` Tables 3.2 to 3.8 of
YOLO-based panoptic segmentation, whose rows start from ``town_yolo_panoptic_detector`` (``--init-from``), and
``town_scales_...`` Table 1 of panoptic segmentation at all
scales: crops have a quarter of an image's pixels, a tenth of the objects is longer than a crop, and whole images are
reduced to 0.4 of their size, times 0.8 to 1.25 (crops: times 0.5 to 2). Recipes differ only in their networks, losses
and crops, and rows of one table only in the property they are named after. ``town_boxes_light`` is ours, for comparison
with ``town_boxes_mask_loss``. The small networks are explained in :mod:`panscape.recipes.bundled`. docs/recipes.md has
the commands of the results in docs/performance.md, which were measured after fewer steps than are the default here.
"""

from __future__ import annotations

from dataclasses import replace

from panscape.nn.pisr_instances import CenterInstanceMaps
from panscape.recipes.bundled import (
    OPTIMIZER,
    RELATIONS,
    SCHEDULE,
    box_network,
    deeplab_network,
    region_network,
    yolo_network,
)
from panscape.recipes.data_options import TownData
from panscape.recipes.model_options import SwiftNetOptions
from panscape.recipes.panoptic_deeplab import build_with_relations
from panscape.recipes.table import Row
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.training.config import Augmentation, ModelOptions, Recipe, Sampling

# Separate from that of the recipe ``town``, which is tuned for the bundled model: rows are compared with each other.
_REPRESENTATION = CenterRepresentation(
    sigma=5.0,
    small_area=500,
    hard_pixel_fraction=0.5,
    offset_loss_weight=0.01,
    loss_stride=2,
    decoding=CenterDecoding(threshold=0.2, stuff_area=100, thing_area=48),
)
# As in the paper, plain L1 has four times the weight of the weighted loss (Section 3.6).
_PLAIN_L1 = replace(_REPRESENTATION, boundary_alphas=(), offset_loss_weight=0.04)


def ablation_row(model: ModelOptions) -> Recipe:
    """Return a recipe with the data and the schedule of all ablations."""
    return Recipe(
        name="ablation",
        model=model,
        data=TownData(size=(256, 256), view="street", length=3000, val_length=200),
        augmentation=Augmentation(crop=(256, 256), scale=(1.0, 1.0)),
        optimizer=OPTIMIZER,
        schedule=replace(SCHEDULE, warmup_steps=100),
        steps=1200,
        batch_size=8,
        ema_decay=0.99,
        eval_every=0,
    )


def centers(row: Row) -> Recipe:
    """Return a row of Panoptic SwiftNet."""
    is_plain = row.changes.get("model.representation.boundary_alphas") == ()
    representation = _PLAIN_L1 if is_plain else _REPRESENTATION
    return row.build(ablation_row(SwiftNetOptions(backbone="residual_xs", width=48, representation=representation)))


def boxes(row: Row) -> Recipe:
    """Return a row of dense detections."""
    return row.build(ablation_row(box_network("residual_xs", 48, 24, stuff_area=100)))


def relations(row: Row) -> Recipe:
    """Return a row of PISR."""
    network = replace(deeplab_network("residual_xs", 32), representation=_PLAIN_L1)
    return build_with_relations(row, ablation_row(network), RELATIONS, CenterInstanceMaps())


_FULL_SCALE = 0.4  # so that images fit into a crop at every factor


def scales(row: Row) -> Recipe:
    """Return a row of panoptic segmentation at all scales."""
    side = 128
    is_full = row.name.endswith("_full")
    network = region_network("residual_s", 48, (side, side), stuff_area=100)
    return row.build(
        replace(
            ablation_row(replace(network, test_scale=_FULL_SCALE if is_full else 1.0)),
            augmentation=Augmentation(crop=(side, side), scale=(0.8, 1.25) if is_full else (0.5, 2.0)),
            sampling=Sampling("categories", shortest_side=round(256 * _FULL_SCALE) if is_full else 0),
        )
    )


def yolo(row: Row) -> Recipe:
    """Return a row of YOLO-based panoptic segmentation; backbone and detector are fixed unless the row trains them."""
    network = yolo_network(stuff_area=100)
    if "model.semantic" in row.changes:
        network = replace(network, masks="category")
    network = replace(network, representation=replace(network.representation, train_detector=False))
    return row.build(ablation_row(network))
