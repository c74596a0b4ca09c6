"""Oracles of dense boxes: decode outputs of which some parts are replaced by ground truth, to measure their errors.

Everything is computed at the size of the image: true categories and boxes are known for every pixel, and at a quarter
of the size small objects would lose their outlines. Predicted probabilities are upsampled bilinearly; predicted boxes
are those of the nearest cell, as interpolated boxes between two objects belong to neither.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.geometry import ImageGeometry
from panscape.labels import LabelSpace
from panscape.ops.interpolate import upsample
from panscape.panoptic import PanopticMap
from panscape.representations.dense_boxes.decode import MaskInputs, boxes_to_map
from panscape.representations.dense_boxes.decode_config import DenseBoxDecoding
from panscape.representations.dense_boxes.locations import Pyramid, dense_boxes
from panscape.representations.dense_boxes.losses import centerness_of
from panscape.representations.dense_boxes.select_boxes import select_boxes

if TYPE_CHECKING:
    from panscape.representations.dense_boxes import DenseBoxOutputs, DenseBoxTargets

_SURE = 20.0  # a logit whose probability rounds to 1


def decode_with_truth(
    outputs: DenseBoxOutputs,
    truth: PanopticMap,
    targets: DenseBoxTargets,
    parts: Collection[str],
    labels: LabelSpace,
    pyramid: Pyramid,
    decoding: DenseBoxDecoding,
) -> PanopticMap:
    """Decode the map of one image from outputs of which some parts are replaced by ground truth.

    Args:
        outputs: a batch of one.
        truth: ground truth of the image, on the device of the outputs.
        targets: its targets with supervision by masks, on the same device.
        parts: "semantic" uses the true category of every pixel that has one; "boxes" detects the true box of every
            object that covers a location, without a limit on their number and with certainty, and gives the pixels of
            all objects their true box.
        labels: label space, which defines things and stuff.
        pyramid: geometry of the locations.
        decoding: decoding options.
    """
    size = truth.size
    things = list(labels.thing_ids)
    prob = _category_prob(outputs.semantic[0], targets.semantic if "semantic" in parts else None, pyramid, size)
    dense = _dense_at_pixels(outputs, pyramid, decoding, size)
    if "boxes" in parts:
        is_object = _is_object(truth, labels)
        own = F.pad(truth.boxes(), (0, 0, 1, 0))[truth.ids.long()].permute(2, 0, 1)
        dense = torch.where(F.pad(is_object, (1, 0))[truth.ids.long()], own, dense)
        # All locations of an object have the maximum score, and large objects have many: no limit on their number.
        num_locations = targets.box.shape[1]
        selection = replace(decoding.selection, pre_nms_top_k=num_locations, max_boxes=num_locations)
        found = select_boxes(*_perfect_locations(targets, len(things)), pyramid, size, selection)
        found = found._replace(score=torch.ones_like(found.score))
    else:
        parts_of_one = (outputs.box_category[0], outputs.box[0], outputs.centerness[0])
        found = select_boxes(*parts_of_one, pyramid, size, decoding.selection)
    choices = torch.tensor(decoding.fusion.semantic_ids(labels), device=prob.device)
    semantic = choices[prob[choices].argmax(0)]
    inputs = MaskInputs(found.boxes, found.category, dense, prob[things], ImageGeometry.of(size))
    return boxes_to_map(inputs, found.score, semantic, labels, decoding)


def _category_prob(logits: Tensor, known: Tensor | None, pyramid: Pyramid, size: tuple[int, int]) -> Tensor:
    """Return the probability of every category at every pixel, [K, H, W]; 1 for known categories."""
    prob = upsample(logits.detach().float(), pyramid.padded_size, size, align_corners=False).softmax(0)
    if known is None:
        return prob
    category = known[: size[0], : size[1]]
    certain = F.one_hot((category - 1).clamp_min(0), len(prob)).permute(2, 0, 1).float()
    return torch.where(category > 0, certain, prob)


def _dense_at_pixels(
    outputs: DenseBoxOutputs, pyramid: Pyramid, decoding: DenseBoxDecoding, size: tuple[int, int]
) -> Tensor:
    """Return the boxes of every pixel, which are those of its cell, [D, 4, H, W]."""
    dense = dense_boxes(outputs.box.detach(), decoding.levels(outputs.levelness), pyramid)[0]
    rows, columns = (torch.arange(side, device=dense.device) // (pyramid.finest_stride // 2) for side in size)
    return dense[:, :, rows[:, None], columns]


def _is_object(truth: PanopticMap, labels: LabelSpace) -> Tensor:
    is_thing = torch.tensor([c.is_thing for c in labels], device=truth.category.device)[truth.category]
    return is_thing if truth.crowd is None else is_thing & ~truth.crowd


def _perfect_locations(targets: DenseBoxTargets, num_things: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the perfect outputs at all locations: category logits [T, L], boxes [4, L], centerness [L]."""
    channels = torch.arange(1, num_things + 1, device=targets.box.device)
    category = torch.where(targets.box_category == channels[:, None], _SURE, -_SURE)
    has_object = targets.box_category > 0
    centerness = torch.full_like(targets.box[0], -_SURE)
    centerness[has_object] = centerness_of(targets.box[:, has_object].T).logit().clamp(-_SURE, _SURE)
    return category, targets.box, centerness
