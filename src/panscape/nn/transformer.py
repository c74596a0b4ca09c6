"""The transformer of DETR: encoder and decoder layers that add positions to queries and keys, and positions of a map.

Nicolas Carion et al.: End-to-End Object Detection with Transformers. ECCV 2020. arXiv:2005.12872, Appendix A.3. Names
of submodules are those of PyTorch's own layers, which add no positions.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

_TEMPERATURE = 10_000
_EPS = 1e-6  # added to the last position when positions are scaled, as published


def sine_positions(like: Tensor) -> Tensor:
    """Return the positions of the cells of a map: sines and cosines of y in half of the channels, of x in the others.

    Args:
        like: float [B, C, h, w]; C is a multiple of 4.

    Returns:
        Of dtype and device of the map, [C, h, w].
    """
    num_channels = like.shape[1] // 2
    exponent = torch.arange(0, num_channels, 2, device=like.device, dtype=torch.float32) / num_channels
    axes = []
    for side in like.shape[-2:]:
        place = torch.arange(1, side + 1, device=like.device, dtype=torch.float32)
        angle = (place / (side + _EPS) * (2 * math.pi))[:, None] / _TEMPERATURE**exponent
        axes.append(torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1).T)
    y, x = axes
    height, width = like.shape[-2:]
    both = [y[:, :, None].expand(-1, -1, width), x[:, None].expand(-1, height, -1)]
    return torch.cat(both).to(like.dtype)


def to_sequence(x: Tensor) -> Tensor:
    """Return the cells of maps [..., C, h, w], row by row, as sequences [..., h w, C]."""
    return x.flatten(-2).transpose(-2, -1)


class _Layer(nn.Module):
    """What encoder and decoder layers share: self-attention first, a hidden layer of ``hidden`` channels last."""

    def __init__(self, width: int, num_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, num_heads, dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def _attend_to_itself(self, x: Tensor, positions: Tensor) -> Tensor:
        placed = x + positions
        y = self.self_attn(placed, placed, x, need_weights=False)[0]
        return cast(Tensor, self.norm1(x + self.dropout(y)))

    def _hidden(self, x: Tensor) -> Tensor:
        y = self.linear2(self.dropout(torch.relu(self.linear1(x))))
        return x + cast(Tensor, self.dropout(y))


class EncoderLayer(_Layer):
    """Self-attention and a hidden layer, each followed by a sum with its input and a LayerNorm.

    Args:
        width: channels.
        num_heads: heads of attention.
        hidden: channels of the hidden layer.
        dropout: dropout probability.
    """

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Map sequences [B, N, C], at positions [N, C] or [B, N, C], to such."""
        x = self._attend_to_itself(x, positions)
        return cast(Tensor, self.norm2(self._hidden(x)))


class DecoderLayer(_Layer):
    """An encoder layer of queries that attends to a memory between its two steps.

    Args:
        width: channels.
        num_heads: heads of attention.
        hidden: channels of the hidden layer.
        dropout: dropout probability.
    """

    def __init__(self, width: int, num_heads: int, hidden: int, dropout: float) -> None:
        super().__init__(width, num_heads, hidden, dropout)
        self.multihead_attn = nn.MultiheadAttention(width, num_heads, dropout, batch_first=True)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, x: Tensor, positions: Tensor, memory: Tensor, placed_memory: Tensor) -> Tensor:
        """Map queries to such.

        Args:
            x: queries [B, Q, C].
            positions: of the queries, [Q, C].
            memory: [B, N, C].
            placed_memory: memory with its positions added.
        """
        x = self._attend_to_itself(x, positions)
        y = self.multihead_attn(x + positions, placed_memory, memory, need_weights=False)[0]
        x = self.norm2(x + self.dropout(y))
        return cast(Tensor, self.norm3(self._hidden(x)))


def xavier_init(module: nn.Module) -> None:
    """Initialise all weights of two or more dimensions by Glorot and Bengio's rule, as in DETR."""
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
