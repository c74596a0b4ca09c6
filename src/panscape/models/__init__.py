"""The models: one file per paper, and the table of model names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from panscape.errors import UnknownNameError
from panscape.labels import LabelSpace
from panscape.models.base import ModelSpec, PanopticModel

__all__ = ["ModelSpec", "PanopticModel", "create_model", "list_models"]

# The module of each factory, which is imported when one of its models is built.
_FACTORIES = {
    "dense_detections": "dense_detections",
    "dense_detections_light": "dense_detections",
    "dense_detections_r50": "dense_detections",
    "maskformer": "maskformer",
    "maskformer_r50": "maskformer",
    "maskformer_r101": "maskformer",
    "maskformer_swin_b": "maskformer",
    "maskformer_swin_l": "maskformer",
    "maskformer_swin_s": "maskformer",
    "maskformer_swin_t": "maskformer",
    "panoptic_deeplab": "panoptic_deeplab",
    "panoptic_deeplab_hrnet48": "panoptic_deeplab",
    "panoptic_deeplab_mobilenetv2": "panoptic_deeplab",
    "panoptic_deeplab_r50": "panoptic_deeplab",
    "panoptic_deeplab_r52": "panoptic_deeplab",
    "panoptic_deeplab_r101": "panoptic_deeplab",
    "panoptic_fpn": "panoptic_fpn",
    "panoptic_fpn_r50": "panoptic_fpn",
    "panoptic_fpn_r101": "panoptic_fpn",
    "seamless": "seamless",
    "seamless_hrnet48": "seamless",
    "seamless_r50": "seamless",
    "swiftnet": "swiftnet",
    "swiftnet_r18": "swiftnet",
    "upernet": "upernet",
    "upernet_semantic": "upernet_semantic",
    "upernet_semantic_swin_b": "upernet_semantic",
    "upernet_semantic_swin_l": "upernet_semantic",
    "upernet_semantic_swin_s": "upernet_semantic",
    "upernet_semantic_swin_t": "upernet_semantic",
    "upernet_swin_b": "upernet",
    "upernet_swin_l": "upernet",
    "upernet_swin_s": "upernet",
    "upernet_swin_t": "upernet",
    "yolo_panoptic": "yolo_panoptic",
    "yolo_panoptic_d53": "yolo_panoptic",
    "yolo_panoptic_light": "yolo_panoptic_light",
}


def list_models() -> list[str]:
    """Return the names that :func:`create_model` knows."""
    return sorted(_FACTORIES)


def create_model(name: str, labels: LabelSpace | str, **options: Any) -> PanopticModel:
    """Build a model by name, with random weights unless an option says otherwise.

    Args:
        name: one of :func:`list_models`.
        labels: a label space, or the name or path of one.
        **options: options of the model, which are the attributes of its family's configuration; and
            ``backbone_weights``, the path of ImageNet weights for its backbone (``.safetensors``, ``.pth``), see
            :meth:`PanopticModel.load_backbone`.

    Raises:
        UnknownNameError: no model, label space or backbone has this name; the closest names are suggested.
        InvalidArgumentError: an option that the model does not have, or an invalid value.
    """
    if name not in _FACTORIES:
        raise UnknownNameError("model", name, _FACTORIES)
    module = importlib.import_module(f"panscape.models.{_FACTORIES[name]}")
    factory: Callable[..., PanopticModel] = getattr(module, name)
    model = factory(LabelSpace.of(labels), **options)
    # The pretrained weights of a backbone are part of the model's weights from now on.
    model.spec = ModelSpec(name, {k: v for k, v in options.items() if k not in ("pretrained", "backbone_weights")})
    return model
