"""Identify the published network of a checkpoint by the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from panscape.errors import UnreadableFileError
from panscape.zoo.published.backbones import is_backbone
from panscape.zoo.published.maskformer import CATEGORY_LAYERS, encoder_depth, maskformer_of
from panscape.zoo.published.panoptic_fpn import SEMANTIC_LAYERS, panoptic_fpn_layout, panoptic_fpn_of
from panscape.zoo.published.upernet import CLASSIFIERS, upernet_of

_NEEDED = (
    "published checkpoints are those of Panoptic SwiftNet, dense detections, Panoptic-DeepLab (detectron2 and the "
    "older repository), Seamless Scene Segmentation, Panoptic FPN (detectron2, mmdetection), MaskFormer (detectron2, "
    "mmdetection, transformers) and UPerNet on Swin Transformers (its authors, mmsegmentation, transformers)"
)
# Layers with an output for each thing, in networks where the number of things affects shapes.
_THINGS = (
    "panoptic_head.box_cls_logits.weight",
    "roi_head.roi_msk.weight",
    "roi_heads.mask_head.predictor.weight",
    "roi_head.mask_head.conv_logits.weight",
)


class PublishedNetwork(NamedTuple):
    """A published network.

    Attributes:
        model: name for :func:`panscape.create_model`.
        options: options of that call, besides the label space, that differ from the defaults.
        num_categories: number of its categories.
        is_semantic: whether it was trained on one segment for each category.
    """

    model: str
    options: dict[str, Any]
    num_categories: int
    is_semantic: bool = False


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
        *((name, _detectron2) for name in SEMANTIC_LAYERS),
        ("decoder.semantic_head.classifier.semantic.1.weight", _standalone),
        *((name, _maskformer) for name in CATEGORY_LAYERS),
        *((name, _upernet) for name in CLASSIFIERS),
    ):
        if prefix in found:
            model, options = kind(found, path)
            num_channels = int(found[prefix].shape[0])
            # The semantic head of Panoptic FPN does not tell things apart.
            merged = (num_things_of(found) or 1) - 1 if panoptic_fpn_layout(found) else 0
            is_other = kind is _maskformer  # its last channel is "no object"
            num_categories = num_channels + merged - is_other
            # The panoptic MaskFormers for ADE20K have a transformer encoder; those without it are semantic.
            is_semantic = kind is _upernet or (is_other and num_categories == 150 and not encoder_depth(found))
            return PublishedNetwork(model, options, num_categories, is_semantic)
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
    if panoptic_fpn_layout(found):
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


def _panoptic_fpn(found: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, Any]]:
    network = panoptic_fpn_of(found)
    if network is None:
        raise UnreadableFileError(path, f"Panoptic FPN on a backbone or with heads that are not known here; {_NEEDED}")
    return network


def _maskformer(found: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, Any]]:
    network = maskformer_of(found)
    if network is None:
        raise UnreadableFileError(path, f"MaskFormer on a backbone that is not known here; {_NEEDED}")
    return network


def _upernet(found: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, Any]]:
    network = upernet_of(found)
    if network is None:
        raise UnreadableFileError(path, f"UPerNet on a backbone that is not known here; {_NEEDED}")
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
