"""Backbones behind one protocol: four feature maps at strides 4, 8, 16 and 32, or 4, 8, 16 and 16.

timm provides the published architectures and their ImageNet weights. :class:`ResidualBackbone` is ours, for small
models: it avoids importing timm (with torchvision, five seconds) before a first prediction, and dense 3x3
convolutions use a CPU better than depthwise ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError, UnknownNameError
from panscape.nn.darknet import TIMM_SLOPE, Darknet
from panscape.nn.efficientnet_lite import EFFICIENTNET_LITE, EfficientNetLite
from panscape.nn.swin import Swin

STRIDES = (4, 8, 16, 32)
_HALF = (0.5, 0.5, 0.5)
_STRIDES_TO_16 = (4, 8, 16, 16)
# Dilations of the blocks of the last stage at output stride 16: DeepLab's rate of 2, which replaces the missing stride,
# times its "multi-grid" of 1, 2, 4. Blocks beyond the third use the dilation of the third.
_LAST_DILATIONS = (2, 4, 8)


class Backbone(Protocol):
    """A module that maps normalised images to features at :data:`STRIDES`, or at 4, 8, 16 and 16.

    If the architecture ends a stage with a ReLU, the next stage receives the tensor after the ReLU. The features are
    taken before the ReLU (Panoptic SwiftNet's skips) or optionally after it (those of an FPN).
    """

    channels: tuple[int, int, int, int]
    strides: tuple[int, int, int, int]

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Map [B, 3, H, W] (H and W multiples of the last stride) to maps [B, channels[i], H / s, W / s].

        With one more row and column of pixels, residual networks return one more row and column of cells.
        """


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al., CVPR 2016, Figure 2); returns the sum before its ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, dilation, dilation, bias=False)
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
        after_relu: return features after the last ReLU of their stage instead of before it.
        strides: strides of the stages; if the last is 16, the blocks of the last stage are dilated instead.
    """

    def __init__(
        self,
        channels: Sequence[int],
        depths: Sequence[int],
        *,
        after_relu: bool = False,
        strides: tuple[int, int, int, int] = STRIDES,
    ) -> None:
        super().__init__()
        self.channels = cast("tuple[int, int, int, int]", tuple(channels))
        self.strides = strides
        self.after_relu = after_relu
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
            is_dilated = i > 0 and strides[i] == strides[i - 1]
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 and not is_dilated else 1
                blocks.append(ResidualBlock(incoming, width, stride, _last_dilation(j) if is_dilated else 1))
                incoming = width
            self.stages.append(blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        """See :class:`Backbone`."""
        x = self.stem(images)
        features = []
        for blocks in self.stages:
            for block in cast(nn.ModuleList, blocks):
                x = block(torch.relu(x))
            features.append(torch.relu(x) if self.after_relu else x)
        return features


class ResNetFeatures(nn.Module):
    """A timm ResNet whose stages return the residual sum before the last ReLU, or after it.

    Args:
        net: a ``timm.models.resnet.ResNet``; the last activation of each stage is moved out of its block.
        name: name for messages.
        weights_name: timm's name of the network whose weights fit.
        after_relu: return features after the last ReLU of their stage instead of before it.
        strides: strides of the stages as built; if the last is 16, the last stage's blocks get DeepLab's dilations.
        negative_slope: slope of the activations below 0; 0 for ReLU.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str,
        weights_name: str,
        after_relu: bool = False,
        strides: tuple[int, int, int, int] = STRIDES,
        negative_slope: float = 0.0,
    ) -> None:
        super().__init__()
        self.name, self.weights_name = name, weights_name
        self.after_relu = after_relu
        self.negative_slope = negative_slope
        self.strides = strides
        self.conv1, self.bn1, self.act1, self.maxpool = net.conv1, net.bn1, net.act1, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        self.channels = cast(
            "tuple[int, int, int, int]",
            tuple(info["num_chs"] for info in cast(list[dict[str, int]], net.feature_info)[1:]),
        )
        for stage in self._stages():
            last = cast(nn.Sequential, stage)[-1]
            setattr(last, "act3" if hasattr(last, "act3") else "act2", nn.Identity())
        if strides[-1] == strides[-2]:
            for i, block in enumerate(cast(nn.Sequential, self.layer4)):
                for conv in (m for m in block.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)):
                    conv.dilation = conv.padding = (_last_dilation(i),) * 2

    def _stages(self) -> list[nn.Module]:
        return [cast(nn.Module, s) for s in (self.layer1, self.layer2, self.layer3, self.layer4)]

    def forward(self, images: Tensor) -> list[Tensor]:
        """See :class:`Backbone`."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(images))))  # type: ignore[operator]
        features = []
        for stage in self._stages():
            before = stage(x)
            x = F.leaky_relu(before, self.negative_slope) if self.negative_slope else torch.relu(before)
            features.append(x if self.after_relu else before)
        return features


def stride_in_first_conv(backbone: nn.Module) -> None:
    """Move the strides of a ResNet's bottlenecks from their 3x3 to their first 1x1 convolution, in place.

    This is the ResNet of its first publication (He et al., CVPR 2016), whose weights detectron2 starts from; names and
    shapes of weights are the same.

    Raises:
        InvalidArgumentError: the backbone has no bottlenecks.
    """
    blocks = [m for m in backbone.modules() if isinstance(getattr(m, "conv3", None), nn.Conv2d)]
    if not blocks:
        raise InvalidArgumentError("expected a ResNet with bottlenecks, such as resnet50, got another backbone")
    for block in blocks:
        first, second = cast(nn.Conv2d, block.conv1), cast(nn.Conv2d, block.conv2)
        if second.stride != (1, 1):
            first.stride, second.stride = second.stride, (1, 1)


def fuse_bilinearly(backbone: nn.Module) -> None:
    """Let the fusion layers of an HRNet upsample bilinearly with aligned corners, in place.

    This is the HRNet of the authors' code for segmentation and of Panoptic-DeepLab's; that for classification, whose
    ImageNet weights timm has, upsamples by nearest neighbour. Names and shapes of weights are the same.

    Raises:
        InvalidArgumentError: the backbone is not an HRNet.
    """
    layers = [m.fuse_layers for m in backbone.modules() if isinstance(getattr(m, "fuse_layers", None), nn.ModuleList)]
    upsamplings = [m for fusion in layers for m in cast(nn.Module, fusion).modules() if isinstance(m, nn.Upsample)]
    if not upsamplings:
        name = getattr(backbone, "name", type(backbone).__name__)
        raise InvalidArgumentError(
            f'expected an HRNet, such as hrnet_w48, for bilinear fusion, got {name}; use fuse_upsampling="nearest"'
        )
    for upsampling in upsamplings:
        upsampling.mode, upsampling.align_corners = "bilinear", True


class TimmFeatures(nn.Module):
    """Any other timm network, through timm's own feature interface.

    Args:
        net: the result of ``timm.create_model(name, **options)``.
        channels: channels of its four features.
        name: timm's name of the network.
        options: keyword arguments with which it was created.

    Attributes:
        normalization: input normalisation of timm's weights: "imagenet", or "inception" for pixels in -1 to 1.
    """

    def __init__(self, net: nn.Module, channels: tuple[int, ...], *, name: str, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.net = net
        self.name = self.weights_name = name
        self.options = dict(options)
        self.normalization = "inception" if getattr(net, "pretrained_cfg", {}).get("mean") == _HALF else "imagenet"
        self.channels = cast("tuple[int, int, int, int]", channels)
        self.strides = STRIDES

    def forward(self, images: Tensor) -> list[Tensor]:
        """See :class:`Backbone`."""
        return list(self.net(images))


_RESIDUAL = {  # name: (channels, depths)
    "residual_xs": ((24, 48, 96, 128), (1, 1, 1, 1)),
    "residual_s": ((32, 64, 128, 192), (1, 2, 2, 2)),
}

_DARKNET: Mapping[str, Mapping[str, Any]] = {
    "darknet53": {},
    # Ours, for training from scratch.
    "darknet_xs": {"channels": (16, 32, 48, 64, 96), "depths": (1, 1, 2, 2, 1)},
}

_LARGE = {"width": 192, "depths": (2, 2, 18, 2), "num_heads": (6, 12, 24, 48)}
_BASE = {"width": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)}
SWIN_TRANSFORMERS: Mapping[str, Mapping[str, Any]] = {  # by timm's names without their tags, such as ".ms_in22k"
    "swin_tiny_patch4_window7_224": {"width": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24), "window": 7},
    "swin_small_patch4_window7_224": {"width": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24), "window": 7},
    "swin_base_patch4_window7_224": {**_BASE, "window": 7},
    "swin_base_patch4_window12_384": {**_BASE, "window": 12},
    "swin_large_patch4_window7_224": {**_LARGE, "window": 7},
    "swin_large_patch4_window12_384": {**_LARGE, "window": 12},
    # Ours, for training from scratch.
    "swin_xs": {"width": 24, "depths": (1, 2, 2, 1), "num_heads": (1, 2, 4, 8), "window": 4, "drop_path": 0.0},
}

# ResNets with a stem of three 3x3 convolutions of 64, 64 and 128 channels in place of one of 7x7, as in DeepLab. Each
# maps to timm's network without that stem, and to timm's network with the stem and weights (Gluon's, not detectron2's
# R-52.pkl).
_DEEP_STEM = {
    "resnet52": ("resnet50", "resnet50s.gluon_in1k"),
    "resnet103": ("resnet101", "resnet101s.gluon_in1k"),
}


def _last_dilation(block: int) -> int:
    return _LAST_DILATIONS[min(block, len(_LAST_DILATIONS) - 1)]


def create_backbone(
    name: str,
    *,
    pretrained: bool = False,
    after_relu: bool = False,
    output_stride: Literal[16, 32] = 32,
    negative_slope: float = 0.0,
) -> Backbone:
    """Build a backbone by name.

    Args:
        name: ``residual_xs`` or ``residual_s`` (ours); ``resnet52`` or ``resnet103``, which are timm's resnet50 and
            resnet101 with DeepLab's stem, as in detectron2; or any timm model with features at strides 4, 8, 16 and 32.
            HRNets return their four branches as they are, without the additional layers of their classifiers.
            ``darknet53`` and the small ``darknet_xs`` are :class:`~panscape.nn.darknet.Darknet`.
        pretrained: load timm's ImageNet weights, which are downloaded once; an error if there are none. Those of
            ``resnet52`` and ``resnet103`` are Gluon's ``resnet50s.gluon_in1k`` and ``resnet101s.gluon_in1k``.
        after_relu: take features after the last ReLU of their stage instead of before it. Names and values of weights
            are the same either way. Only for ResNets and ours; other networks use timm's own feature interface.
        output_stride: 32; or 16, where the last stage keeps the size and its blocks are dilated by 2, 4 and 8 instead
            (DeepLab's "multi-grid"). 16 is only for ResNets and ours. Names and shapes of weights are the same either
            way.
        negative_slope: slope of the activations below 0, for networks with leaky ReLUs; other networks than ResNets
            and Darknets keep their activations. 0 is timm's slope for Darknets, which its weights need.

    Raises:
        UnknownNameError: the name is neither ours nor timm's.
        InvalidArgumentError: the timm model lacks a stride or does not support the output stride, or there are no
            pretrained weights.
    """
    if output_stride not in (16, 32):
        raise InvalidArgumentError(f"expected an output stride of 16 or 32, got {output_stride}")
    strides = STRIDES if output_stride == 32 else _STRIDES_TO_16
    if name in _RESIDUAL:
        if pretrained:
            raise InvalidArgumentError(f"{name} has no pretrained weights; use pretrained=False or a timm backbone")
        return cast(Backbone, ResidualBackbone(*_RESIDUAL[name], after_relu=after_relu, strides=strides))
    if name in _DARKNET and output_stride == 32:
        backbone: nn.Module = Darknet(**_DARKNET[name], name=name, negative_slope=negative_slope or TIMM_SLOPE)
    elif name.partition(".")[0] in SWIN_TRANSFORMERS and output_stride == 32:
        backbone = Swin(**SWIN_TRANSFORMERS[name.partition(".")[0]], name=name)
    elif name.partition(".")[0] in EFFICIENTNET_LITE and output_stride == 32:
        backbone = EfficientNetLite(*EFFICIENTNET_LITE[name.partition(".")[0]], name=name)
    else:
        backbone = _from_timm(name, after_relu, output_stride, strides, negative_slope)
    if pretrained:
        from panscape.nn.pretrained import load_pretrained

        load_pretrained([backbone])
    return cast(Backbone, backbone)


def _from_timm(
    name: str, after_relu: bool, output_stride: int, strides: tuple[int, int, int, int], negative_slope: float
) -> nn.Module:
    import timm
    from timm.models.hrnet import HighResolutionNet
    from timm.models.resnet import ResNet

    options: dict[str, Any] = {"stem_type": "deep", "stem_width": 64} if name in _DEEP_STEM else {}
    asked, (name, weights_name) = name, _DEEP_STEM.get(name, (name, name))
    if not timm.is_model(name):
        raise UnknownNameError(
            "backbone", name, [*_RESIDUAL, *_DARKNET, *SWIN_TRANSFORMERS, *_DEEP_STEM, *timm.list_models()]
        )
    if output_stride != 32:
        entry: Any = timm.model_entrypoint(name)
        if entry.__module__ != "timm.models.resnet":
            raise InvalidArgumentError(f"expected an output stride of 32 with {name}; 16 is for ResNets")
        options["output_stride"] = output_stride
    net = timm.create_model(name, num_classes=0, **options)
    if isinstance(net, ResNet) and tuple(stage["reduction"] for stage in net.feature_info[1:]) == strides:
        if negative_slope:
            net = timm.create_model(name, num_classes=0, act_layer=partial(nn.LeakyReLU, negative_slope), **options)
        return ResNetFeatures(
            net,
            name=asked,
            weights_name=weights_name,
            after_relu=after_relu,
            strides=strides,
            negative_slope=negative_slope,
        )
    options = {"features_only": True}
    if isinstance(net, HighResolutionNet):
        options["feature_location"] = ""
    info: Any = timm.create_model(name, **options).feature_info
    reductions = list(info.reduction())
    if not set(STRIDES) <= set(reductions):
        raise InvalidArgumentError(
            f"expected a backbone with features at strides {STRIDES}, but {name} has them at {tuple(reductions)}"
        )
    indices = tuple(len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES)
    channels = tuple(info.channels()[i] for i in indices)
    options["out_indices"] = indices
    return TimmFeatures(timm.create_model(name, **options), channels, name=name, options=options)
