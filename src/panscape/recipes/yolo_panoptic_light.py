"""Recipes of the light sibling of YOLO-based panoptic segmentation, on the images of the bundled models.

Images, augmentation and schedule are those of ``town`` and ``street``. All commands use ``--precision bf16``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from panscape.models.yolo_panoptic_light import LIGHT
from panscape.recipes.bundled import BASES
from panscape.recipes.model_options import SwiftNetOptions, YoloPanopticLightOptions
from panscape.recipes.table import Row
from panscape.representations.fusion import FusionConfig
from panscape.representations.masked_boxes import MaskedBoxDecoding
from panscape.training.config import Recipe


def build(row: Row) -> Recipe:
    """Return the recipe of a row; category weights and the minimum area of stuff are those of the SwiftNet recipe."""
    base = BASES[row.data]
    swiftnet = cast(SwiftNetOptions, base.model)
    centers = swiftnet.representation
    fusion = FusionConfig(
        min_score=0.3,
        stuff_area=centers.decoding.stuff_area,
        stuff_share=centers.decoding.stuff_share,
        stuff_on_uncovered=True,
    )
    model = YoloPanopticLightOptions(
        longest_side=swiftnet.longest_side,
        test_scale=swiftnet.test_scale,
        representation=replace(
            LIGHT,
            category_weights=centers.category_weights,
            hard_pixel_fraction=centers.hard_pixel_fraction,
            decoding=MaskedBoxDecoding(fusion=fusion),
        ),
    )
    return row.build(replace(base, model=model))
