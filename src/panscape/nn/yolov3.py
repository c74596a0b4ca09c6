"""YOLOv3: a detector of boxes at three strides on Darknet-53.

Redmon and Farhadi, "YOLOv3: An Incremental Improvement", arXiv:1804.02767, as in Darknet's yolov3.cfg. Layers are
registered in the order of that file, in which Darknet stores their weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.nn.darknet import DARKNET_SLOPE, Darknet
from panscape.ops.boxes import has_area
from panscape.ops.letterbox import Letterbox
from panscape.ops.yolo_boxes import ANCHORS, YoloDetections, decode_logits, select_detections

_STRIDE = 32
_OBJECTNESS = 0.01  # initial, as most cells have no object


class YoloHead(nn.Module):
    """The layers of YOLOv3 after its body: at each stride, coarsest first, five convolutions and a predictor.

    From the fifth convolution, the next stride receives half the channels, upsampled to its size.

    Args:
        channels: channels of the features at strides 8, 16 and 32.
        num_categories: number of categories.
        num_anchors: anchors of each stride.
        negative_slope: slope of the activations below 0.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_categories: int,
        *,
        num_anchors: int = 3,
        negative_slope: float = DARKNET_SLOPE,
    ) -> None:
        super().__init__()
        self.num_categories, self.num_anchors = num_categories, num_anchors
        outputs = num_anchors * (5 + num_categories)
        coarser = (0, *reversed(channels))
        self.strides = nn.ModuleList(
            _Stride(c, above, outputs, negative_slope) for c, above in zip(reversed(channels), coarser, strict=False)
        )
        for predictor in self.predictors:
            nn.init.normal_(predictor.weight, std=0.01)
            nn.init.zeros_(cast(Tensor, predictor.bias))
            nn.init.constant_(
                cast(Tensor, predictor.bias)[4 :: 5 + num_categories], math.log(_OBJECTNESS / (1 - _OBJECTNESS))
            )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Map the body's features at strides 8, 16 and 32 to the logits of each, in this order.

        Args:
            features: float [B, C, H / s, W / s].

        Returns:
            float [B, A * (5 + C), H / s, W / s]: of each anchor x, y, width, height, objectness and categories, see
            :func:`~panscape.ops.yolo_boxes.decode_logits`.
        """
        coarser: Tensor | None = None
        logits = []
        for stride, feature in zip(self.strides, reversed(features), strict=True):
            coarser, found = stride(feature, coarser)
            logits.append(found)
        return logits[::-1]

    @property
    def predictors(self) -> list[nn.Conv2d]:
        """The layers whose shape depends on the number of categories, coarsest first."""
        return [stride.predictor for stride in self.strides]  # type: ignore[misc]


class YoloV3(nn.Module):
    """The whole detector.

    Args:
        num_categories: number of categories.
        body: a Darknet; by default Darknet-53 for Darknet's weights.
        anchors: width and height of the anchors in pixels, by stride and ascending, [3, A, 2]; by default YOLOv3's.

    Raises:
        InvalidArgumentError: there are no categories.
    """

    anchors: Tensor

    def __init__(self, num_categories: int, body: Darknet | None = None, anchors: Sequence[object] = ANCHORS) -> None:
        super().__init__()
        if num_categories < 1:
            raise InvalidArgumentError(f"expected num_categories of 1 or more, got {num_categories}")
        self.body = body or Darknet()
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32), persistent=False)
        self.head = YoloHead(
            self.body.channels[1:],
            num_categories,
            num_anchors=self.anchors.shape[1],
            negative_slope=self.body.negative_slope,
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images to logits, see :meth:`YoloHead.forward`.

        Args:
            images: as the body's weights expect them, for Darknet's in 0..1; float [B, 3, H, W], H and W multiples
                of 32.
        """
        return self.head(self.body(images)[1:])  # type: ignore[no-any-return]

    @torch.no_grad()
    def detect(
        self,
        image: Tensor,
        *,
        size: tuple[int, int] = (416, 416),
        min_score: float = 0.5,
        max_overlap: float = 0.45,
        max_detections: int = 100,
        one_category: bool = False,
    ) -> YoloDetections:
        """Detect objects in an image with Darknet's preprocessing; the network must be in eval mode.

        Args:
            image: float [3, H, W] in 0..1, red, green, blue, of any size.
            size: height and width of the network's input, multiples of 32.
            min_score: see :func:`~panscape.ops.yolo_boxes.select_detections`, 0..1; Darknet evaluates with 0.005.
            max_overlap: likewise, 0..1.
            max_detections: likewise, 1 or more.
            one_category: likewise.

        Returns:
            Boxes in pixels of the image, clipped to it; those outside are left out.

        Raises:
            InvalidArgumentError: the image is not float [3, H, W] in 0..1, a side of ``size`` is no multiple of 32,
                another argument is out of range, or the network is in training mode.
        """
        self._check_input(image, size)
        for name, value in (("min_score", min_score), ("max_overlap", max_overlap)):
            if not 0 <= value <= 1:
                raise InvalidArgumentError(f"expected {name} in 0..1, got {value}")
        if max_detections < 1:
            raise InvalidArgumentError(f"expected max_detections of 1 or more, got {max_detections}")
        letterbox = Letterbox.of((image.shape[-2], image.shape[-1]), size)
        boxes, objectness, category_prob = decode_logits(self(letterbox.apply(image)[None]), self.anchors)
        found = select_detections(
            boxes[0],
            objectness[0],
            category_prob[0],
            min_score=min_score,
            max_overlap=max_overlap,
            max_detections=max_detections,
            one_category=one_category,
        )
        # Clipped after NMS, as in Darknet, whose overlaps are those of whole boxes.
        clipped = letterbox.undo(found.boxes)
        is_inside = has_area(clipped)
        return YoloDetections(*(part[is_inside] for part in found._replace(boxes=clipped)))

    def _check_input(self, image: Tensor, size: tuple[int, int]) -> None:
        if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
            raise InvalidArgumentError(f"expected an image as float [3, H, W], got {image.dtype} {list(image.shape)}")
        if not bool(((image >= 0) & (image <= 1)).all()):
            raise InvalidArgumentError(
                f"expected an image in 0..1, got {float(image.min()):g}..{float(image.max()):g}; divide 8-bit values "
                "by 255, and do not normalise them"
            )
        if not isinstance(size, Sequence) or len(size) != 2 or any(side < 1 or side % _STRIDE for side in size):
            raise InvalidArgumentError(
                f"expected an input size (height, width) of multiples of {_STRIDE} pixels, got {size}"
            )
        if self.training:
            raise InvalidArgumentError("expected a network in eval mode, got one in training mode; call eval() first")


class _Stride(nn.Module):
    """The layers at one stride of this many channels; the next coarser one has ``coarser`` channels, or 0 for none."""

    def __init__(self, channels: int, coarser: int, outputs: int, slope: float) -> None:
        super().__init__()
        half = channels // 2
        self.lateral = _conv(coarser // 2, coarser // 4, 1, slope) if coarser else None
        self.convs = nn.Sequential(
            _conv(channels + coarser // 4, half, 1, slope),
            _conv(half, channels, 3, slope),
            _conv(channels, half, 1, slope),
            _conv(half, channels, 3, slope),
            _conv(channels, half, 1, slope),
        )
        self.last = _conv(half, channels, 3, slope)
        self.predictor = nn.Conv2d(channels, outputs, 1)

    def forward(self, feature: Tensor, coarser: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what the next finer stride receives, and the logits."""
        if self.lateral is not None and coarser is not None:
            upsampled = F.interpolate(self.lateral(coarser), size=feature.shape[-2:], mode="nearest")
            feature = torch.cat([upsampled, feature], dim=1)
        feature = self.convs(feature)
        return feature, self.predictor(self.last(feature))


def _conv(in_channels: int, out_channels: int, kernel: int, slope: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(slope, inplace=True),
    )
