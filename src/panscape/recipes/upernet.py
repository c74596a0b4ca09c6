"""Recipes of UPerNet: the panoptic one that PISR compares with, the published semantic ones, and small ones for a CPU.

Tete Xiao, Yingcheng Liu, Bolei Zhou, Yuning Jiang, Jian Sun: Unified Perceptual Parsing for Scene Understanding. ECCV
2018. arXiv:1807.10221.

``upernet_swin_l_coco`` is the base of PISR's best network for COCO, which the paper does not describe: Swin-L, trained
with the settings of MaskFormer on Swin Transformers. ``..._centers`` is the other reading of it
(``models/upernet.py``), with the settings of Panoptic-DeepLab's losses and post-processing.

``upernet_semantic_...`` are the semantic networks of Ze Liu et al., "Swin Transformer: Hierarchical Vision Transformer
using Shifted Windows", ICCV 2021, Appendix A2.3: AdamW with a learning rate of 6e-5 that falls linearly, 1500 steps of
warm-up, a weight decay of 0.01 except on norms and tables of positions, 160,000 steps of 16 crops of 512x512 at 0.5 to
2 times the size in prediction. Their mIoU on val is that of single-scale testing. Differences: brightness, contrast,
saturation and hue change in half of the images, all together, brightness by a factor; there each of them in half of
the images, brightness by a difference.

The small networks have an eighth of the published decoder width and the queries of :mod:`panscape.recipes.maskformer`.

Hours are estimates, as those of :mod:`panscape.recipes.maskformer`.
"""

from __future__ import annotations

from dataclasses import replace

from panscape.models.panoptic_deeplab import PUBLISHED as CENTERS
from panscape.recipes.data_options import Ade20kData
from panscape.recipes.maskformer import COCO_ON_SWIN, SMALL, small_recipe
from panscape.recipes.model_options import UPerNetOptions, UPerNetSemanticOptions
from panscape.recipes.table import Row
from panscape.representations.queries import QueryRepresentation
from panscape.training.config import Augmentation, Recipe
from panscape.training.schedule import Schedule

_SWIN_L = UPerNetOptions(
    backbone="swin_large_patch4_window12_384.ms_in22k",
    pretrained=True,
    decoder_width=512,
    width=256,
    num_queries=100,
    decoder_layers=6,
    hidden_width=2048,
    num_heads=8,
    dropout=0.1,
    longest_side=1333,
    test_scale=800 / 480,
    representation=QueryRepresentation(),
)
_COCO = replace(COCO_ON_SWIN, model=_SWIN_L)
_SEMANTIC = replace(
    COCO_ON_SWIN,
    model=UPerNetSemanticOptions(pretrained=True, decoder_width=512, auxiliary_width=256, longest_side=2048),
    data=Ade20kData("semantic"),
    augmentation=Augmentation(
        crop=(512, 512),
        scale=(0.5, 2.0),
        color_jitter=0.5,
        color_jitter_strength=0.5,
        color_jitter_hue=0.1,
    ),
    optimizer=replace(COCO_ON_SWIN.optimizer, grad_clip_norm=0.0),
    schedule=Schedule(power=1.0, warmup_steps=1500, warmup_factor=1e-6),
    steps=160_000,
    batch_size=16,
    eval_every=16_000,
)


def build(row: Row) -> Recipe:
    """Return the recipe of a row with queries, or with centres and offsets."""
    if row.name.endswith("_centers"):
        return row.build(replace(_COCO, model=replace(_SWIN_L, representation=CENTERS["coco_panoptic"])))
    return row.build(_COCO)


def semantic(row: Row) -> Recipe:
    """Return the recipe of a semantic row."""
    return row.build(_SEMANTIC)


def small(row: Row) -> Recipe:
    """Return a small recipe; images and schedule are those of the SwiftNet recipe."""
    return small_recipe(row, UPerNetOptions(representation=SMALL))
