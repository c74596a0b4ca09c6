"""Small networks of Panoptic-DeepLab, and what relations are worth on drawn scenes.

``town_deeplab`` and ``street_deeplab`` learn what the small networks of :mod:`panscape.recipes.small` do, from the same
images and by the same schedule; so do they with relations. The rows ``town_relations_...`` repeat Table 5 and
Figure 9 of Panoptic, Instance, and Semantic Relations at a small size, each the same but for what its name says.

Widths are an eighth to a fifth of the published ones, and convolutions are ordinary ones: training separable ones takes
a processor longer. As Panoptic-DeepLab has no boundary weights, offsets count four times as much as in the recipes for
SwiftNet, as in ``town_l1``. Scenes of town streets have 8 objects on average and seldom more than 16 (Cityscapes: 18 on
average), and so relations look at 20 where they look at 50 there.
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

_KEY_WIDTH = 32  # channels in which places are compared with categories and objects; 256 at the published size
_RELATIONS = PISR(num_instances=20, key_width=_KEY_WIDTH)


def town_deeplab() -> Recipe:
    """The drawn town by Panoptic-DeepLab.

    ::

        panscape train town_deeplab --out OUT --precision bf16
        hardware, hours: one core of a CPU, 0.1 for 300 steps from a model of the town
        ours, val:       PQ 42.4, mIoU 53.2 with --init-from town --steps 300 --schedule.warmup-steps 50
                         --ema-decay 0.99
    """
    return _by_deeplab(town(), None)


def town_deeplab_relations() -> Recipe:
    """The drawn town by Panoptic-DeepLab with relations.

    ::

        panscape train town_deeplab_relations --out OUT --precision bf16
        hardware, hours: one core of a CPU, not measured yet
        ours, val:       not measured yet
    """
    return _by_deeplab(town(), _RELATIONS)


def street_deeplab() -> Recipe:
    """CamVid, photos from a moving car, by Panoptic-DeepLab.

    ::

        panscape train street_deeplab --data DIR --init-from street --out OUT --precision bf16
        hardware, hours: one core of a CPU, 0.2 for 900 steps
        ours, val:       PQ 46.3, mIoU 52.7 with --steps 900 --schedule.warmup-steps 50 --ema-decay 0.99
    """
    return _by_deeplab(street(), None)


def street_deeplab_relations() -> Recipe:
    """CamVid, photos from a moving car, by Panoptic-DeepLab with relations.

    ::

        panscape train street_deeplab_relations --data DIR --init-from street --out OUT --precision bf16
        hardware, hours: one core of a CPU, 0.3 for 900 steps
        ours, val:       PQ 48.3, mIoU 53.5 with --steps 900 --schedule.warmup-steps 50 --ema-decay 0.99
    """
    return _by_deeplab(street(), _RELATIONS)


def town_relations_base() -> Recipe:
    """Evidence on the town: Panoptic-DeepLab alone.

    ::

        panscape train town_relations_base --out OUT --precision bf16 --seed 0
        hardware, hours: one core of a CPU, 0.1 for 450 steps
        ours, val:       PQ 18.3 +- 0.3, mIoU 28.3 after 450 steps, 30.7 +- 0.1, 44.2 after 1500; two seeds, see
                         docs/performance.md
    """
    return _row("base", None)


def town_relations_concatenation() -> Recipe:
    """Evidence on the town: scores and instances beside the features.

    ::

        panscape train town_relations_concatenation --out OUT --precision bf16 --seed 0
        hardware, hours: one core of a CPU, 0.1 for 450 steps
        ours, val:       PQ 17.9 +- 0.2, mIoU 27.1 after 450 steps, two seeds, see docs/performance.md
    """
    return _row("concatenation", Concatenation(num_instances=20))


def town_relations_product() -> Recipe:
    """Evidence on the town: features times scores and instances.

    ::

        panscape train town_relations_product --out OUT --precision bf16 --seed 0
        hardware, hours: one core of a CPU, 0.1 for 450 steps
        ours, val:       PQ 17.1 +- 0.0, mIoU 26.2 after 450 steps, two seeds, see docs/performance.md
    """
    return _row("product", ElementwiseProduct(num_instances=20))


def town_relations_ocr() -> Recipe:
    """Evidence on the town: object context of categories.

    ::

        panscape train town_relations_ocr --out OUT --precision bf16 --seed 0
        hardware, hours: one core of a CPU, 0.1 for 450 steps
        ours, val:       PQ 17.5 +- 0.1, mIoU 27.0 after 450 steps, two seeds, see docs/performance.md
    """
    return _row("ocr", OCR(num_instances=20, key_width=_KEY_WIDTH))


def town_relations_without_reweighting() -> Recipe:
    """Evidence on the town: relations of 20 instances without reweighting.

    ::

        panscape train town_relations_without_reweighting --out OUT --precision bf16 --seed 0
        hardware, hours: one core of a CPU, 0.1 for 450 steps
        ours, val:       PQ 18.4 +- 0.1, mIoU 29.1 after 450 steps, two seeds, see docs/performance.md
    """
    return _row("without_reweighting", replace(_RELATIONS, reweighting=False))


def town_relations_pisr() -> Recipe:
    """Evidence on the town: relations of 20 instances.

    ::

        panscape train town_relations_pisr --out OUT --precision bf16 --seed 0
        hardware, hours: one core of a CPU, 0.1 for 450 steps
        ours, val:       PQ 18.1 +- 0.0, mIoU 28.0 after 450 steps, 31.6 +- 1.3, 46.1 after 1500; two seeds, see
                         docs/performance.md
    """
    return _row("pisr", _RELATIONS)


def town_relations_k10() -> Recipe:
    """Evidence on the town: relations of 10 instances.

    ::

        panscape train town_relations_k10 --out OUT --precision bf16 --seed 0
        hardware, hours: one core of a CPU, 0.1 for 450 steps
        ours, val:       PQ 18.3 +- 0.0, mIoU 27.8 after 450 steps, two seeds, see docs/performance.md
    """
    return _row("k10", replace(_RELATIONS, num_instances=10))


def town_relations_k50() -> Recipe:
    """Evidence on the town: relations of 50 instances.

    ::

        panscape train town_relations_k50 --out OUT --precision bf16 --seed 0
        hardware, hours: one core of a CPU, 0.1 for 450 steps
        ours, val:       PQ 18.9 +- 0.3, mIoU 29.6 after 450 steps, two seeds, see docs/performance.md
    """
    return _row("k50", replace(_RELATIONS, num_instances=50))


def _by_deeplab(recipe: Recipe, relations: RelationsPart | None) -> Recipe:
    """Return a recipe of SwiftNet for Panoptic-DeepLab: images, schedule, targets and recovery stay."""
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
    """Return a network whose widths have the proportions of the published ones."""
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
