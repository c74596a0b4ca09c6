"""panscape: panoptic segmentation, the category and instance of every pixel.

Importing this package imports nothing heavy: each public name is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from panscape.errors import PanscapeError as PanscapeError
    from panscape.geometry import Size as Size
    from panscape.images import load_image as load_image
    from panscape.labels import Category as Category
    from panscape.labels import LabelSpace as LabelSpace
    from panscape.models import PanopticModel as PanopticModel
    from panscape.models import create_model as create_model
    from panscape.models import list_models as list_models
    from panscape.panoptic import PanopticMap as PanopticMap
    from panscape.visualize import draw as draw
    from panscape.zoo import list_weights as list_weights
    from panscape.zoo import load as load
    from panscape.zoo.published.load import load_published as load_published

__version__ = "0.1.0"

_HOME = {
    "Category": "labels",
    "LabelSpace": "labels",
    "PanopticMap": "panoptic",
    "PanopticModel": "models",
    "PanscapeError": "errors",
    "Size": "geometry",
    "create_model": "models",
    "draw": "visualize",
    "list_models": "models",
    "list_weights": "zoo",
    "load": "zoo",
    "load_image": "images",
    "load_published": "zoo.published.load",
}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'panscape' has no attribute {name!r}; public names: {', '.join(sorted(_HOME))}")
    value = getattr(importlib.import_module(f"panscape.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
