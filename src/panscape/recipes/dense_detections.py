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

mIoU in the docstrings is that of the semantic head, and AP that of masks before fusion; ``panscape evaluate --ap``
reports both beside those of the map.

Hours are estimates, not measured: multiply-adds of the network, times three for a training step, at 20 TFLOP/s for each
of two RTX 3090, doubled for everything else. Memory is not measured either; ``--grad-accum-steps 2`` halves it. All
commands use ``--precision fp16 --devices 2``; each device then takes half of a batch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from panscape.models.dense_detections import PUBLISHED
from panscape.recipes.data_options import CityscapesData, CocoPanopticData
from panscape.recipes.model_options import DenseDetectionsOptions
from panscape.training.config import Augmentation, Optimizer, Recipe, Schedule

# The authors start from torchvision's weights of ResNet-50.
_R50 = DenseDetectionsOptions(
    backbone="resnet50.tv_in1k",
    box_width=256,
    semantic_width=128,
    fpn_width=256,
    frozen_norm=True,
    pretrained=True,
)
_OPTIMIZER = Optimizer("sgd", learning_rate=0.013, momentum=0.9, weight_decay=1e-4, bias_lr_mult=2.0)


def dense_r50_cityscapes() -> Recipe:
    """Cityscapes, dense detections, complete method (Tables 1 and 3).

    ::

        panscape train dense_r50_cityscapes --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 9 (estimate)
        published, val:  PQ 58.8, things 52.1, stuff 63.7 AP 29.8 mIoU 77.0
        ours, val:       not measured yet
    """
    return _cityscapes("")


def dense_r50_cityscapes_one_tower() -> Recipe:
    """Cityscapes, dense detections with one tower, no levelness, no mask loss (Table 3).

    ::

        panscape train dense_r50_cityscapes_one_tower --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 8 (estimate)
        published, val:  PQ 56.8, things 48.1, stuff 63.1
        ours, val:       not measured yet
    """
    return _cityscapes("_one_tower", towers=1, levelness=False, mask_loss=False)


def dense_r50_cityscapes_two_towers() -> Recipe:
    """Cityscapes, dense detections with two towers, no levelness, no mask loss (Table 3).

    ::

        panscape train dense_r50_cityscapes_two_towers --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 8 (estimate)
        published, val:  PQ 57.1, things 47.8, stuff 63.8
        ours, val:       not measured yet
    """
    return _cityscapes("_two_towers", levelness=False, mask_loss=False)


def dense_r50_cityscapes_levelness() -> Recipe:
    """Cityscapes, dense detections with two towers and levelness, no mask loss (Table 3).

    ::

        panscape train dense_r50_cityscapes_levelness --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 9 (estimate)
        published, val:  PQ 58.1, things 50.4, stuff 63.7
        ours, val:       not measured yet
    """
    return _cityscapes("_levelness", mask_loss=False)


def dense_r50_cityscapes_weak() -> Recipe:
    """Cityscapes, dense detections trained on boxes instead of instance masks (Table 3).

    ::

        panscape train dense_r50_cityscapes_weak --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 9 (estimate)
        published, val:  PQ 55.7, things 45.2, stuff 63.3
        ours, val:       not measured yet
    """
    return _cityscapes("_weak", mask_loss=False, supervision="boxes")


def dense_r50_coco() -> Recipe:
    """COCO panoptic, dense detections (Table 2).

    ::

        panscape train dense_r50_coco --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 51 (estimate)
        published, val:  PQ 37.1, things 41.0, stuff 31.3
        ours, val:       not measured yet
    """
    return _coco("")


def dense_r50_coco_weak() -> Recipe:
    """COCO panoptic, dense detections trained on boxes instead of instance masks (not in the paper).

    ::

        panscape train dense_r50_coco_weak --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 51 (estimate)
        published, val:  none
        ours, val:       not measured yet
    """
    return _coco("_weak", mask_loss=False, supervision="boxes")


def _cityscapes(
    row: str,
    towers: Literal[1, 2] = 2,
    levelness: bool = True,
    mask_loss: bool = True,
    supervision: Literal["masks", "boxes"] = "masks",
) -> Recipe:
    model = _model("cityscapes", mask_loss, supervision)
    return Recipe(
        name=f"dense_r50_cityscapes{row}",
        model=replace(model, towers=towers, levelness=levelness, longest_side=2048),
        data=CityscapesData(),
        augmentation=Augmentation(crop=(896, 1792), scale=(0.7, 1.3)),
        optimizer=_OPTIMIZER,
        schedule=Schedule("steps", milestones=(36_000, 44_000), gamma=0.1, warmup_steps=500),
        steps=48_000,
        batch_size=8,
        eval_every=8000,
    )


def _coco(row: str, mask_loss: bool = True, supervision: Literal["masks", "boxes"] = "masks") -> Recipe:
    model = _model("coco_panoptic", mask_loss, supervision)
    return Recipe(
        name=f"dense_r50_coco{row}",
        model=replace(model, longest_side=1333, test_scale=2.1),
        data=CocoPanopticData(),
        augmentation=Augmentation(crop=(1088, 1088), shortest_sides=(640, 720, 800), longest_side=1333),
        optimizer=replace(_OPTIMIZER, learning_rate=0.01),
        schedule=Schedule("steps", milestones=(120_000, 160_000), gamma=0.1, warmup_steps=500),
        steps=180_000,
        batch_size=16,
        eval_every=20_000,
        eval_limit=1000,
    )


def _model(labels: str, mask_loss: bool, supervision: Literal["masks", "boxes"]) -> DenseDetectionsOptions:
    published = PUBLISHED[labels]
    weight = published.mask_loss_weight if mask_loss else 0.0
    return replace(_R50, representation=replace(published, mask_loss_weight=weight, supervision=supervision))
