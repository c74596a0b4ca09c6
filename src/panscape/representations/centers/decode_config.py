"""Options of centre decoding, which all implementations share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import Literal

from panscape.constraints import BelowOne, NonNegative, NonNegativeInt, OddInt, PositiveInt, check_fields
from panscape.geometry import ImageGeometry, min_area_pixels
from panscape.representations.parts_cpu import ThingParts

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

    @property
    def scales_outputs(self) -> bool:
        """Whether resized outputs have their offsets, and these options their lengths, in pixels of the image."""
        return self.compat != "detectron2"

    def for_resized_outputs(self, geometry: ImageGeometry) -> CenterDecoding:
        """Return the options for outputs after :func:`~panscape.representations.centers.resize_outputs.resize_outputs`.

        Decoding is the second step of resizing them, from the inference size to the image's, where pixels are areas.
        """
        return replace(self.at_image_size(geometry) if self.scales_outputs else self, align_corners=False)

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
