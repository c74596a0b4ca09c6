"""Visualisation of the outputs of a dense box network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.geometry import require_fits
from panscape.labels import LabelSpace
from panscape.ops.argmax import upsampled_argmax
from panscape.ops.interpolate import upsample
from panscape.representations.dense_boxes.decode import location_mask_prob, upsampled_thing_prob
from panscape.representations.dense_boxes.decode_config import DenseBoxDecoding
from panscape.representations.dense_boxes.locations import Pyramid, argmax_level, dense_boxes, grid_points
from panscape.representations.dense_boxes.select_boxes import Boxes, select_boxes
from panscape.visualize import draw_boxes, draw_heatmap, draw_offsets, draw_semantic
from panscape.visualize.outputs import line_width

if TYPE_CHECKING:
    from panscape.representations.dense_boxes import DenseBoxOutputs

_SURE, _LIKELY = 255, 140  # brightness of outlines
_FINEST = 0.3  # heat of the finest level, well above the heat of no level


def draw_panels(
    outputs: DenseBoxOutputs, size: tuple[int, int], labels: LabelSpace, pyramid: Pyramid, decoding: DenseBoxDecoding
) -> dict[str, Tensor]:
    """Visualise the outputs of one image.

    Args:
        outputs: a batch of one, on the CPU.
        size: height and width of the image.
        labels: label space, which defines the colours.
        pyramid: geometry of the locations.
        decoding: decoding options.

    Returns:
        Visualisations by name, uint8 [3, H, W]:

        * "semantic", the argmax category.
        * "boxes", on things the vector from each cell to the centre of its box (without levelness, the box of the
          finest level), and the outlines of the detected boxes: white from the minimum score of the map on, grey from
          half of it.
        * "levels" if the network has levelness: the predicted level from dark, the finest, to bright; black for none.
        * "masks", the probability of the most probable object with at least the minimum score, with a white line
          around its mask and a black line between two masks.
    """
    padded, grid_stride = pyramid.padded_size, pyramid.finest_stride // 2
    require_fits(size, padded)
    category = upsampled_argmax(outputs.semantic[0], padded, size).long()
    is_thing = torch.tensor([c.is_thing for c in labels])[category]
    dense = dense_boxes(outputs.box.clamp_min(0), decoding.levels(outputs.levelness), pyramid)[0]
    locations = (outputs.box_category[0], outputs.box[0], outputs.centerness[0])
    found = select_boxes(*locations, pyramid, size, decoding.selection)
    is_sure, is_likely = (found.score >= share * decoding.fusion.min_score for share in (1, 0.5))
    left, top, right, bottom = dense[0]
    to_middle = torch.stack([top + bottom, left + right]) / 2 - grid_points(pyramid.dense_size, grid_stride)
    ways = draw_offsets(_at_pixels(to_middle, grid_stride, size), mask=is_thing)
    draw_boxes(ways, found.boxes[is_likely & ~is_sure], _LIKELY)
    draw_boxes(ways, found.boxes[is_sure], _SURE)
    images = {"semantic": draw_semantic(category, labels), "boxes": ways}
    if outputs.levelness is not None:
        predicted = argmax_level(outputs.levelness, with_background=True)[0]
        share = _FINEST + (1 - _FINEST) * predicted / max(pyramid.num_levels - 1, 1)
        images["levels"] = draw_heatmap(_at_pixels(share * (predicted >= 0), grid_stride, size))
    sure = Boxes(*(part[is_sure] for part in found))
    prob, owner = _most_probable_object(
        sure, dense, upsampled_thing_prob(outputs.semantic[0], pyramid.dense_size, labels.thing_ids), decoding
    )
    prob = upsample(prob, padded, size, align_corners=False)
    owner = _at_pixels(owner, grid_stride, size) * (prob >= decoding.mask_threshold)
    images["masks"] = draw_heatmap(prob)
    _draw_borders(images["masks"], owner)
    return images


def _most_probable_object(
    found: Boxes, dense: Tensor, prob: Tensor, decoding: DenseBoxDecoding
) -> tuple[Tensor, Tensor]:
    """Return the probability of each cell's most probable object, [h, w], and its index + 1; both 0 without any."""
    grid = dense.shape[2:]
    largest, owner = torch.zeros(grid), torch.zeros(grid, dtype=torch.int64)
    for number, (box, category) in enumerate(zip(found.boxes, found.category.tolist(), strict=True)):
        for boxes in dense:
            value = location_mask_prob(box, boxes, decoding.compat) * prob[category]
            owner[value > largest] = number + 1
            largest = torch.maximum(largest, value)
    return largest, owner


def _at_pixels(plane: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Return the value of each pixel's cell."""
    rows, columns = (torch.arange(side) // stride for side in size)
    return plane[..., rows[:, None], columns]


def _draw_borders(image: Tensor, owner: Tensor) -> None:
    """Draw the borders of objects into an image, in place; ``owner`` [H, W] is the object of each pixel, 0 for none."""
    thick = line_width(image)
    padded = F.pad(owner[None].float(), (thick, thick, thick, thick), mode="replicate")
    highest, lowest = (sign * F.max_pool2d(sign * padded, 2 * thick + 1, stride=1)[0] for sign in (1, -1))
    is_end = (owner > 0) & (lowest < owner)
    image[:, is_end] = 255
    image[:, is_end & (lowest > 0)] = 0
    image[:, (owner > 0) & (highest > owner)] = 0
