"""Decode detections with masks and a semantic segmentation into panoptic maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, Protocol

import torch
from torch import Tensor

from panscape.constraints import Constraint, check_fields
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.labels import LabelSpace
from panscape.ops.argmax import argmax_at_image_size
from panscape.ops.boxes import has_area
from panscape.ops.cropped_masks import Detections
from panscape.ops.paste_masks import paste_masks
from panscape.panoptic import PanopticMap
from panscape.representations.fusion import FusionConfig, fuse_instances
from panscape.representations.regions.types import RegionOutputs

MaskThreshold = Annotated[float, Constraint("in 0.5..1", lambda value: 0.5 <= value <= 1)]


@dataclass(frozen=True, slots=True)
class RegionDecoding:
    """Options of decoding regions.

    Attributes:
        mask_threshold: Minimum probability of a pixel of an object's mask, 0.5..1.
        resize: What is resized to the image's size if the network saw it at another one: "outputs", semantic logits,
            boxes and mask probabilities, as in detectron2; or "map", the map, by nearest neighbour, as in seamseg.
            With "map", areas in ``fusion`` are in pixels of the network's input.
        fusion: Rules for the fusion of objects and stuff into a map.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    mask_threshold: MaskThreshold = 0.5
    resize: Literal["outputs", "map"] = "outputs"
    fusion: FusionConfig = field(default_factory=FusionConfig)

    def __post_init__(self) -> None:
        check_fields(self)


class MaskOutputs(Protocol):
    """Boxes with masks among the outputs of a network, see :class:`RegionOutputs`."""

    @property
    def mask_boxes(self) -> Tensor: ...  # noqa: D102
    @property
    def mask_category(self) -> Tensor: ...  # noqa: D102
    @property
    def mask_score(self) -> Tensor: ...  # noqa: D102
    @property
    def masks(self) -> Tensor: ...  # noqa: D102


def detect_regions(
    outputs: MaskOutputs,
    geometries: Sequence[ImageGeometry],
    labels: LabelSpace,
    mask_threshold: float,
    min_score: float = 0.0,
) -> list[Detections]:
    """Return the objects of each image before fusion, with masks of the image's own size.

    Args:
        outputs: of a batch.
        geometries: sizes of each image.
        labels: label space, which defines the things.
        mask_threshold: minimum probability of a pixel of a mask, 0.5..1.
        min_score: objects with a lower score are left out, which saves the time for their masks.

    Raises:
        InvalidArgumentError: the number of geometries differs from the number of images.
    """
    if len(geometries) != len(outputs.mask_boxes):
        raise InvalidArgumentError(
            f"expected one size for each of the {len(outputs.mask_boxes)} images, got {len(geometries)}"
        )
    things = torch.tensor(labels.thing_ids, dtype=torch.int64, device=outputs.mask_boxes.device)
    found = []
    for b, geometry in enumerate(geometries):
        boxes = outputs.mask_boxes[b].detach().float()
        score = score_of(outputs, b)
        rows = (has_area(boxes) & (score >= min_score)).nonzero()[:, 0]
        scale = boxes.new_tensor(geometry.scale)
        masks = paste_masks(
            outputs.masks[b, rows].detach().float().sigmoid(),
            boxes[rows] * scale[[1, 0, 1, 0]],
            geometry.size,
            mask_threshold,
        )
        found.append(Detections(masks, things[outputs.mask_category[b, rows]], score[rows]))
    return found


def score_of(outputs: MaskOutputs, b: int) -> Tensor:
    """Return the scores of the masks of an image, 0..1, float32 [D]; 0 for those that are no numbers."""
    return outputs.mask_score[b].detach().float().nan_to_num(0).clamp(0, 1)


def decode_regions(
    outputs: RegionOutputs,
    geometries: Sequence[ImageGeometry],
    labels: LabelSpace,
    decoding: RegionDecoding,
    *,
    merge_things: bool = False,
) -> list[PanopticMap]:
    """Decode outputs into one map per image, at the image's own size.

    Arguments and errors are those of :func:`detect_regions` and :func:`semantic_at_image_size`.
    """
    detections = detect_regions(outputs, geometries, labels, decoding.mask_threshold, decoding.fusion.min_score)
    semantic = semantic_at_image_size(outputs.semantic, geometries, labels, decoding.fusion, merge_things=merge_things)
    # One channel for all things does not tell which thing a leftover pixel is.
    fusion = replace(decoding.fusion, leftover_area=0) if merge_things else decoding.fusion
    return [
        fuse_instances(one.masks, one.category, one.score, category, labels, fusion)
        for one, category in zip(detections, semantic, strict=True)
    ]


def semantic_at_image_size(
    logits: Tensor,
    geometries: Sequence[ImageGeometry],
    labels: LabelSpace,
    fusion: FusionConfig,
    *,
    merge_things: bool,
) -> list[Tensor]:
    """Return the category of every pixel among those that pixels without an object may have, integers [H, W].

    Args:
        logits: see :attr:`RegionOutputs.semantic`, float [B, K, h, w].
        geometries: sizes of each image.
        labels: label space.
        fusion: fusion rules, which define those categories.
        merge_things: see :class:`RegionRepresentation`.

    Raises:
        InvalidArgumentError: the logits have another number of channels.
    """
    categories = semantic_categories(logits, labels, merge_things=merge_things)
    allowed = torch.tensor(fusion.semantic_ids(labels), device=logits.device)
    channels = torch.isin(categories, allowed).nonzero()[:, 0]
    position = argmax_at_image_size(logits[:, channels], geometries, align_corners=False)
    return [categories[channels][one.long()] for one in position]


def semantic_categories(logits: Tensor, labels: LabelSpace, *, merge_things: bool) -> Tensor:
    """Return the category of each channel of semantic logits, int64 [K]; a channel for all things has the first one.

    Args:
        logits: float [B, K, h, w].
        labels: label space.
        merge_things: see :class:`RegionRepresentation`.

    Raises:
        InvalidArgumentError: the logits have another number of channels.
    """
    categories = (*labels.thing_ids[:1], *labels.stuff_ids) if merge_things else range(len(labels))
    if logits.shape[1] != len(categories):
        raise InvalidArgumentError(
            f"expected semantic logits of {len(categories)} channels for {labels.name} with merge_things="
            f"{merge_things}, got {logits.shape[1]}; build the network with the representation's option"
        )
    return torch.tensor(categories, dtype=torch.int64, device=logits.device)
