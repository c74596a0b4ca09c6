"""Recipes: complete training configurations by name.

A recipe is a function that returns a frozen :class:`~panscape.training.config.Recipe`. Its docstring gives the command,
hardware, hours, published numbers and ours. Names and summaries are in the table below, so that listing them imports
nothing heavy.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from panscape.errors import InvalidArgumentError, UnknownNameError, UnreadableFileError

if TYPE_CHECKING:
    from panscape.training.config import Recipe

_EXPECTED = 'expected a Python file with a function "recipe" that takes no arguments and returns a Recipe'

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
        "swiftnet_r18_vistas": "Mapillary Vistas, rare categories sampled more often (Table 5).",
        "swiftnet_r18_bsb": "BSB Aerial without rotation (Tables 1 and 2).",
        "swiftnet_r18_bsb_right_angles": "BSB Aerial, rotation by right angles (Table 2).",
        "swiftnet_r18_bsb_any_angle": "BSB Aerial, rotation by any angle (Table 2).",
    },
    "dense_detections": {
        "dense_r50_cityscapes": "Cityscapes, dense detections, complete method (Tables 1 and 3).",
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
            "Cityscapes, dense detections trained on boxes instead of instance masks (Table 3)."
        ),
        "dense_r50_coco": "COCO panoptic, dense detections (Table 2).",
        "dense_r50_coco_weak": (
            "COCO panoptic, dense detections trained on boxes instead of instance masks (not in the paper)."
        ),
    },
    "panoptic_deeplab": {
        "deeplab_r52_cityscapes": "Cityscapes, Panoptic-DeepLab (PISR, Tables 1, 4 and 5).",
        "deeplab_r103_cityscapes": "Cityscapes, Panoptic-DeepLab on ResNet-101 (PISR, Tables 1 and 4).",
        "deeplab_hrnet48_cityscapes": "Cityscapes, Panoptic-DeepLab on HRNet-W48 (PISR, Table 1).",
        "deeplab_r52_cityscapes_relations": "Cityscapes, PISR with 50 instances (PISR, Tables 1, 4 and 5).",
        "deeplab_r103_cityscapes_relations": "Cityscapes, PISR on ResNet-101 (not in the paper).",
        "deeplab_hrnet48_cityscapes_relations": "Cityscapes, PISR on HRNet-W48 (PISR, Table 1).",
        "deeplab_r52_cityscapes_relations_k10": "Cityscapes, PISR with 10 instances (PISR, Figure 9).",
        "deeplab_r52_cityscapes_relations_k20": "Cityscapes, PISR with 20 instances (PISR, Figure 9).",
        "deeplab_r52_cityscapes_relations_k100": "Cityscapes, PISR with 100 instances (PISR, Figure 9).",
        "deeplab_r52_cityscapes_relations_key64": ("Cityscapes, PISR with keys of 64 channels (PISR, Figure 8)."),
        "deeplab_r52_cityscapes_relations_key128": ("Cityscapes, PISR with keys of 128 channels (PISR, Figure 8)."),
        "deeplab_r52_cityscapes_relations_key512": ("Cityscapes, PISR with keys of 512 channels (PISR, Figure 8)."),
        "deeplab_r52_cityscapes_concatenation": (
            "Cityscapes, scores and instances concatenated to the features (PISR, Table 5)."
        ),
        "deeplab_r52_cityscapes_product": "Cityscapes, features multiplied by scores and instances (PISR, Table 5).",
        "deeplab_r52_cityscapes_ocr": "Cityscapes, OCR, object context of categories (PISR, Tables 1 and 5).",
        "deeplab_r52_cityscapes_without_reweighting": "Cityscapes, PISR without reweighting (PISR, Table 5).",
        "deeplab_r52_coco": "COCO panoptic, Panoptic-DeepLab (PISR, Table 2).",
        "deeplab_hrnet48_coco": "COCO panoptic, Panoptic-DeepLab on HRNet-W48 (PISR, Table 2).",
        "deeplab_r52_coco_relations": "COCO panoptic, PISR with 50 instances (PISR, Table 2).",
        "deeplab_hrnet48_coco_relations": "COCO panoptic, PISR on HRNet-W48 (PISR, Table 2).",
        "deeplab_r52_coco_ocr": "COCO panoptic, OCR, object context of categories (PISR, Table 2).",
    },
    "small": {
        "town": "Synthetic scenes, street and aerial view; needs no data.",
        "street": "CamVid (street scenes).",
        "aerial": "Satellite images of Dubai.",
        "town_pyrx1": "Ablation on synthetic scenes: one level.",
        "town_spp": "Ablation on synthetic scenes: one level with spatial pyramid pooling.",
        "town_pyrx2": "Ablation on synthetic scenes: two levels.",
        "town_pyrx3": "Ablation on synthetic scenes: three levels, offset weights in four regions.",
        "town_l1": "Ablation on synthetic scenes: plain L1 offset loss.",
        "town_regions3": "Ablation on synthetic scenes: offset weights in three regions.",
        "town_regions8": "Ablation on synthetic scenes: offset weights in eight regions.",
    },
    "small_boxes": {
        "town_boxes": "Synthetic scenes, dense detections.",
        "street_boxes": "CamVid (street scenes), dense detections.",
        "aerial_boxes": "Satellite images of Dubai, dense detections.",
        "town_boxes_one_tower": "Ablation on synthetic scenes: dense detections with one tower.",
        "town_boxes_two_towers": "Ablation on synthetic scenes: dense detections with two towers.",
        "town_boxes_levelness": "Ablation on synthetic scenes: dense detections with two towers and levelness.",
        "town_boxes_mask_loss": (
            "Ablation on synthetic scenes: dense detections with two towers, levelness and the mask loss."
        ),
        "town_boxes_weak": "Ablation on synthetic scenes: dense detections trained on boxes instead of instance masks.",
        "town_boxes_light": (
            "Ablation on synthetic scenes: the light network of dense detections, one tower at half the width."
        ),
    },
    "small_relations": {
        "town_deeplab": "Synthetic scenes, Panoptic-DeepLab.",
        "town_deeplab_relations": "Synthetic scenes, Panoptic-DeepLab with PISR.",
        "street_deeplab": "CamVid (street scenes), Panoptic-DeepLab.",
        "street_deeplab_relations": "CamVid (street scenes), Panoptic-DeepLab with PISR.",
        "town_relations_base": "Ablation on synthetic scenes: Panoptic-DeepLab alone.",
        "town_relations_concatenation": (
            "Ablation on synthetic scenes: scores and instances concatenated to the features."
        ),
        "town_relations_product": "Ablation on synthetic scenes: features multiplied by scores and instances.",
        "town_relations_ocr": "Ablation on synthetic scenes: OCR, object context of categories.",
        "town_relations_without_reweighting": (
            "Ablation on synthetic scenes: PISR with 20 instances without reweighting."
        ),
        "town_relations_pisr": "Ablation on synthetic scenes: PISR with 20 instances.",
        "town_relations_k10": "Ablation on synthetic scenes: PISR with 10 instances.",
        "town_relations_k50": "Ablation on synthetic scenes: PISR with 50 instances.",
    },
    "from_folder": {
        "own": "A folder of your own; defaults are derived from its images.",
    },
}


_SYSTEMS = {
    "panoptic_swiftnet": "Panoptic SwiftNet",
    "small": "Panoptic SwiftNet",
    "from_folder": "Panoptic SwiftNet",
    "dense_detections": "Dense detections",
    "small_boxes": "Dense detections",
    "panoptic_deeplab": "Panoptic-DeepLab and PISR",
    "small_relations": "Panoptic-DeepLab and PISR",
}
# The first part of a recipe's name found here names its dataset; in the order of listing.
_DATASETS = {
    "cityscapes": "Cityscapes",
    "coco": "COCO panoptic",
    "vistas": "Mapillary Vistas",
    "bsb": "BSB Aerial",
    "street": "CamVid (street scenes)",
    "aerial": "Satellite images of Dubai",
    "town": "Synthetic scenes",
    "own": "A folder of your own",
}


@dataclass(frozen=True, slots=True)
class RecipeInfo:
    """A recipe in a list.

    Attributes:
        name: name of the recipe.
        system: name of the panoptic system.
        data: name of the dataset.
        summary: one-line summary.
    """

    name: str
    system: str
    data: str
    summary: str

    def contains(self, word: str) -> bool:
        """Return whether any attribute contains the word; case is ignored, and ``-`` and ``_`` are equivalent."""
        text = "\n".join((self.name, self.system, self.data, self.summary))
        return _searchable(word) in _searchable(text)


def _searchable(text: str) -> str:
    return text.casefold().replace("-", "_")


def describe_recipes() -> list[RecipeInfo]:
    """Return all recipes, sorted by system and dataset."""
    infos = [
        RecipeInfo(name, _SYSTEMS[module], _dataset_name(name), summary)
        for module, summaries in _TABLE.items()
        for name, summary in summaries.items()
    ]
    systems, datasets = list(_SYSTEMS.values()), list(_DATASETS.values())
    return sorted(infos, key=lambda info: (systems.index(info.system), datasets.index(info.data)))


def _dataset_name(recipe: str) -> str:
    return next(_DATASETS[part] for part in recipe.split("_") if part in _DATASETS)


def list_recipes() -> dict[str, str]:
    """Return the names of all recipes, each with a one-line summary."""
    return {name: summary for module in _TABLE.values() for name, summary in module.items()}


def resolve_recipe_name(name: str) -> str:
    """Return the canonical spelling of a recipe's name, with ``_`` for ``-``; paths of Python files are kept.

    Args:
        name: as for :func:`get_recipe`.

    Raises:
        UnknownNameError: there is no recipe of this name; the message suggests the nearest names.
        UnreadableFileError: there is no such file.
    """
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise UnreadableFileError(name, f"no such file; {_EXPECTED}")
        return name
    names = list_recipes()
    canonical = name.replace("-", "_")
    if canonical not in names:
        raise UnknownNameError("recipe", name, names)
    return canonical


def get_recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Args:
        name: one of :func:`list_recipes`, where ``-`` and ``_`` are equivalent; or the path of a Python file, ending in
            ``.py``, with a function ``recipe`` that returns a recipe. The file is executed; its exceptions propagate.

    Raises:
        UnknownNameError: there is no recipe of this name; the message suggests the nearest names.
        UnreadableFileError: there is no such file.
        InvalidArgumentError: the file has no such function, or it returns something else.
    """
    name = resolve_recipe_name(name)
    if name.endswith(".py"):
        return _recipe_of_file(Path(name))
    module = next(module for module, names in _TABLE.items() if name in names)
    recipe: Recipe = getattr(importlib.import_module(f"panscape.recipes.{module}"), name)()
    return recipe


def _recipe_of_file(path: Path) -> Recipe:
    from panscape.training.config import Recipe

    module = ModuleType(f"panscape_recipe_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look up their annotations there
    SourceFileLoader(module.__name__, str(path)).exec_module(module)
    function = getattr(module, "recipe", None)
    if not callable(function):
        raise InvalidArgumentError(f"{path}: {_EXPECTED}")
    recipe = function()
    if not isinstance(recipe, Recipe):
        raise InvalidArgumentError(f"{path}: {_EXPECTED}; it returned {type(recipe).__name__}")
    return recipe
