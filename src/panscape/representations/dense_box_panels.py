"""Pictures of what a network of dense boxes says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from panscape.kernels.bilinear import enlarge
from panscape.kernels.box_candidates import Boxes, select_boxes
from panscape.kernels.dense_boxes import dense_boxes, grid_points, predicted_levels
from panscape.kernels.dense_masks import location_prob, thing_prob
from panscape.kernels.likeliest_category import likeliest_category
from panscape.labels import LabelSpace
from panscape.representations.dense_box_decoding import DenseBoxDecoding
from panscape.representations.dense_box_losses import Pyramid
from panscape.visualize import draw_heatmap, draw_offsets, draw_semantic

if TYPE_CHECKING:
    from panscape.representations.dense_boxes import DenseBoxOutputs


def draw_panels(
    outputs: DenseBoxOutputs, size: tuple[int, int], labels: LabelSpace, pyramid: Pyramid, decoding: DenseBoxDecoding
) -> dict[str, Tensor]:
    """Draw the outputs of one picture.

    Args:
        outputs: a batch of one, on the CPU.
        size: height and width of the picture.
        labels: gives the colours.
        pyramid: where the locations are.
        decoding: how maps are recovered.

    Returns:
        Pictures by name, uint8 [3, H, W]: the likeliest category ("semantic"); on things the way from each cell to the
        middle of its box, and the outlines of the detected boxes ("boxes"); the predicted level from dark, the finest,
        to bright, black for no object ("levels", if the network has it); and the probability of the likeliest of the
        detected objects' masks ("masks").
    """
    padded, grid_stride = pyramid.padded_size, pyramid.finest_stride // 2
    category = likeliest_category(outputs.semantic[0], padded, size).long()
    is_thing = torch.tensor([c.is_thing for c in labels])[category]
    level = None
    if outputs.levelness is not None:
        level = predicted_levels(outputs.levelness, with_background=decoding.variant == "paper")
    dense = dense_boxes(outputs.box.clamp_min(0), level, *pyramid)[0]
    grid = (dense.shape[2], dense.shape[3])
    locations = (outputs.box_category[0], outputs.box[0], outputs.centerness[0])
    found = select_boxes(*locations, padded, size, *pyramid[1:], selection=decoding.selection)
    found = Boxes(*(part[found.score >= decoding.rules.min_score] for part in found))
    left, top, right, bottom = dense[0]
    to_middle = torch.stack([top + bottom, left + right]) / 2 - grid_points(grid, grid_stride)
    pictures = {
        "semantic": draw_semantic(category, labels),
        "boxes": _outlined(draw_offsets(_at_pixels(to_middle, grid_stride, size), mask=is_thing), found.box),
    }
    if outputs.levelness is not None:
        share = (predicted_levels(outputs.levelness, with_background=True)[0] + 1) / pyramid.num_levels
        pictures["levels"] = draw_heatmap(_at_pixels(share, grid_stride, size))
    mask_prob = _largest_mask_prob(found, dense, thing_prob(outputs.semantic[0], grid, labels.thing_ids), decoding)
    pictures["masks"] = draw_heatmap(enlarge(mask_prob, padded, size, align_corners=False))
    return pictures


def _largest_mask_prob(found: Boxes, dense: Tensor, prob: Tensor, decoding: DenseBoxDecoding) -> Tensor:
    """Return how likely each cell is one of the likeliest object, [h, w]; 0 at least."""
    largest = torch.zeros(dense.shape[2:])
    for box, category in zip(found.box, found.category.tolist(), strict=True):
        for boxes in dense:
            largest = torch.maximum(largest, location_prob(box, boxes, decoding.variant) * prob[category])
    return largest


def _at_pixels(plane: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Give each pixel its cell's value."""
    rows, columns = (torch.arange(side) // stride for side in size)
    return plane[..., rows[:, None], columns]


def _outlined(picture: Tensor, boxes: Tensor) -> Tensor:
    """Draw boxes into a picture, in place: a white line on their first and last pixels."""
    height, width = picture.shape[1:]
    for left, top, right, bottom in boxes.round().int().tolist():
        first, last = (max(min(x, width - 1), 0) for x in (left, right))
        upper, lower = (max(min(y, height - 1), 0) for y in (top, bottom))
        for y in (upper, lower):
            picture[:, y, first : last + 1] = 255
        for x in (first, last):
            picture[:, upper : lower + 1, x] = 255
    return picture
