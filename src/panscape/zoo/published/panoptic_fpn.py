"""Tensor names and values in detectron2's checkpoints of Panoptic FPN, and its form of ResNets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from panscape.errors import UnreadableFileError
from panscape.models.panoptic_fpn import PanopticFPN
from panscape.nn.backbones import stride_in_first_conv
from panscape.zoo.published.detectron2 import resnet_modules, without_pixel_statistics

_NORMALIZATION = "msra"
_CATEGORY = "roi_heads.box_predictor.cls_score"
_ANCHORS = "proposal_generator.anchor_generator.cell_anchors."
_HEADS = {
    "heads.proposals.conv.0": "proposal_generator.rpn_head.conv",
    "heads.proposals.objectness": "proposal_generator.rpn_head.objectness_logits",
    "heads.proposals.offsets": "proposal_generator.rpn_head.anchor_deltas",
    "heads.boxes.fc1": "roi_heads.box_head.fc1",
    "heads.boxes.fc2": "roi_heads.box_head.fc2",
    "heads.boxes.category": _CATEGORY,
    "heads.boxes.offsets": "roi_heads.box_predictor.bbox_pred",
    **{f"heads.masks.convs.{i}.0": f"roi_heads.mask_head.mask_fcn{i + 1}" for i in range(4)},
    "heads.masks.upsample": "roi_heads.mask_head.deconv",
    "heads.masks.masks": "roi_heads.mask_head.predictor",
    "semantic.predictor": "sem_seg_head.predictor",
}
_LAYERS_OF_STEP = 4  # of our semantic head: convolution, norm, ReLU, upsampling; norms are parts of convolutions there


def panoptic_fpn_key(model: PanopticFPN) -> Callable[[str], str]:
    """Return the function that maps this model's names to those of detectron2."""
    modules = _HEADS | {
        f"backbone.{ours}": f"backbone.bottom_up.{theirs}" for ours, theirs in resnet_modules(model.backbone).items()
    }
    for i in range(4):
        modules |= {f"pyramid.laterals.{i}": f"backbone.fpn_lateral{i + 2}"}
        modules |= {f"pyramid.outputs.{i}": f"backbone.fpn_output{i + 2}"}
        for step in range(max(1, i)):
            first, conv = _LAYERS_OF_STEP * step, f"sem_seg_head.p{i + 2}.{2 * step}"
            modules |= {f"semantic.levels.{i}.{first}": conv, f"semantic.levels.{i}.{first + 1}": f"{conv}.norm"}

    def key(name: str) -> str:
        module, _, leaf = name.rpartition(".")
        return f"{modules[module]}.{leaf}"

    return key


def from_detectron2(found: Mapping[str, Tensor], model: PanopticFPN, path: Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint under their names, with the values that our layers need.

    The background, there the last category of regions, becomes the first. Statistics of pixels and anchors, which early
    files contain, are compared with ours and left out.

    Raises:
        UnreadableFileError: the file's network has another input normalisation or other anchors.
    """
    result = without_pixel_statistics(found, _NORMALIZATION, path)
    anchors = model.representation.anchors
    for level, stride in enumerate(anchors.strides):
        theirs = result.pop(f"{_ANCHORS}{level}", None)
        ours = replace(anchors, strides=(stride,), center=0.0).boxes((stride, stride))
        if theirs is not None and (theirs.shape != ours.shape or not torch.allclose(theirs.float(), ours, atol=1e-2)):
            raise UnreadableFileError(
                path,
                f"expected a network with anchors {ours.round(decimals=1).tolist()} at stride {stride}, got "
                f"{theirs.tolist()}; build the model with a representation that has these anchors",
            )
    for name in (f"{_CATEGORY}.weight", f"{_CATEGORY}.bias"):
        if name in result:
            result[name] = result[name].roll(1, dims=0)
    return result


def use_detectron2_resnet(model: PanopticFPN) -> None:
    """Give a model the strides and the input normalisation of the released network, Microsoft Research's ResNet."""
    stride_in_first_conv(model.backbone)
    model.set_input_normalization(_NORMALIZATION)
    model.respecify(compat="detectron2")
