"""Checkpoints that authors published, read into panscape's models: every key used, every tensor filled, or an error."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.models import ModelSpec, PanopticModel
from panscape.models.dense_detections import DenseDetections
from panscape.models.swiftnet import PanopticSwiftNet, SpatialPyramidPooling
from panscape.nn.backbones import ResNetFeatures
from panscape.nn.frozen_norm import frozen_norms
from panscape.zoo import fill

# What torch's readers are known to raise on other files and damaged ones.
_REFUSALS = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    struct.error,
)


def load_published(model: PanopticModel, path: str | Path) -> PanopticModel:
    """Load a checkpoint in its authors' layout into a model, strictly, and return the model in eval mode.

    Args:
        model: built with the options that fit the checkpoint: ``create_model("swiftnet_r18", "cityscapes")`` for
            Panoptic SwiftNet's three-level Cityscapes weights, ``create_model("dense_detections_r50", "cityscapes")``
            for those of dense detections. The latter's pixel format and norms become what the weights were trained
            with, also in what is saved of it. It is left as it was when loading fails.
        path: a ``.pth`` file; only tensors and plain containers are unpickled.

    Raises:
        UnreadableFileError: the file is missing, is not a checkpoint, or holds more than tensors.
        CheckpointMismatchError: keys or shapes differ; both differences are listed.
        InvalidArgumentError: no published layout is known for this model.
    """
    found = _read_state(Path(path))
    if isinstance(model, PanopticSwiftNet) and isinstance(model.pyramid.levels[0], ResNetFeatures):
        remedy = "build the model with the label space, levels and context that the checkpoint was trained with"
        fill(model, found, path, remedy=remedy, rename=_swiftnet_key(model))
    elif isinstance(model, DenseDetections) and isinstance(model.backbone, ResNetFeatures):
        remedy = 'build the model as create_model("dense_detections_r50", labels) with the checkpoint\'s label space'
        fill(model, found, path, remedy=remedy, rename=_dense_detections_key(found))
        _take_pixels_as_caffe(model)
    else:
        raise InvalidArgumentError(
            f"no published checkpoint layout is known for {type(model).__name__} on this backbone; "
            "published weights exist for swiftnet_r18 and dense_detections_r50"
        )
    return model.eval()


def _read_state(path: Path) -> Mapping[str, Tensor]:
    """Read a state dict from a ``.pth`` file, bare or under "model" as training frameworks write it."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UnreadableFileError(path, "no such file; give the path of a downloaded .pth checkpoint") from error
    except OSError as error:
        raise UnreadableFileError(path, f"expected a .pth checkpoint, but {error}; check the path") from error
    except _REFUSALS as error:
        raise UnreadableFileError(path, _why_not_read(path, error)) from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise UnreadableFileError(path, 'expected a state dict (name to tensor), bare or under "model"')
    return content


def _why_not_read(path: Path, error: Exception) -> str:
    # torch's own words are advice to unpickle whatever the file holds, or the state of its reader ("101").
    with path.open("rb") as file:
        head = file.read(2)
    expected = "expected a .pth checkpoint of tensors and plain containers"
    if not head:
        return f"{expected}, but the file is empty; download it again"
    if head not in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return f"{expected}, but this is another kind of file (a web page or text, perhaps); download it again"
    if isinstance(error, pickle.UnpicklingError):
        return (
            f"{expected}, but it holds other Python objects, which could run code, or it is damaged; if you trust its "
            "authors, read it with their code and save the state dict alone with torch.save"
        )
    return f"{expected}, but the file is damaged or cut off; download it again"


_UNIT = {"0": "norm", "2": "conv"}  # positions of norm_relu_conv under the authors' names


def _swiftnet_key(model: PanopticSwiftNet) -> Callable[[str], str]:
    """Return the translation of this model's names into those of the authors of Panoptic SwiftNet."""
    levels = len(model.pyramid.levels)
    num_skips = [len(module.projections) for module in model.path]  # type: ignore[arg-type]
    is_spp = isinstance(model.start, SpatialPyramidPooling)
    head = {"semantic": "sem_seg_head.classifier.sem_seg"} | {
        name: f"ins_embed_head.classifier.{name}" for name in ("center", "offset")
    }
    decoder = "decoder.semantic_decoder"  # it serves all three heads there too, under this name

    def backbone_key(level: str, rest: str) -> str:
        *module, leaf = rest.split(".")
        is_norm = module[-1].startswith("bn") or module[-2:] == ["downsample", "1"]
        per_level = [f"norms.{level}"] if is_norm and levels > 1 else []
        return ".".join(["backbone", *module, *per_level, leaf])

    def start_key(parts: list[str]) -> str:
        if not is_spp:
            return f"{decoder}.bottleneck.conv.{parts[-1]}"
        unit = {"reduce": "spp_bn", "fuse": "spp_fuse"}.get(parts[0], f"spp{parts[1]}")
        return f"{decoder}.spp.spp.{unit}.{_UNIT[parts[-2]]}.{parts[-1]}"

    def path_key(parts: list[str]) -> str:
        step, block, *rest = parts
        if block == "blend":
            unit = "blend_conv"
        else:
            # A module with one skip holds it without a list.
            unit = f"bottleneck.{rest[0]}" if num_skips[int(step)] > 1 else "bottleneck"
        return f"{decoder}.upsamples.{step}.{unit}.{_UNIT[rest[-2]]}.{rest[-1]}"

    def key(name: str) -> str:
        top, *parts = name.split(".")
        if top == "pyramid":
            return backbone_key(parts[1], ".".join(parts[2:]))
        if top == "start":
            return start_key(parts)
        if top == "path":
            return path_key(parts)
        return ".".join([head[top], *parts])

    return key


def _dense_detections_key(found: Mapping[str, Tensor]) -> Callable[[str], str]:
    """Return the translation of our names into those of the authors of dense detections.

    Newer versions of torchvision name layers of the feature pyramid otherwise; a file is written in either style.
    """
    unit = ".0" if any(name.startswith("backbone.fpn.inner_blocks.0.0.") for name in found) else ""
    pyramid = {"laterals": "inner_blocks", "outputs": "layer_blocks"}
    coarser = ("p6", "p7")
    head = {
        "location_tower": "bbox_tower",
        "semantic_tower": "cls_tower",
        "semantic": "cls_logits",
        "box_category": "box_cls_logits",
        "box": "bbox_pred",
    }

    def key(name: str) -> str:
        top, part, *rest = name.split(".")
        if top == "backbone":
            return ".".join(["backbone.body", part, *rest])
        if top == "head":
            leaf = ["scale"] if part == "scales" else []
            return ".".join(["panoptic_head", head.get(part, part), *rest, *leaf])
        index, leaf_name = rest
        if part in pyramid:
            return f"backbone.fpn.{pyramid[part]}.{index}{unit}.{leaf_name}"
        block = coarser[int(index)] if int(index) < len(coarser) else f"p{6 + int(index)}"
        return f"backbone.fpn.extra_blocks.{block}.{leaf_name}"

    return key


def _take_pixels_as_caffe(model: DenseDetections) -> None:
    """Let a network take pixels and divide by deviations as the released one does.

    Its configuration has Caffe's pixels, and the torchvision of its time added nothing to the variances.
    """
    model.set_pixels("caffe")
    for norm in frozen_norms(model.backbone):
        norm.eps = 0.0  # type: ignore[assignment]
    if model.spec is not None:
        model.spec = ModelSpec(model.spec.name, model.spec.options | {"pixels": "caffe", "norm_eps": 0.0})
