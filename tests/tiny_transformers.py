"""Tiny random networks of transformers, one of each family that is read, as folders of its ``save_pretrained``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

NAMES = ("road", "car", "sky", "person", "tree")
"""Categories of the networks, in their order."""
SIDE = 64
"""Side of the fixed input of EoMT."""

_QUERIES = {"num_queries": 7}
_TWO_HEADS = {"num_attention_heads": 2}


def save_network(family: str, folder: Path, names: Sequence[str] = NAMES, **options: Any) -> Path:
    """Save a network with random weights and, for OneFormer, its tokenizer, and return the folder.

    Args:
        family: of :data:`BUILDERS`.
        folder: created.
        names: of its categories.
        **options: replace those of its configuration.
    """
    torch.manual_seed(0)
    network = BUILDERS[family]({"id2label": dict(enumerate(names)), **options})
    network.save_pretrained(folder)
    if family == "OneFormer":
        write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer of CLIP with single letters only."""
    letters = "acehiknopst"
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({token: i + 1 for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def _swin() -> Any:
    from transformers import SwinConfig

    return SwinConfig(
        image_size=64,
        embed_dim=16,
        depths=(1, 1, 1, 1),
        num_heads=(1, 2, 4, 8),
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def _mask2former(options: dict[str, Any]) -> Any:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

    widths = dict.fromkeys(("feature_size", "mask_feature_size", "hidden_dim", "encoder_feedforward_dim"), 32)
    layers = {"dim_feedforward": 32, "encoder_layers": 1, "decoder_layers": 2}
    given = {"backbone_config": _swin(), **widths, **layers, **_TWO_HEADS, **_QUERIES} | options
    return Mask2FormerForUniversalSegmentation(Mask2FormerConfig(**given))


def _maskformer(options: dict[str, Any]) -> Any:
    from transformers import DetrConfig, MaskFormerConfig, MaskFormerForInstanceSegmentation

    layers = dict.fromkeys(("encoder_layers", "decoder_layers"), 1)
    widths = dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim"), 32)
    heads = dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2)
    decoder = DetrConfig(**layers, **widths, **heads, **_QUERIES)
    given = {"backbone_config": _swin(), "decoder_config": decoder, "fpn_feature_size": 32, "mask_feature_size": 32}
    return MaskFormerForInstanceSegmentation(MaskFormerConfig(**given | options))


def _oneformer(options: dict[str, Any]) -> Any:
    from transformers import OneFormerConfig, OneFormerForUniversalSegmentation

    widths = dict.fromkeys(("conv_dim", "mask_dim", "hidden_dim", "encoder_feedforward_dim", "dim_feedforward"), 32)
    layers = {"encoder_layers": 1, "decoder_layers": 2, "query_dec_layers": 1}
    text = {"text_encoder_width": 32, "text_encoder_vocab_size": 64, "text_encoder_num_layers": 1}
    given = {"backbone_config": _swin(), **widths, **layers, **text, **_TWO_HEADS, **_QUERIES, "is_training": False}
    return OneFormerForUniversalSegmentation(OneFormerConfig(**given | options))


def _eomt(options: dict[str, Any]) -> Any:
    from transformers import EomtConfig, EomtForUniversalSegmentation

    network = EomtForUniversalSegmentation(EomtConfig(mlp_ratio=2, **_PLAIN | options))
    network.attn_mask_probs.zero_()  # as in published weights
    return network


def _eomt_dinov3(options: dict[str, Any]) -> Any:
    from transformers import EomtDinov3Config, EomtDinov3ForUniversalSegmentation

    network = EomtDinov3ForUniversalSegmentation(EomtDinov3Config(intermediate_size=64, **_PLAIN | options))
    network.attn_mask_probs.zero_()
    return network


_PLAIN = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "image_size": SIDE,
    "patch_size": 16,
    "num_blocks": 1,
    **_TWO_HEADS,
    **_QUERIES,
}


def _detr(options: dict[str, Any]) -> Any:
    from transformers import DetrConfig, DetrForSegmentation, ResNetConfig

    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 16, 32, 32], depths=[1] * 4, layer_type="basic", out_features=stages
    )
    layers = dict.fromkeys(("encoder_layers", "decoder_layers"), 1)
    widths = dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 32)
    given = {"backbone_config": backbone, "d_model": 64, **layers, **widths, **_QUERIES}
    return DetrForSegmentation(DetrConfig(**given | options))


BUILDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "DETR": _detr,
    "EoMT": _eomt,
    "EoMT on DINOv3": _eomt_dinov3,
    "Mask2Former": _mask2former,
    "MaskFormer": _maskformer,
    "OneFormer": _oneformer,
}
