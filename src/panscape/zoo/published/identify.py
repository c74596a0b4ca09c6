"""Identify the published network of a checkpoint by the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from panscape.errors import UnreadableFileError
from panscape.zoo.published.backbones import is_backbone
from panscape.zoo.published.maskformer import CATEGORY_LAYERS, maskformer_of

_NEEDED = (
    "published checkpoints are those of Panoptic SwiftNet, dense detections, Panoptic-DeepLab (detectron2 and the "
    "older repository), Seamless Scene Segmentation, Panoptic FPN (detectron2) and MaskFormer (detectron2, "
    "mmdetection, transformers)"
)
# Layers with an output for each thing, in networks where the number of things affects shapes.
_THINGS = (
    "panoptic_head.box_cls_logits.weight",
    "roi_head.roi_msk.weight",
    "roi_heads.mask_head.predictor.weight",
)


class PublishedNetwork(NamedTuple):
    """A published network.

    Attributes:
        model: name for :func:`panscape.create_model`.
        options: options of that call, besides the label space, that differ from the defaults.
        num_categories: number of its categories.
    """

    model: str
    options: dict[str, Any]
    num_categories: int


def identify(found: Mapping[str, Tensor], path: Path) -> PublishedNetwork:
    """Return the published network with these tensor names and shapes.

    Args:
        found: the tensors of a checkpoint.
        path: path of its file, for messages.

    Raises:
        UnreadableFileError: the names are not those of a published network, or those of a backbone alone.
    """
    for prefix, kind in (
        ("sem_seg_head.classifier.sem_seg.2.weight", _swiftnet),
        ("panoptic_head.cls_logits.weight", _dense_detections),
        ("sem_head.conv_sem.weight", _seamless),
        ("sem_seg_head.predictor.weight", _detectron2),
        ("decoder.semantic_head.classifier.semantic.1.weight", _standalone),
        *((name, _maskformer) for name in CATEGORY_LAYERS),
    ):
        if prefix in found:
            model, options = kind(found, path)
            num_channels = int(found[prefix].shape[0])
            # The semantic head of Panoptic FPN does not tell things apart.
            merged = (num_things_of(found) or 1) - 1 if kind is _detectron2 and _is_panoptic_fpn(found) else 0
            is_other = kind is _maskformer  # its last channel is "no object"
            return PublishedNetwork(model, options, num_channels + merged - is_other)
    if is_backbone(found):
        raise UnreadableFileError(
            path,
            "expected a complete network, got a backbone alone; train with --backbone-weights FILE, or load it into a "
            "model with panscape.load_published",
        )
    names = ", ".join(sorted(found)[:3]) or "none"
    raise UnreadableFileError(path, f"its tensor names are not those of a published network ({names}, ...); {_NEEDED}")


def num_things_of(found: Mapping[str, Tensor]) -> int | None:
    """Return the number of things of a checkpoint; None if it affects no shape of its network."""
    return next((int(found[name].shape[0]) for name in _THINGS if name in found), None)


def _swiftnet(found: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, Any]]:
    if any(name.startswith("decoder.semantic_decoder.spp.") for name in found):
        return "swiftnet_r18", {"context": "spp"}
    levels = len([name for name in found if re.fullmatch(r"backbone\.bn1\.norms\.\d+\.weight", name)]) or 1
    return "swiftnet_r18", {} if levels == 3 else {"levels": levels}


def _seamless(found: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, Any]]:
    return "seamless_r50", {}


def _dense_detections(found: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, Any]]:
    return "dense_detections_r50", {}


def _detectron2(found: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, Any]]:
    if _is_panoptic_fpn(found):
        return _panoptic_fpn(found, path)
    if "ins_embed_head.offset_predictor.weight" not in found:
        # detectron2's DeepLabV3+ gives its semantic head the same name.
        raise UnreadableFileError(
            path, f"it has a semantic head of detectron2 but no head of centres or masks; {_NEEDED}"
        )
    options: dict[str, Any] = {} if any(".depthwise." in name for name in found) else {"separable": False}
    is_deep, depth = "backbone.stem.conv3.weight" in found, _blocks(found, r"backbone\.res4\.(\d+)\.conv1\.weight")
    names = {(True, 6): "panoptic_deeplab_r52", (False, 6): "panoptic_deeplab_r50", (True, 23): "panoptic_deeplab_r101"}
    if (is_deep, depth) not in names:
        raise UnreadableFileError(path, f"Panoptic-DeepLab on a backbone that is not known here; {_NEEDED}")
    return names[is_deep, depth], options


def _is_panoptic_fpn(found: Mapping[str, Tensor]) -> bool:
    return "roi_heads.mask_head.predictor.weight" in found


def _panoptic_fpn(found: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, Any]]:
    depth = _blocks(found, r"backbone\.bottom_up\.res4\.(\d+)\.conv1\.weight")
    names = {6: "panoptic_fpn_r50", 23: "panoptic_fpn_r101"}
    if depth not in names or "roi_heads.box_predictor.cls_score.weight" not in found:
        raise UnreadableFileError(path, f"Panoptic FPN on a backbone or with heads that are not known here; {_NEEDED}")
    return names[depth], {"compat": "detectron2"}


def _maskformer(found: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, Any]]:
    network = maskformer_of(found)
    if network is None:
        raise UnreadableFileError(path, f"MaskFormer on a backbone that is not known here; {_NEEDED}")
    return network


def _standalone(found: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, Any]]:
    if "backbone.features.0.0.weight" in found:
        return "panoptic_deeplab_mobilenetv2", {}
    depth, stem = _blocks(found, r"backbone\.layer3\.(\d+)\.conv1\.weight"), "backbone.layer1.0.conv1.weight"
    width = found[stem].shape[0] if stem in found else 0
    if (depth, width) == (6, 64):
        return "panoptic_deeplab_r50", {"compat": "standalone"}
    backbones = {(23, 64): "resnet101", (23, 256): "resnext101_32x8d"}
    if (depth, width) not in backbones:
        raise UnreadableFileError(path, f"Panoptic-DeepLab on a backbone that is not known here; {_NEEDED}")
    return "panoptic_deeplab", {"compat": "standalone", "backbone": backbones[depth, width]}


def _blocks(found: Mapping[str, Tensor], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in found)
