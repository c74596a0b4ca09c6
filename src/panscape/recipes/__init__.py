"""Recipes: whole trainings by name.

A recipe is a function that returns a frozen :class:`~panscape.training.config.Recipe`. Its docstring says the command,
the hardware, the hours, the published numbers and ours. Names and summaries stand in the table below, so that asking
for them imports nothing heavy.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from panscape.errors import InvalidArgumentError, UnknownNameError, UnreadableFileError

if TYPE_CHECKING:
    from panscape.training.config import Recipe

_EXPECTED = 'expected a Python file with a function "recipe" that takes nothing and returns a Recipe'

# Name: module and first line of the docstring, by module.
_TABLE: dict[str, dict[str, str]] = {
    "panoptic_swiftnet": {
        "swiftnet_r18_cityscapes_pyrx1": "Cityscapes, one level (Table 6, single).",
        "swiftnet_r18_cityscapes_spp": "Cityscapes, one level with spatial pyramid pooling (Table 6, SPP).",
        "swiftnet_r18_cityscapes_pyrx2": "Cityscapes, two levels (Table 6, PYRx2).",
        "swiftnet_r18_cityscapes_pyrx3": "Cityscapes, three levels (Tables 3, 6 and 8).",
        "swiftnet_r18_cityscapes_l1": "Cityscapes, plain L1 offset loss (Table 8).",
        "swiftnet_r18_cityscapes_regions3": "Cityscapes, offset weights in three regions (Table 8).",
        "swiftnet_r18_cityscapes_regions8": "Cityscapes, offset weights in eight regions (Table 8).",
        "swiftnet_r18_coco": "COCO panoptic (Table 4).",
        "swiftnet_r18_vistas": "Mapillary Vistas, rare categories drawn more often (Table 5).",
        "swiftnet_r18_bsb": "BSB Aerial without rotation (Tables 1 and 2).",
        "swiftnet_r18_bsb_right_angles": "BSB Aerial, rotated by right angles (Table 2).",
        "swiftnet_r18_bsb_any_angle": "BSB Aerial, rotated by any angle (Table 2).",
    },
    "dense_detections": {
        "dense_r50_cityscapes": "Cityscapes, dense detections, all of it (Tables 1 and 3).",
        "dense_r50_cityscapes_one_tower": (
            "Cityscapes, dense detections with one tower, no levelness, no mask loss (Table 3)."
        ),
        "dense_r50_cityscapes_two_towers": (
            "Cityscapes, dense detections with two towers, no levelness, no mask loss (Table 3)."
        ),
        "dense_r50_cityscapes_levelness": (
            "Cityscapes, dense detections with two towers and levelness, no mask loss (Table 3)."
        ),
        "dense_r50_cityscapes_weak": (
            "Cityscapes, dense detections learnt from boxes, without masks of objects (Table 3)."
        ),
        "dense_r50_coco": "COCO panoptic, dense detections (Table 2).",
        "dense_r50_coco_weak": (
            "COCO panoptic, dense detections learnt from boxes, without masks of objects (not in the paper)."
        ),
    },
    "panoptic_deeplab": {
        "deeplab_r52_cityscapes": "Cityscapes, Panoptic-DeepLab (PISR, Tables 1, 4 and 5).",
        "deeplab_r103_cityscapes": "Cityscapes, Panoptic-DeepLab on ResNet-101 (PISR, Tables 1 and 4).",
        "deeplab_hrnet48_cityscapes": "Cityscapes, Panoptic-DeepLab on HRNet-W48 (PISR, Table 1).",
        "deeplab_r52_cityscapes_relations": "Cityscapes, with relations of 50 instances (PISR, Tables 1, 4 and 5).",
        "deeplab_r103_cityscapes_relations": "Cityscapes, on ResNet-101 with relations (not in the paper).",
        "deeplab_hrnet48_cityscapes_relations": "Cityscapes, on HRNet-W48 with relations (PISR, Table 1).",
        "deeplab_r52_cityscapes_relations_k10": "Cityscapes, with relations of 10 instances (PISR, Figure 9).",
        "deeplab_r52_cityscapes_relations_k20": "Cityscapes, with relations of 20 instances (PISR, Figure 9).",
        "deeplab_r52_cityscapes_relations_k100": "Cityscapes, with relations of 100 instances (PISR, Figure 9).",
        "deeplab_r52_cityscapes_relations_key64": (
            "Cityscapes, with relations compared in 64 channels (PISR, Figure 8)."
        ),
        "deeplab_r52_cityscapes_relations_key128": (
            "Cityscapes, with relations compared in 128 channels (PISR, Figure 8)."
        ),
        "deeplab_r52_cityscapes_relations_key512": (
            "Cityscapes, with relations compared in 512 channels (PISR, Figure 8)."
        ),
        "deeplab_r52_cityscapes_concatenation": "Cityscapes, scores and instances beside the features (PISR, Table 5).",
        "deeplab_r52_cityscapes_product": "Cityscapes, features times scores and instances (PISR, Table 5).",
        "deeplab_r52_cityscapes_ocr": "Cityscapes, with object context of categories (PISR, Tables 1 and 5).",
        "deeplab_r52_cityscapes_without_reweighting": "Cityscapes, with relations without reweighting (PISR, Table 5).",
        "deeplab_r52_coco": "COCO panoptic, Panoptic-DeepLab (PISR, Table 2).",
        "deeplab_hrnet48_coco": "COCO panoptic, Panoptic-DeepLab on HRNet-W48 (PISR, Table 2).",
        "deeplab_r52_coco_relations": "COCO panoptic, with relations of 50 instances (PISR, Table 2).",
        "deeplab_hrnet48_coco_relations": "COCO panoptic, on HRNet-W48 with relations (PISR, Table 2).",
        "deeplab_r52_coco_ocr": "COCO panoptic, with object context of categories (PISR, Table 2).",
    },
    "small": {
        "town": "The drawn town, from the street and from above; needs no data.",
        "street": "CamVid, photos from a moving car.",
        "aerial": "Satellite images of Dubai.",
        "town_pyrx1": "Evidence on the town: one level.",
        "town_spp": "Evidence on the town: one level with spatial pyramid pooling.",
        "town_pyrx2": "Evidence on the town: two levels.",
        "town_pyrx3": "Evidence on the town: three levels, offset weights in four regions.",
        "town_l1": "Evidence on the town: plain L1 offset loss.",
        "town_regions3": "Evidence on the town: offset weights in three regions.",
        "town_regions8": "Evidence on the town: offset weights in eight regions.",
    },
    "small_boxes": {
        "town_boxes": "The drawn town by dense detections.",
        "street_boxes": "CamVid, photos from a moving car, by dense detections.",
        "aerial_boxes": "Satellite images of Dubai by dense detections.",
        "town_boxes_one_tower": "Evidence on the town: dense detections with one tower.",
        "town_boxes_two_towers": "Evidence on the town: dense detections with two towers.",
        "town_boxes_levelness": "Evidence on the town: dense detections with two towers and levelness.",
        "town_boxes_mask_loss": "Evidence on the town: dense detections with two towers, levelness and the mask loss.",
        "town_boxes_weak": "Evidence on the town: dense detections learnt from boxes, without masks.",
        "town_boxes_light": (
            "Evidence on the town: the light network of dense detections, one tower at half the width."
        ),
    },
    "small_relations": {
        "town_deeplab": "The drawn town by Panoptic-DeepLab.",
        "town_deeplab_relations": "The drawn town by Panoptic-DeepLab with relations.",
        "street_deeplab": "CamVid, photos from a moving car, by Panoptic-DeepLab.",
        "street_deeplab_relations": "CamVid, photos from a moving car, by Panoptic-DeepLab with relations.",
        "town_relations_base": "Evidence on the town: Panoptic-DeepLab alone.",
        "town_relations_concatenation": "Evidence on the town: scores and instances beside the features.",
        "town_relations_product": "Evidence on the town: features times scores and instances.",
        "town_relations_ocr": "Evidence on the town: object context of categories.",
        "town_relations_without_reweighting": "Evidence on the town: relations of 20 instances without reweighting.",
        "town_relations_pisr": "Evidence on the town: relations of 20 instances.",
        "town_relations_k10": "Evidence on the town: relations of 10 instances.",
        "town_relations_k50": "Evidence on the town: relations of 50 instances.",
    },
    "from_folder": {
        "own": "A folder of your own; what is not given follows from the data.",
    },
}


def list_recipes() -> dict[str, str]:
    """Return the recipes' names, each with a line about it."""
    return {name: summary for module in _TABLE.values() for name, summary in module.items()}


def check_recipe(name: str) -> None:
    """Do nothing if there is such a recipe; see :func:`get_recipe`.

    Raises:
        UnknownNameError: there is none; the nearest are suggested.
        UnreadableFileError: there is no such file.
    """
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise UnreadableFileError(name, f"no such file; {_EXPECTED}")
        return
    names = list_recipes()
    if name not in names:
        raise UnknownNameError("recipe", name, names)


def get_recipe(name: str) -> Recipe:
    """Return the recipe called ``name``.

    Args:
        name: one of :func:`list_recipes`, or a Python file, ending in ``.py``, with a function ``recipe`` that returns
            one. The file is run; whatever it raises comes through.

    Raises:
        UnknownNameError: there is none; the nearest are suggested.
        UnreadableFileError: there is no such file.
        InvalidArgumentError: the file has no such function, or it returns something else.
    """
    check_recipe(name)
    if name.endswith(".py"):
        return _recipe_of_file(Path(name))
    module = next(module for module, names in _TABLE.items() if name in names)
    recipe: Recipe = getattr(importlib.import_module(f"panscape.recipes.{module}"), name)()
    return recipe


def _recipe_of_file(path: Path) -> Recipe:
    from panscape.training.config import Recipe

    module = ModuleType(f"panscape_recipe_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where the annotations of its dataclasses are looked up
    SourceFileLoader(module.__name__, str(path)).exec_module(module)
    function = getattr(module, "recipe", None)
    if not callable(function):
        raise InvalidArgumentError(f"{path}: {_EXPECTED}")
    recipe = function()
    if not isinstance(recipe, Recipe):
        raise InvalidArgumentError(f"{path}: {_EXPECTED}; it returned {type(recipe).__name__}")
    return recipe
