"""What recipes say about their networks: one class for each family of models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from panscape.labels import LabelSpace
from panscape.models import PanopticModel, create_model
from panscape.representations.centers import CenterRepresentation
from panscape.training.recipe import ModelOptions


@dataclass(frozen=True)
class SwiftNetOptions(ModelOptions):
    """Panoptic SwiftNet; see :func:`panscape.models.swiftnet`."""

    backbone: str = "residual_s"
    """"residual_xs" or "residual_s" (small, never pretrained), or a timm model such as "resnet18.tv_in1k"."""

    levels: int = 3
    """Scales of the image pyramid, 1 to 4."""

    context: Literal["pyramid", "spp"] = "pyramid"
    """"pyramid", or "spp": spatial pyramid pooling, with one level."""

    width: int = 64
    """Channels of the upsampling path; 256 in the paper."""

    pretrained: bool = False
    """Start the backbone from timm's ImageNet weights, which are downloaded once."""

    longest_side: int | None = None
    """For prediction, larger pictures are shrunk to it, pixels."""

    working_scale: float = 1.0
    """For prediction, pictures are resized by it first; choose augmentation.scale around it."""

    representation: CenterRepresentation = field(default_factory=CenterRepresentation)
    """Targets, losses and recovery."""

    def create(self, labels: LabelSpace) -> PanopticModel:
        """Build the network for a label space.

        Raises:
            PanscapeError: as :func:`panscape.models.create_model`.
        """
        return create_model(
            "swiftnet",
            labels,
            backbone=self.backbone,
            levels=self.levels,
            context=self.context,
            width=self.width,
            pretrained=self.pretrained,
            longest_side=self.longest_side,
            working_scale=self.working_scale,
            representation=self.representation,
        )
