"""Train torchvision's Faster R-CNN with the crop-aware box loss.

Two subclasses replace the targets of box regression, nothing else; weights, options and inference stay torchvision's.
Each target of the detector has one more entry, "cut_off", from panscape's `cut_off_sides`::

    model = fasterrcnn_resnet50_fpn(num_classes=9)
    make_crop_aware(model)
    losses = model(images, [{"boxes": ..., "labels": ..., "cut_off": ...}, ...])

Run this file to see the effect on an object that is larger than its crop.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN, fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork

from panscape.ops.boxes import cut_off_sides
from panscape.representations.regions.crop_aware_box_loss import crop_aware_targets

Targets = list[dict[str, Tensor]]


class CropAwareRegionProposalNetwork(RegionProposalNetwork):
    """The first stage; its smooth L1 loss has a beta of 1/9."""

    def assign_targets_to_anchors(self, anchors: list[Tensor], targets: Targets) -> tuple[list[Tensor], list[Tensor]]:
        """Remember the cut-off sides of the object of each positive anchor."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        self.cut_off = torch.cat(
            [
                target["cut_off"][self._matched(anchor, target)[label == 1]]
                for anchor, label, target in zip(anchors, labels, targets, strict=True)
            ]
        )
        return labels, boxes

    def _matched(self, anchors: Tensor, target: dict[str, Tensor]) -> Tensor:
        """Return the object of each anchor, int64 [A]; only that of a positive anchor has a meaning."""
        if not len(target["boxes"]):
            return torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
        index: Tensor = self.proposal_matcher(self.box_similarity(target["boxes"], anchors))
        return index

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Replace the targets of positive anchors."""
        targets, is_positive = torch.cat(regression_targets), torch.cat(labels) == 1
        targets[is_positive] = crop_aware_targets(pred_bbox_deltas[is_positive], targets[is_positive], self.cut_off)
        return super().compute_loss(objectness, pred_bbox_deltas, labels, [targets])


class CropAwareRoIHeads(RoIHeads):
    """The second stage, which regresses offsets times (10, 10, 5, 5), for each category on its own."""

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: Targets | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """As torchvision's, for boxes."""
        if targets is None or not self.training:
            return super().forward(features, proposals, image_shapes, targets)
        proposals, matched, labels, regression_targets = self.select_training_samples(proposals, targets)
        logits, offsets = self.box_predictor(self.box_head(self.box_roi_pool(features, proposals, image_shapes)))
        cut_off = torch.cat(  # an image without objects has indices, but no positive proposals
            [t["cut_off"][index[label > 0]] for t, index, label in zip(targets, matched, labels, strict=True)]
        )
        category, best = torch.cat(labels), torch.cat(regression_targets)
        positive = (category > 0).nonzero()[:, 0]
        own = offsets.view(len(category), -1, 4)[positive, category[positive]]
        best[positive] = crop_aware_targets(own, best[positive], cut_off, weights=self.box_coder.weights, beta=1 / 9)
        category_loss, box_loss = fastrcnn_loss(logits, offsets, labels, [best])
        return [], {"loss_classifier": category_loss, "loss_box_reg": box_loss}


def make_crop_aware(model: FasterRCNN) -> None:
    """Give both stages of a Faster R-CNN the crop-aware box loss, in place; its weights stay."""
    model.rpn.__class__ = CropAwareRegionProposalNetwork
    model.roi_heads.__class__ = CropAwareRoIHeads


def main() -> None:
    """Compare the box losses of an object that continues 1000 pixels beyond the right side of its crop."""
    torch.manual_seed(0)
    size = (320, 320)
    boxes = torch.tensor([[40.0, 60.0, 1320.0, 250.0]])
    visible = boxes.clamp(max=320)
    target: dict[str, Any] = {
        "boxes": visible,
        "labels": torch.tensor([1]),
        "cut_off": cut_off_sides(boxes, visible, size),
    }
    model = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=2)
    image = torch.rand(3, *size)
    for name, change in (("ordinary", lambda model: None), ("crop-aware", make_crop_aware)):
        change(model)
        torch.manual_seed(0)  # both sample the same anchors and proposals
        losses = model([image], [target])
        print(f"{name}: first stage {losses['loss_rpn_box_reg']:.4f}, second stage {losses['loss_box_reg']:.4f}")


if __name__ == "__main__":
    main()
