"""Visualisation of the outputs of a network of two stages, and of the targets of its boxes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from panscape.geometry import ImageGeometry, require_fits, size_with_longest_side
from panscape.images import resize_images
from panscape.labels import LabelSpace
from panscape.ops.boxes import decode_boxes, has_area
from panscape.ops.paste_masks import paste_masks
from panscape.representations.regions.decode import semantic_at_image_size
from panscape.representations.regions.losses import SECOND_STAGE_WEIGHTS, box_targets, match_regions, objects_of
from panscape.visualize import append_colors, draw_boxes, draw_heatmap, draw_semantic

if TYPE_CHECKING:
    from panscape.representations.regions.representation import RegionRepresentation
    from panscape.representations.regions.types import RegionOutputs, RegionTargets

_SURE, _LIKELY, _PROPOSED = 255, 140, 70  # brightness of outlines
_MAX_PROPOSALS = 30
_SHOWN_SIDE = 512  # longer side of a crop, in pixels of its panel
_MAX_OBJECTS = 8  # with prediction and target; more are not legible
_SIDES = ([0, 1, 0, 3], [0, 1, 2, 1], [2, 1, 2, 3], [0, 3, 2, 3])  # left, top, right and bottom as boxes
BOX_COLORS = {
    "crop": (255, 255, 255),
    "visible box": (150, 150, 150),
    "cut off": (255, 60, 60),
    "prediction": (255, 170, 0),
    "target": (60, 200, 255),
}
"""Colors of :func:`draw_box_targets`, red, green and blue, by the text in its legend."""


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

        * "semantic", the argmax category, also of things where the map has only stuff (``stuff_on_uncovered``).
        * "proposals", objectness of the best anchor at every location of any level, and the outlines of the regions
          with the least probability of background.
        * "detections", the outlines of the detected boxes: white from the minimum score of the map on, grey below it.
        * "masks", the probability of the most probable mask of objects with at least the minimum score.
    """
    padded = representation.padded_size(outputs)
    require_fits(size, padded)
    geometry = ImageGeometry.of(size, padded_size=padded)
    fusion = representation.decoding.fusion
    everything = replace(fusion, stuff_on_uncovered=False)
    (category,) = semantic_at_image_size(
        outputs.semantic.float(), [geometry], labels, everything, merge_things=representation.merge_things
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


class BoxTargets(NamedTuple):
    """Boxes of the second stage, xyxy in pixels of the crop, float [N, 4] each."""

    predicted: Tensor
    target: Tensor


def box_targets_of(outputs: RegionOutputs, targets: RegionTargets, representation: RegionRepresentation) -> BoxTargets:
    """Return predictions and targets of the largest objects of one crop, those that it cuts off first.

    Each object occurs once: by the positive region that most probably has its category.

    Args:
        outputs: a batch of one, from a forward pass with these targets.
        targets: a batch of one.
        representation: the rules of matching, and the box loss.
    """
    (objects,) = objects_of(targets)
    rows = has_area(outputs.regions[0]).nonzero()[:, 0]
    matches = match_regions(outputs.regions[0, rows], objects.box, representation.second_stage)
    rows, matched = rows[matches.label == 1], matches.object[matches.label == 1]
    prob = outputs.category[0].float().softmax(dim=1)[rows, objects.category[matched]]
    area = (objects.box[:, 2:] - objects.box[:, :2]).prod(dim=1)
    size = torch.where(objects.cut_off.any(dim=1), area + area.sum(), area)
    best = [
        int(torch.where(matched == i, prob, -1).argmax())
        for i in size.argsort(descending=True, stable=True).tolist()
        if bool((matched == i).any())
    ][:_MAX_OBJECTS]
    rows, matched = rows[best], matched[best]
    regions = outputs.regions[0, rows].float()
    offsets = outputs.region_offsets[0, rows, objects.category[matched] - 1].float()
    wanted = box_targets(
        offsets,
        regions,
        objects.box[matched],
        objects.cut_off[matched],
        representation.box_loss,
        representation.second_stage.beta,
        SECOND_STAGE_WEIGHTS,
    )
    return BoxTargets(*(decode_boxes(part, regions, SECOND_STAGE_WEIGHTS) for part in (offsets, wanted)))


def draw_box_targets(
    image: Tensor, outputs: RegionOutputs, targets: RegionTargets, representation: RegionRepresentation
) -> Tensor:
    """Draw what the box loss of the second stage compares on one training crop.

    The crop lies in the middle of a canvas of twice its size, so that boxes beyond it are seen; longer ones end at the
    border of the canvas.

    Args:
        image: the crop, float [3, H, W] in 0..1, on the CPU.
        outputs: as for :func:`box_targets_of`.
        targets: as for :func:`box_targets_of`.
        representation: as for :func:`box_targets_of`.

    Returns:
        uint8 [3, 2 h + legend, 2 w], where the longer of h and w is 512: all visible boxes, the sides at which the crop
        cuts objects off, if the loss needs them, and boxes of :func:`box_targets_of`.
    """
    height, width = size_with_longest_side((image.shape[1], image.shape[2]), _SHOWN_SIDE)
    scale = torch.tensor([width / image.shape[2], height / image.shape[1]] * 2)
    canvas = torch.full((3, 2 * height, 2 * width), 24, dtype=torch.uint8)
    inside = canvas[:, height // 2 : height // 2 + height, width // 2 : width // 2 + width]
    inside.copy_(resize_images(image[None].float(), (height, width))[0].clamp(0, 1) * 190)

    def draw(kind: str, boxes: Tensor, margin: int = 0) -> None:
        corners = boxes * scale + torch.tensor([width // 2 - margin, height // 2 - margin] * 2)
        draw_boxes(canvas, corners + torch.tensor([0, 0, 2 * margin, 2 * margin]), BOX_COLORS[kind])

    (objects,) = objects_of(targets)
    sides = [objects.box[objects.cut_off[:, side]][:, corners] for side, corners in enumerate(_SIDES)]
    predicted, target = box_targets_of(outputs, targets, representation)
    draw("crop", torch.tensor([[0.0, 0, image.shape[2], image.shape[1]]]))
    draw("visible box", objects.box)
    draw("prediction", predicted)
    draw("target", target)
    draw("cut off", torch.cat(sides), margin=2)
    return append_colors(canvas, BOX_COLORS)


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
