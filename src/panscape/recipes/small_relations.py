"""Small networks of Panoptic-DeepLab, and ablations of PISR on synthetic scenes.

``town_deeplab`` and ``street_deeplab``, with and without PISR, are trained on the same images with the same schedule as
the small networks of :mod:`panscape.recipes.small`. The rows ``town_relations_...`` repeat Table 5 and Figure 9 of
Panoptic, Instance, and Semantic Relations at a small size; each differs only in the property it is named after.

Widths are an eighth to a fifth of the published ones. Convolutions are ordinary ones, because separable ones train more
slowly on a CPU. Panoptic-DeepLab has no boundary weights, so the offset loss has four times the weight of the SwiftNet
recipes, as in ``town_l1``. Synthetic street scenes have 8 objects on average and rarely more than 16 (Cityscapes: 18 on
average), so PISR uses 20 instances instead of 50.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from panscape.nn.pisr import PISR
from panscape.nn.pisr_baselines import OCR, Concatenation, ElementwiseProduct
from panscape.nn.pisr_instances import CenterInstanceMaps
from panscape.recipes.model_options import PanopticDeepLabOptions, RelationsPart, SwiftNetOptions
from panscape.recipes.small import ablation_row, street, town, town_l1
from panscape.training.config import Recipe

_KEY_WIDTH = 32  # channels of the keys that compare pixels with categories and instances; 256 as published
_RELATIONS = PISR(num_instances=20, key_width=_KEY_WIDTH)


def town_deeplab() -> Recipe:
    """Synthetic scenes, Panoptic-DeepLab.

    ::

        panscape train town_deeplab --out OUT --precision bf16
        hardware, hours: one CPU core, 0.1 for 300 steps after those of town
        ours, val:       PQ 42.4, mIoU 53.2 with --init-from town --steps 300 --schedule.warmup-steps 50
                         --ema-decay 0.99
    """
    return _by_deeplab(town(), None)


def town_deeplab_relations() -> Recipe:
    """Synthetic scenes, Panoptic-DeepLab with PISR.

    ::

        panscape train town_deeplab_relations --out OUT --precision bf16
        hardware, hours: one CPU core, not measured yet
        ours, val:       not measured yet
    """
    return _by_deeplab(town(), _RELATIONS)


def street_deeplab() -> Recipe:
    """CamVid (street scenes), Panoptic-DeepLab.

    ::

        panscape train street_deeplab --data DIR --init-from street --out OUT --precision bf16
        hardware, hours: one CPU core, 0.2 for 900 steps
        ours, val:       PQ 46.3, mIoU 52.7 with --steps 900 --schedule.warmup-steps 50 --ema-decay 0.99
    """
    return _by_deeplab(street(), None)


def street_deeplab_relations() -> Recipe:
    """CamVid (street scenes), Panoptic-DeepLab with PISR.

    ::

        panscape train street_deeplab_relations --data DIR --init-from street --out OUT --precision bf16
        hardware, hours: one CPU core, 0.3 for 900 steps
        ours, val:       PQ 48.3, mIoU 53.5 with --steps 900 --schedule.warmup-steps 50 --ema-decay 0.99
    """
    return _by_deeplab(street(), _RELATIONS)


def town_relations_base() -> Recipe:
    """Ablation on synthetic scenes: Panoptic-DeepLab alone.

    ::

        panscape train town_relations_base --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 450 steps
        ours, val:       PQ 18.3 +- 0.3, mIoU 28.3 after 450 steps, 30.7 +- 0.1, 44.2 after 1500; two seeds, see
                         docs/performance.md
    """
    return _row("base", None)


def town_relations_concatenation() -> Recipe:
    """Ablation on synthetic scenes: scores and instances concatenated to the features.

    ::

        panscape train town_relations_concatenation --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 450 steps
        ours, val:       PQ 17.9 +- 0.2, mIoU 27.1 after 450 steps, two seeds, see docs/performance.md
    """
    return _row("concatenation", Concatenation(num_instances=20))


def town_relations_product() -> Recipe:
    """Ablation on synthetic scenes: features multiplied by scores and instances.

    ::

        panscape train town_relations_product --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 450 steps
        ours, val:       PQ 17.1 +- 0.0, mIoU 26.2 after 450 steps, two seeds, see docs/performance.md
    """
    return _row("product", ElementwiseProduct(num_instances=20))


def town_relations_ocr() -> Recipe:
    """Ablation on synthetic scenes: OCR, object context of categories.

    ::

        panscape train town_relations_ocr --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 450 steps
        ours, val:       PQ 17.5 +- 0.1, mIoU 27.0 after 450 steps, two seeds, see docs/performance.md
    """
    return _row("ocr", OCR(num_instances=20, key_width=_KEY_WIDTH))


def town_relations_without_reweighting() -> Recipe:
    """Ablation on synthetic scenes: PISR with 20 instances without reweighting.

    ::

        panscape train town_relations_without_reweighting --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 450 steps
        ours, val:       PQ 18.4 +- 0.1, mIoU 29.1 after 450 steps, two seeds, see docs/performance.md
    """
    return _row("without_reweighting", replace(_RELATIONS, reweighting=False))


def town_relations_pisr() -> Recipe:
    """Ablation on synthetic scenes: PISR with 20 instances.

    ::

        panscape train town_relations_pisr --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 450 steps
        ours, val:       PQ 18.1 +- 0.0, mIoU 28.0 after 450 steps, 31.6 +- 1.3, 46.1 after 1500; two seeds, see
                         docs/performance.md
    """
    return _row("pisr", _RELATIONS)


def town_relations_k10() -> Recipe:
    """Ablation on synthetic scenes: PISR with 10 instances.

    ::

        panscape train town_relations_k10 --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 450 steps
        ours, val:       PQ 18.3 +- 0.0, mIoU 27.8 after 450 steps, two seeds, see docs/performance.md
    """
    return _row("k10", replace(_RELATIONS, num_instances=10))


def town_relations_k50() -> Recipe:
    """Ablation on synthetic scenes: PISR with 50 instances.

    ::

        panscape train town_relations_k50 --out OUT --precision bf16 --seed 0
        hardware, hours: one CPU core, 0.1 for 450 steps
        ours, val:       PQ 18.9 +- 0.3, mIoU 29.6 after 450 steps, two seeds, see docs/performance.md
    """
    return _row("k50", replace(_RELATIONS, num_instances=50))


def _by_deeplab(recipe: Recipe, relations: RelationsPart | None) -> Recipe:
    """Return a SwiftNet recipe changed to Panoptic-DeepLab; images, schedule, targets and post-processing stay."""
    swiftnet = cast(SwiftNetOptions, recipe.model)
    model = replace(
        _network("residual_s", 48, relations),
        context_size=recipe.augmentation.crop,
        longest_side=swiftnet.longest_side,
        test_scale=swiftnet.test_scale,
        representation=replace(swiftnet.representation, boundary_alphas=(), offset_loss_weight=0.04),
    )
    suffix = "deeplab" if relations is None else "deeplab_relations"
    return replace(recipe, name=f"{recipe.name}_{suffix}", model=model)


def _row(row: str, relations: RelationsPart | None) -> Recipe:
    swiftnet = cast(SwiftNetOptions, town_l1().model)
    model = replace(_network("residual_xs", 32, relations), representation=swiftnet.representation)
    return ablation_row(f"town_relations_{row}", model)


def _network(backbone: str, width: int, relations: RelationsPart | None) -> PanopticDeepLabOptions:
    """Return a network whose widths have the published proportions."""
    return PanopticDeepLabOptions(
        backbone,
        separable=False,
        decoder_width=width,
        instance_width=width // 2,
        pyramid_width=width,
        head_width=width // 2,
        projections=(width // 2, width // 4),
        relations=relations,
        instance_maps=None if relations is None or isinstance(relations, OCR) else CenterInstanceMaps(),
    )
