"""ImageNet weights of backbones: find timm's weights for a network, download them once, and load them strictly."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from panscape.errors import CheckpointMismatchError, InvalidArgumentError
from panscape.hub import hub_address, hub_file
from panscape.nn.backbones import ResNetFeatures, TimmFeatures
from panscape.nn.darknet import TIMM_SLOPE, Darknet
from panscape.nn.efficientnet_lite import EfficientNetLite
from panscape.nn.swin import Swin
from panscape.weights_file import read_tensors

_COUNTER = ".num_batches_tracked"
_REMEDY = (
    "{} are the backbone's ImageNet weights: pass their file with --backbone-weights FILE (in Python, "
    "panscape.load_published), or start from random weights with --model.no-pretrained (in Python, pretrained=False)"
)


@dataclass(frozen=True, slots=True)
class BackboneWeights:
    """ImageNet weights that timm publishes for a network.

    Attributes:
        name: timm's name with its tag, such as "resnet18.tv_in1k".
        repository: repository on the Hugging Face hub; None if they are not there.
        file: file name in the repository.
        url: the authors' download address; "" if timm gives none.
    """

    name: str
    repository: str | None
    file: str
    url: str

    @property
    def remedy(self) -> str:
        """What to do if they cannot be downloaded."""
        return _REMEDY.format(self.name) + (f"; {self.url} provides them as well" if self.url else "")

    def fetch(self) -> Path:
        """Return the path of their file, downloaded unless it is in the hub's cache; see :func:`panscape.hub.hub_file`.

        Raises:
            UnreadableFileError: the file is not in the cache and cannot be downloaded.
            InvalidArgumentError: the weights are not on the hub.
        """
        if self.repository is None:
            raise InvalidArgumentError(f"expected weights on the Hugging Face hub, got {self.name}; {self.remedy}")
        return hub_file(self.repository, self.file, remedy=self.remedy)

    @property
    def address(self) -> str:
        """Address from which :meth:`fetch` downloads them."""
        return hub_address(self.repository, self.file) if self.repository else self.url


def weights_of(backbone: nn.Module) -> BackboneWeights:
    """Return the ImageNet weights that timm has for a backbone.

    Args:
        backbone: created by :func:`panscape.nn.backbones.create_backbone`.

    Raises:
        InvalidArgumentError: there are none.
    """
    name = getattr(backbone, "weights_name", None)
    if not isinstance(name, str):
        raise InvalidArgumentError(
            f"{getattr(backbone, 'name', type(backbone).__name__)} has no pretrained weights; use pretrained=False or "
            "a timm backbone"
        )
    import timm

    config: Any = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise InvalidArgumentError(f"{name} has no pretrained weights; use pretrained=False or another tag of timm's")
    return BackboneWeights(
        name=name if "." in name or not config.tag else f"{name}.{config.tag}",
        repository=config.hf_hub_id or None,
        file=config.hf_hub_filename or "model.safetensors",
        url=config.url or "",
    )


def load_pretrained(backbones: list[nn.Module], path: Path | None = None) -> str:
    """Load timm's ImageNet weights into backbones, which must all be the same network.

    Args:
        backbones: created by :func:`panscape.nn.backbones.create_backbone`, or copies of such.
        path: file of the weights; by default they are downloaded, see :meth:`BackboneWeights.fetch`.

    Returns:
        The line of :func:`fill_backbone`.

    Raises:
        InvalidArgumentError: there are no weights for this network.
        UnreadableFileError: the weights cannot be downloaded.
        CheckpointMismatchError: the file does not match this network.
    """
    path = path or weights_of(backbones[0]).fetch()
    if path.suffix == ".safetensors":
        found = read_tensors(path)
    else:
        found = torch.load(path, map_location="cpu", weights_only=True)
    lines = [fill_backbone(backbone, found, path) for backbone in backbones]
    return lines[0]


def fill_backbone(backbone: nn.Module, found: Mapping[str, Tensor], path: Path) -> str:
    """Copy the weights of a classification network into a backbone; it stays unchanged unless they match exactly.

    Args:
        backbone: created by :func:`panscape.nn.backbones.create_backbone`; its norms may have been frozen since.
        found: tensors by timm's names, which for ResNets are torchvision's; with or without the classifier. Counters of
            training steps may be missing; the backbone's counters then stay unchanged.
        path: path of their file, for messages.

    Returns:
        A line on the number of tensors.

    Raises:
        InvalidArgumentError: the backbone is not one of timm's, or has activations for the weights of others.
        CheckpointMismatchError: names or shapes differ; all differences are listed.
    """
    if not isinstance(backbone, (ResNetFeatures, TimmFeatures, Darknet, EfficientNetLite, Swin)):
        raise InvalidArgumentError(
            f"expected a timm backbone for the weights in {path}, got a {type(backbone).__name__}, for which there are "
            "no published weights; use a timm backbone"
        )
    if isinstance(backbone, Darknet) and backbone.negative_slope != TIMM_SLOPE:
        raise InvalidArgumentError(
            f"expected activations of slope {TIMM_SLOPE} for timm's weights in {path}, got {backbone.negative_slope:g} "
            f"for Darknet's; pass a file of Darknet's weights, or build the model with negative_slope={TIMM_SLOPE}"
        )
    source: Mapping[str, Tensor]
    if isinstance(backbone, (ResNetFeatures, Darknet)):
        source, needed = _without_classifier(found, ("fc", "head.fc")), backbone.state_dict(keep_vars=True)
        _require_same(needed, source, path, backbone.name)
    elif isinstance(backbone, EfficientNetLite):
        source, needed = _efficientnet_lite(found, backbone), backbone.state_dict(keep_vars=True)
        _require_same(needed, source, path, backbone.name)
    elif isinstance(backbone, Swin):
        source, needed = _swin(found), backbone.state_dict(keep_vars=True)
        needed = {name: tensor for name, tensor in needed.items() if not name.startswith("norms.")}
        _require_same(needed, source, path, backbone.name)
    else:
        source, needed = _by_timm(backbone, found, path), backbone.net.state_dict(keep_vars=True)
    filled = [name for name in needed if name in source]
    with torch.no_grad():
        for name in filled:
            needed[name].copy_(source[name])
    _grow_again(backbone)
    unused = len(found) - len(filled)
    rest = f"; {unused} others of the file, of the classifier, are not used" if unused > 0 else ""
    return f"backbone {backbone.name} from {path}: all {len(filled)} tensors{rest}"


def _swin(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a Swin Transformer by timm's names; its authors number the merging of patches from 0."""
    shift = int("layers.0.downsample.reduction.weight" in found)
    constants = (".relative_position_index", ".attn_mask")
    return {
        re.sub(r"(?<=^layers\.)\d+(?=\.downsample)", lambda m: str(int(m[0]) + shift), name): tensor
        for name, tensor in _without_classifier(found, ("norm", "head.fc", "head")).items()
        if not name.endswith(constants)
    }


_EFFICIENTNET_PYTORCH = re.compile(r"_(?:blocks\.(\d+)\._)?(conv_stem|conv_head|bn\d|fc|\w+_conv)(\.\w+)")
_EXPANDED = {"expand_conv": "conv_pw", "bn0": "bn1", "depthwise_conv": "conv_dw", "bn1": "bn2"}
_EXPANDED |= {"project_conv": "conv_pwl", "bn2": "bn3"}
_NOT_EXPANDED = {"depthwise_conv": "conv_dw", "project_conv": "conv_pw"}
_OUTER = {"bn0": "bn1", "bn1": "bn2", "fc": "classifier"}


def _efficientnet_lite(found: Mapping[str, Tensor], backbone: EfficientNetLite) -> dict[str, Tensor]:
    """Return the weights of an EfficientNet-Lite by timm's names, from these or from those of EfficientNet-PyTorch."""
    places = [f"{i}.{j}" for i, stage in enumerate(backbone.blocks) for j in range(len(cast(nn.ModuleList, stage)))]

    def renamed(name: str) -> str:
        match = _EFFICIENTNET_PYTORCH.fullmatch(name)
        if match is None:
            return name
        block, layer, leaf = match.groups()
        if block is None:
            return _OUTER.get(layer, layer) + leaf
        if int(block) >= len(places):
            return name
        place = places[int(block)]
        return f"blocks.{place}.{(_NOT_EXPANDED if place == '0.0' else _EXPANDED).get(layer, layer)}{leaf}"

    classifier = ("conv_head", "bn2", "classifier")
    return _without_classifier({renamed(name): tensor for name, tensor in found.items()}, classifier)


def _by_timm(backbone: TimmFeatures, found: Mapping[str, Tensor], path: Path) -> Mapping[str, Tensor]:
    """Return the state of the same features, loaded by timm, which renames the parameters of the whole network."""
    import timm

    with torch.device("meta"):
        whole = timm.create_model(backbone.weights_name, num_classes=0).state_dict()
    source = _without_classifier(found, _classifier(backbone.weights_name))
    _require_same(whole, source, path, backbone.name)
    counters = {n: torch.zeros_like(t, device="cpu") for n, t in whole.items() if n.endswith(_COUNTER)}
    overlay = {"state_dict": counters | dict(source)}
    logger = logging.getLogger("timm.models._builder")
    logger.addFilter(_no_records)  # it logs the layers that features do not use
    try:
        with torch.random.fork_rng(devices=[]):  # loading weights must not change the random state
            features: nn.Module = timm.create_model(
                backbone.weights_name, pretrained=True, pretrained_cfg_overlay=overlay, **backbone.options
            )
    finally:
        logger.removeFilter(_no_records)
    return features.state_dict()


def _classifier(name: str) -> tuple[str, ...]:
    """Return the names of the layers that only the classifier uses."""
    import timm

    config: Any = timm.get_pretrained_cfg(name)
    found = getattr(config, "classifier", None) or ()
    return (found,) if isinstance(found, str) else tuple(found)


def _no_records(_: logging.LogRecord) -> bool:
    return False


def _without_classifier(found: Mapping[str, Tensor], classifier: tuple[str, ...]) -> dict[str, Tensor]:
    starts = tuple(f"{layer}." for layer in classifier)
    return {name: tensor for name, tensor in found.items() if not name.startswith(starts)} if starts else dict(found)


def _require_same(needed: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path, name: str) -> None:
    mine = {n: tuple(t.shape) for n, t in needed.items() if not n.endswith(_COUNTER)}
    theirs = {n: tuple(t.shape) for n, t in found.items() if not n.endswith(_COUNTER)}
    if mine == theirs:
        return
    misshapen = [
        f"{n} (expected {list(mine[n])}, got {list(theirs[n])})"
        for n in mine.keys() & theirs.keys()
        if mine[n] != theirs[n]
    ]
    raise CheckpointMismatchError(
        path,
        missing=mine.keys() - theirs.keys(),
        unused=theirs.keys() - mine.keys(),
        misshapen=misshapen,
        remedy=f"pass a file of weights for {name} in timm's layout (for ResNets also torchvision's or detectron2's)",
    )


def _grow_again(backbone: nn.Module) -> None:
    from panscape.nn.frozen_batch_norm import frozen_norms, without_zero_scales

    without_zero_scales(frozen_norms(backbone))
