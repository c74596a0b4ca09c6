"""Recipes for the table rows of Improving Panoptic Segmentation at All Scales.

Lorenzo Porzi, Samuel Rota Bulò, Peter Kontschieder. CVPR 2021. arXiv:2012.07717.

The supplementary material with the hyperparameters is not public. Crops, weights of initialisation and the kinds of
sampling are those of the paper (Sections 4.1 and 4.2). All else follows the authors' Seamless Scene Segmentation, whose
configurations are: SGD with Nesterov momentum 0.9, a learning rate of 0.01 for 8 images and a weight decay of 1e-4, 200
steps of warm-up from a third, two drops to a tenth, a batch of 8, and its numbers of steps.

- FULL trains on whole images with a shorter side of 1024 (Vistas; the paper: CROP has "almost double the input
  resolution"), CROP on crops of images with a shorter side of 2048. On IDD and Cityscapes both have 1024, the size of
  the images. All sample categories uniformly; ISUS samples scales uniformly, too.
- Factors of scale are 0.5 to 2, for things with ISUS 0.25 to 4. FULL has 0.8 to 1.25 on Vistas, as Seamless, and 0.5
  to 1 elsewhere, since inputs of a batch have one size: that of the largest image, around which smaller ones are padded
  with void; images of Vistas longer than 4:3 are cropped.
- In inference, ``longest_side`` gives images of the usual shape the shorter side that they have in training.
- Biases have no weight decay, as norms. The stem and the first stage of ResNet-50 are trained, too.
- Networks for Cityscapes start from those for Vistas in the paper: ``--init-from RUN``.

Hours are estimates, not measured: multiply-adds of the network, times three for a training step, at 20 TFLOP/s for each
of eight RTX 3090, doubled for everything else. All commands use ``--precision fp16 --devices 8``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from panscape.models.seamless import PUBLISHED
from panscape.recipes.data_options import CityscapesData, IddData, VistasData
from panscape.recipes.model_options import SeamlessOptions
from panscape.recipes.table import Row, replace_fields
from panscape.representations.regions import RegionRepresentation
from panscape.training.config import Augmentation, Optimizer, Recipe, Sampling
from panscape.training.schedule import Schedule

_R50 = SeamlessOptions(
    backbone="resnet50.tv_in1k",
    pretrained=True,
    width=256,
    window=(1024, 1024),
    longest_side=2731,
    representation=PUBLISHED["vistas_v1.2"],
)
_VISTAS = Recipe(
    name="vistas",
    model=_R50,
    data=VistasData(),
    augmentation=Augmentation(crop=(1024, 1024), scale=(0.5, 2.0)),
    sampling=Sampling("categories", shortest_side=2048),
    optimizer=Optimizer("sgd", learning_rate=0.01, nesterov=True, weight_decay=1e-4),
    schedule=Schedule("steps", milestones=(144_000, 176_000), warmup_steps=200, warmup_factor=1 / 3),
    steps=191_000,
    batch_size=8,
    eval_every=20_000,
    eval_limit=200,
)
_CITYSCAPES = replace(
    _VISTAS,
    model=replace(_R50, window=(512, 512), longest_side=2048, representation=RegionRepresentation()),
    data=CityscapesData(),
    augmentation=replace(_VISTAS.augmentation, crop=(512, 512)),
    sampling=replace(_VISTAS.sampling, shortest_side=1024),
    schedule=replace(_VISTAS.schedule, milestones=(36_000, 44_000)),
    steps=48_000,
    eval_limit=0,
)
# As many epochs as on Cityscapes.
_IDD = replace(
    _CITYSCAPES,
    data=IddData(),
    schedule=replace(_VISTAS.schedule, milestones=(85_500, 104_500)),
    steps=114_000,
    eval_limit=200,
)
_BASES = {"vistas": _VISTAS, "cityscapes": _CITYSCAPES, "idd": _IDD}
_HRNET = {"model.backbone": "hrnet_w48.ms_in1k", "model.semantic": "deeplabv3plus"}
_FULL: dict[str, dict[str, Any]] = {
    "vistas": {
        "model.longest_side": 1365,
        "augmentation.crop": (1280, 1728),
        "augmentation.scale": (0.8, 1.25),
        "sampling.shortest_side": 1024,
    },
    "cityscapes": {"augmentation.crop": (1024, 2048), "augmentation.scale": (0.5, 1.0)},
    "idd": {"augmentation.crop": (1024, 1824), "augmentation.scale": (0.5, 1.0)},
}


def build(row: Row) -> Recipe:
    """Return the recipe of a row."""
    recipe = _BASES[row.data]
    if "hrnet48" in row.name:
        recipe = replace_fields(recipe, _HRNET)
    if row.name.endswith("_full"):
        recipe = replace_fields(recipe, _FULL[row.data])
        recipe = replace_fields(recipe, {"model.window": recipe.augmentation.crop})
    return row.build(recipe)
