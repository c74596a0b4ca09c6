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

    published, val: semantic PQ 76.2 SQ 91.0 RQ 82.5 AP 39.6 mIoU 100.0, centers 56.9 79.5 70.1 22.9 77.2,
                    offsets 59.1 83.0 70.4 36.8 77.2, centers and offsets 61.6 83.3 73.2 38.2 77.2

mIoU is that of the semantic head, here and below; ``panscape evaluate`` reports it beside that of the map.

Hours are estimates, not measured: multiply-adds of the network, times three for a training step, at 20 TFLOP/s for each
of two RTX 3090, doubled for everything else. Two GPUs with 20 GiB each suffice (the paper, on Cityscapes and COCO). All
commands use ``--precision fp16 --devices 2``; each device then takes half of a batch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from panscape.models.swiftnet import PUBLISHED
from panscape.recipes.data_options import BsbData, CityscapesData, CocoPanopticData, VistasData
from panscape.recipes.model_options import SwiftNetOptions
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.training.config import Augmentation, Optimizer, Recipe, Sampling, Schedule
from panscape.transforms import RotationPolicy

# The authors start from torchvision's weights of ResNet-18.
_R18 = SwiftNetOptions(backbone="resnet18.tv_in1k", levels=3, width=256, pretrained=True)


def swiftnet_r18_cityscapes_pyrx1() -> Recipe:
    """Cityscapes, one level (Table 6, single).

    ::

        panscape train swiftnet_r18_cityscapes_pyrx1 --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 11 (estimate)
        published, val:  PQ 51.7 SQ 78.4 RQ 64.3 AP 18.7 mIoU 71.2
        ours, val:       not measured yet
    """
    return _cityscapes("pyrx1", levels=1)


def swiftnet_r18_cityscapes_spp() -> Recipe:
    """Cityscapes, one level with spatial pyramid pooling (Table 6, SPP).

    ::

        panscape train swiftnet_r18_cityscapes_spp --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 11 (estimate)
        published, val:  PQ 53.5 SQ 78.8 RQ 66.3 AP 22.4 mIoU 75.1
        ours, val:       not measured yet
    """
    return _cityscapes("spp", levels=1, context="spp")


def swiftnet_r18_cityscapes_pyrx2() -> Recipe:
    """Cityscapes, two levels (Table 6, PYRx2).

    ::

        panscape train swiftnet_r18_cityscapes_pyrx2 --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 12 (estimate)
        published, val:  PQ 54.9 SQ 79.2 RQ 67.8 AP 23.3 mIoU 76.1
        ours, val:       not measured yet
    """
    return _cityscapes("pyrx2", levels=2)


def swiftnet_r18_cityscapes_pyrx3() -> Recipe:
    """Cityscapes, three levels (Tables 3, 6 and 8).

    ::

        panscape train swiftnet_r18_cityscapes_pyrx3 --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 12 (estimate)
        published, val:  PQ 55.9 SQ 79.5 RQ 68.9 AP 26.1 mIoU 77.2
                         PQ 55.9 SQ 79.5 RQ 68.9 AP 26.3 mIoU 76.6 as the mean of two runs (Table 8, 4 regions)
        ours, val:       not measured yet
    """
    return _cityscapes("pyrx3")


def swiftnet_r18_cityscapes_l1() -> Recipe:
    """Cityscapes, plain L1 offset loss (Table 8).

    The offset loss has the weight 0.01 (Section 3.6).

    ::

        panscape train swiftnet_r18_cityscapes_l1 --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 12 (estimate)
        published, val:  PQ 55.2 SQ 79.2 RQ 68.2 AP 25.2 mIoU 76.3 (mean of two runs)
        ours, val:       not measured yet
    """
    return _cityscapes("l1", boundary_alphas=())


def swiftnet_r18_cityscapes_regions3() -> Recipe:
    """Cityscapes, offset weights in three regions (Table 8).

    The paper gives only the range of the weights, from 8 to 1; (8, 4, 1) is ours. For four regions see
    :func:`swiftnet_r18_cityscapes_pyrx3`.

    ::

        panscape train swiftnet_r18_cityscapes_regions3 --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 12 (estimate)
        published, val:  PQ 55.2 SQ 79.2 RQ 68.2 AP 25.5 mIoU 76.6 (mean of two runs)
        ours, val:       not measured yet
    """
    return _cityscapes("regions3", boundary_alphas=(8.0, 4.0, 1.0))


def swiftnet_r18_cityscapes_regions8() -> Recipe:
    """Cityscapes, offset weights in eight regions (Table 8).

    The paper gives only the range of the weights, from 8 to 1; equal steps are ours.

    ::

        panscape train swiftnet_r18_cityscapes_regions8 --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 12 (estimate)
        published, val:  PQ 55.5 SQ 79.3 RQ 68.5 AP 25.2 mIoU 76.8 (mean of two runs)
        ours, val:       not measured yet
    """
    return _cityscapes("regions8", boundary_alphas=(8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0))


def swiftnet_r18_coco() -> Recipe:
    """COCO panoptic (Table 4).

    ::

        panscape train swiftnet_r18_coco --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 32 (estimate)
        published, val:  PQ 30.5, things 32.1, stuff 28.1
        ours, val:       not measured yet
    """
    return Recipe(
        name="swiftnet_r18_coco",
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


def swiftnet_r18_vistas() -> Recipe:
    """Mapillary Vistas, rare categories sampled more often (Table 5).

    ::

        panscape train swiftnet_r18_vistas --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 28 (estimate)
        published, val:  PQ 28.6 mIoU 47.8
        ours, val:       not measured yet
    """
    return Recipe(
        name="swiftnet_r18_vistas",
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


def swiftnet_r18_bsb() -> Recipe:
    """BSB Aerial without rotation (Tables 1 and 2).

    ::

        panscape train swiftnet_r18_bsb --data DIR --out OUT --precision fp16 --devices 2
        panscape evaluate OUT --recipe swiftnet_r18_bsb --data DIR --split test

        hardware, hours: two RTX 3090, 6 (estimate)
        published, val:  PQ 69.5 SQ 89.3 RQ 77.5 mIoU 75.1; test PQ 68.1 SQ 88.2 RQ 76.0
        ours, val:       not measured yet
    """
    return _bsb("swiftnet_r18_bsb", "none")


def swiftnet_r18_bsb_right_angles() -> Recipe:
    """BSB Aerial, rotation by right angles (Table 2).

    ::

        panscape train swiftnet_r18_bsb_right_angles --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 6 (estimate)
        published, val:  PQ 68.8 SQ 87.8 RQ 77.6 mIoU 74.8
        ours, val:       not measured yet
    """
    return _bsb("swiftnet_r18_bsb_right_angles", "right_angles")


def swiftnet_r18_bsb_any_angle() -> Recipe:
    """BSB Aerial, rotation by any angle (Table 2).

    ::

        panscape train swiftnet_r18_bsb_any_angle --data DIR --out OUT --precision fp16 --devices 2

        hardware, hours: two RTX 3090, 6 (estimate)
        published, val:  PQ 56.0 SQ 86.1 RQ 63.9 mIoU 74.5
        ours, val:       not measured yet
    """
    return _bsb("swiftnet_r18_bsb_any_angle", "any")


def _cityscapes(
    row: str,
    levels: int = 3,
    context: Literal["pyramid", "spp"] = "pyramid",
    boundary_alphas: tuple[float, ...] = (8.0, 4.0, 2.0, 1.0),
) -> Recipe:
    representation = replace(PUBLISHED["cityscapes"], boundary_alphas=boundary_alphas)
    return Recipe(
        name=f"swiftnet_r18_cityscapes_{row}",
        model=replace(_R18, levels=levels, context=context, longest_side=2048, representation=representation),
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


def _bsb(name: str, rotation: RotationPolicy) -> Recipe:
    representation = CenterRepresentation(sigma=5, decoding=CenterDecoding(stuff_area=512))
    return Recipe(
        name=name,
        model=replace(_R18, longest_side=512, representation=representation),
        data=BsbData(),
        augmentation=Augmentation(crop=(512, 512), scale=(0.5, 2.0), rotation=rotation),
        optimizer=Optimizer(learning_rate=3e-4),
        schedule=Schedule(min_lr=1e-7),
        steps=120_000,
        batch_size=24,
        eval_every=10_000,
    )
