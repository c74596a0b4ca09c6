"""Tensor names and values of Swin Transformers in published checkpoints of networks for segmentation."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from panscape.nn.backbones import SWIN_TRANSFORMERS
from panscape.nn.swin import Swin

SwinLayout = Literal["microsoft", "openmmlab", "transformers"]
"""The authors' code, which detectron2's networks use; mmdetection and mmsegmentation; and transformers."""

SWIN_ENDINGS: Mapping[str, str] = {
    "swin_tiny_patch4_window7_224": "swin_t",
    "swin_small_patch4_window7_224": "swin_s",
    "swin_base_patch4_window12_384": "swin_b",
    "swin_large_patch4_window12_384": "swin_l",
}
"""Endings of the names of published networks by their backbones."""


class _Names(NamedTuple):
    patch: str
    patch_norm: str
    stages: str
    block: Mapping[str, str]  # theirs by ours


_NAMES: Mapping[SwinLayout, _Names] = {
    "microsoft": _Names(
        "patch_embed.proj",
        "patch_embed.norm",
        "layers",
        {name: name for name in ("norm1", "attn", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")},
    ),
    "openmmlab": _Names(
        "patch_embed.projection",
        "patch_embed.norm",
        "stages",
        {
            "norm1": "norm1",
            "attn": "attn.w_msa",
            "attn.qkv": "attn.w_msa.qkv",
            "attn.proj": "attn.w_msa.proj",
            "norm2": "norm2",
            "mlp.fc1": "ffn.layers.0.0",
            "mlp.fc2": "ffn.layers.1",
        },
    ),
    "transformers": _Names(
        "embeddings.patch_embeddings.projection",
        "embeddings.norm",
        "encoder.layers",
        {
            "norm1": "layernorm_before",
            "attn": "attention.self",
            "attn.qkv": "attention.self.qkv",  # joined by from_swin
            "attn.proj": "attention.output.dense",
            "norm2": "layernorm_after",
            "mlp.fc1": "intermediate.dense",
            "mlp.fc2": "output.dense",
        },
    ),
}
_CONSTANT = ".relative_position_index"
# Names of the projections of queries, keys and values in transformers, and of all three in our layers.
_SPLIT = ((("query.", "key.", "value."), "qkv."), (("q_proj.", "k_proj.", "v_proj."), "in_proj_"))
# mmdetection and mmsegmentation merge patches channel by channel, each row by row; we do it cell by cell, in columns.
_MERGED = (0, 2, 1, 3)
_MERGING = re.compile(r"\.stages\.\d\.downsample\.")


def swin_name(found: Mapping[str, Tensor]) -> str | None:
    """Return timm's name of the Swin Transformer in a checkpoint, without a tag; None if there is none."""
    blocks = [name for name in found if re.search(r"\.(layers|stages)\.2\.blocks\.\d+\..*bias_table$", name)]
    first = next(
        (t for name, t in found.items() if re.search(r"\.(layers|stages)\.0\.blocks\.0\..*bias_table$", name)), None
    )
    if first is None:
        return None
    num_offsets, num_heads = first.shape
    for name, options in SWIN_TRANSFORMERS.items():
        window = math.isqrt(num_offsets) // 2 + 1
        if (options["window"], options["num_heads"][0], options["depths"][2]) == (window, num_heads, len(blocks)):
            return name
    return None


def swin_modules(swin: Swin, layout: SwinLayout) -> dict[str, str]:
    """Return a layout's names of modules with tensors by ours, both below the name of the backbone.

    The norms of features are left out, as each kind of network has its own names for them.
    """
    names = _NAMES[layout]
    modules = {"patch_embed.proj": names.patch, "patch_embed.norm": names.patch_norm}
    for i, stage in enumerate(swin.layers):
        if i:
            for part in ("norm", "reduction"):
                modules[f"layers.{i}.downsample.{part}"] = f"{names.stages}.{i - 1}.downsample.{part}"
        for j in range(len(stage.blocks)):  # type: ignore[arg-type]
            modules |= {
                f"layers.{i}.blocks.{j}.{a}": f"{names.stages}.{i}.blocks.{j}.{b}" for a, b in names.block.items()
            }
    return modules


def from_swin(found: Mapping[str, Tensor], layout: SwinLayout) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint without constants, with the values that our layers need.

    Those of transformers' attention are joined in all layers, also outside of the backbone.
    """
    result = {name: tensor for name, tensor in found.items() if not name.endswith(_CONSTANT)}
    if layout == "transformers":
        return _joined(result)
    if layout == "openmmlab":
        for name, tensor in result.items():
            if _MERGING.search(name) and tensor.shape[-1] % 4 == 0:
                cells = tensor.reshape(*tensor.shape[:-1], -1, 4)[..., list(_MERGED)]
                result[name] = cells.transpose(-2, -1).flatten(-2)
    return result


def _joined(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint with those of queries, keys and values joined, where all three are there."""
    result = dict(found)
    for name in found:
        for kinds, joined in _SPLIT:
            stem, kind, leaf = name.rpartition(kinds[0])
            parts = [f"{stem}{kind}{leaf}" for kind in kinds]
            if kind and all(part in found for part in parts) and len({found[part].shape for part in parts}) == 1:
                result[f"{stem}{joined}{leaf}"] = torch.cat([result.pop(part) for part in parts])
    return result
