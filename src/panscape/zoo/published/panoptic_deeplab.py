"""Tensor names in the checkpoints of both published implementations of Panoptic-DeepLab.

detectron2's project writes ``.pkl`` files of arrays and, in training, ``.pth`` files; the older repository of the same
author writes ``.pth`` files. Both use the input normalisation "imagenet"; in detectron2, pixels, mean and standard
deviation are in 0..255. Where a decoder concatenates features, the model's form has the order of its implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from panscape.models.panoptic_deeplab import PanopticDeepLab
from panscape.nn.backbones import ResNetFeatures, TimmFeatures
from panscape.nn.blocks import SeparableConv
from panscape.zoo.published.detectron2 import resnet_modules

_FORMS = {"sem_seg_head.": "detectron2", "decoder.semantic_decoder.": "standalone"}  # by prefix of the names
_MOBILENETV2 = [1, 2, 3, 4, 3, 3, 1]  # number of blocks of each stage


def has_published_layout(model: PanopticDeepLab) -> bool:
    """Return whether published checkpoints can exist for such a network."""
    if model.relations is not None:
        return False
    if model.compat == "detectron2":
        return isinstance(model.backbone, ResNetFeatures)
    is_known = isinstance(model.backbone, ResNetFeatures) or _is_mobilenetv2(model.backbone)
    return is_known and isinstance(model.semantic[0], SeparableConv)


def panoptic_deeplab_key(model: PanopticDeepLab) -> Callable[[str], str]:
    """Return the function that maps this model's names to those of the implementation that its form follows."""
    modules = _of_detectron2(model) if model.compat == "detectron2" else _of_standalone(model)

    def key(name: str) -> str:
        module, _, leaf = name.rpartition(".")
        return f"{modules.get(module, module)}.{leaf}"

    return key


def mismatch_hint(found: Mapping[str, Tensor]) -> str:
    """Return what to do if a checkpoint with these names does not match."""
    forms = [form for start, form in _FORMS.items() if any(name.startswith(start) for name in found)]
    hint = f" (its names are those of compat={forms[0]!r})" if len(forms) == 1 else ""
    return f"build the model with the label space, compat, backbone and separable of the checkpoint{hint}"


def _of_detectron2(model: PanopticDeepLab) -> dict[str, str]:
    """Return detectron2's names of convolutions and norms by ours; norms are submodules of convolutions there."""
    resnet = resnet_modules(model.backbone)
    modules = {f"backbone.{ours}": f"backbone.{theirs}" for ours, theirs in resnet.items()}

    def unit(ours: str, theirs: str) -> None:
        modules.update({f"{ours}.0": theirs, f"{ours}.1": f"{theirs}.norm"})

    def pair(ours: str, theirs: str) -> None:
        is_separable = isinstance(model.get_submodule(ours), SeparableConv)
        for i, name in enumerate(("depthwise", "pointwise") if is_separable else ("0", "1")):
            unit(f"{ours}.{i}", f"{theirs}.{name}")

    steps = len(model.semantic_decoder.projections)
    for ours, theirs in (("semantic_decoder", "sem_seg_head.decoder"), ("instance_decoder", "ins_embed_head.decoder")):
        pyramid, context = f"{ours}.pyramid", f"{theirs}.res5.project_conv"
        for i, branch in enumerate(model.semantic_decoder.pyramid.branches):
            (pair if isinstance(branch, SeparableConv) else unit)(f"{pyramid}.branches.{i}", f"{context}.convs.{i}")
        modules[f"{pyramid}.mean"] = f"{context}.convs.4.1"
        unit(f"{pyramid}.blend", f"{context}.project")
        for i in range(steps):
            stage = f"{theirs}.res{steps + 1 - i}"
            unit(f"{ours}.projections.{i}", f"{stage}.project_conv")
            pair(f"{ours}.blends.{i}", f"{stage}.fuse_conv")
    for ours, theirs in (("semantic", ""), ("center", "center_"), ("offset", "offset_")):
        top = "ins_embed_head" if theirs else "sem_seg_head"
        pair(f"{ours}.0", f"{top}.{theirs}head")
        modules[f"{ours}.1"] = f"{top}.{theirs}predictor"
    return modules


def _of_standalone(model: PanopticDeepLab) -> dict[str, str]:
    """Return the older repository's names of convolutions and norms by ours; those of ResNets are the same."""
    is_mobile = _is_mobilenetv2(model.backbone)
    modules = _mobilenetv2_of_torchvision() if is_mobile else {}

    def unit(ours: str, theirs: str) -> None:
        modules.update({f"{ours}.0": f"{theirs}.0", f"{ours}.1": f"{theirs}.1"})

    def separable(ours: str, theirs: str) -> None:
        unit(f"{ours}.0", f"{theirs}.0")
        modules.update({f"{ours}.1.0": f"{theirs}.1", f"{ours}.1.1": f"{theirs}.2"})

    for ours in ("semantic_decoder", "instance_decoder"):
        theirs = f"decoder.{ours}"
        pyramid, context = f"{ours}.pyramid", f"{theirs}.aspp"
        for i in range(len(model.semantic_decoder.pyramid.branches)):
            unit(f"{pyramid}.branches.{i}", f"{context}.convs.{i}")
        modules[f"{pyramid}.mean"] = f"{context}.convs.4.aspp_pooling.1"
        unit(f"{pyramid}.blend", f"{context}.project")
        for i in range(len(model.semantic_decoder.projections)):
            unit(f"{ours}.projections.{i}", f"{theirs}.project.{i}")
            separable(f"{ours}.blends.{i}", f"{theirs}.fuse.{i}.0")
    for ours in ("semantic", "center", "offset"):
        theirs = f"decoder.{'semantic' if ours == 'semantic' else 'instance'}_head.classifier.{ours}"
        separable(f"{ours}.0", f"{theirs}.0.0")
        modules[f"{ours}.1"] = f"{theirs}.1"
    return modules


def _is_mobilenetv2(backbone: nn.Module) -> bool:
    blocks = getattr(backbone.net, "blocks", ()) if isinstance(backbone, TimmFeatures) else ()
    return [len(stage) for stage in blocks] == _MOBILENETV2


def _mobilenetv2_of_torchvision() -> dict[str, str]:
    """Return torchvision's names of layers of MobileNetV2 by timm's; blocks are numbered across stages from 1 on."""
    modules = {"conv_stem": "0.0", "bn1": "0.1"}
    number = 0
    for stage, blocks in enumerate(_MOBILENETV2):
        for block in range(blocks):
            number += 1
            if stage == 0:  # the only stage without an expansion layer
                layers = {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1", "bn2": "2"}
            else:
                layers = {"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "conv_pwl": "2", "bn3": "3"}
            modules |= {f"blocks.{stage}.{block}.{ours}": f"{number}.conv.{theirs}" for ours, theirs in layers.items()}
    return {f"backbone.net.{ours}": f"backbone.features.{theirs}" for ours, theirs in modules.items()}
