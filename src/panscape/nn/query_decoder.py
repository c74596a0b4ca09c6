"""MaskFormer's transformer decoder: learned queries that attend to a memory, each with a category and a mask.

Bowen Cheng, Alexander Schwing, Alexander Kirillov: Per-Pixel Classification is Not All You Need for Semantic
Segmentation. NeurIPS 2021. arXiv:2107.06278, Section 3.3 and its released code.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from panscape.nn.pixel_decoder import PixelFeatures, init_convs
from panscape.nn.transformer import DecoderLayer, sine_positions, to_sequence, xavier_init


class QueryPredictions(NamedTuple):
    """What the decoder predicts from L of its layers, for Q queries.

    Attributes:
        category: logits, "no object" last, float [L, B, Q, C + 1].
        masks: logits, float [L, B, Q, h, w].
        queries: of the last layer, normalised: the input of the heads, float [B, Q, D].
        mask_features: the maps that masks are products of with queries, float [B, D, h, w].
    """

    category: Tensor
    masks: Tensor
    queries: Tensor
    mask_features: Tensor


class QueryDecoder(nn.Module):
    """Decoder layers of DETR, and heads for categories and masks that all layers share.

    Queries begin at zero; what distinguishes them is their learned position. A LayerNorm stands before the heads, but
    not between layers. The first self-attention sees zeros, so that its values are all the same: as published, the
    weights of its queries, keys and values have no gradient.

    Args:
        num_categories: number of categories, without "no object".
        memory_width: channels of the memory; other than ``width``, a 1x1 convolution projects it.
        fine_width: channels of the fine features.
        width: channels of queries and masks.
        num_queries: number of queries.
        num_layers: decoder layers.
        hidden: channels of their hidden layers.
        dropout: dropout probability.
        num_heads: heads of attention.
        mask_kernel: side of the kernel of the convolution from fine features to mask features.
    """

    def __init__(
        self,
        num_categories: int,
        memory_width: int,
        fine_width: int,
        width: int,
        *,
        num_queries: int,
        num_layers: int,
        hidden: int,
        dropout: float,
        num_heads: int,
        mask_kernel: int = 3,
    ) -> None:
        super().__init__()
        self.project = nn.Identity() if memory_width == width else nn.Conv2d(memory_width, width, 1)
        self.mask_features = nn.Conv2d(fine_width, width, mask_kernel, padding=mask_kernel // 2)
        init_convs(self)
        self.queries = nn.Embedding(num_queries, width)
        self.layers = nn.ModuleList(DecoderLayer(width, num_heads, hidden, dropout) for _ in range(num_layers))
        xavier_init(self.layers)
        self.norm = nn.LayerNorm(width)
        self.category = nn.Linear(width, num_categories + 1)
        self.mask = mask_embedding(width, width)

    def forward(self, features: PixelFeatures, *, all_layers: bool) -> QueryPredictions:
        """Map features to the predictions of the last decoder layer, or of all of them in their order."""
        memory = self.project(features.memory)
        positions = to_sequence(sine_positions(memory))
        memory = to_sequence(memory)
        x = self.queries.weight.new_zeros(len(memory), *self.queries.weight.shape)
        found: list[Tensor] = []
        for layer in self.layers:
            x = layer(x, self.queries.weight, memory, memory + positions)
            found.append(x)
        queries = self.norm(torch.stack(found if all_layers else found[-1:]))
        maps = self.mask_features(features.fine)
        masks = torch.einsum("lbqc,bchw->lbqhw", self.mask(queries), maps)
        return QueryPredictions(self.category(queries), masks, queries[-1], cast(Tensor, maps))


def mask_embedding(width: int, channels: int) -> nn.Sequential:
    """Return the head that maps queries [..., ``width``] to the factors of ``channels`` mask features."""
    return nn.Sequential(
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, channels)
    )
