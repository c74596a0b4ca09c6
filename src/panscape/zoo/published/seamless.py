"""Tensor names and values in the authors' checkpoints of Seamless Scene Segmentation (seamseg)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from panscape.labels import LabelSpace
from panscape.models.seamless import MiniDeepLab, Seamless
from panscape.nn.backbones import ResNetFeatures

_ABN_EPS = 1e-5  # the effective scale of In-Place ABN is |weight| + eps
_BOX_ORDER = (1, 0, 3, 2)  # their offsets are y, x, height, width
_HEADS = {
    "heads.proposals.conv.0": "rpn_head.conv1",
    "heads.proposals.conv.1": "rpn_head.bn1",
    "heads.proposals.objectness": "rpn_head.conv_obj",
    "heads.proposals.offsets": "rpn_head.conv_bbx",
    "heads.boxes.fc1": "roi_head.fc.fc1",
    "heads.boxes.norm1": "roi_head.fc.bn1",
    "heads.boxes.fc2": "roi_head.fc.fc2",
    "heads.boxes.norm2": "roi_head.fc.bn2",
    "heads.boxes.category": "roi_head.roi_cls",
    "heads.boxes.offsets": "roi_head.roi_bbx",
    **{f"heads.masks.convs.{i}.0": f"roi_head.conv.conv{i + 1}" for i in range(4)},
    **{f"heads.masks.convs.{i}.1": f"roi_head.conv.bn{i + 1}" for i in range(4)},
    "heads.masks.upsample": "roi_head.conv.conv_up",
    "heads.masks.norm": "roi_head.conv.bn_up",
    "heads.masks.masks": "roi_head.roi_msk",
    "semantic.predictor": "sem_head.conv_sem",
}
_CONTEXT = {
    "near": "conv1_3x3",
    "far": "conv1_dil",
    "mean": "conv1_glb",
    "norm": "bn1",
    "blend": "conv2",
    "blend_norm": "bn2",
}


def has_seamless_layout(model: Seamless) -> bool:
    """Return whether published checkpoints can exist for such a network."""
    return isinstance(model.backbone, ResNetFeatures) and isinstance(model.semantic, MiniDeepLab)


def seamless_key(model: Seamless) -> Callable[[str], str]:
    """Return the function that maps this model's names to those of seamseg."""
    modules = _HEADS | {"backbone.conv1": "body.backbone.mod1.conv1", "backbone.bn1": "body.backbone.mod1.bn1"}

    def key(name: str) -> str:
        module, _, leaf = name.rpartition(".")
        return f"{modules.get(module) or _numbered(module)}.{leaf}"

    return key


def _numbered(module: str) -> str:
    """Return seamseg's name of a layer of the ResNet's stages, the FPN or the semantic head."""
    top, part, number, *rest = module.split(".")
    if top == "semantic":
        return f"sem_head.output.{number}.{_CONTEXT[rest[0]]}"
    if top == "pyramid":
        level = {"laterals": "lateral", "outputs": "output", "coarser": "extra"}[part]
        return f"body.fpn.{level}.{number}.{('conv', 'bn')[int(rest[0])]}"
    block = f"body.backbone.mod{int(part.removeprefix('layer')) + 1}.block{int(number) + 1}"
    if rest[0] == "downsample":
        return f"{block}.{('proj_conv', 'proj_bn')[int(rest[1])]}"
    return f"{block}.convs.{rest[0]}"


def from_seamseg(found: Mapping[str, Tensor], labels: LabelSpace) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint under their names, with the values that our layers need.

    Scales of norms become those of BatchNorm, offsets of boxes get our order, and the categories of the semantic head,
    of which all stuff is before all things there, that of the label space. Tensors of an unexpected shape or type stay
    unchanged.
    """
    position = {category: i for i, category in enumerate((*labels.stuff_ids, *labels.thing_ids))}
    categories = [position[i] for i in range(len(labels))]
    result = dict(found)
    for name, tensor in found.items():
        module, _, leaf = name.rpartition(".")
        if leaf == "weight" and f"{module}.running_var" in found and tensor.is_floating_point():
            result[name] = tensor.abs() + _ABN_EPS
        elif module in ("rpn_head.conv_bbx", "roi_head.roi_bbx") and tensor.ndim and tensor.shape[0] % 4 == 0:
            result[name] = tensor.reshape(-1, 4, *tensor.shape[1:])[:, list(_BOX_ORDER)].reshape(tensor.shape)
        elif module == "sem_head.conv_sem" and tensor.shape[:1] == (len(labels),):
            result[name] = tensor[categories]
    return result


def use_seamseg_normalization(model: Seamless) -> None:
    """Set the input normalisation of a model to that of the authors' weights."""
    model.set_input_normalization("vistas")
    model.respecify(normalization="vistas")
