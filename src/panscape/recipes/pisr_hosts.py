"""Recipes of PISR on the paper's other base networks than Panoptic-DeepLab, and of small ones on synthetic scenes.

Shubhankar Borse, Hyojin Park, Hong Cai, Debasmit Das, Risheek Garrepalli, Fatih Porikli: Panoptic, Instance, and
Semantic Relations. CVPR 2022. See ``models/pisr_queries.py`` and ``models/pisr_regions.py`` for our reading of it.

The authors "follow the original training settings": each recipe is that of its base network and differs in relations
alone. The numbers of objects and of channels are ours: 100 objects, as many as MaskFormer has queries and Panoptic FPN
detections, and 128 channels, which match the operations that the paper reports for MaskFormer (Table 4).

``town_hosts_...`` are small networks with the data and schedule of :mod:`panscape.recipes.ablations`, each with and
without PISR. Queries take more steps to learn than centres or regions.

Hours are estimates, as for the base networks.
"""

from __future__ import annotations

from dataclasses import replace

from panscape.models.panoptic_fpn import PUBLISHED
from panscape.nn.pisr import PISR
from panscape.recipes import maskformer, panoptic_fpn, upernet
from panscape.recipes.ablations import ablation_row
from panscape.recipes.bundled import RELATIONS, region_network
from panscape.recipes.model_options import FactoryOptions, MaskFormerOptions, PanopticFPNOptions, UPerNetOptions
from panscape.recipes.table import Row
from panscape.training.config import Recipe

_BUILDERS = {"fpn": panoptic_fpn.build, "maskformer": maskformer.build, "upernet": upernet.build}
_PISR = PISR(num_instances=100, key_width=128)


def build(row: Row) -> Recipe:
    """Return the recipe of a row: that of its base network with relations."""
    family, _, _ = row.name.partition("_")
    return _BUILDERS[family](replace(row, changes={**row.changes, "model.relations": _PISR}))


def small(row: Row) -> Recipe:
    """Return the recipe of a small network, with relations if the row's name ends with "_pisr"."""
    name = row.name.removeprefix("town_hosts_")
    host = name.removesuffix("_pisr")
    recipe = ablation_row(_small_network(host))
    if host != "panoptic_fpn":
        recipe = replace(recipe, optimizer=maskformer.SMALL_OPTIMIZER, batch_size=4)
    return replace(row, changes={"model.relations": RELATIONS[0]} if name != host else {}).build(recipe)


def _small_network(host: str) -> FactoryOptions:
    if host == "panoptic_fpn":
        regions = region_network("residual_s", 64, (256, 256), stuff_area=100).representation
        representation = replace(
            PUBLISHED,
            anchors=replace(PUBLISHED.anchors, strides=regions.anchors.strides, scale=regions.anchors.scale),
            first_stage=replace(PUBLISHED.first_stage, num=regions.first_stage.num),
            second_stage=replace(PUBLISHED.second_stage, num=regions.second_stage.num),
            proposals=replace(regions.proposals, per_level=True),
            level_side=regions.level_side,
            decoding=regions.decoding,
        )
        return PanopticFPNOptions(representation=representation)
    options = MaskFormerOptions if host == "maskformer" else UPerNetOptions
    return options(representation=maskformer.SMALL)
