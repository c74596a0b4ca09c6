"""Visualisation of the outputs of a network that detects boxes at anchors and fills them with masks."""

from __future__ import annotations

import torch
from torch import Tensor

from panscape.geometry import ImageGeometry
from panscape.labels import LabelSpace
from panscape.ops.argmax import argmax_at_image_size
from panscape.ops.boxes import clip_boxes, has_area
from panscape.ops.interpolate import upsample
from panscape.representations.masked_boxes.decode import MaskedBoxDecoding
from panscape.representations.masked_boxes.types import MaskedBoxOutputs
from panscape.representations.regions.panels import most_probable_mask
from panscape.visualize import draw_boxes, draw_heatmap, draw_semantic

_SURE, _LIKELY = 255, 140  # brightness of outlines


def draw_panels(
    outputs: MaskedBoxOutputs, geometry: ImageGeometry, cell: Tensor, labels: LabelSpace, decoding: MaskedBoxDecoding
) -> dict[str, Tensor]:
    """Visualise the outputs of one image.

    Args:
        outputs: a batch of one, on the CPU.
        geometry: of the image, which is not resized.
        cell: :func:`~panscape.ops.yolo_boxes.cells` of the padded input, float [N, 5].
        labels: label space, which defines the colours.
        decoding: post-processing options.

    Returns:
        Visualisations by name, uint8 [3, H, W]:

        * "semantic", the argmax category, also of things where the map has only stuff (``stuff_on_uncovered``).
        * "objectness", of the best anchor at every location of any stride.
        * "detections", the outlines of the detected boxes: white from the minimum score of the map on, grey below it.
        * "class_planes", the probability of its category in each box with at least the minimum score, which the mask
          head receives; the largest of all boxes.
        * "masks", the probability of the most probable mask of these objects.
    """
    size = geometry.size
    (category,) = argmax_at_image_size(outputs.semantic.float(), [geometry], align_corners=False)
    images = {"semantic": draw_semantic(category.long(), labels)}
    images["objectness"] = draw_heatmap(_best_objectness(outputs.detector[0, :, 4].float().sigmoid(), cell, size))
    boxes, score = outputs.mask_boxes[0].float(), outputs.mask_score[0].float()
    is_sure = has_area(boxes) & (score >= decoding.fusion.min_score)
    images["detections"] = (images["semantic"] // 3).contiguous()
    draw_boxes(images["detections"], boxes[has_area(boxes) & ~is_sure], _LIKELY)
    draw_boxes(images["detections"], boxes[is_sure], _SURE)
    things = torch.tensor(labels.thing_ids)[outputs.mask_category[0, is_sure]]
    windows = clip_boxes(boxes[is_sure], size).round().long()
    prob = outputs.semantic[0].float().softmax(dim=0)
    heat = torch.zeros(size)
    for thing in torch.unique(things).tolist():  # boxes are many, and each plane has the size of the image
        plane = upsample(prob[thing], geometry.padded_size, size, align_corners=False)
        for left, top, right, bottom in windows[things == thing].tolist():
            window = slice(top, bottom), slice(left, right)
            heat[window] = torch.maximum(heat[window], plane[window])
    images["class_planes"] = draw_heatmap(heat)
    images["masks"] = draw_heatmap(
        most_probable_mask(outputs.masks[0].float().sigmoid()[is_sure], boxes[is_sure], size)
    )
    return images


def _best_objectness(prob: Tensor, cell: Tensor, size: tuple[int, int]) -> Tensor:
    best = torch.zeros(size)
    rows, columns = (torch.arange(side) for side in size)
    for stride in torch.unique(cell[:, 2]).tolist():
        level = cell[:, 2] == stride
        height, width = (int(cell[level, axis].max()) + 1 for axis in (1, 0))
        plane = prob[level].view(height, width, -1).amax(dim=2)
        best = torch.maximum(best, plane[rows[:, None] // int(stride), columns // int(stride)])
    return best
