"""Visualisation of the outputs of a network of two stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from panscape.geometry import ImageGeometry, require_fits
from panscape.labels import LabelSpace
from panscape.ops.boxes import has_area
from panscape.ops.paste_masks import paste_masks
from panscape.representations.regions.decode import semantic_at_image_size
from panscape.visualize import draw_boxes, draw_heatmap, draw_semantic

if TYPE_CHECKING:
    from panscape.representations.regions.representation import RegionRepresentation
    from panscape.representations.regions.types import RegionOutputs

_SURE, _LIKELY, _PROPOSED = 255, 140, 70  # brightness of outlines
_MAX_PROPOSALS = 30


def draw_panels(
    outputs: RegionOutputs, size: tuple[int, int], labels: LabelSpace, representation: RegionRepresentation
) -> dict[str, Tensor]:
    """Visualise the outputs of one image.

    Args:
        outputs: a batch of one, on the CPU.
        size: height and width of the image.
        labels: label space, which defines the colours.
        representation: anchors and options.

    Returns:
        Visualisations by name, uint8 [3, H, W]:

        * "semantic", the argmax category.
        * "proposals", objectness of the best anchor at every location of any level, and the outlines of the regions
          with the least probability of background.
        * "detections", the outlines of the detected boxes: white from the minimum score of the map on, grey below it.
        * "masks", the probability of the most probable mask of objects with at least the minimum score.
    """
    padded = representation.padded_size(outputs)
    require_fits(size, padded)
    geometry = ImageGeometry.of(size, padded_size=padded)
    fusion = representation.decoding.fusion
    (category,) = semantic_at_image_size(
        outputs.semantic.float(), [geometry], labels, fusion, merge_things=representation.merge_things
    )
    images = {"semantic": draw_semantic(category.long(), labels)}
    images["proposals"] = draw_heatmap(_best_objectness(outputs.objectness[0].float(), representation, padded, size))
    regions = outputs.regions[0][has_area(outputs.regions[0])]
    background = outputs.category[0].float().softmax(dim=1)[has_area(outputs.regions[0]), 0]
    draw_boxes(images["proposals"], regions[background.argsort()[:_MAX_PROPOSALS]], _LIKELY)
    boxes, score = outputs.mask_boxes[0].float(), outputs.mask_score[0].float()
    is_sure = has_area(boxes) & (score >= fusion.min_score)
    images["detections"] = (images["semantic"] // 3).contiguous()
    draw_boxes(images["detections"], boxes[has_area(boxes) & ~is_sure], _LIKELY)
    draw_boxes(images["detections"], boxes[is_sure], _SURE)
    prob = outputs.masks[0].float().sigmoid()[is_sure]
    images["masks"] = draw_heatmap(most_probable_mask(prob, boxes[is_sure], size))
    return images


def _best_objectness(
    objectness: Tensor, representation: RegionRepresentation, padded: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    anchors = representation.anchors
    best = torch.zeros(size)
    rows, columns = (torch.arange(side) for side in size)
    levels = torch.split(objectness.sigmoid(), anchors.num_per_level(padded))
    for prob, stride, (height, width) in zip(levels, anchors.strides, anchors.level_sizes(padded), strict=True):
        plane = prob.view(height, width, anchors.num_shapes).amax(dim=2)
        best = torch.maximum(best, plane[rows[:, None] // stride, columns // stride])
    return best


def most_probable_mask(prob: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the largest probability of any mask at every pixel, in steps that pasting resolves, [H, W]."""
    heat = torch.zeros(size)
    for step in range(10, 21):  # a pixel's mask at a threshold t is that of the probabilities above t
        level = step / 20
        masks = paste_masks((prob * 0.5 / level).clamp(0, 1), boxes, size)
        for rows, columns, mask in masks:
            heat[rows, columns][mask] = level
    return heat
