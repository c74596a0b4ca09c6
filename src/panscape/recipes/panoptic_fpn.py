"""Recipes of Panoptic FPN with detectron2's settings, whose results are published.

Alexander Kirillov, Ross Girshick, Kaiming He, Piotr Dollár: Panoptic Feature Pyramid Networks. CVPR 2019.
arXiv:1901.02446.

``fpn_r50_coco`` is COCO-PanopticSegmentation/panoptic_fpn_R_50_1x of detectron2, ``fpn_r50_coco_3x`` and
``fpn_r101_coco_3x`` train three times as long: SGD with momentum 0.9 and a learning rate of 0.02 for 16 images, a
weight decay of 1e-4 except on norms and biases (detectron2: except on norms), 1000 steps of warm-up from a thousandth,
two drops to a tenth, frozen norms, frozen stem and first stage.

Differences from detectron2: the backbone has torchvision's ImageNet weights instead of Microsoft's. There, images are
not cropped, and batches are padded to their largest image; here, crops of 1088x1088 contain all images up to 4:3, and a
part of longer ones. Other deviations are listed in ``models/panoptic_fpn.py``.
"""

from __future__ import annotations

from panscape.models.panoptic_fpn import PUBLISHED
from panscape.recipes.data_options import CocoPanopticData
from panscape.recipes.model_options import PanopticFPNOptions
from panscape.recipes.table import Row
from panscape.training.config import Augmentation, Optimizer, Recipe
from panscape.training.schedule import Schedule

_COCO = Recipe(
    name="coco",
    model=PanopticFPNOptions(
        backbone="resnet50.tv_in1k",
        pretrained=True,
        frozen_norm=True,
        width=256,
        semantic_width=128,
        longest_side=1333,
        test_scale=800 / 480,
        representation=PUBLISHED,
    ),
    data=CocoPanopticData(),
    augmentation=Augmentation(crop=(1088, 1088), shortest_sides=tuple(range(640, 801, 32)), longest_side=1333),
    optimizer=Optimizer("sgd", learning_rate=0.02, weight_decay=1e-4),
    schedule=Schedule("steps", milestones=(60_000, 80_000), warmup_steps=1000),
    steps=90_000,
    batch_size=16,
    eval_every=20_000,
    eval_limit=1000,
)


def build(row: Row) -> Recipe:
    """Return the recipe of a row."""
    return row.build(_COCO)
