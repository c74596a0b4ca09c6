"""panscape: panoptic segmentation, the category and instance of every pixel.

Importing this package imports nothing heavy: each public name and each sub-package is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from panscape.version import VERSION

if TYPE_CHECKING:
    from panscape import benchmark as benchmark
    from panscape import datasets as datasets
    from panscape import errors as errors
    from panscape import evaluation as evaluation
    from panscape import export as export
    from panscape import formats as formats
    from panscape import inference as inference
    from panscape import metrics as metrics
    from panscape import models as models
    from panscape import nn as nn
    from panscape import ops as ops
    from panscape import postprocess as postprocess
    from panscape import recipes as recipes
    from panscape import representations as representations
    from panscape import training as training
    from panscape import transforms as transforms
    from panscape import visualize as visualize
    from panscape import zoo as zoo
    from panscape.errors import PanscapeError as PanscapeError
    from panscape.geometry import Size as Size
    from panscape.images import load_image as load_image
    from panscape.inference.predictor import Predictor as Predictor
    from panscape.labels import Category as Category
    from panscape.labels import LabelSpace as LabelSpace
    from panscape.metrics import PanopticQuality as PanopticQuality
    from panscape.models import PanopticModel as PanopticModel
    from panscape.models import create_model as create_model
    from panscape.models import list_models as list_models
    from panscape.panoptic import PanopticMap as PanopticMap
    from panscape.recipes import get_recipe as get_recipe
    from panscape.recipes import list_recipes as list_recipes
    from panscape.segment import Segment as Segment
    from panscape.visualize import draw as draw
    from panscape.workflows import evaluate as evaluate
    from panscape.workflows import evaluate_files as evaluate_files
    from panscape.workflows import train as train
    from panscape.zoo import list_weights as list_weights
    from panscape.zoo import load as load
    from panscape.zoo import save as save
    from panscape.zoo.published.load import load_published as load_published

__version__ = VERSION

_HOME = {
    "Category": "labels",
    "LabelSpace": "labels",
    "PanopticMap": "panoptic",
    "PanopticModel": "models",
    "PanopticQuality": "metrics",
    "PanscapeError": "errors",
    "Predictor": "inference.predictor",
    "Segment": "segment",
    "Size": "geometry",
    "create_model": "models",
    "draw": "visualize",
    "evaluate": "workflows",
    "evaluate_files": "workflows",
    "get_recipe": "recipes",
    "list_models": "models",
    "list_recipes": "recipes",
    "list_weights": "zoo",
    "load": "zoo",
    "load_image": "images",
    "load_published": "zoo.published.load",
    "save": "zoo",
    "train": "workflows",
}
_PACKAGES = (
    "benchmark",
    "datasets",
    "errors",
    "evaluation",
    "export",
    "formats",
    "inference",
    "metrics",
    "models",
    "nn",
    "ops",
    "postprocess",
    "recipes",
    "representations",
    "training",
    "transforms",
    "visualize",
    "zoo",
)

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> object:
    if name in _PACKAGES:
        return importlib.import_module(f"panscape.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'panscape' has no attribute {name!r}; public names: {', '.join(sorted(_HOME))}")
    value = getattr(importlib.import_module(f"panscape.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *_PACKAGES]
