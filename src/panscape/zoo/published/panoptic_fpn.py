"""Tensor names and values in checkpoints of Panoptic FPN by detectron2 and mmdetection, and detectron2's ResNets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.models.panoptic_fpn import PUBLISHED, PanopticFPN
from panscape.nn.backbones import stride_in_first_conv
from panscape.zoo.published.detectron2 import resnet_modules, without_pixel_statistics

PanopticFPNLayout = Literal["detectron2", "mmdetection"]

SEMANTIC_LAYERS: Mapping[str, PanopticFPNLayout] = {
    "sem_seg_head.predictor.weight": "detectron2",
    "semantic_head.conv_logits.weight": "mmdetection",
}
"""Names of the semantic head's last layer; detectron2's Panoptic-DeepLab has one of this name, too."""

_DETECTRON2_NORMALIZATION = "msra"
_ANCHORS = "proposal_generator.anchor_generator.cell_anchors."
_DETECTRON2 = {
    "heads.proposals.conv.0": "proposal_generator.rpn_head.conv",
    "heads.proposals.objectness": "proposal_generator.rpn_head.objectness_logits",
    "heads.proposals.offsets": "proposal_generator.rpn_head.anchor_deltas",
    "heads.boxes.fc1": "roi_heads.box_head.fc1",
    "heads.boxes.fc2": "roi_heads.box_head.fc2",
    "heads.boxes.category": "roi_heads.box_predictor.cls_score",
    "heads.boxes.offsets": "roi_heads.box_predictor.bbox_pred",
    **{f"heads.masks.convs.{i}.0": f"roi_heads.mask_head.mask_fcn{i + 1}" for i in range(4)},
    "heads.masks.upsample": "roi_heads.mask_head.deconv",
    "heads.masks.masks": "roi_heads.mask_head.predictor",
    "semantic.predictor": "sem_seg_head.predictor",
}
_MMDETECTION = {
    "heads.proposals.conv.0": "rpn_head.rpn_conv",
    "heads.proposals.objectness": "rpn_head.rpn_cls",
    "heads.proposals.offsets": "rpn_head.rpn_reg",
    "heads.boxes.fc1": "roi_head.bbox_head.shared_fcs.0",
    "heads.boxes.fc2": "roi_head.bbox_head.shared_fcs.1",
    "heads.boxes.category": "roi_head.bbox_head.fc_cls",
    "heads.boxes.offsets": "roi_head.bbox_head.fc_reg",
    **{f"heads.masks.convs.{i}.0": f"roi_head.mask_head.convs.{i}.conv" for i in range(4)},
    "heads.masks.upsample": "roi_head.mask_head.upsample",
    "heads.masks.masks": "roi_head.mask_head.conv_logits",
    "semantic.predictor": "semantic_head.conv_logits",
    **{f"pyramid.laterals.{i}": f"neck.lateral_convs.{i}.conv" for i in range(4)},
    **{f"pyramid.outputs.{i}": f"neck.fpn_convs.{i}.conv" for i in range(4)},
}
# Layers whose first output is ours, and last one theirs: the background of regions, and all things in the semantic
# head. Both come last in mmdetection, in detectron2 the background alone.
_LAST_FIRST: Mapping[PanopticFPNLayout, tuple[str, ...]] = {
    "detectron2": ("roi_heads.box_predictor.cls_score",),
    "mmdetection": ("roi_head.bbox_head.fc_cls", "semantic_head.conv_logits"),
}
_LAYERS_OF_STEP = 4  # of our semantic head: convolution, norm, ReLU, upsampling
_COUNTER = ".num_batches_tracked"


def panoptic_fpn_layout(found: Mapping[str, Tensor]) -> PanopticFPNLayout | None:
    """Return the layout of a checkpoint of Panoptic FPN by its names; None if it is of another network."""
    if "roi_heads.mask_head.predictor.weight" in found or "roi_head.mask_head.conv_logits.weight" in found:
        return next((layout for name, layout in SEMANTIC_LAYERS.items() if name in found), None)
    return None


def panoptic_fpn_of(found: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
    """Return name and options of the model for a checkpoint of Panoptic FPN; None if it is another form of it.

    mmdetection's network has a minimum score of 0.6 for objects.
    """
    layout = panoptic_fpn_layout(found) or "detectron2"
    stage = {"detectron2": r"backbone\.bottom_up\.res4", "mmdetection": r"backbone\.layer3"}[layout]
    depth = sum(re.fullmatch(rf"{stage}\.\d+\.conv1\.weight", name) is not None for name in found)
    model = {6: "panoptic_fpn_r50", 23: "panoptic_fpn_r101"}.get(depth)
    if model is None or f"{_LAST_FIRST[layout][0]}.weight" not in found:
        return None
    if layout == "detectron2":
        return model, {"compat": "detectron2"}
    fusion = replace(PUBLISHED.decoding.fusion, min_score=0.6)
    return model, {"representation": replace(PUBLISHED, decoding=replace(PUBLISHED.decoding, fusion=fusion))}


def panoptic_fpn_key(model: PanopticFPN, found: Mapping[str, Tensor]) -> Callable[[str], str]:
    """Return the function that maps this model's names to those of a checkpoint, in its layout."""
    layout = panoptic_fpn_layout(found) or "detectron2"
    if layout == "mmdetection":
        modules = dict(_MMDETECTION)
        for name, _ in model.backbone.named_modules():
            modules[f"backbone.{name}"] = f"backbone.{name}"
    else:
        modules = dict(_DETECTRON2)
        for ours, theirs in resnet_modules(model.backbone).items():
            modules[f"backbone.{ours}"] = f"backbone.bottom_up.{theirs}"
        for i in range(4):
            modules[f"pyramid.laterals.{i}"] = f"backbone.fpn_lateral{i + 2}"
            modules[f"pyramid.outputs.{i}"] = f"backbone.fpn_output{i + 2}"
    modules |= _semantic_modules(layout)

    def key(name: str) -> str:
        module, _, leaf = name.rpartition(".")
        return f"{modules[module]}.{leaf}"

    return key


def _semantic_modules(layout: PanopticFPNLayout) -> dict[str, str]:
    modules: dict[str, str] = {}
    for i in range(4):
        for step in range(max(1, i)):
            ours = [f"semantic.levels.{i}.{_LAYERS_OF_STEP * step + part}" for part in (0, 1)]
            if layout == "mmdetection":
                unit = f"semantic_head.conv_upsample_layers.{i}.convs.{step}"
                theirs = [f"{unit}.conv", f"{unit}.gn"]
            else:  # norms are parts of convolutions
                conv = f"sem_seg_head.p{i + 2}.{2 * step}"
                theirs = [conv, f"{conv}.norm"]
            modules |= dict(zip(ours, theirs, strict=True))
    return modules


def from_panoptic_fpn(found: Mapping[str, Tensor], model: PanopticFPN, path: Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint under their names, with the values that our layers need.

    The background of regions and the things of the semantic head become the first outputs. Left out are counters of
    norms that are frozen here, and statistics of pixels and anchors, in early files of detectron2, after a comparison
    with ours.

    Raises:
        UnreadableFileError: the file's network has another input normalisation or other anchors.
        InvalidArgumentError: a model for detectron2's weights receives mmdetection's.
    """
    layout = panoptic_fpn_layout(found) or "detectron2"
    if layout == "mmdetection":
        if model.normalization == _DETECTRON2_NORMALIZATION:
            raise InvalidArgumentError(
                f'expected a model for mmdetection\'s weights in {path}, got one with compat="detectron2"; build it '
                "without compat"
            )
        has_counters = any(name.endswith(_COUNTER) for name in model.state_dict())
        result = {name: t for name, t in found.items() if has_counters or not name.endswith(_COUNTER)}
    else:
        result = _without_anchors(without_pixel_statistics(found, _DETECTRON2_NORMALIZATION, path), model, path)
    for layer in _LAST_FIRST[layout]:
        for name in (f"{layer}.weight", f"{layer}.bias"):
            if name in result:
                result[name] = result[name].roll(1, dims=0)
    return result


def _without_anchors(found: dict[str, Tensor], model: PanopticFPN, path: Path) -> dict[str, Tensor]:
    anchors = model.representation.anchors
    for level, stride in enumerate(anchors.strides):
        theirs = found.pop(f"{_ANCHORS}{level}", None)
        ours = replace(anchors, strides=(stride,), center=0.0).boxes((stride, stride))
        if theirs is not None and (theirs.shape != ours.shape or not torch.allclose(theirs.float(), ours, atol=1e-2)):
            raise UnreadableFileError(
                path,
                f"expected a network with anchors {ours.round(decimals=1).tolist()} at stride {stride}, got "
                f"{theirs.tolist()}; build the model with a representation that has these anchors",
            )
    return found


def use_detectron2_resnet(model: PanopticFPN) -> None:
    """Give a model the strides and the input normalisation of the released network, Microsoft Research's ResNet."""
    stride_in_first_conv(model.backbone)
    model.set_input_normalization(_DETECTRON2_NORMALIZATION)
    model.respecify(compat="detectron2")
