"""What the implementations of grouping by centres share: their settings, their checks, and where centres are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.geometry import min_area_pixels, require_fits

CenterResize = Literal["map", "outputs", "outputs_unscaled"]
BeyondTopK = Literal["highest", "above"]


@dataclass(frozen=True, slots=True)
class CenterDecoding:
    """How centres are found and segments kept; the defaults are those published for Cityscapes, but for align_corners.

    Attributes:
        threshold: a centre's heatmap value is above it; 0 or more.
        nms_kernel: side in pixels of the window in which a centre is not exceeded; odd.
        top_k: no more centres than this.
        stuff_area: stuff categories of fewer pixels in the whole map become void.
        align_corners: how outputs are enlarged, see ``panscape.ops.interpolate``. Training enlarges them with False,
            as does the published recovery for COCO and Mapillary Vistas; that for Cityscapes uses True.
        thing_area: segments of things of fewer pixels in the whole map become void, whatever categories their pixels
            have. Ours: papers and released code keep all, as does 0.
        stuff_share: stuff categories of a smaller share of the map's pixels become void, too; below 1. Ours, for
            images of very different sizes.
        resize: what is brought to the image's size where the network saw it at another: "map", the map, to the
            nearest pixel (Panoptic SwiftNet); "outputs", the outputs, bilinearly, before centres are looked for, and
            the lengths of offsets with them (Panoptic-DeepLab, mended); "outputs_unscaled", the outputs, with offsets
            as long as they were, so that they miss the centres (Panoptic-DeepLab in detectron2, to the letter). Pixels
            of nms_kernel, stuff_area and thing_area are those of the network's input for "map", else the image's.
        beyond_top_k: which centres stay where there are top_k or more: "highest", exactly the top_k highest, numbered
            from the highest down (Panoptic SwiftNet); "above", those above the top_k-th highest, thus fewer than
            top_k and none if all are equal, numbered in raster order (Panoptic-DeepLab).
        join_peaks: of centres within one window of each other, which are equally high, keep the first in raster order.
            Published code keeps all, as does False. Heatmaps in bfloat16 have plateaus, each of whose pixels is a
            centre otherwise.

    Raises:
        InvalidArgumentError: a value is out of its range.
    """

    threshold: float = 0.1
    nms_kernel: int = 7
    top_k: int = 200
    stuff_area: int = 2048
    align_corners: bool = False
    thing_area: int = 0
    stuff_share: float = 0.0
    resize: CenterResize = "map"
    beyond_top_k: BeyondTopK = "highest"
    join_peaks: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < inf:
            raise InvalidArgumentError(f"expected a threshold of 0 or more, got {self.threshold}")
        if self.nms_kernel < 1 or self.nms_kernel % 2 == 0:
            raise InvalidArgumentError(f"expected an odd nms_kernel of 1 or more, got {self.nms_kernel}")
        if self.top_k < 1:
            raise InvalidArgumentError(f"expected a top_k of 1 or more, got {self.top_k}")
        for name in ("stuff_area", "thing_area"):
            if getattr(self, name) < 0:
                raise InvalidArgumentError(f"expected a {name} of 0 or more pixels, got {getattr(self, name)}")
        if not 0 <= self.stuff_share < 1:
            raise InvalidArgumentError(f"expected a stuff_share of 0 or more and below 1, got {self.stuff_share}")
        for name, known in (("resize", get_args(CenterResize)), ("beyond_top_k", get_args(BeyondTopK))):
            if getattr(self, name) not in known:
                names = " or ".join(f'"{value}"' for value in known)
                raise InvalidArgumentError(f"expected {name} {names}, got {getattr(self, name)!r}")

    def smallest_stuff(self, size: tuple[int, int]) -> int:
        """Return how many pixels a stuff category needs to stay, in a map of this size; at least one."""
        return max(self.stuff_area, min_area_pixels(self.stuff_share, size), 1)


def is_center(heat: Tensor, decoding: CenterDecoding) -> Tensor:
    """Return which pixels of heatmaps [..., H, W] are centres."""
    height, width = heat.shape[-2:]
    kernel = decoding.nms_kernel
    kept = torch.where(heat > decoding.threshold, heat, -1.0)
    # Outside the map max_pool2d has minus infinity.
    highest = F.max_pool2d(kept.reshape(-1, 1, height, width), kernel, stride=1, padding=kernel // 2)
    center = (kept == highest.reshape(heat.shape)) & (kept > 0)
    if not decoding.join_peaks:
        return center
    # Two centres in each other's windows are equally high. Float64 counts the pixels of any image exactly.
    place = -torch.arange(height * width, device=heat.device, dtype=torch.float64).reshape(height, width)
    places = torch.where(center, place, -torch.inf).reshape(-1, 1, height, width)
    return center & (place == F.max_pool2d(places, kernel, stride=1, padding=kernel // 2).reshape(heat.shape))


def rounded_root(squared: Tensor) -> Tensor:
    """Return the float32 root, correctly rounded; on CPUs torch's own is off by a bit for every fifth value."""
    return squared.double().sqrt().float() if squared.device.type == "cpu" else squared.sqrt()


def thing_table(thing_ids: Collection[int], num_categories: int, device: torch.device) -> Tensor:
    """Return which categories are things, bool [C]."""
    table = [c in thing_ids for c in range(num_categories)]
    return torch.tensor(table, dtype=torch.bool, device=device)


def check_outputs(
    semantic_logits: Tensor,
    center: Tensor,
    offset: Tensor,
    padded_size: tuple[int, int],
    sizes: Sequence[tuple[int, int]],
    thing_ids: Collection[int],
) -> None:
    """Refuse batched outputs that contradict each other."""
    if semantic_logits.ndim != 4 or 0 in semantic_logits.shape:
        shape = list(semantic_logits.shape)
        raise InvalidArgumentError(f"expected logits of one plane a category, with the batch in front, got {shape}")
    batch, num_categories, height, width = semantic_logits.shape
    for name, part, expected in (
        ("center", center, [batch, height, width]),
        ("offset", offset, [batch, 2, height, width]),
    ):
        if list(part.shape) != expected:
            raise InvalidArgumentError(
                f"expected {name} as {expected} to go with logits {list(semantic_logits.shape)}, got {list(part.shape)}"
            )
    if len(sizes) != batch:
        raise InvalidArgumentError(f"expected one size for each of the {batch} images, got {len(sizes)}")
    for size in sizes:
        require_fits(size, padded_size)
    if any(not 0 <= c < num_categories for c in thing_ids):
        raise InvalidArgumentError(f"expected things among the {num_categories} categories, got {sorted(thing_ids)}")
