"""Feature extractors behind one protocol: four maps at strides 4, 8, 16 and 32.

timm brings the published architectures and their ImageNet weights. :class:`ResidualBackbone` is ours, for small models:
it keeps timm (with torchvision, five seconds of imports) out of the way of a first prediction, and dense 3x3
convolutions use a processor better than depthwise ones do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from panscape.errors import InvalidArgumentError, UnknownNameError

STRIDES = (4, 8, 16, 32)


class Backbone(Protocol):
    """A module that turns normalised images into features at :data:`STRIDES`.

    Where the architecture ends a stage with a rectifier, the next stage sees the rectified tensor, and the features are
    taken before the rectifier (Panoptic SwiftNet's skips) or, if asked for, after it (those of a feature pyramid).
    """

    channels: tuple[int, int, int, int]

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Map [B, 3, H, W] (H and W multiples of 32) to four maps [B, channels[i], H / s, W / s]."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al., CVPR 2016, Figure 2); returns the sum before its rectifier."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C', H / stride, W / stride]."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return cast(Tensor, self.bn2(self.conv2(y)) + self.shortcut(x))


class ResidualBackbone(nn.Module):
    """A small residual network for training from scratch: a two-convolution stem, then four stages of residual blocks.

    Args:
        channels: widths of the stages.
        depths: residual blocks of each stage.
        rectified: hand out features after the last rectifier of their stage, not before it.
    """

    def __init__(self, channels: Sequence[int], depths: Sequence[int], *, rectified: bool = False) -> None:
        super().__init__()
        self.channels = cast("tuple[int, int, int, int]", tuple(channels))
        self.rectified = rectified
        stem = channels[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 3, 2, 1, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
            nn.Conv2d(stem, stem, 3, 2, 1, bias=False),
            nn.BatchNorm2d(stem),
        )
        self.stages = nn.ModuleList()
        incoming = stem
        for i, (width, depth) in enumerate(zip(channels, depths, strict=True)):
            blocks = nn.ModuleList()
            for j in range(depth):
                blocks.append(ResidualBlock(incoming, width, stride=2 if i > 0 and j == 0 else 1))
                incoming = width
            self.stages.append(blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        """See :class:`Backbone`."""
        x = self.stem(images)
        features = []
        for blocks in self.stages:
            for block in cast(nn.ModuleList, blocks):
                x = block(torch.relu(x))
            features.append(torch.relu(x) if self.rectified else x)
        return features


class ResNetFeatures(nn.Module):
    """A timm ResNet whose stages hand out the residual sum before the last rectifier, or after it.

    Args:
        net: a ``timm.models.resnet.ResNet``; the last activation of each stage is moved out of its block.
        rectified: hand out features after the last rectifier of their stage, not before it.
    """

    def __init__(self, net: nn.Module, *, rectified: bool = False) -> None:
        super().__init__()
        self.rectified = rectified
        self.conv1, self.bn1, self.act1, self.maxpool = net.conv1, net.bn1, net.act1, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        self.channels = cast(
            "tuple[int, int, int, int]",
            tuple(info["num_chs"] for info in cast(list[dict[str, int]], net.feature_info)[1:]),
        )
        for stage in self._stages():
            last = cast(nn.Sequential, stage)[-1]
            setattr(last, "act3" if hasattr(last, "act3") else "act2", nn.Identity())

    def _stages(self) -> list[nn.Module]:
        return [cast(nn.Module, s) for s in (self.layer1, self.layer2, self.layer3, self.layer4)]

    def forward(self, images: Tensor) -> list[Tensor]:
        """See :class:`Backbone`."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(images))))  # type: ignore[operator]
        features = []
        for stage in self._stages():
            before = stage(x)
            x = torch.relu(before)
            features.append(x if self.rectified else before)
        return features


class TimmFeatures(nn.Module):
    """Any other timm network, by its own feature interface."""

    def __init__(self, net: nn.Module, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.net = net
        self.channels = cast("tuple[int, int, int, int]", channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """See :class:`Backbone`."""
        return list(self.net(images))


_RESIDUAL = {  # name: (channels, depths)
    "residual_xs": ((24, 48, 96, 128), (1, 1, 1, 1)),
    "residual_s": ((32, 64, 128, 192), (1, 2, 2, 2)),
}


def create_backbone(name: str, *, pretrained: bool = False, rectified: bool = False) -> Backbone:
    """Build a backbone by name.

    Args:
        name: ``residual_xs`` or ``residual_s`` (ours), or any timm model with features at strides 4, 8, 16 and 32.
        pretrained: load timm's ImageNet weights (downloads them once); refused for ours, which have none.
        rectified: take features after the last rectifier of their stage, not before it. Names and values of weights
            are the same either way. For ResNets and ours; other networks have features by timm's own interface.

    Raises:
        UnknownNameError: neither ours nor timm's.
        InvalidArgumentError: the timm model lacks a stride, or there are no pretrained weights.
    """
    if name in _RESIDUAL:
        if pretrained:
            raise InvalidArgumentError(f"{name} has no pretrained weights; use pretrained=False or a timm backbone")
        return cast(Backbone, ResidualBackbone(*_RESIDUAL[name], rectified=rectified))

    import timm
    from timm.models.resnet import ResNet

    if not timm.is_model(name):
        raise UnknownNameError("backbone", name, [*_RESIDUAL, *timm.list_models()])
    net = timm.create_model(name, pretrained=pretrained, num_classes=0)
    if isinstance(net, ResNet) and tuple(stage["reduction"] for stage in net.feature_info[1:]) == STRIDES:
        return cast(Backbone, ResNetFeatures(net, rectified=rectified))
    net = timm.create_model(name, pretrained=pretrained, features_only=True)
    info: Any = net.feature_info
    reductions = list(info.reduction())
    if not set(STRIDES) <= set(reductions):
        raise InvalidArgumentError(
            f"expected a backbone with features at strides {STRIDES}, but {name} has them at {tuple(reductions)}"
        )
    indices = tuple(len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES)
    channels = tuple(info.channels()[i] for i in indices)
    net = timm.create_model(name, pretrained=pretrained, features_only=True, out_indices=indices)
    return cast(Backbone, TimmFeatures(net, channels))
