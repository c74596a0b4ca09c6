"""Published ImageNet weights of backbones alone, under the names of timm, torchvision and detectron2."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.models import PanopticModel
from panscape.nn.pretrained import fill_backbone

# Names in timm's ResNets of detectron2's stem convolutions and norms, by number of convolutions in the stem.
_STEMS = {
    1: {"conv1": "conv1", "conv1.norm": "bn1"},
    3: {
        "conv1": "conv1.0",
        "conv1.norm": "conv1.1",
        "conv2": "conv1.3",
        "conv2.norm": "conv1.4",
        "conv3": "conv1.6",
        "conv3.norm": "bn1",
    },
}
_BLOCK = re.compile(r"res([2-5])\.(\d+)\.(conv[123]|shortcut)(\.norm)?")

_DARKNET_STEM = "stem.conv1.conv.weight"


def is_backbone(found: Mapping[str, Tensor]) -> bool:
    """Return whether a checkpoint has the names of a ResNet alone, or of another classification network."""
    stems = ("conv1.weight", "conv1.0.weight", "conv_stem.weight", "_conv_stem.weight", "patch_embed.proj.weight")
    return _is_detectron2(found) or any(stem in found for stem in (*stems, _DARKNET_STEM))


def backbone_state(found: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the tensors of a backbone under timm's names.

    Args:
        found: tensors under timm's names (of ResNets also torchvision's), or under those of detectron2's ``R-52.pkl``
            and ``R-103.pkl``, which may include a classifier.
        path: path of their file, for messages.

    Raises:
        UnreadableFileError: the names are those of Caffe2, as in detectron2's folder MSRA: such networks have the
            stride in other layers and another input normalisation, so that the weights would load but give wrong
            results.
    """
    if any(name.startswith("res2_0_branch") for name in found):
        raise UnreadableFileError(
            path,
            "expected a backbone with strides in its 3x3 convolutions, got one of Caffe2's (MSRA), which has them in "
            "the 1x1 ones and expects BGR input; use detectron2's DeepLab/R-52.pkl or R-103.pkl, or a file of timm's "
            "or torchvision's",
        )
    if not _is_detectron2(found):
        return dict(found)
    stem = _STEMS[3 if "stem.conv3.weight" in found else 1]
    return {
        _timm_name(name, stem): tensor for name, tensor in found.items() if not name.startswith(("stem.fc.", "fc."))
    }


def load_backbone(model: PanopticModel, found: Mapping[str, Tensor], path: Path) -> str:
    """Load the tensors of a backbone strictly into a model's backbone; heads and decoders stay unchanged.

    Returns:
        A line on the number of tensors.

    Raises:
        UnreadableFileError: see :func:`backbone_state`.
        InvalidArgumentError: no published weights exist for the model's backbone, or the model has another input
            normalisation than detectron2's files and timm's of Darknet-53.
        CheckpointMismatchError: names or shapes differ; all differences are listed.
    """
    state = backbone_state(found, path)
    require_normalization(model, found, path)
    if not model.backbones:
        raise InvalidArgumentError(f"expected a model with a backbone to load {path}, got {type(model).__name__}")
    lines = [fill_backbone(model.get_submodule(name), state, path) for name in model.backbones]
    return lines[0]


def require_normalization(model: PanopticModel, found: Mapping[str, Tensor], path: Path) -> None:
    """Require that a model has the input normalisation of a backbone's weights, where those of its kind differ.

    Args:
        model: the model that the weights are for.
        found: as for :func:`backbone_state`.
        path: path of their file, for messages.

    Raises:
        InvalidArgumentError: the model has another one.
    """
    # detectron2's DeepLab and Panoptic-DeepLab use RGB with ImageNet's mean and standard deviation. Darknet-53 also has
    # weights of Darknet, for other pixels.
    if (_is_detectron2(found) or _DARKNET_STEM in found) and model.normalization != "imagenet":
        is_darknet = not _is_detectron2(found)
        remedy = "build it for timm's weights (--model.weights timm)" if is_darknet else "build it without compat"
        raise InvalidArgumentError(
            f'expected a model with normalization "imagenet" for {path}, got one with {model.normalization!r}; {remedy}'
        )


def _is_detectron2(found: Mapping[str, Tensor]) -> bool:
    return "stem.conv1.weight" in found and "res2.0.conv1.weight" in found


def _timm_name(name: str, stem: Mapping[str, str]) -> str:
    module, _, leaf = name.rpartition(".")
    if module.startswith("stem."):
        return f"{stem.get(module.removeprefix('stem.'), module)}.{leaf}"
    block = _BLOCK.fullmatch(module)
    if block is None:
        return name
    stage, index, layer, norm = block.groups()
    if layer == "shortcut":
        layer = "downsample.1" if norm else "downsample.0"
    elif norm:
        layer = layer.replace("conv", "bn")
    return f"layer{int(stage) - 1}.{index}.{layer}.{leaf}"
