"""Recipes for the table rows of Panoptic, Instance, and Semantic Relations (PISR) and its base, Panoptic-DeepLab.

Shubhankar Borse, Hyojin Park, Hong Cai, Debasmit Das, Risheek Garrepalli, Fatih Porikli. CVPR 2022. The base: Bowen
Cheng, Maxwell D. Collins, Yukun Zhu, Ting Liu, Thomas S. Huang, Hartwig Adam, Liang-Chieh Chen. CVPR 2020.
arXiv:1911.10194.

Published numbers are those of the PISR paper, also for the base. The paper's parameters and operations of the base are
those of the detectron2 implementation, whose configurations these recipes follow: Adam, batches of 32 and 64, crops of
512x1024 and 640x640. detectron2's R-52 and R-103, ResNets with DeepLab's stem of three convolutions, are the papers'
R50 and R101. detectron2 has no configuration of R-103; it is trained like R-52. So is HRNet-W48 in the authors' own
configurations.

The authors of PISR "follow the original training settings" and released no code. The number of instances, the weight of
the first stage's losses and the number of channels are in a supplement that we have not seen: 50, 0.4 and 256 are ours.
The number of instances used for the tables is unknown.

Figure 9 varies that number on R-52 and is a plot without numbers. Its other curves are options::

    panscape train deeplab_r52_coco_relations --model.relations.num-instances 10 ...
    panscape train deeplab_r52_cityscapes_without_reweighting --model.relations.num-instances 10 ...

Figure 8 varies "the intermediate number of channels in the PISR block" on R-52 and is also a plot without numbers; the
widths are unknown. 64, 128 and 512 beside the default of 256 are ours. Its curve without reweighting::

    panscape train deeplab_r52_cityscapes_without_reweighting --model.relations.key-width 64 ...

Training differs from detectron2 in these points:

- Backbones start from timm's ImageNet weights: R-52 and R-103 from Gluon's ``resnet50s.gluon_in1k`` and
  ``resnet101s.gluon_in1k``, which have this stem. detectron2 starts from its own ``R-52.pkl`` and ``R-103.pkl`` (the
  same network, trained with another recipe). To start from those, download them from
  https://dl.fbaipublicfiles.com/detectron2/DeepLab/R-52.pkl and pass ``--backbone-weights R-52.pkl``. HRNet-W48 starts
  from ``hrnet_w48.ms_in1k``.
- The deviations listed in ``models/panoptic_deeplab.py``.

Hours are estimates, not measured: multiply-adds of the network, times three for a training step, at 20 TFLOP/s for each
of eight RTX 3090, doubled for everything else. Memory is not measured either; ``--grad-accum-steps`` divides it. All
commands use ``--precision fp16 --devices 8``; each device then takes an eighth of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from panscape.models.base import MAX_TEST_SCALE
from panscape.models.panoptic_deeplab import PUBLISHED
from panscape.nn.pisr import PISR
from panscape.nn.pisr_baselines import OCR, Concatenation, ElementwiseProduct
from panscape.nn.pisr_instances import CenterInstanceMaps
from panscape.recipes.data_options import CityscapesData, CocoPanopticData
from panscape.recipes.model_options import PanopticDeepLabOptions, RelationsPart
from panscape.recipes.table import Row
from panscape.training.config import Augmentation, Optimizer, Recipe
from panscape.training.schedule import Schedule

_R52 = PanopticDeepLabOptions(
    backbone="resnet52", decoder_width=256, instance_width=128, pyramid_width=256, head_width=32, pretrained=True
)
_CITYSCAPES = Recipe(
    name="cityscapes",
    model=replace(_R52, longest_side=2048, representation=PUBLISHED["cityscapes"]),
    data=CityscapesData(),
    augmentation=Augmentation(
        crop=(512, 1024),
        shortest_sides=(512, 640, 704, 832, 896, 1024, 1152, 1216, 1344, 1408, 1536, 1664, 1728, 1856, 1920, 2048),
        longest_side=4096,
    ),
    optimizer=Optimizer(learning_rate=1e-3),
    schedule=Schedule(warmup_steps=1000),
    steps=90_000,
    batch_size=32,
    eval_every=10_000,
)
_COCO = Recipe(
    name="coco",
    # Smaller images are upsized to 640, as in detectron2.
    model=replace(_R52, longest_side=640, test_scale=MAX_TEST_SCALE, representation=PUBLISHED["coco_panoptic"]),
    data=CocoPanopticData(),
    augmentation=Augmentation(crop=(640, 640), shortest_sides=tuple(range(320, 961, 64)), longest_side=960),
    optimizer=Optimizer(learning_rate=5e-4),
    schedule=Schedule(warmup_steps=1000),
    steps=200_000,
    batch_size=64,
    eval_every=20_000,
    eval_limit=1000,
)
_RELATIONS = (PISR(), Concatenation(), ElementwiseProduct(), OCR())


def build(row: Row) -> Recipe:
    """Return the recipe of a row."""
    if row.data == "coco":
        # 11 cells are the 41 pixels of post-processing.
        return build_with_relations(row, _COCO, _RELATIONS, CenterInstanceMaps(nms_kernel=11))
    return build_with_relations(row, _CITYSCAPES, _RELATIONS, CenterInstanceMaps(nms_kernel=3))


def build_with_relations(
    row: Row, base: Recipe, relations: Sequence[RelationsPart], instance_maps: CenterInstanceMaps
) -> Recipe:
    """Return the recipe of a row whose changes name a class of relations, or none.

    Args:
        row: the row.
        base: the recipe that it changes.
        relations: a module of each class that rows name.
        instance_maps: options of the instance maps, for classes that take instances: all but OCR.
    """
    parts = {type(part).__name__: part for part in relations}
    changes = dict(row.changes)
    if "model.relations" in changes:
        part = changes["model.relations"] = parts[changes["model.relations"]]
        if not isinstance(part, OCR):
            changes["model.instance_maps"] = instance_maps
    return replace(row, changes=changes).build(base)
