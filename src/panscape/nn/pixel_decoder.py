"""MaskFormer's pixel decoder: an FPN with GroupNorm that returns its finest level, and a memory for queries.

Bowen Cheng, Alexander Schwing, Alexander Kirillov: Per-Pixel Classification is Not All You Need for Semantic
Segmentation. NeurIPS 2021. arXiv:2107.06278, Section 3.3 and its released code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from panscape.nn.blocks import GroupNorm
from panscape.nn.transformer import EncoderLayer, sine_positions, to_sequence, xavier_init


class PixelFeatures(NamedTuple):
    """Features of a pixel decoder.

    Attributes:
        fine: at stride 4, float [B, C, h, w].
        memory: at stride 32, which queries attend to, float [B, D, h', w'].
    """

    fine: Tensor
    memory: Tensor


class PixelDecoder(Protocol):
    """A module that maps features of a backbone to :class:`PixelFeatures`.

    Attributes:
        width: channels of the fine features.
        memory_width: channels of the memory.
    """

    width: int
    memory_width: int

    def __call__(self, features: Sequence[Tensor]) -> PixelFeatures:
        """Map features [B, C_i, h_i, w_i], finest first, to features for masks and queries."""


class FPNPixelDecoder(nn.Module):
    """An FPN whose coarsest level may be encoded by a transformer first; without, the memory is the coarsest feature.

    Args:
        channels: channels of the features, finest first.
        width: channels of the levels.
        num_encoder_layers: layers of the transformer; 0 for none.
        hidden: channels of its hidden layers.
        dropout: its dropout probability.
        num_heads: its heads of attention.
    """

    def __init__(
        self,
        channels: Sequence[int],
        width: int,
        num_encoder_layers: int,
        hidden: int,
        dropout: float,
        num_heads: int,
    ) -> None:
        super().__init__()
        *finer, coarsest = channels
        self.width = width
        self.memory_width = width if num_encoder_layers else coarsest
        self.project: nn.Module = nn.Identity()
        if num_encoder_layers:
            self.project = nn.Conv2d(coarsest, width, 1)
        self.encoder = nn.ModuleList(EncoderLayer(width, num_heads, hidden, dropout) for _ in range(num_encoder_layers))
        self.adapters = nn.ModuleList(_conv_norm(c, width, 1) for c in finer)
        inputs = [width] * len(finer) + [self.memory_width]
        self.layers = nn.ModuleList(nn.Sequential(*_conv_norm(c, width, 3), nn.ReLU()) for c in inputs)
        init_convs(self)
        xavier_init(self.encoder)

    def forward(self, features: Sequence[Tensor]) -> PixelFeatures:
        """See :class:`PixelDecoder`."""
        *finer, coarsest = features
        memory = self.project(coarsest)
        if self.encoder:
            positions, sequence = to_sequence(sine_positions(memory)), to_sequence(memory)
            for layer in self.encoder:
                sequence = layer(sequence, positions)
            memory = sequence.transpose(1, 2).reshape(memory.shape)
        x = self.layers[-1](memory)
        for feature, adapter, layer in zip(finer[::-1], self.adapters[::-1], self.layers[-2::-1], strict=True):
            lateral = adapter(feature)
            x = layer(lateral + F.interpolate(x, size=lateral.shape[-2:], mode="nearest"))
        return PixelFeatures(x, memory)


def _conv_norm(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, GroupNorm(out_channels))


def init_convs(module: nn.Module) -> None:
    """Initialise convolutions as detectron2 does ("c2_xavier_fill"): by their inputs; biases are 0."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
