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

mIoU and iIoU in the docstrings are those of the semantic head, which ``panscape evaluate --iiou`` reports beside those
of the map.

Hours are estimates, not measured: multiply-adds of the network, times three for a training step, at 20 TFLOP/s for each
of eight RTX 3090, doubled for everything else. Memory is not measured either; ``--grad-accum-steps`` divides it. All
commands use ``--precision fp16 --devices 8``; each device then takes an eighth of a batch.
"""

from __future__ import annotations

from dataclasses import replace

from panscape.models.base import MAX_TEST_SCALE
from panscape.models.panoptic_deeplab import PUBLISHED
from panscape.nn.pisr import PISR
from panscape.nn.pisr_baselines import OCR, Concatenation, ElementwiseProduct
from panscape.nn.pisr_instances import CenterInstanceMaps
from panscape.recipes.data_options import CityscapesData, CocoPanopticData
from panscape.recipes.model_options import PanopticDeepLabOptions, RelationsPart
from panscape.training.config import Augmentation, Optimizer, Recipe, Schedule

_R52 = PanopticDeepLabOptions(
    "resnet52", decoder_width=256, instance_width=128, pyramid_width=256, head_width=32, pretrained=True
)
_CITYSCAPES_SIDES = (512, 640, 704, 832, 896, 1024, 1152, 1216, 1344, 1408, 1536, 1664, 1728, 1856, 1920, 2048)
_MODELS = {
    "r52": _R52,
    "r103": replace(_R52, backbone="resnet103"),
    "hrnet48": replace(_R52, backbone="hrnet_w48.ms_in1k", output_stride=32),
}


def deeplab_r52_cityscapes() -> Recipe:
    """Cityscapes, Panoptic-DeepLab (PISR, Tables 1, 4 and 5).

    ::

        panscape train deeplab_r52_cityscapes --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 6 (estimate)
        published, val:  PQ 59.9 AP 32.1 mIoU 78.5 iIoU 62.5 (Table 4: PQ 59.7)
        ours, val:       not measured yet
    """
    return _cityscapes("r52")


def deeplab_r103_cityscapes() -> Recipe:
    """Cityscapes, Panoptic-DeepLab on ResNet-101 (PISR, Tables 1 and 4).

    ::

        panscape train deeplab_r103_cityscapes --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 9 (estimate)
        published, val:  PQ 60.5 AP 33.7 mIoU 79.0
        ours, val:       not measured yet
    """
    return _cityscapes("r103")


def deeplab_hrnet48_cityscapes() -> Recipe:
    """Cityscapes, Panoptic-DeepLab on HRNet-W48 (PISR, Table 1).

    ::

        panscape train deeplab_hrnet48_cityscapes --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 11 (estimate)
        published, val:  PQ 63.4 AP 36.2 mIoU 80.6
        ours, val:       not measured yet
    """
    return _cityscapes("hrnet48")


def deeplab_r52_cityscapes_relations() -> Recipe:
    """Cityscapes, PISR with 50 instances (PISR, Tables 1, 4 and 5).

    ::

        panscape train deeplab_r52_cityscapes_relations --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 9 (estimate)
        published, val:  PQ 62.2 AP 33.3 mIoU 80.2 iIoU 64.4
        ours, val:       not measured yet
    """
    return _cityscapes("r52", "relations", PISR())


def deeplab_r103_cityscapes_relations() -> Recipe:
    """Cityscapes, PISR on ResNet-101 (not in the paper).

    ::

        panscape train deeplab_r103_cityscapes_relations --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 11 (estimate)
        published, val:  none
        ours, val:       not measured yet
    """
    return _cityscapes("r103", "relations", PISR())


def deeplab_hrnet48_cityscapes_relations() -> Recipe:
    """Cityscapes, PISR on HRNet-W48 (PISR, Table 1).

    ::

        panscape train deeplab_hrnet48_cityscapes_relations --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 13 (estimate)
        published, val:  PQ 64.1 AP 37.6 mIoU 80.7
        ours, val:       not measured yet
    """
    return _cityscapes("hrnet48", "relations", PISR())


def deeplab_r52_cityscapes_relations_k10() -> Recipe:
    """Cityscapes, PISR with 10 instances (PISR, Figure 9).

    ::

        panscape train deeplab_r52_cityscapes_relations_k10 --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 8 (estimate)
        published, val:  a plot without numbers
        ours, val:       not measured yet
    """
    return _cityscapes("r52", "relations_k10", PISR(num_instances=10))


def deeplab_r52_cityscapes_relations_k20() -> Recipe:
    """Cityscapes, PISR with 20 instances (PISR, Figure 9).

    ::

        panscape train deeplab_r52_cityscapes_relations_k20 --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 9 (estimate)
        published, val:  a plot without numbers
        ours, val:       not measured yet
    """
    return _cityscapes("r52", "relations_k20", PISR(num_instances=20))


def deeplab_r52_cityscapes_relations_k100() -> Recipe:
    """Cityscapes, PISR with 100 instances (PISR, Figure 9).

    ::

        panscape train deeplab_r52_cityscapes_relations_k100 --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 9 (estimate)
        published, val:  a plot without numbers
        ours, val:       not measured yet
    """
    return _cityscapes("r52", "relations_k100", PISR(num_instances=100))


def deeplab_r52_cityscapes_relations_key64() -> Recipe:
    """Cityscapes, PISR with keys of 64 channels (PISR, Figure 8).

    ::

        panscape train deeplab_r52_cityscapes_relations_key64 --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 7 (estimate)
        published, val:  a plot without numbers
        ours, val:       not measured yet
    """
    return _cityscapes("r52", "relations_key64", PISR(key_width=64))


def deeplab_r52_cityscapes_relations_key128() -> Recipe:
    """Cityscapes, PISR with keys of 128 channels (PISR, Figure 8).

    ::

        panscape train deeplab_r52_cityscapes_relations_key128 --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 8 (estimate)
        published, val:  a plot without numbers
        ours, val:       not measured yet
    """
    return _cityscapes("r52", "relations_key128", PISR(key_width=128))


def deeplab_r52_cityscapes_relations_key512() -> Recipe:
    """Cityscapes, PISR with keys of 512 channels (PISR, Figure 8).

    ::

        panscape train deeplab_r52_cityscapes_relations_key512 --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 10 (estimate)
        published, val:  a plot without numbers
        ours, val:       not measured yet
    """
    return _cityscapes("r52", "relations_key512", PISR(key_width=512))


def deeplab_r52_cityscapes_concatenation() -> Recipe:
    """Cityscapes, scores and instances concatenated to the features (PISR, Table 5).

    ::

        panscape train deeplab_r52_cityscapes_concatenation --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 7 (estimate)
        published, val:  PQ 60.6 mIoU 79.1 iIoU 62.6
        ours, val:       not measured yet
    """
    return _cityscapes("r52", "concatenation", Concatenation())


def deeplab_r52_cityscapes_product() -> Recipe:
    """Cityscapes, features multiplied by scores and instances (PISR, Table 5).

    ::

        panscape train deeplab_r52_cityscapes_product --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 7 (estimate)
        published, val:  PQ 60.4 mIoU 78.2 iIoU 63.0
        ours, val:       not measured yet
    """
    return _cityscapes("r52", "product", ElementwiseProduct())


def deeplab_r52_cityscapes_ocr() -> Recipe:
    """Cityscapes, OCR, object context of categories (PISR, Tables 1 and 5).

    ::

        panscape train deeplab_r52_cityscapes_ocr --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 7 (estimate)
        published, val:  PQ 60.7 AP 32.1 mIoU 79.5 iIoU 62.4 (Table 1: mIoU 79.6)
        ours, val:       not measured yet
    """
    return _cityscapes("r52", "ocr", OCR())


def deeplab_r52_cityscapes_without_reweighting() -> Recipe:
    """Cityscapes, PISR without reweighting (PISR, Table 5).

    ::

        panscape train deeplab_r52_cityscapes_without_reweighting --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 9 (estimate)
        published, val:  PQ 61.8 mIoU 79.6 iIoU 64.0
        ours, val:       not measured yet
    """
    return _cityscapes("r52", "without_reweighting", PISR(reweighting=False))


def deeplab_r52_coco() -> Recipe:
    """COCO panoptic, Panoptic-DeepLab (PISR, Table 2).

    ::

        panscape train deeplab_r52_coco --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 22 (estimate)
        published, val:  PQ 35.5, things 37.8, stuff 32.0
        ours, val:       not measured yet
    """
    return _coco("r52")


def deeplab_hrnet48_coco() -> Recipe:
    """COCO panoptic, Panoptic-DeepLab on HRNet-W48 (PISR, Table 2).

    ::

        panscape train deeplab_hrnet48_coco --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 38 (estimate)
        published, val:  PQ 37.8
        ours, val:       not measured yet
    """
    return _coco("hrnet48")


def deeplab_r52_coco_relations() -> Recipe:
    """COCO panoptic, PISR with 50 instances (PISR, Table 2).

    ::

        panscape train deeplab_r52_coco_relations --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 31 (estimate)
        published, val:  PQ 38.8, things 40.6, stuff 36.2
        ours, val:       not measured yet
    """
    return _coco("r52", "relations", PISR())


def deeplab_hrnet48_coco_relations() -> Recipe:
    """COCO panoptic, PISR on HRNet-W48 (PISR, Table 2).

    ::

        panscape train deeplab_hrnet48_coco_relations --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 48 (estimate)
        published, val:  PQ 40.7, things 42.6, stuff 37.7
        ours, val:       not measured yet
    """
    return _coco("hrnet48", "relations", PISR())


def deeplab_r52_coco_ocr() -> Recipe:
    """COCO panoptic, OCR, object context of categories (PISR, Table 2).

    ::

        panscape train deeplab_r52_coco_ocr --data DIR --out OUT --precision fp16 --devices 8

        hardware, hours: eight RTX 3090, 27 (estimate)
        published, val:  PQ 37.2, things 38.9, stuff 35.7
        ours, val:       not measured yet
    """
    return _coco("r52", "ocr", OCR())


def _cityscapes(network: str, row: str = "", relations: RelationsPart | None = None) -> Recipe:
    return Recipe(
        name=_name(network, "cityscapes", row),
        model=_model(network, "cityscapes", 2048, relations),
        data=CityscapesData(),
        augmentation=Augmentation(crop=(512, 1024), shortest_sides=_CITYSCAPES_SIDES, longest_side=4096),
        optimizer=Optimizer(learning_rate=1e-3),
        schedule=Schedule(warmup_steps=1000),
        steps=90_000,
        batch_size=32,
        eval_every=10_000,
    )


def _coco(network: str, row: str = "", relations: RelationsPart | None = None) -> Recipe:
    return replace(
        _cityscapes(network),
        name=_name(network, "coco", row),
        # 11 cells are the 41 pixels of post-processing. Smaller images are upsized to 640, as in detectron2.
        model=_model(network, "coco_panoptic", 640, relations, nms_kernel=11, test_scale=MAX_TEST_SCALE),
        data=CocoPanopticData(),
        augmentation=Augmentation(crop=(640, 640), shortest_sides=tuple(range(320, 961, 64)), longest_side=960),
        optimizer=Optimizer(learning_rate=5e-4),
        steps=200_000,
        batch_size=64,
        eval_every=20_000,
        eval_limit=1000,
    )


def _model(
    network: str,
    labels: str,
    longest_side: int,
    relations: RelationsPart | None,
    nms_kernel: int = 3,
    test_scale: float = 1.0,
) -> PanopticDeepLabOptions:
    takes_objects = relations is not None and not isinstance(relations, OCR)
    return replace(
        _MODELS[network],
        longest_side=longest_side,
        test_scale=test_scale,
        representation=PUBLISHED[labels],
        relations=relations,
        instance_maps=CenterInstanceMaps(nms_kernel=nms_kernel) if takes_objects else None,
    )


def _name(network: str, data: str, row: str) -> str:
    return "_".join(part for part in ("deeplab", network, data, row) if part)
