"""Recipes for the table rows of Panoptic SwiftNet.

Josip Saric, Marin Orsic, Sinisa Segvic. Remote Sensing 15(8), 2023. arXiv:2203.07908.

Where the paper and the authors' released configurations disagree, the recipes follow the configurations, which produced
the published numbers:

- The learning rate is 1e-4 on Cityscapes (the paper: 5e-5) and 5e-4 on Vistas (not given in the paper).
- The learning rate decays to 0 (the paper: to 1e-7). BSB Aerial has no configuration and follows the paper.
- Images are resized to one of several lengths of the shorter side, on Cityscapes 512 to 1536, a factor of 0.5 to 1.5
  (the paper: a factor between 0.5 and 2).
- On COCO and Vistas the learning rate rises linearly over the first 1000 steps (the paper does not mention it).
- Gaussians of centres have sigma 10, on COCO 8 (the paper gives 5 on BSB Aerial and no other value); at most 200
  centres are kept, also on COCO.

The recipes differ from both in these points: images smaller than the test size are not upsized (COCO 640, Vistas 2048),
and the deviations listed in ``models/swiftnet.py``. On BSB Aerial sigma is 5 (Section 2.3, Figure 2). The paper does
not give the NMS window of centres, the minimum stuff area, the range of scales, the regions of offset weights and the
share of pixels in the semantic loss there; 7, 512, 0.5 to 2, four and all are ours.

The rows of Table 7 are not trainings. They evaluate the model of PYRx3 with some outputs replaced by the ground truth::

    panscape evaluate MODEL --recipe swiftnet_r18_cityscapes_pyrx3 --data DIR --oracle semantic
    panscape evaluate MODEL --recipe swiftnet_r18_cityscapes_pyrx3 --data DIR --oracle centers
    panscape evaluate MODEL --recipe swiftnet_r18_cityscapes_pyrx3 --data DIR --oracle offsets
    panscape evaluate MODEL --recipe swiftnet_r18_cityscapes_pyrx3 --data DIR --oracle centers,offsets

The test split of BSB Aerial (Table 1)::

    panscape evaluate OUT --recipe swiftnet_r18_bsb --data DIR --split test

The offset loss without weights has the weight 0.01 (Section 3.6). For three and eight regions of offset weights the
paper gives only their range, from 8 to 1; the steps between are ours.

Hours are estimates, not measured: multiply-adds of the network, times three for a training step, at 20 TFLOP/s for each
of two RTX 3090, doubled for everything else. Two GPUs with 20 GiB each suffice (the paper, on Cityscapes and COCO). All
commands use ``--precision fp16 --devices 2``; each device then takes half of a batch.
"""

from __future__ import annotations

from dataclasses import replace

from panscape.models.swiftnet import PUBLISHED
from panscape.recipes.data_options import BsbData, CityscapesData, CocoPanopticData, VistasData
from panscape.recipes.model_options import SwiftNetOptions
from panscape.recipes.table import Row
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.training.config import Augmentation, Optimizer, Recipe, Sampling
from panscape.training.schedule import Schedule

# The authors start from torchvision's weights of ResNet-18.
_R18 = SwiftNetOptions(backbone="resnet18.tv_in1k", levels=3, width=256, pretrained=True)
_CITYSCAPES = Recipe(
    name="cityscapes",
    model=replace(_R18, longest_side=2048, representation=PUBLISHED["cityscapes"]),
    data=CityscapesData(),
    augmentation=Augmentation(
        crop=(1024, 2048),
        shortest_sides=(512, 640, 704, 832, 896, 1024, 1152, 1216, 1344, 1408, 1536),
        longest_side=4096,
    ),
    optimizer=Optimizer(learning_rate=1e-4),
    steps=90_000,
    batch_size=8,
    eval_every=10_000,
)
_COCO = Recipe(
    name="coco",
    model=replace(_R18, longest_side=640, representation=PUBLISHED["coco_panoptic"]),
    data=CocoPanopticData(),
    augmentation=Augmentation(crop=(640, 640), shortest_sides=tuple(range(320, 961, 64)), longest_side=960),
    optimizer=Optimizer(learning_rate=4e-4),
    schedule=Schedule(warmup_steps=1000),
    steps=200_000,
    batch_size=48,
    eval_every=20_000,
    eval_limit=1000,
)
_VISTAS = Recipe(
    name="vistas",
    model=replace(_R18, longest_side=2048, representation=PUBLISHED["vistas_v1.2"]),
    data=VistasData(),
    augmentation=Augmentation(
        crop=(1024, 1024), shortest_sides=tuple(range(960, 2113, 64)), longest_side=4096, rare_crop=0.5
    ),
    sampling=Sampling(repeat_threshold=0.1),
    optimizer=Optimizer(learning_rate=5e-4),
    schedule=Schedule(warmup_steps=1000),
    steps=200_000,
    batch_size=16,
    eval_every=20_000,
    eval_limit=500,
)
_BSB = Recipe(
    name="bsb",
    model=replace(
        _R18,
        longest_side=512,
        representation=CenterRepresentation(sigma=5, decoding=CenterDecoding(stuff_area=512)),
    ),
    data=BsbData(),
    augmentation=Augmentation(crop=(512, 512), scale=(0.5, 2.0)),
    optimizer=Optimizer(learning_rate=3e-4),
    schedule=Schedule(min_lr=1e-7),
    steps=120_000,
    batch_size=24,
    eval_every=10_000,
)
_BASES = {"cityscapes": _CITYSCAPES, "coco": _COCO, "vistas": _VISTAS, "bsb": _BSB}


def build(row: Row) -> Recipe:
    """Return the recipe of a row."""
    return row.build(_BASES[row.data])
