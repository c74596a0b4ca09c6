"""Swin Transformer as a backbone: windows of attention that are shifted in every second block.

Ze Liu et al.: Swin Transformer: Hierarchical Vision Transformer using Shifted Windows. ICCV 2021. arXiv:2103.14030.

It follows the authors' network for segmentation, on which published weights of MaskFormer and UPerNet were trained; its
results differ from timm's network for classification, although their weights have the same names and shapes:

- Maps whose sides are not multiples of the window are padded with zeros before they are shifted; timm shifts first.
- Windows are shifted on maps of any size; timm does not shift a map of a single window.
- Each stage's features pass a LayerNorm of their own, which is not in weights of classification networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_MASKED = -100.0  # added to the logits of pairs that only a shift puts into one window, as published


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with a learned bias for each relative position (Section 3.2)."""

    index: Tensor

    def __init__(self, channels: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        y, x = (place.flatten() for place in torch.meshgrid(*[torch.arange(window)] * 2, indexing="ij"))
        rows, columns = (p[:, None] - p + window - 1 for p in (y, x))
        self.register_buffer("index", rows * (2 * window - 1) + columns, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map windows [B, N, A, C] of A cells to such; ``mask`` [N, 1, A, A] is added to the logits."""
        batch, count, cells = x.shape[:3]
        # All windows in one axis: kernels and ONNX have attention for four axes.
        qkv = self.qkv(x).reshape(batch * count, cells, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.index].permute(2, 0, 1)[None]
        if mask is not None:
            bias = (bias + mask.to(bias.dtype)).expand(batch, -1, -1, -1, -1).flatten(0, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(len(q), -1, -1, -1))
        return cast(Tensor, self.proj(y.transpose(1, 2).reshape(x.shape)))


class Mlp(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., C] to [..., C]."""
        return cast(Tensor, self.fc2(F.gelu(self.fc1(x))))


class SwinBlock(nn.Module):
    """Attention in windows and an MLP, each behind a LayerNorm and with a shortcut (Equation 3).

    Args:
        channels: channels of the map.
        num_heads: heads of attention.
        window: rows and columns of a window.
        shift: rows and columns by which windows are shifted.
        drop_path: probability of skipping each branch for an image in training.
    """

    def __init__(self, channels: int, num_heads: int, window: int, shift: int, drop_path: float) -> None:
        super().__init__()
        self.window, self.shift, self.drop_path = window, shift, drop_path
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, num_heads, window)
        self.mlp = Mlp(channels, 4 * channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map [B, H, W, C] to such; ``mask`` is that of :func:`shifted_mask` for this size."""
        x = x + self._kept(self._attend(self.norm1(x), mask))
        return x + self._kept(self.mlp(self.norm2(x)))

    def _kept(self, x: Tensor) -> Tensor:
        """Set the branch of some images to zero in training, and scale up that of the others (stochastic depth)."""
        if not (self.training and self.drop_path):
            return x
        return x * F.dropout(x.new_ones(len(x), 1, 1, 1), self.drop_path)

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        window, shift, (height, width) = self.window, self.shift, x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        if shift:
            x = torch.roll(x, (-shift, -shift), (1, 2))
        batch, rows, columns, num_channels = len(x), x.shape[1] // window, x.shape[2] // window, x.shape[3]
        x = x.reshape(batch, rows, window, columns, window, num_channels).transpose(2, 3)
        x = self.attn(x.reshape(batch, rows * columns, window**2, num_channels), mask if shift else None)
        x = x.reshape(batch, rows, columns, window, window, num_channels).transpose(2, 3)
        x = x.reshape(batch, rows * window, columns * window, num_channels)
        if shift:
            x = torch.roll(x, (shift, shift), (1, 2))
        return x[:, :height, :width]


def shifted_mask(size: tuple[int, int], window: int, device: torch.device) -> Tensor:
    """Return what to add to the logits of attention in shifted windows, float [N, 1, A, A].

    Rows and columns that the shift moved to the other end of the map share windows with others, but do not attend to
    them.

    Args:
        size: height and width of the map before padding.
        window: rows and columns of a window.
        device: of the result.
    """
    part = []
    for side in size:
        padded = side + -side % window
        place = torch.arange(padded, device=device)
        part.append((place >= padded - window).int() + (place >= padded - window // 2).int())
    parts = 3 * part[0][:, None] + part[1]
    rows, columns = (side // window for side in parts.shape)
    windows = parts.reshape(rows, window, columns, window).transpose(1, 2).reshape(rows * columns, window**2)
    return torch.where(windows[:, None, :, None] == windows[:, None, None, :], 0.0, _MASKED)


class PatchMerging(nn.Module):
    """Halves the size of a map, and doubles its channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, H, W, C] to [B, H / 2, W / 2, 2 C]."""
        batch, height, width, num_channels = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, num_channels)
        x = x.permute(0, 1, 3, 4, 2, 5).flatten(3)  # the four cells column by column
        return cast(Tensor, self.reduction(self.norm(x)))


class PatchEmbed(nn.Module):
    """Maps patches of 4x4 pixels to channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, 4, 4)
        self.norm = nn.LayerNorm(channels)

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, 3, H, W] to [B, H / 4, W / 4, C]."""
        return cast(Tensor, self.norm(self.proj(images).permute(0, 2, 3, 1)))


class SwinStage(nn.Module):
    """Blocks at one size, every second with shifted windows; the first stage has no ``downsample``.

    Args:
        channels: channels of its blocks.
        num_heads: heads of attention.
        window: rows and columns of a window.
        drop_paths: probability of skipping each block.
        downsample: merge patches before the blocks.
    """

    def __init__(
        self, channels: int, num_heads: int, window: int, drop_paths: Sequence[float], *, downsample: bool
    ) -> None:
        super().__init__()
        self.window = window
        self.downsample = PatchMerging(channels // 2) if downsample else nn.Identity()
        self.blocks = nn.ModuleList(
            SwinBlock(channels, num_heads, window, window // 2 * (i % 2), p) for i, p in enumerate(drop_paths)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, H, W, C] to [B, H', W', C']."""
        x = self.downsample(x)
        mask = shifted_mask((x.shape[1], x.shape[2]), self.window, x.device)
        for block in self.blocks:
            x = block(x, mask)
        return x


class Swin(nn.Module):
    """A Swin Transformer, a :class:`~panscape.nn.backbones.Backbone`. Names of weights are timm's.

    Args:
        width: channels of the first stage; each further stage has twice as many.
        depths: blocks of each stage.
        num_heads: heads of attention of each stage.
        window: rows and columns of a window.
        drop_path: probability of skipping the last block in training; it grows from 0 over the blocks. It is 0.3 in
            MaskFormer and UPerNet.
        name: name of the network.
    """

    def __init__(
        self,
        width: int,
        depths: Sequence[int],
        num_heads: Sequence[int],
        window: int,
        *,
        name: str,
        drop_path: float = 0.3,
    ) -> None:
        super().__init__()
        self.name = self.weights_name = name
        self.window = window
        self.strides = (4, 8, 16, 32)
        self.channels = cast("tuple[int, int, int, int]", tuple(width * 2**i for i in range(4)))
        rates = [drop_path * i / max(1, sum(depths) - 1) for i in range(sum(depths))]
        ends = list(accumulate(depths))
        self.patch_embed = PatchEmbed(width)
        self.layers = nn.ModuleList(
            SwinStage(c, heads, window, rates[end - depth : end], downsample=i > 0)
            for i, (c, heads, depth, end) in enumerate(zip(self.channels, num_heads, depths, ends, strict=True))
        )
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in self.channels)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        """See :class:`~panscape.nn.backbones.Backbone`."""
        x = self.patch_embed(images)
        features = []
        for stage, norm in zip(self.layers, self.norms, strict=True):
            x = stage(x)
            features.append(norm(x).permute(0, 3, 1, 2).contiguous())
        return features
