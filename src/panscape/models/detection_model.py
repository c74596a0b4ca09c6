"""Base class of models that detect objects before they merge them into a map; it delegates to the representation."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from panscape.geometry import ImageGeometry, padded_size
from panscape.models.base import PanopticModel
from panscape.ops.argmax import argmax_at_image_size
from panscape.ops.cropped_masks import Detections
from panscape.panoptic import PanopticMap


class DetectionModel(PanopticModel):
    """A network whose outputs are detections and a semantic segmentation, and whose only backbone is ``backbone``.

    Attributes:
        representation: with ``encode``, ``padded_size``, ``decode``, ``detect`` and ``decode_with_truth``, and
            post-processing options with ``resize``, "map" or "outputs". Its outputs have ``semantic``.
    """

    representation: Any
    backbone: nn.Module

    def encode(self, truth: PanopticMap) -> Any:
        """See ``encode`` of the representation; targets are those of the padded image."""
        return self.representation.encode(truth, self.labels, padded_size(truth.size, self.stride))

    def decode(self, outputs: Any, sizes: Sequence[tuple[int, int]]) -> list[PanopticMap]:
        """See ``decode`` of the representation; the scores of a map are the ones used for average precision."""
        maps: list[PanopticMap] = self.representation.decode(
            outputs, [ImageGeometry.of(size) for size in sizes], self.labels
        )
        return maps

    def postprocess(
        self, outputs: Any, geometries: Sequence[ImageGeometry], *, scored: bool = False
    ) -> list[PanopticMap]:
        """See :meth:`PanopticModel.postprocess`, and the options of post-processing for ``resize``."""
        if self.decoding.resize == "map":
            return super().postprocess(outputs, geometries, scored=scored)
        maps: list[PanopticMap] = self.representation.decode(outputs, geometries, self.labels)
        return maps

    def decode_semantic(self, outputs: Any, geometries: Sequence[ImageGeometry]) -> list[Tensor]:
        """See :meth:`PanopticModel.decode_semantic`; the argmax is over all categories, whatever the fusion rules."""
        size = self.representation.padded_size(outputs)
        geometries = [geometry.padded_to(size) for geometry in geometries]
        return argmax_at_image_size(outputs.semantic, geometries, align_corners=False)

    @property
    def has_detections(self) -> bool:
        """True: objects are detected before they are merged into the map."""
        return True

    def detect(self, outputs: Any, geometries: Sequence[ImageGeometry]) -> list[Detections]:
        """See :meth:`PanopticModel.detect`; masks are resized as maps are."""
        is_resized = self.decoding.resize == "map"
        seen = [ImageGeometry.of(g.inference_size) for g in geometries] if is_resized else geometries
        found: list[Detections] = self.representation.detect(outputs, seen, self.labels)
        if not is_resized:
            return found
        return [
            one._replace(masks=one.masks.resize(geometry.inference_size, geometry.size))
            for one, geometry in zip(found, geometries, strict=True)
        ]

    def decode_with_truth(self, outputs: Any, truth: PanopticMap, parts: Collection[str]) -> PanopticMap:
        """See :meth:`PanopticModel.decode_with_truth`, and that of the representation."""
        self.require_oracles(parts)
        decoded: PanopticMap = self.representation.decode_with_truth(outputs, truth, parts, self.labels)
        return decoded

    @property
    def backbones(self) -> tuple[str, ...]:
        """The backbone, without the FPN."""
        return ("backbone",)

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the backbone, without the FPN, for a separate learning rate."""
        return self.backbone.parameters()
