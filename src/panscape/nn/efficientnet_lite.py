"""EfficientNet-Lite: EfficientNets without squeeze-and-excitation, for processors.

Mingxing Tan, Quoc Le. ICML 2019. arXiv:1905.11946; the Lite variants are those of TensorFlow's TPU repository.

timm has these networks as ``tf_efficientnet_lite0`` to ``4``. This one imports no timm before a first prediction. Names
of weights are timm's, and the features are those of timm: of the last block of each stride.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

_STEM = 32
# Kernel, stride, expansion, channels and blocks of each stage of Lite0.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_FEATURES = (1, 2, 4, 6)  # the last stage of each stride from 4 to 32
_EPS = 1e-3  # TensorFlow's
EFFICIENTNET_LITE: Mapping[str, tuple[float, float]] = {  # multipliers of width and depth by timm's name
    "tf_efficientnet_lite0": (1.0, 1.0),
    "tf_efficientnet_lite1": (1.0, 1.1),
    "tf_efficientnet_lite2": (1.1, 1.2),
    "tf_efficientnet_lite3": (1.2, 1.4),
    "tf_efficientnet_lite4": (1.4, 1.8),
}


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection, and a shortcut where the shape stays (arXiv:1801.04381).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the depthwise convolution.
        stride: its stride.
        expansion: channels of the depthwise convolution per input channel; 1 omits the expanding convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = in_channels * expansion
        convs = {
            "conv_pw": nn.Conv2d(in_channels, width, 1, bias=False),
            "conv_dw": nn.Conv2d(width, width, kernel, stride, _padding(kernel, stride), groups=width, bias=False),
            "conv_pwl": nn.Conv2d(width, out_channels, 1, bias=False),
        }
        if expansion == 1:
            convs = {"conv_dw": convs["conv_dw"], "conv_pw": convs["conv_pwl"]}
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.layers = tuple((name, f"bn{i}") for i, name in enumerate(convs, 1))
        for conv, norm in self.layers:
            self.add_module(conv, convs[conv])
            self.add_module(norm, nn.BatchNorm2d(convs[conv].out_channels, _EPS))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C', H / stride, W / stride]; H and W are multiples of the stride."""
        y = x
        for i, (conv, norm) in enumerate(self.layers):
            y = getattr(self, norm)(_conv(y, getattr(self, conv)))
            if i < len(self.layers) - 1:
                y = F.relu6(y)
        return x + y if self.has_shortcut else y


class EfficientNetLite(nn.Module):
    """The features of an EfficientNet-Lite, a :class:`~panscape.nn.backbones.Backbone`.

    Args:
        width: multiplier of the channels of Lite0.
        depth: multiplier of its blocks.
        name: timm's name of the network.

    Attributes:
        normalization: input normalisation of timm's weights.
    """

    normalization = "inception"

    def __init__(self, width: float, depth: float, *, name: str) -> None:
        super().__init__()
        self.name = self.weights_name = name
        self.strides = (4, 8, 16, 32)
        self.conv_stem = nn.Conv2d(3, _STEM, 3, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM, _EPS)
        self.blocks = nn.ModuleList()
        incoming, channels = _STEM, []
        for i, (kernel, stride, expansion, base, repeats) in enumerate(_STAGES):
            outgoing = _multiple_of_8(base * width)
            is_end = i in (0, len(_STAGES) - 1)  # which are not repeated more often in larger networks
            stage = nn.ModuleList()
            for j in range(repeats if is_end else math.ceil(repeats * depth)):
                stage.append(InvertedResidual(incoming, outgoing, kernel, stride if j == 0 else 1, expansion))
                incoming = outgoing
            self.blocks.append(stage)
            channels.append(outgoing)
        self.channels = cast("tuple[int, int, int, int]", tuple(channels[i] for i in _FEATURES))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as in TensorFlow
                fan_out = module.kernel_size[0] ** 2 * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))

    def forward(self, images: Tensor) -> list[Tensor]:
        """See :class:`~panscape.nn.backbones.Backbone`."""
        x = F.relu6(self.bn1(_conv(images, self.conv_stem)))
        features = []
        for i, stage in enumerate(self.blocks):
            for block in cast(nn.ModuleList, stage):
                x = block(x)
            if i in _FEATURES:
                features.append(x)
        return features


def _padding(kernel: int, stride: int) -> int:
    """Return the padding of a convolution on each side; with a stride, :func:`_conv` pads."""
    return kernel // 2 if stride == 1 else 0


def _conv(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Apply a convolution; one of stride 2 to an input padded as TensorFlow does: less at the top and left."""
    if conv.stride != (1, 1):
        before, after = (conv.kernel_size[0] - 2) // 2, (conv.kernel_size[0] - 1) // 2  # of even sizes
        x = F.pad(x, (before, after, before, after))
    return cast(Tensor, conv(x))


def _multiple_of_8(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
