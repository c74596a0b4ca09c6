"""Recipes for the table rows of Real-Time Panoptic Segmentation from Dense Detections.

Rui Hou, Jie Li, Arjun Bhargava, Allan Raventos, Vitor Guizilini, Chao Fang, Jerome Lynch, Adrien Gaidon. CVPR 2020.
arXiv:1912.01202.

The authors released neither training code nor configurations. The recipes follow Section 5.3 of the paper: batches of 8
(Cityscapes) and 16 (COCO) over 8 devices, learning rate, steps and milestones of the rate, a weight decay of 1e-4,
frozen norms, torchvision's ImageNet weights. Settings that the paper does not give are those of FCOS (Tian et al., ICCV
2019), whose schedule is that of COCO: SGD with momentum 0.9, biases at twice the rate and without decay, 500 steps of
warm-up (linear from a thousandth; FCOS: constant at a third), flips, frozen stem and first stage, distances at which
levels end.

Augmentation differs from the paper in these points:

- Cityscapes: the paper crops 1800x900 (width by height) and resizes the crop by a factor of 0.7 to 1.3, so that inputs
  have 1260x630 to 2340x1170. Here all inputs of a batch have one size: images are resized by such a factor, then
  cropped to 1792x896, and smaller images are padded with void. Scales are the same, crops are the same on average.
- COCO: the paper resizes the shorter side to 640, 720 or 800 and does not crop. Here crops of 1088x1088 contain all
  images up to 4:3, and a part of longer ones. The longer side is at most 1333, as in FCOS.
- Prediction on COCO: the paper resizes the longer side to 1333. Here images below 635 pixels stay smaller.

Other differences: norms of the towers have no weight decay (FCOS: they have), and the deviations listed in
``models/dense_detections.py`` and ``representations/dense_boxes/representation.py``. The category loss is divided by
the number of positives, as in FCOS, not by the number of locations as in the paper
(``--model.representation.category-normalization locations``).

Hours are estimates, not measured: multiply-adds of the network, times three for a training step, at 20 TFLOP/s for each
of two RTX 3090, doubled for everything else. Memory is not measured either; ``--grad-accum-steps 2`` halves it. All
commands use ``--precision fp16 --devices 2``; each device then takes half of a batch.
"""

from __future__ import annotations

from dataclasses import replace

from panscape.models.dense_detections import PUBLISHED
from panscape.recipes.data_options import CityscapesData, CocoPanopticData
from panscape.recipes.model_options import DenseDetectionsOptions
from panscape.recipes.table import Row
from panscape.training.config import Augmentation, Optimizer, Recipe
from panscape.training.schedule import Schedule

# The authors start from torchvision's weights of ResNet-50.
_R50 = DenseDetectionsOptions(
    backbone="resnet50.tv_in1k",
    box_width=256,
    semantic_width=128,
    fpn_width=256,
    frozen_norm=True,
    pretrained=True,
)
_CITYSCAPES = Recipe(
    name="cityscapes",
    model=replace(_R50, longest_side=2048, representation=PUBLISHED["cityscapes"]),
    data=CityscapesData(),
    augmentation=Augmentation(crop=(896, 1792), scale=(0.7, 1.3)),
    optimizer=Optimizer("sgd", learning_rate=0.013, momentum=0.9, weight_decay=1e-4, bias_lr_mult=2.0),
    schedule=Schedule("steps", milestones=(36_000, 44_000), gamma=0.1, warmup_steps=500),
    steps=48_000,
    batch_size=8,
    eval_every=8000,
)
_COCO = Recipe(
    name="coco",
    model=replace(_R50, longest_side=1333, test_scale=2.1, representation=PUBLISHED["coco_panoptic"]),
    data=CocoPanopticData(),
    augmentation=Augmentation(crop=(1088, 1088), shortest_sides=(640, 720, 800), longest_side=1333),
    optimizer=replace(_CITYSCAPES.optimizer, learning_rate=0.01),
    schedule=replace(_CITYSCAPES.schedule, milestones=(120_000, 160_000)),
    steps=180_000,
    batch_size=16,
    eval_every=20_000,
    eval_limit=1000,
)


def build(row: Row) -> Recipe:
    """Return the recipe of a row."""
    return row.build({"cityscapes": _CITYSCAPES, "coco": _COCO}[row.data])
