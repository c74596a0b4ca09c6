"""Darknet-53, the body of YOLOv3, through timm, with the layer numbers of YOLO-based panoptic segmentation.

Redmon and Farhadi, "YOLOv3: An Incremental Improvement", arXiv:1804.02767.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from panscape.errors import InvalidArgumentError

DARKNET_SLOPE = 0.1
"""Slope of activations below 0 with which Darknet's weights were trained, on pixels in 0..1 without normalisation."""

TIMM_SLOPE = 0.01
"""Slope of activations below 0 with which timm's weights were trained, on pixels normalised as for ImageNet."""

# Of each stage, at strides 2 to 32: the convolution that halves the size, and the last residual sum.
_LAYERS = ((2, 5), (6, 12), (13, 37), (38, 62), (63, 75))


class Darknet(nn.Module):
    """Convolutions with BatchNorm and leaky ReLU; five stages of residual blocks, whose sums have no activation.

    A :class:`~panscape.nn.backbones.Backbone` whose features are layers 12, 37, 62 and 75. Names of weights are timm's.

    Args:
        channels: channels of the stages, at strides 2 to 32; the stem has half as many as the first.
        depths: residual blocks of the stages.
        negative_slope: slope of the activations below 0: :data:`DARKNET_SLOPE`, or :data:`TIMM_SLOPE` for timm's
            weights. With the other slope, weights give wrong features.
        name: name of the network, "darknet53" if timm's weights fit.

    Attributes:
        layer_channels: channels by number of layer, of the layers that :meth:`layers` returns.
        layer_strides: likewise, strides.
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256, 512, 1024),
        depths: Sequence[int] = (1, 2, 8, 8, 4),
        *,
        negative_slope: float = DARKNET_SLOPE,
        name: str = "darknet53",
    ) -> None:
        super().__init__()
        import timm
        from timm.models.cspnet import model_cfgs

        published: Any = model_cfgs["darknet53"]
        net: Any = timm.create_model(
            "darknet53",
            num_classes=0,
            act_layer=partial(nn.LeakyReLU, negative_slope),
            stem=replace(published.stem, out_chs=channels[0] // 2),
            stages=replace(published.stages, out_chs=tuple(channels), depth=tuple(depths)),
        )
        self.stem, self.stages = cast(nn.Module, net.stem), cast(nn.Sequential, net.stages)
        self.negative_slope = negative_slope
        self.name, self.weights_name = name, name if name == "darknet53" else None
        self.channels = cast("tuple[int, int, int, int]", tuple(channels[1:]))
        self.strides = (4, 8, 16, 32)
        self.layer_channels = {layer: c for pair, c in zip(_LAYERS, channels, strict=True) for layer in pair}
        self.layer_strides = {layer: 2 << i for i, pair in enumerate(_LAYERS) for layer in pair}

    def forward(self, images: Tensor) -> list[Tensor]:
        """See :class:`~panscape.nn.backbones.Backbone`."""
        return list(self.layers(images, [last for _, last in _LAYERS[1:]]).values())

    def layers(self, images: Tensor, numbers: Collection[int]) -> dict[int, Tensor]:
        """Return features by number of layer, in ascending order.

        Args:
            images: normalised, float [B, 3, H, W], H and W multiples of 32.
            numbers: of layers, which are counted from 1 with convolutions and residual sums as one each, as in the
                thesis: 2, 6, 13, 38 and 63 are the convolutions that halve the size, and 5, 12, 37, 62 and 75 the last
                sums before the next. Networks of other depths have the numbers of Darknet-53.

        Returns:
            float [B, C, H / s, W / s], C and s of ``layer_channels`` and ``layer_strides``.

        Raises:
            InvalidArgumentError: another number.
        """
        if unknown := sorted(set(numbers) - set(self.layer_channels)):
            raise InvalidArgumentError(f"expected layers among {sorted(self.layer_channels)}, got {unknown}")
        found = {}
        x = self.stem(images)
        for stage, (first, last) in zip(self.stages, _LAYERS, strict=True):
            halved = stage.conv_down(x)  # type: ignore[operator]
            x = stage.blocks(halved)  # type: ignore[operator]
            found.update({first: halved} if first in numbers else {})
            found.update({last: x} if last in numbers else {})
        return found
