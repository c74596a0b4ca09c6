"""YOLO-based panoptic segmentation: YOLOv3's detections, filled by a mask head, on the features of a semantic head.

Manuel Diaz-Zapata: YOLO-Based Panoptic Segmentation. MSc thesis, 2020, hal-02884735. The detector is YOLOv3: Joseph
Redmon, Ali Farhadi: YOLOv3: An Incremental Improvement. arXiv:1804.02767.

Darknet-53 has two kinds of heads: the detector's at strides 8, 16 and 32, and a semantic head on three layers at
strides 4, 8 and 16. A pyramid of pooled features serves the semantic head and the mask head, which sees each detected
box together with the probability of its category. The thesis trains the two heads on a detector for COCO, whose weights
stay fixed.

No code is published, and the thesis leaves much open:

- Layers are counted from 1, with convolutions and residual sums as one each; sizes are those of areas: "1/16 of the
  image" is stride 4. This reading alone agrees with the thesis' shapes. The times it reports would fit stride 16.
- Widths and the order of norms and ReLUs, see ``nn/semantic_heads.py``, ``nn/pyramid_pooling.py`` and
  ``nn/mask_heads.py``. The 3x3 convolution of the pooled features has 128 channels, PSPNet's 512.
- The 3x3 convolution on pooled features is computed by an equivalent rearrangement, equal up to rounding
  (``split=False``: as written).
- Boxes are cropped by RoIAlign; masks are trained on matched detections and jittered boxes of objects, since objects
  that the detector misses would not train at all. Every 3x3 convolution of the mask heads is followed by a ReLU6
  (``literal=True``: only the one that the text names).
- Semantic heads other than pyramid pooling come without masks in the thesis. With ``masks="category"``, an object has
  the pixels of its box to which the semantic head gives its category.
- Images are padded at the right and at the bottom to multiples of 32 pixels; Darknet's letterbox is for the detector
  alone (``nn/yolov3.py``).
- BatchNorm's momentum is PyTorch's 0.1, Darknet's 0.01. A detector that is trained from random weights begins with an
  objectness of 0.01; in Darknet its first steps are shortened instead.

Losses and post-processing have further deviations, see ``representations/masked_boxes`` and the documentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from panscape.constraints import PositiveInt, check_fields
from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.models.masked_box_model import MaskedBoxModel
from panscape.models.variants import ModelConfig, variant
from panscape.nn.backbones import STRIDES, Backbone
from panscape.nn.darknet import DARKNET_SLOPE, TIMM_SLOPE, Darknet
from panscape.nn.frozen_batch_norm import freeze_batch_norms
from panscape.nn.mask_heads import CategoryMasks, MaskBranch
from panscape.nn.pyramid_pooling import Pyramid, PyramidPooling
from panscape.nn.semantic_heads import MultiFeatureHead, SingleFeatureHead, TopDownHead
from panscape.nn.yolov3 import YoloHead
from panscape.ops.boxes import has_area, scattered
from panscape.ops.yolo_boxes import YoloDetections, flatten_logits
from panscape.representations.checks import require_things
from panscape.representations.masked_boxes import (
    MaskedBoxOutputs,
    MaskedBoxRepresentation,
    match_categories,
    thing_prob,
)
from panscape.representations.regions import RegionTargets

LAYERS = ((12, 37, 62), (6, 13, 38))
"""The layers of the semantic heads: the last ones before the next stride, or the first ones after theirs."""

_FIRST_LAYER = 5  # at stride 2, for the top-down head
_DETECTOR_LAYERS = (37, 62, 75)

SemanticKind = Literal["stride_4", "stride_8", "stride_16", "segnet", "top_down", "pyramid_pooling"]
MaskKind = Literal["shallow", "deep", "category"]


class YoloPanoptic(MaskedBoxModel):
    """The YOLO-based network.

    Args:
        labels: the label space.
        backbone: a Darknet.
        config: all other options.

    Raises:
        InvalidArgumentError: no category is a thing, the backbone is no Darknet, the activations or categories of the
            detector do not fit the options, or mask heads have no pooled features.
    """

    def __init__(self, labels: LabelSpace, backbone: Backbone, config: YoloPanopticConfig) -> None:
        require_things(labels, "boxes")
        if not isinstance(backbone, Darknet) or backbone.negative_slope != config.negative_slope:
            raise InvalidArgumentError(
                f'expected a Darknet with activations of slope {config.negative_slope} for weights="{config.weights}", '
                f'such as "darknet53", got {getattr(backbone, "name", type(backbone).__name__)}'
                + (f" of slope {backbone.negative_slope}" if isinstance(backbone, Darknet) else "")
            )
        normalization = "unit" if config.weights == "darknet" else "imagenet"
        super().__init__(labels, STRIDES[-1], config.longest_side, config.test_scale, normalization)
        self.backbone = backbone
        representation = config.representation or MaskedBoxRepresentation()
        self._categories = _detector_categories(config.detector, labels, trained=representation.train_detector)
        num_categories = len(labels.thing_ids)
        if self._categories is not None:
            num_categories = len(LabelSpace.of(cast(str, config.detector)).thing_ids)
        self.detector = YoloHead(
            [backbone.layer_channels[layer] for layer in _DETECTOR_LAYERS],
            num_categories,
            num_anchors=len(representation.anchors[0]),
            negative_slope=backbone.negative_slope,
        )
        self._layers = (_FIRST_LAYER, *config.layers)
        self.semantic = _semantic_head([backbone.layer_channels[layer] for layer in self._layers], len(labels), config)
        self.masks: MaskBranch | CategoryMasks = CategoryMasks(self.semantic.stride)
        if config.masks != "category":
            if not isinstance(self.semantic, PyramidPooling):
                raise InvalidArgumentError(
                    f'expected semantic "pyramid_pooling" for masks "{config.masks}", got "{config.semantic}"; use '
                    'masks "category"'
                )
            self.masks = MaskBranch(
                self.semantic.pyramid_channels,
                self.semantic.stride,
                width=config.mask_width,
                deep=config.masks == "deep",
                literal=config.literal,
                split=config.split,
            )
        self.representation = representation
        for part, is_frozen in (
            (self.backbone, config.frozen_backbone or not representation.train_detector),
            (self.detector, not representation.train_detector),
        ):
            if is_frozen:
                freeze_batch_norms(part)
                part.requires_grad_(False)

    def forward(self, images: Tensor, targets: RegionTargets | None = None) -> MaskedBoxOutputs:
        """Map images, float [B, 3, H, W] in 0..1, to outputs for the padded size.

        Args:
            images: red, green, blue.
            targets: stacked targets of the images, to sample boxes of masks for training; None for detections.
        """
        inputs = self.preprocess(images)
        body = cast(Darknet, self.backbone).layers(inputs, {*self._layers, *_DETECTOR_LAYERS})
        logits = self.detector([body[layer] for layer in _DETECTOR_LAYERS])
        detector = flatten_logits(logits, self.detector.num_anchors)
        pyramid, semantic = self._segment([body[layer] for layer in self._layers])
        found = self._detect(detector, (inputs.shape[2], inputs.shape[3]), (images.shape[2], images.shape[3]))
        if targets is None:
            boxes, category, score, objectness, _ = self._stack(found)
        else:
            boxes, category = self.representation.sample_mask_boxes(
                [one.boxes for one in found], [one.category for one in found], targets
            )
            score = objectness = torch.ones_like(boxes[..., 0])
        masks = self._mask(pyramid, semantic, boxes, category)
        return MaskedBoxOutputs(semantic, detector, boxes, category, score, objectness, masks)

    def _segment(self, features: Sequence[Tensor]) -> tuple[Pyramid | None, Tensor]:
        """Return the pyramid of the mask head, if there is one, and the semantic logits."""
        if not isinstance(self.semantic, PyramidPooling):
            return None, cast(Tensor, self.semantic(features))
        pyramid = self.semantic.pool(features)
        return pyramid, self.semantic.classify(pyramid)

    def _detect(self, logits: Tensor, size: tuple[int, int], image_size: tuple[int, int]) -> list[YoloDetections]:
        """Return the detections of each image, of things of the label space, inside of the image."""
        decoded = self.representation.detector_boxes(logits.detach(), size)
        if self._categories is not None:
            decoded = decoded._replace(category_prob=thing_prob(decoded.category_prob, self._categories))
        return self._select(decoded, image_size)

    def _mask(self, pyramid: Pyramid | None, semantic: Tensor, boxes: Tensor, category: Tensor) -> Tensor:
        """Return the masks of boxes [B, D, 4] of things [B, D], [B, D, M, M]."""
        flat = boxes.flatten(0, 1)
        rows = torch.arange(len(flat), device=flat.device)
        if not torch.compiler.is_exporting():  # a graph takes all boxes, so that its shapes do not depend on the image
            rows = rows[has_area(flat)]
        category = torch.tensor(self.labels.thing_ids, device=flat.device)[category.flatten()[rows]]
        return scattered(self.masks(pyramid, semantic, flat[rows], rows // boxes.shape[1], category), rows, boxes)


def _detector_categories(detector: str | None, labels: LabelSpace, *, trained: bool) -> tuple[int, ...] | None:
    """Return the detector's category of each thing; None if they are the things."""
    if detector is None:
        return None
    if trained:
        raise InvalidArgumentError(
            f'expected representation.train_detector False for a detector of "{detector}", whose categories the '
            f"targets of {labels.name} lack; train a detector of its things with detector None"
        )
    others = LabelSpace.of(detector)
    return match_categories([others[thing].name for thing in others.thing_ids], labels)


def _semantic_head(
    channels: Sequence[int], num_categories: int, config: YoloPanopticConfig
) -> SingleFeatureHead | MultiFeatureHead | TopDownHead | PyramidPooling:
    if config.semantic == "pyramid_pooling":
        return PyramidPooling(
            channels, num_categories, stride=config.pyramid_stride, width=config.pyramid_width, split=config.split
        )
    if config.semantic == "segnet":
        return MultiFeatureHead(channels, num_categories)
    if config.semantic == "top_down":
        return TopDownHead(channels, num_categories)
    return SingleFeatureHead(channels, num_categories, stride=int(config.semantic.removeprefix("stride_")))


@dataclass(frozen=True, kw_only=True)
class YoloPanopticConfig(ModelConfig[YoloPanoptic]):
    """Options of YOLO-based panoptic segmentation.

    Attributes:
        backbone: "darknet53", the small "darknet_xs", or a :class:`~panscape.nn.darknet.Darknet`.
        weights: Whose weights the network is built for: "timm" has ImageNet's normalisation and activations of slope
            0.01, "darknet" pixels in 0..1 and slope 0.1. With the other, weights give wrong features.
        layers: Layers of the semantic head at strides 4, 8 and 16: (12, 37, 62), the last of their strides, or
            (6, 13, 38), the first.
        semantic: Semantic head: the layer at "stride_4", "stride_8" or "stride_16" alone, "segnet" on all three
            together, "top_down" (the thesis' FPN), or "pyramid_pooling".
        pyramid_stride: Stride of pooled features.
        pyramid_width: Channels between the last two convolutions of pyramid pooling, PSPNet's 512.
        split: Convolve pooled features before they are upsampled: half the operations, the same result.
        masks: "shallow", masks of 40x40 cells, "deep", 20x20, or "category", the pixels of a box to which the semantic
            head gives its category.
        mask_width: Channels of the mask head.
        literal: Only the activation that the thesis names in the mask head.
        detector: Label space whose things are the detector's categories, found by name: "coco_panoptic" for YOLOv3's
            published weights, whose detector is not trained; None for the things of the network's label space.
        frozen_backbone: Freeze the backbone; ``representation.train_detector=False`` freezes it with the detector.
        representation: Anchors, targets, losses and post-processing; None for the defaults.

    Raises:
        InvalidArgumentError: a value is out of range, or does not fit another one.
    """

    backbone: str | Backbone = "darknet53"
    weights: Literal["timm", "darknet"] = "timm"
    layers: tuple[PositiveInt, PositiveInt, PositiveInt] = LAYERS[0]
    semantic: SemanticKind = "pyramid_pooling"
    pyramid_stride: Literal[4, 8, 16] = 4
    pyramid_width: PositiveInt = 128
    split: bool = True
    masks: MaskKind = "deep"
    mask_width: PositiveInt = 128
    literal: bool = False
    detector: str | None = None
    frozen_backbone: bool = False
    representation: MaskedBoxRepresentation | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.layers not in LAYERS:
            raise InvalidArgumentError(f"expected layers {LAYERS[0]} or {LAYERS[1]}, got {self.layers}")
        if self.pretrained and self.weights == "darknet":
            raise InvalidArgumentError(
                'expected weights "timm" with pretrained=True, got "darknet"; load Darknet\'s file instead '
                "(--backbone-weights darknet53.conv.74)"
            )

    @property
    def negative_slope(self) -> float:
        """Slope of the activations below 0."""
        return DARKNET_SLOPE if self.weights == "darknet" else TIMM_SLOPE

    def build(self, labels: LabelSpace) -> YoloPanoptic:
        """See :meth:`ModelConfig.build`."""
        return YoloPanoptic(labels, self.create_backbone(negative_slope=self.negative_slope), self)


yolo_panoptic = variant("yolo_panoptic", "Build YOLO-based panoptic segmentation.", YoloPanopticConfig)
yolo_panoptic_d53 = variant(
    "yolo_panoptic_d53",
    """Build the network of the thesis: Darknet-53 for Darknet's weights, pyramid pooling and deep masks.

    As in the thesis, backbone and detector are frozen; load their weights (``yolov3.weights``) before training. With a
    detector of COCO's categories: ``detector="coco_panoptic"``.
    """,
    YoloPanopticConfig,
    weights="darknet",
    representation=MaskedBoxRepresentation(train_detector=False),
)
