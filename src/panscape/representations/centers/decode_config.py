"""Options, checks and the centre criterion that all implementations of centre decoding share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.constraints import BelowOne, NonNegative, NonNegativeInt, OddInt, PositiveInt, check_fields
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry, min_area_pixels
from panscape.representations.parts import ThingParts

CenterCompat = Literal["panoptic_swiftnet", "panoptic_deeplab", "detectron2"]


@dataclass(frozen=True, slots=True)
class CenterDecoding:
    """Options of centre decoding; the defaults are those published for Cityscapes, except align_corners.

    Attributes:
        threshold: Minimum heatmap value of a centre, exclusive; 0 or more.
        nms_kernel: Side in pixels of the NMS window, of which a centre is the maximum; odd.
        top_k: Maximum number of centres.
        stuff_area: Minimum number of pixels of a stuff category in the map; with fewer it becomes void.
        align_corners: Upsample outputs with aligned corners. Training uses False, as does the published post-processing
            for COCO and Mapillary Vistas; that for Cityscapes uses True.
        thing_area: Minimum number of pixels of a thing segment in the map; with fewer it becomes void, whatever
            categories its pixels have. Ours: papers and released code keep all, as does 0.
        stuff_share: Minimum share of the map's pixels of a stuff category, below 1; with less it becomes void. Ours,
            for images of very different sizes.
        resize: What is resized to the image's size if the network saw it at another one: "map", the map, by nearest
            neighbour (Panoptic SwiftNet); "outputs", the outputs, bilinearly, before centres are found
            (Panoptic-DeepLab). The units of nms_kernel, stuff_area and thing_area are pixels of the network's input;
            with resized outputs and compat "detectron2" of the image.
        compat: Published code to follow where these differ. "panoptic_swiftnet": with top_k centres or more, exactly
            the top_k highest are kept, in descending order. "panoptic_deeplab": those above the top_k-th highest, thus
            fewer than top_k and none if all are equal, in raster order. "detectron2": the same, and offsets are not
            scaled when outputs are resized, so that they miss the centres; exactly as its Panoptic-DeepLab.
        join_peaks: Keep only the first, in raster order, of equally high centres within one window. Published code
            keeps all, as does False. Heatmaps in bfloat16 have plateaus, of which every pixel would be a centre.
        one_category: Keep only the pixels of a thing segment that have its category; the others become void. Ours:
            published code keeps all, as does False.
        largest_part: Keep only the largest connected part of each thing segment; the others become void. Ours:
            published code keeps all, as does False.
        leftover_area: Minimum number of connected thing pixels of one category without a segment that become one; with
            fewer, or always if it is 0, they are void. Ours: published code has none. Their score is the threshold.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    threshold: NonNegative = 0.1
    nms_kernel: OddInt = 7
    top_k: PositiveInt = 200
    stuff_area: NonNegativeInt = 2048
    align_corners: bool = False
    thing_area: NonNegativeInt = 0
    stuff_share: BelowOne = 0.0
    resize: Literal["map", "outputs"] = "map"
    compat: CenterCompat = "panoptic_swiftnet"
    join_peaks: bool = False
    one_category: bool = False
    largest_part: bool = False
    leftover_area: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_fields(self)

    def smallest_stuff(self, size: tuple[int, int]) -> int:
        """Return the minimum number of pixels of a stuff category in a map of this size; at least one."""
        return max(self.stuff_area, min_area_pixels(self.stuff_share, size), 1)

    @property
    def parts(self) -> ThingParts:
        """The rules about parts of things; the score of leftover things is the threshold, which no centre exceeded."""
        score = min(self.threshold, 1.0)
        return ThingParts(self.largest_part, self.leftover_area, self.thing_area, score)

    def at_image_size(self, geometry: ImageGeometry) -> CenterDecoding:
        """Return the options with lengths and areas in pixels of the image instead of the network's input.

        The window remains odd, and does not shrink below three pixels, with which every pixel would be a centre.
        """
        ratio = geometry.size.area / geometry.inference_size.area
        window = 2 * round((self.nms_kernel * sqrt(ratio) - 1) / 2) + 1
        return replace(
            self,
            nms_kernel=max(window, min(self.nms_kernel, 3)),
            stuff_area=round(self.stuff_area * ratio),
            thing_area=round(self.thing_area * ratio),
            leftover_area=ceil(self.leftover_area * ratio),
        )


def is_center(heat: Tensor, decoding: CenterDecoding) -> Tensor:
    """Return which pixels of heatmaps [..., H, W] are centres."""
    height, width = heat.shape[-2:]
    kernel = decoding.nms_kernel
    kept = torch.where(heat > decoding.threshold, heat, -1.0)
    # max_pool2d pads with minus infinity.
    highest = F.max_pool2d(kept.reshape(-1, 1, height, width), kernel, stride=1, padding=kernel // 2)
    center = (kept == highest.reshape(heat.shape)) & (kept > 0)
    if not decoding.join_peaks:
        return center
    # Two centres in each other's windows are equally high. float64 represents the pixel counts of any image exactly.
    place = -torch.arange(height * width, device=heat.device, dtype=torch.float64).reshape(height, width)
    places = torch.where(center, place, -torch.inf).reshape(-1, 1, height, width)
    return center & (place == F.max_pool2d(places, kernel, stride=1, padding=kernel // 2).reshape(heat.shape))


def rounded_root(squared: Tensor) -> Tensor:
    """Return the correctly rounded float32 square root; torch's own on CPUs is off by a bit for every fifth value."""
    return squared.double().sqrt().float() if squared.device.type == "cpu" else squared.sqrt()


def thing_table(thing_ids: Collection[int], num_categories: int, device: torch.device) -> Tensor:
    """Return which categories are things, bool [C]."""
    table = [c in thing_ids for c in range(num_categories)]
    return torch.tensor(table, dtype=torch.bool, device=device)


def check_outputs(
    semantic_logits: Tensor,
    center: Tensor,
    offset: Tensor,
    geometries: Sequence[ImageGeometry],
    thing_ids: Collection[int],
) -> None:
    """Check that the shapes of batched outputs, geometries and thing ids match each other."""
    if semantic_logits.ndim != 4 or 0 in semantic_logits.shape:
        shape = list(semantic_logits.shape)
        raise InvalidArgumentError(f"expected logits as [B, C, h, w], one plane per category, got {shape}")
    batch, num_categories, height, width = semantic_logits.shape
    for name, part, expected in (
        ("center", center, [batch, height, width]),
        ("offset", offset, [batch, 2, height, width]),
    ):
        if list(part.shape) != expected:
            raise InvalidArgumentError(
                f"expected {name} as {expected} to go with logits {list(semantic_logits.shape)}, got {list(part.shape)}"
            )
    if len(geometries) != batch:
        raise InvalidArgumentError(f"expected one size for each of the {batch} images, got {len(geometries)}")
    padded_sizes = {tuple(geometry.padded_size) for geometry in geometries}
    if len(padded_sizes) > 1:
        raise InvalidArgumentError(f"expected one padded size for the whole batch, got {sorted(padded_sizes)}")
    if any(not 0 <= c < num_categories for c in thing_ids):
        raise InvalidArgumentError(f"expected things among the {num_categories} categories, got {sorted(thing_ids)}")
