"""A modern sibling of YOLO-based panoptic segmentation: boxes without anchors, prototypes, one path of upsampling.

Ours, with the representation of ``yolo_panoptic`` (Diaz-Zapata, MSc thesis, 2020) and parts of:

- Ge, Liu, Wang, Li, Sun: YOLOX: Exceeding YOLO Series in 2021. arXiv:2107.08430. One box for each place at strides 8,
  16 and 32.
- Feng, Zhong, Gao, Scott, Huang: TOOD: Task-aligned One-stage Object Detection. ICCV 2021. arXiv:2108.07755. Which
  places an object trains, and the target of their score.
- Bolya, Zhou, Xiao, Lee: YOLACT: Real-time Instance Segmentation. ICCV 2019. arXiv:1904.02689. Masks are combinations
  of prototypes, with coefficients that each box predicts.
- Lin et al.: Feature Pyramid Networks for Object Detection. CVPR 2017. arXiv:1612.03144. The path from coarse to fine
  features, whose finest ones, at stride 4, give both the semantic segmentation and the prototypes.

Where it differs from them:

- The objectness of a box learns how well the box fits (TOOD: the score of its category), and its categories learn 0
  and 1; ``representations/masked_boxes/aligned_loss.py`` has the details.
- The probability of a box's category is one more prototype, as in the thesis. At first it is the only one, so that
  masks start from what the semantic segmentation says.
- A box's plane is pooled to 28x28 cells by RoIAlign, so that outputs are those of the representation.
- Category and box have one tower (YOLOX: two), of one 3x3 convolution at each stride.
- Convolutions are dense: CPUs run depthwise ones inefficiently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.constraints import PositiveInt, check_fields
from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.models.masked_box_model import MaskedBoxModel
from panscape.models.variants import ModelConfig, variant
from panscape.nn.anchor_free_head import AnchorFreeHead
from panscape.nn.backbones import STRIDES, Backbone
from panscape.nn.blocks import conv_norm_relu
from panscape.nn.prototype_masks import prototype_masks
from panscape.ops.boxes import has_area
from panscape.representations.checks import require_things
from panscape.representations.masked_boxes import MaskedBoxOutputs, MaskedBoxRepresentation, MaskSampling
from panscape.representations.regions import RegionTargets

LIGHT = MaskedBoxRepresentation(
    anchors=(((32, 32),), ((64, 64),), ((128, 128),)),
    assignment="aligned",
    mask_sampling=MaskSampling(64),
    box_loss_weight=2.0,
    mask_loss_weight=1.0,
)
"""The default representation: initial boxes of four times their stride, and losses of similar size."""


class YoloPanopticLight(MaskedBoxModel):
    """The light network.

    Args:
        labels: the label space.
        backbone: features at strides 4 to 32.
        config: all other options.

    Raises:
        InvalidArgumentError: no category is a thing, or the representation has another assignment or a detector that is
            not trained.
    """

    def __init__(self, labels: LabelSpace, backbone: Backbone, config: YoloPanopticLightConfig) -> None:
        require_things(labels, "boxes")
        super().__init__(labels, STRIDES[-1], config.longest_side, config.test_scale)
        self.representation = config.representation or LIGHT
        if self.representation.assignment != "aligned" or not self.representation.train_detector:
            raise InvalidArgumentError(
                'expected a representation with assignment "aligned" and train_detector True, got '
                f'"{self.representation.assignment}" and {self.representation.train_detector}; use '
                "yolo_panoptic for other detectors"
            )
        self.backbone = cast(nn.Module, backbone)
        self.path = TopDownPath(backbone.channels, config.width, config.fine_width)
        self.detector = AnchorFreeHead(
            config.width, len(labels.thing_ids), config.num_prototypes + 1, depth=config.tower_depth
        )
        self.prototypes = nn.Conv2d(config.fine_width, config.num_prototypes, 1)
        self.semantic = nn.Conv2d(config.fine_width, len(labels), 1)
        self._num_cells = config.mask_cells

    def forward(self, images: Tensor, targets: RegionTargets | None = None) -> MaskedBoxOutputs:
        """Map images, float [B, 3, H, W] in 0..1, to outputs for the padded size.

        Args:
            images: red, green, blue.
            targets: stacked targets of the images, to sample boxes of masks for training; None for detections.
        """
        inputs = self.preprocess(images)
        fine, *levels = self.path(self.backbone(inputs))
        detector, coefficients = self.detector(levels)
        semantic = self.semantic(fine)
        if targets is not None:
            (boxes, category), row = self.representation.sample_mask_cells(detector, targets)
            score = objectness = torch.ones_like(boxes[..., 0])
        else:
            decoded = self.representation.detector_boxes(detector.detach(), (inputs.shape[2], inputs.shape[3]))
            selected = self._select(decoded, (images.shape[2], images.shape[3]))
            boxes, category, score, objectness, row = self._stack(selected)
        masks = self._mask(self.prototypes(fine), semantic, coefficients, boxes, category, row)
        return MaskedBoxOutputs(semantic, detector, boxes, category, score, objectness, masks)

    def _mask(
        self, prototypes: Tensor, semantic: Tensor, coefficients: Tensor, boxes: Tensor, category: Tensor, row: Tensor
    ) -> Tensor:
        """Return the masks of boxes, [B, D, M, M]; a graph has all boxes, so that its shapes do not depend on them."""
        is_box = has_area(boxes)
        num = boxes.shape[1] if torch.compiler.is_exporting() else max(1, int(is_box.sum(dim=1).max()))
        image = torch.arange(boxes.shape[0], device=boxes.device)[:, None]
        masks = prototype_masks(
            prototypes,
            semantic,
            coefficients[image, row[:, :num]],
            boxes[:, :num],
            torch.tensor(self.labels.thing_ids, device=boxes.device)[category[:, :num]],
            stride=STRIDES[0],
            num_cells=self._num_cells,
        )
        masks = torch.where(is_box[:, :num, None, None], masks, 0)
        return F.pad(masks, (0, 0, 0, 0, 0, boxes.shape[1] - num)).to(semantic.dtype)


class TopDownPath(nn.Module):
    """Features at strides 4 to 32: from the coarsest, upsampled and added to the next finer ones, as in an FPN.

    Unlike an FPN, each step upsamples what the one before has convolved, and the finest has a width of its own.

    Args:
        channels: channels of the backbone's features, finest first.
        width: channels at strides 8 to 32.
        fine_width: channels at stride 4.
    """

    def __init__(self, channels: Sequence[int], width: int, fine_width: int) -> None:
        super().__init__()
        widths = [fine_width] + [width] * (len(channels) - 1)
        self.laterals = nn.ModuleList(nn.Conv2d(c, w, 1) for c, w in zip(channels, widths, strict=True))
        self.convs = nn.ModuleList(conv_norm_relu(w, w, 3) for w in widths)
        self.narrow = nn.Conv2d(width, fine_width, 1) if width != fine_width else nn.Identity()

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Map [B, C_i, H / s, W / s] to features of the same sizes, finest first."""
        found: list[Tensor] = []
        for i in range(len(features) - 1, -1, -1):
            x = self.laterals[i](features[i])
            if found:
                coarse = found[0] if i else self.narrow(found[0])
                x = x + F.interpolate(coarse, size=x.shape[-2:], mode="bilinear", align_corners=False)
            found.insert(0, self.convs[i](x))
        return found


@dataclass(frozen=True, kw_only=True)
class YoloPanopticLightConfig(ModelConfig[YoloPanopticLight]):
    """Options of the light network.

    Attributes:
        backbone: See :class:`~panscape.models.variants.ModelConfig`.
        width: Channels of features and detector at strides 8 to 32.
        fine_width: Channels of the features at stride 4.
        tower_depth: 3x3 convolutions of the detector at each stride.
        num_prototypes: Number of prototypes of masks.
        mask_cells: Cells along each side of a mask.
        representation: Targets, losses and post-processing; None for :data:`LIGHT`.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    backbone: str | Backbone = "residual_s"
    width: PositiveInt = 64
    fine_width: PositiveInt = 32
    tower_depth: PositiveInt = 1
    num_prototypes: PositiveInt = 16
    mask_cells: PositiveInt = 28
    representation: MaskedBoxRepresentation | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def build(self, labels: LabelSpace) -> YoloPanopticLight:
        """See :meth:`ModelConfig.build`."""
        return YoloPanopticLight(labels, self.create_backbone(after_relu=True), self)


yolo_panoptic_light = variant(
    "yolo_panoptic_light", "Build the light network with boxes without anchors.", YoloPanopticLightConfig
)
