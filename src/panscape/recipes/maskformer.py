"""Recipes of MaskFormer with the settings of its released code, and of small networks for a CPU.

Bowen Cheng, Alexander Schwing, Alexander Kirillov: Per-Pixel Classification is Not All You Need for Semantic
Segmentation. NeurIPS 2021. arXiv:2107.06278.

Published numbers are those of the authors' model zoo. AdamW; no weight decay for norms and embeddings, also tables of
positions; gradients of the whole model clipped to a norm of 0.01; losses of all six decoder layers.

- COCO on ResNets: a learning rate of 1e-4, for the backbone a tenth of it, a drop to a tenth after two thirds of the
  steps, a weight decay of 1e-4. On Swin Transformers: 6e-5 for all parameters, 1500 steps of warm-up, a weight decay of
  0.01. DETR's augmentation: half of the images are cropped before they are resized.
- ADE20K: a fourth of the batch, "poly" decay, crops of 640x640 at 0.5 to 2 times the size in prediction, colour jitter.

Training differs from the released code in these points:

- COCO: there, images are not cropped after they are resized, and batches are padded to their largest image; here,
  crops of 1088x1088 contain all images up to 4:3, and a part of longer ones.
- ADE20K: brightness, contrast, saturation and hue change in half of the images, all together; there each of them in
  half of the images. Brightness changes by a factor; there by a difference.
- Prediction: the released code resizes the shorter side to 800 (COCO) and 640 (ADE20K). Here the factor is that of the
  usual shorter sides, 480 and 512.
- The deviations listed in ``models/maskformer.py``.

The small networks have a fourth of the published widths, 30 queries, and one and three transformer layers. Images and
schedule are those of :mod:`panscape.recipes.bundled`, with crops of at most 256x320 in batches of 4. Mask losses are
computed at the stride of the masks: at full resolution, for each decoder layer, they take four fifths of a training
step. Category and dice losses weigh more than as published, and the thresholds of post-processing are lower, since
queries take more steps to learn than centres; ``--init-from town`` (or ``street``) starts from a trained backbone.

Hours are estimates, not measured: multiply-adds of the network, times three for a training step, at 20 TFLOP/s for each
of eight RTX 3090, doubled for everything else. Commands use ``--precision fp16 --devices 8``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from panscape.models.query_model import PUBLISHED
from panscape.recipes.bundled import BASES as SMALL_BASES
from panscape.recipes.data_options import Ade20kData, CocoPanopticData
from panscape.recipes.model_options import MaskFormerOptions, SwiftNetOptions, UPerNetOptions
from panscape.recipes.table import Row, replace_fields
from panscape.representations.queries import QueryDecoding, QueryLossWeights, QueryRepresentation
from panscape.training.config import Augmentation, Optimizer, Recipe
from panscape.training.schedule import Schedule

_R50 = MaskFormerOptions(
    backbone="resnet50.tv_in1k",
    pretrained=True,
    frozen_norm=True,
    encoder_layers=6,
    width=256,
    num_queries=100,
    decoder_layers=6,
    hidden_width=2048,
    num_heads=8,
    dropout=0.1,
    longest_side=1333,
    test_scale=800 / 480,
    representation=PUBLISHED["coco_panoptic"],
)
_COCO = Recipe(
    name="coco",
    model=_R50,
    data=CocoPanopticData(),
    augmentation=Augmentation(
        crop=(1088, 1088), random_size_crop=0.5, shortest_sides=tuple(range(480, 801, 32)), longest_side=1333
    ),
    optimizer=Optimizer(
        "adamw",
        learning_rate=1e-4,
        weight_decay=1e-4,
        decay_biases=True,
        backbone_lr_mult=0.1,
        grad_clip_norm=0.01,
    ),
    schedule=Schedule("steps", milestones=(369_600,)),
    steps=554_400,
    batch_size=64,
    eval_every=20_000,
    eval_limit=1000,
)
_ADE20K = replace(
    _COCO,
    model=replace(_R50, longest_side=2560, test_scale=640 / 512, representation=PUBLISHED["ade20k_150"]),
    data=Ade20kData(),
    augmentation=Augmentation(
        crop=(640, 640),
        shortest_sides=tuple(range(320, 1281, 64)),
        longest_side=2560,
        color_jitter=0.5,
        color_jitter_strength=0.5,
        color_jitter_hue=0.1,
    ),
    schedule=Schedule(),
    steps=720_000,
    batch_size=16,
)
_BASES = {"coco": _COCO, "ade20k": _ADE20K}
_SWIN: dict[str, Any] = {
    "model.frozen_norm": False,
    "model.encoder_layers": 0,
    "optimizer.learning_rate": 6e-5,
    "optimizer.weight_decay": 0.01,
    "optimizer.backbone_lr_mult": 1.0,
    "schedule.warmup_steps": 1500,
    "schedule.warmup_factor": 1e-6,
}
COCO_ON_SWIN: Recipe = replace_fields(_COCO, _SWIN)
"""Settings for COCO on Swin Transformers."""


SMALL = QueryRepresentation(
    max_masks=40,
    loss_weights=QueryLossWeights(category=2.0, focal=20.0, dice=8.0),
    loss_stride=4,
    decoding=QueryDecoding(score_threshold=0.3, overlap_threshold=0.5),
)
SMALL_OPTIMIZER = Optimizer("adamw", learning_rate=1.5e-3, weight_decay=0.02, decay_biases=True, grad_clip_norm=0.1)


def build(row: Row) -> Recipe:
    """Return the recipe of a row."""
    recipe = _BASES[row.data]
    return row.build(replace_fields(recipe, _SWIN) if "_swin_" in row.name else recipe)


def small(row: Row) -> Recipe:
    """Return a small recipe; images and schedule are those of the SwiftNet recipe."""
    return small_recipe(row, MaskFormerOptions(representation=SMALL))


def small_recipe(row: Row, network: MaskFormerOptions | UPerNetOptions) -> Recipe:
    """Return the recipe of a small network with queries."""
    base = SMALL_BASES[row.data]
    swiftnet = cast(SwiftNetOptions, base.model)
    model = replace(network, longest_side=swiftnet.longest_side, test_scale=swiftnet.test_scale)
    height, width = base.augmentation.crop
    augmentation = replace(base.augmentation, crop=(min(height, 256), min(width, 320)))
    return row.build(replace(base, model=model, augmentation=augmentation, optimizer=SMALL_OPTIMIZER, batch_size=4))
