"""Tensor names and values in published checkpoints of MaskFormer: its authors', mmdetection's and transformers'."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from panscape.models.maskformer import MaskFormer
from panscape.nn.backbones import ResNetFeatures
from panscape.nn.pixel_decoder import FPNPixelDecoder
from panscape.nn.swin import Swin
from panscape.zoo.published.detectron2 import resnet_modules, without_pixel_statistics
from panscape.zoo.published.swin import SWIN_ENDINGS, SwinLayout, from_swin, swin_modules, swin_name

MaskFormerLayout = Literal["detectron2", "mmdetection", "transformers"]

CATEGORY_LAYERS: Mapping[str, MaskFormerLayout] = {
    "sem_seg_head.predictor.class_embed.weight": "detectron2",
    "panoptic_head.cls_embed.weight": "mmdetection",
    "class_predictor.weight": "transformers",
}
_SWIN: Mapping[MaskFormerLayout, SwinLayout] = {
    "detectron2": "microsoft",
    "mmdetection": "openmmlab",
    "transformers": "transformers",
}
MASKFORMERS: Mapping[str, str] = {
    "resnet50": "r50",
    "resnet101": "r101",
    **SWIN_ENDINGS,
}
"""Endings of the names of published networks by their backbones."""

_ENCODER_LAYER = re.compile(r"\.(?:transformer|pixel_decoder)\.encoder\.layers\.(\d+)\.")
_QUERIES = ("query_embed.weight", "queries_embedder.weight")
_COUNTER = ".num_batches_tracked"
_CURRENT = "sem_seg_head.pixel_decoder."  # in detectron2's layout of today; released files have no such prefix
_PARTS = ("self_attn", "multihead_attn", "linear1", "linear2", "norm1", "norm2", "norm3")  # of layers of transformers
_UNUSED = ("criterion.empty_weight",)  # the losses' weights of categories
_TRANSFORMERS_BACKBONE = "model.pixel_level_module.encoder.model."
_UNUSED_NORM = f"{_TRANSFORMERS_BACKBONE}layernorm."


def maskformer_layout(found: Mapping[str, Tensor]) -> MaskFormerLayout | None:
    """Return the layout of a checkpoint of MaskFormer by its names; None if it is of another network."""
    return next((layout for name, layout in CATEGORY_LAYERS.items() if name in found), None)


def maskformer_of(found: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
    """Return name and options of the model for a checkpoint of MaskFormer; None if its backbone is not known here."""
    backbone = swin_name(found)
    if backbone is None:
        depth = sum(re.fullmatch(r"backbone\.(res4|layer3)\.\d+\.conv1\.weight", name) is not None for name in found)
        backbone = {6: "resnet50", 23: "resnet101"}.get(depth)
    if backbone is None:
        return None
    options: dict[str, Any] = {} if backbone in MASKFORMERS else {"backbone": backbone}
    model = f"maskformer_{MASKFORMERS[backbone]}" if backbone in MASKFORMERS else "maskformer"
    if encoder_depth(found) != (0 if "_swin_" in model else 6):
        options["encoder_layers"] = encoder_depth(found)
    num_queries = next(len(t) for name, t in found.items() if name.endswith(_QUERIES))
    return model, options if num_queries == 100 else {**options, "num_queries": num_queries}


def encoder_depth(found: Mapping[str, Tensor]) -> int:
    """Return the number of layers of the transformer encoder in a checkpoint."""
    return len({match[1] for name in found if (match := _ENCODER_LAYER.search(name))})


def has_maskformer_layout(model: MaskFormer) -> bool:
    """Return whether published checkpoints can exist for such a network."""
    is_known = isinstance(model.backbone, (ResNetFeatures, Swin))
    return is_known and isinstance(model.pixel_decoder, FPNPixelDecoder)


def maskformer_key(model: MaskFormer, found: Mapping[str, Tensor]) -> Callable[[str], str]:
    """Return the function that maps this model's names to those of a checkpoint, in its layout."""
    layout = maskformer_layout(found) or "detectron2"
    heads = {"detectron2": _detectron2, "mmdetection": _mmdetection, "transformers": _transformers}[layout]
    modules = _backbone(model, layout) | heads(model, found)

    def key(name: str) -> str:
        module, _, leaf = name.rpartition(".")
        return f"{modules[module]}.{leaf}"

    return key


def from_maskformer(found: Mapping[str, Tensor], model: MaskFormer, path: Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint under their names, with the values that our layers need.

    Constants, weights of losses and statistics of pixels are left out, and so are a norm that transformers' network
    does not use and the counters of norms that are frozen here.

    Raises:
        UnreadableFileError: the file's network has another input normalisation.
    """
    layout = maskformer_layout(found) or "detectron2"
    result = without_pixel_statistics(found, "imagenet", path)
    if layout == "transformers":
        result = {name: tensor for name, tensor in result.items() if not name.startswith(_UNUSED_NORM)}
    has_counters = any(name.endswith(_COUNTER) for name in model.state_dict())
    return {
        name: tensor
        for name, tensor in from_swin(result, _SWIN[layout]).items()
        if name not in _UNUSED and (has_counters or not name.endswith(_COUNTER))
    }


def _backbone(model: MaskFormer, layout: MaskFormerLayout) -> dict[str, str]:
    backbone, norms = model.backbone, "backbone.norm{}"
    prefix = _TRANSFORMERS_BACKBONE if layout == "transformers" else "backbone."
    if isinstance(backbone, Swin):
        modules = {ours: prefix + theirs for ours, theirs in swin_modules(backbone, _SWIN[layout]).items()}
        if layout == "transformers":
            norms = "model.pixel_level_module.encoder.hidden_states_norms.{}"
        modules |= {f"norms.{i}": norms.format(i) for i in range(4)}
    elif layout == "detectron2":
        modules = {ours: prefix + theirs for ours, theirs in resnet_modules(backbone).items()}
    else:
        modules = {name: prefix + name for name, _ in backbone.named_modules()}
    return {f"backbone.{ours}": theirs for ours, theirs in modules.items()}


def _detectron2(model: MaskFormer, found: Mapping[str, Tensor]) -> dict[str, str]:
    pixels = _CURRENT if any(name.startswith(_CURRENT) for name in found) else "sem_seg_head."
    queries = "sem_seg_head.predictor."
    modules = {
        "pixel_decoder.project": f"{pixels}input_proj",
        "query_decoder.mask_features": f"{pixels}mask_features",
        "query_decoder.project": f"{queries}input_proj",
        "query_decoder.queries": f"{queries}query_embed",
        "query_decoder.norm": f"{queries}transformer.decoder.norm",
        "query_decoder.category": f"{queries}class_embed",
    }
    for i in range(4):
        for ours, theirs in (("adapters", "adapter"), ("layers", "layer")):
            modules[f"pixel_decoder.{ours}.{i}.0"] = f"{pixels}{theirs}_{i + 1}"
            modules[f"pixel_decoder.{ours}.{i}.1"] = f"{pixels}{theirs}_{i + 1}.norm"
    modules |= {f"query_decoder.mask.{2 * i}": f"{queries}mask_embed.layers.{i}" for i in range(3)}
    transformers = {"pixel_decoder.encoder": f"{pixels}transformer.encoder.layers"}
    transformers["query_decoder.layers"] = f"{queries}transformer.decoder.layers"
    return modules | _layers(model, transformers, {part: part for part in _PARTS})


def _mmdetection(model: MaskFormer, found: Mapping[str, Tensor]) -> dict[str, str]:
    head, pixels = "panoptic_head.", "panoptic_head.pixel_decoder."
    has_encoder = bool(model.pixel_decoder.encoder)
    modules = {
        "pixel_decoder.project": f"{pixels}encoder_in_proj",
        "query_decoder.mask_features": f"{pixels}mask_feature",
        "query_decoder.project": f"{head}decoder_input_proj",
        "query_decoder.queries": f"{head}query_embed",
        "query_decoder.norm": f"{head}transformer_decoder.post_norm",
        "query_decoder.category": f"{head}cls_embed",
    }
    for i in range(3):
        modules |= _unit(f"pixel_decoder.adapters.{i}", f"{pixels}lateral_convs.{i}")
        modules |= _unit(f"pixel_decoder.layers.{i}", f"{pixels}output_convs.{i}")
    modules |= _unit("pixel_decoder.layers.3", f"{pixels}{'encoder_out_proj' if has_encoder else 'last_feat_conv'}")
    modules |= {f"query_decoder.mask.{2 * i}": f"{head}mask_embed.{2 * i}" for i in range(3)}
    transformers = {"pixel_decoder.encoder": f"{pixels}encoder.layers"}
    transformers["query_decoder.layers"] = f"{head}transformer_decoder.layers"
    # Version 2, in which the published files are, and version 3.
    is_old = any(".attentions." in name for name in found)
    attention, cross, hidden = (
        ("attentions.0", "attentions.1", "ffns.0") if is_old else ("self_attn", "cross_attn", "ffn")
    )
    parts = {"self_attn": f"{attention}.attn", "multihead_attn": f"{cross}.attn"}
    parts |= {"linear1": f"{hidden}.layers.0.0", "linear2": f"{hidden}.layers.1"}
    parts |= {f"norm{i + 1}": f"norms.{i}" for i in range(3)}
    return modules | _layers(model, transformers, parts)


def _transformers(model: MaskFormer, found: Mapping[str, Tensor]) -> dict[str, str]:
    pixels, queries = "model.pixel_level_module.decoder.", "model.transformer_module."
    modules = {
        "query_decoder.mask_features": f"{pixels}mask_projection",
        "query_decoder.project": f"{queries}input_projection",
        "query_decoder.queries": f"{queries}queries_embedder",
        "query_decoder.norm": f"{queries}decoder.layernorm",
        "query_decoder.category": "class_predictor",
    }
    for i in range(2):
        modules[f"pixel_decoder.layers.3.{i}"] = f"{pixels}fpn.stem.{i}"
        for level in range(3):
            modules[f"pixel_decoder.adapters.{level}.{i}"] = f"{pixels}fpn.layers.{2 - level}.proj.{i}"
            modules[f"pixel_decoder.layers.{level}.{i}"] = f"{pixels}fpn.layers.{2 - level}.block.{i}"
    modules |= {f"query_decoder.mask.{2 * i}": f"mask_embedder.{i}.0" for i in range(3)}
    parts = {
        "self_attn": "self_attn",
        "multihead_attn": "encoder_attn",
        "linear1": "fc1",
        "linear2": "fc2",
        "norm1": "self_attn_layer_norm",
        "norm2": "encoder_attn_layer_norm",
        "norm3": "final_layer_norm",
    }
    # There is no encoder in the pixel decoder; its names are made up, so that a model with one misses them.
    transformers = {"pixel_decoder.encoder": f"{pixels}encoder.layers"}
    transformers["query_decoder.layers"] = f"{queries}decoder.layers"
    return modules | {"pixel_decoder.project": f"{pixels}project"} | _layers(model, transformers, parts)


def _unit(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.0": f"{theirs}.conv", f"{ours}.1": f"{theirs}.gn"}


def _layers(model: MaskFormer, transformers: Mapping[str, str], parts: Mapping[str, str]) -> dict[str, str]:
    """Return their names by ours of all parts of all layers of transformers, which are named by where they are."""
    modules = {}
    for ours, theirs in transformers.items():
        for i in range(len(model.get_submodule(ours))):  # type: ignore[arg-type]
            for part, name in parts.items():
                modules[f"{ours}.{i}.{part}"] = f"{theirs}.{i}.{name}"
    return modules | {f"{a}.out_proj": f"{b}.out_proj" for a, b in modules.items() if a.endswith("attn")}
