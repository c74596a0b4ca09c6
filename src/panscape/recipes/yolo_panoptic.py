"""Recipes for the tables of YOLO-based panoptic segmentation.

Manuel Diaz-Zapata: YOLO-Based Panoptic Segmentation. MSc thesis, 2020, hal-02884735.

Backbone and detector are those of YOLOv3 for COCO, whose weights stay fixed; they are needed to start::

    panscape train RECIPE --data DIR --out OUT --precision fp16 --devices 2 --init-from yolov3.weights

The detector's categories are COCO's: riders, which COCO labels as persons, are never detected. (The thesis reports 18
categories, without riders.)

Semantic heads alone are trained with Adam for 50 epochs (one layer) or 70 (three layers), semantic and mask heads
together with SGD for 100, with the losses' weights 1 and 0.1. Trainings stop when the loss on val images has not
decreased for 5 or 7 epochs; that of both heads when neither the loss nor one of two mean IoU has improved for 10: that
of the semantic head, and that of the objects, for which the recipe takes the SQ of things.

Of each row there are two recipes, with the two heights of the thesis' images: ``_640`` and ``_1024``. They differ in
the size at prediction alone, as crops of both have 640x640 pixels. The thesis' images are square; here they keep their
shape, 640x1280 and 1024x2048.

The thesis gives no batch size, no learning rate of Adam, no weight decay, no warm-up and no probability of flips and
blur. Ours are 16 images; 1e-3; 1e-4 with SGD; 500 steps with SGD; 0.5. Its learning rate of SGD, 0.1, needs larger
batches; here it is 0.01 (PSPNet's). Factors of the scale are drawn from octaves of equal probability.

Rows of Table 3.10 with the results of others have no recipes. Without masks, a recipe's maps have the pixels of the
boxes to which the semantic head gives the detected category; the thesis evaluates them as semantic segmentations only.

Hours are estimates, not measured: multiply-adds, times three for layers that are trained, at 20 TFLOP/s for each of two
RTX 3090, doubled for everything else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from panscape.recipes.data_options import CityscapesData
from panscape.recipes.model_options import YoloPanopticOptions
from panscape.recipes.table import Row
from panscape.representations.masked_boxes import MaskedBoxRepresentation
from panscape.training.config import Augmentation, Optimizer, Recipe
from panscape.training.early_stopping import EarlyStopping
from panscape.training.schedule import Schedule

_EPOCH = 186  # steps of 16 of the 2975 images

_D53 = YoloPanopticOptions(
    backbone="darknet53",
    weights="darknet",
    pyramid_width=128,
    mask_width=128,
    detector="coco_panoptic",
    longest_side=2048,
    representation=MaskedBoxRepresentation(train_detector=False),
)
_MASKS = Recipe(
    name="masks",
    model=_D53,
    data=CityscapesData(),
    augmentation=Augmentation(
        crop=(640, 640),
        scale=(0.25, 4.0),
        scale_distribution="log_uniform",
        rotation="any",
        max_angle=10.0,
        blur=0.5,
    ),
    optimizer=Optimizer("sgd", learning_rate=0.01, weight_decay=1e-4),
    schedule=Schedule("poly", warmup_steps=500),
    steps=100 * _EPOCH,
    batch_size=16,
    eval_every=_EPOCH,
    early_stopping=EarlyStopping(10, ("loss", "head-miou", "things-sq")),
)
_SEMANTIC = replace(
    _MASKS,
    model=replace(_D53, masks="category"),
    optimizer=Optimizer("adam", learning_rate=1e-3),
    schedule=Schedule("cosine"),
    steps=70 * _EPOCH,
    early_stopping=EarlyStopping(7),
)
_SINGLE = replace(_SEMANTIC, steps=50 * _EPOCH, early_stopping=EarlyStopping(5))


def build(row: Row) -> Recipe:
    """Return the recipe of a row."""
    kind = str(row.changes.get("model.semantic", ""))
    base = _SINGLE if kind.startswith("stride_") else _SEMANTIC if kind else _MASKS
    if row.name.endswith("_640"):
        base = replace(base, model=replace(cast(YoloPanopticOptions, base.model), longest_side=1280))
    return row.build(base)
