"""Base class of models that represent objects as centres; its methods delegate to the representation.

Subclasses are networks: they return :class:`~panscape.representations.centers.CenterOutputs` and define the stride.
The base class has no layers; layers that networks share are in ``nn/``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.labels import LabelSpace
from panscape.models.base import PanopticModel
from panscape.models.pisr import CenterRelations
from panscape.models.pisr_panels import relation_panels
from panscape.models.variants import Model, ModelConfig
from panscape.nn.pisr import Relations
from panscape.nn.pisr_instances import CenterInstanceMaps
from panscape.ops.argmax import argmax_at_image_size
from panscape.panoptic import PanopticMap
from panscape.representations.centers import (
    CENTER_ORACLES,
    CenterDecoding,
    CenterOutputs,
    CenterRepresentation,
    CenterTargets,
)
from panscape.representations.centers.scores import score_instances

_HEADS = ("semantic", "center", "offset")


@dataclass(frozen=True, kw_only=True)
class CenterModelConfig(ModelConfig[Model]):
    """Options of every network that represents objects as centres.

    Attributes:
        representation: Targets, losses and post-processing; None for the published values for the label space.
        relations: Relations that add the context of categories and objects to the features, for example ``PISR()``;
            the predictions of the heads are then a first stage, and separate heads predict the outputs. None for the
            published network.
        instance_maps: Options of the relations' instance heatmaps; None for the defaults, with the NMS window of
            post-processing.
    """

    representation: CenterRepresentation | None = None
    relations: Relations | None = None
    instance_maps: CenterInstanceMaps | None = None

    @abstractmethod
    def published(self, labels: LabelSpace) -> CenterRepresentation:
        """Return the published targets, losses and post-processing for a label space."""


class CenterModel(PanopticModel):
    """Base of networks with :class:`CenterOutputs`; they define ``forward`` and their backbones.

    Their heads are ``semantic``, ``center`` and ``offset``; heads of a second stage have the prefix ``refined_``.

    Args:
        labels: the label space.
        representation: targets, losses and post-processing.
        stride: images are padded to multiples of this.
        output_stride: input pixels per output cell.
        longest_side: see :class:`PanopticModel`.
        test_scale: see :class:`PanopticModel`.

    Attributes:
        relations: the relations between the stages, in networks with a second stage; None in others.

    Raises:
        InvalidArgumentError: the representation's ``loss_stride`` does not divide ``output_stride``.
    """

    representation: CenterRepresentation
    refined_semantic: nn.Module
    refined_center: nn.Module
    refined_offset: nn.Module

    def __init__(
        self,
        labels: LabelSpace,
        representation: CenterRepresentation,
        *,
        stride: int,
        output_stride: int,
        longest_side: int | None,
        test_scale: float,
    ) -> None:
        if output_stride % representation.loss_stride:
            raise InvalidArgumentError(
                f"expected a loss_stride that divides the output stride {output_stride}, got "
                f"{representation.loss_stride}"
            )
        super().__init__(labels, stride, longest_side, test_scale)
        self.representation = representation
        self.output_stride = output_stride
        self.relations: CenterRelations | None = None

    @property
    def weight_copies(self) -> Mapping[str, str]:
        """Maps heads of a second stage to the first stage's heads with as many input channels."""
        heads = {} if self.relations is None else {f"refined_{name}": name for name in _HEADS}
        return {copy: head for copy, head in heads.items() if self._shapes(copy) == self._shapes(head)}

    def _shapes(self, part: str) -> dict[str, torch.Size]:
        return {name: tensor.shape for name, tensor in self.get_submodule(part).state_dict().items()}

    def relate(
        self,
        part: Relations | None,
        channels: int,
        instance_maps: CenterInstanceMaps | None = None,
        *,
        semantic_channels: int | None = None,
    ) -> CenterRelations | None:
        """Return relations for this network's features; None if there are none.

        Args:
            part: options of the relations.
            channels: channels of the features.
            instance_maps: options of the instance heatmaps; None for the defaults.
            semantic_channels: see :class:`CenterRelations`.

        Raises:
            InvalidArgumentError: instance maps are given but not used.
        """
        relations = None
        if part is not None:
            cells = self.representation.decoding.nms_kernel / self.output_stride
            window = max(2 * round((cells - 1) / 2) + 1, 3)  # the nearest odd number
            relations = CenterRelations(
                part,
                channels,
                self.labels,
                instance_maps or CenterInstanceMaps(nms_kernel=window),
                stride=self.output_stride,
                semantic_channels=semantic_channels,
            )
        if instance_maps is not None and (relations is None or not relations.related.uses_instances):
            raise InvalidArgumentError(
                "expected instance_maps only with relations that use objects, such as PISR(), got them "
                f"with {type(part).__name__ if part else 'none'}; leave instance_maps None"
            )
        return relations

    def named(self, semantic: Tensor, center: Tensor, offset: Tensor) -> CenterOutputs:
        """Return the heads' results as outputs: in float32, and with offsets in pixels instead of cells."""
        # Upsampling in half precision would move centres by a pixel or two.
        return CenterOutputs(semantic.float(), center.float(), offset.float() * self.output_stride)

    def second_stage(self, first: CenterOutputs, of_semantic: Tensor, of_instances: Tensor) -> CenterOutputs:
        """Return the outputs of the second stage's heads for related features.

        In training they include the outputs of the first stage, to which the losses apply as well.

        Args:
            first: the first stage's outputs.
            of_semantic: features for the semantic head.
            of_instances: features for the heads of centres and offsets.
        """
        outputs = self.named(
            self.refined_semantic(of_semantic), self.refined_center(of_instances), self.refined_offset(of_instances)
        )
        return outputs._replace(first_stage=first) if self.training else outputs

    def padded_size(self, outputs: CenterOutputs) -> tuple[int, int]:
        """Return the height and width of the padded input of these outputs."""
        return outputs.padded_size(self.output_stride)

    def encode(self, truth: PanopticMap) -> CenterTargets:
        """See :meth:`CenterRepresentation.encode`."""
        return self.representation.encode(truth, self.labels)

    def loss(self, outputs: CenterOutputs, targets: CenterTargets) -> dict[str, Tensor]:
        """See :meth:`CenterRepresentation.loss`."""
        return self.representation.loss(outputs, targets, self.padded_size(outputs))

    def decode(self, outputs: CenterOutputs, sizes: Sequence[tuple[int, int]]) -> list[PanopticMap]:
        """See :meth:`CenterRepresentation.decode`."""
        geometries = [ImageGeometry.of(size) for size in sizes]
        return self.representation.decode(outputs, self._with_padding(outputs, geometries), self.labels)

    def _with_padding(self, outputs: CenterOutputs, geometries: Sequence[ImageGeometry]) -> list[ImageGeometry]:
        padded_size = self.padded_size(outputs)
        return [geometry.padded_to(padded_size) for geometry in geometries]

    def replace_decoding(self, decoding: CenterDecoding) -> None:
        """See :meth:`PanopticModel.replace_decoding`."""
        super().replace_decoding(decoding)
        if self.relations is not None and self.relations.related.uses_instances:
            # The default window depends on the decoding; the network must not change with it.
            self.respecify(instance_maps=self.relations.instance_maps)

    def postprocess(
        self, outputs: CenterOutputs, geometries: Sequence[ImageGeometry], *, scored: bool = False
    ) -> list[PanopticMap]:
        """See :meth:`PanopticModel.postprocess`, and :class:`CenterDecoding` for its option ``resize``."""
        if self.representation.decoding.resize == "map":
            return super().postprocess(outputs, geometries, scored=scored)
        geometries = self._with_padding(outputs, geometries)
        return self.representation.decode_resized(outputs, geometries, self.labels, scored=scored)

    def decode_semantic(self, outputs: CenterOutputs, geometries: Sequence[ImageGeometry]) -> list[Tensor]:
        """See :meth:`PanopticModel.decode_semantic`; logits are upsampled as for the map."""
        align_corners = self.representation.decoding.align_corners
        return argmax_at_image_size(
            outputs.semantic, self._with_padding(outputs, geometries), align_corners=align_corners
        )

    def score_instances(self, outputs: CenterOutputs, maps: Sequence[PanopticMap]) -> list[PanopticMap]:
        """Return maps with the scores of :mod:`panscape.representations.centers.scores`, for average precision."""
        align_corners, padded_size = self.representation.decoding.align_corners, self.padded_size(outputs)
        return [
            score_instances(m, outputs.image(i), self.labels, padded_size, align_corners) for i, m in enumerate(maps)
        ]

    @property
    def oracles(self) -> tuple[str, ...]:
        """The parts that Table 7 of Panoptic SwiftNet replaces by ground truth: "semantic", "centers", "offsets"."""
        return CENTER_ORACLES

    def decode_with_truth(self, outputs: CenterOutputs, truth: PanopticMap, parts: Collection[str]) -> PanopticMap:
        """See :meth:`PanopticModel.decode_with_truth` and :meth:`CenterRepresentation.with_truth`."""
        self.require_oracles(parts)
        mixed = self.representation.with_truth(outputs, truth, parts, self.labels, self.padded_size(outputs))
        return self.representation.decode(mixed, [ImageGeometry.of(truth.size)], self.labels)[0]

    def visualize(self, outputs: CenterOutputs, size: tuple[int, int]) -> dict[str, Tensor]:
        """See :meth:`CenterRepresentation.visualize`."""
        return self.representation.visualize(outputs, size, self.labels, self.padded_size(outputs))

    def visualize_features(self, images: Tensor, size: tuple[int, int], categories: Sequence[int]) -> dict[str, Tensor]:
        """Visualise the effect of relations on the features of categories, see :mod:`panscape.models.pisr_panels`."""
        return relation_panels(
            self,
            None if self.relations is None else self.relations.related,
            images,
            size,
            categories,
            padded_size=self.padded_size,
            align_corners=self.representation.decoding.align_corners,
        )
