"""Training targets of networks of two stages, from an id map."""

from __future__ import annotations

import torch

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.ops.boxes import touching_sides
from panscape.panoptic import PanopticMap
from panscape.representations.checks import check_categories
from panscape.representations.regions.types import RegionTargets


def encode_regions(
    truth: PanopticMap, labels: LabelSpace, padded_to: tuple[int, int], max_objects: int
) -> RegionTargets:
    """Encode one ground truth.

    Objects are thing segments with pixels that are not crowds. A side that the map records as cut off, but that the
    object's pixels do not touch, is not: something may have been pasted over it.

    Args:
        truth: ground truth on the CPU, of the input, without the padding to ``padded_to``.
        labels: label space, which defines things and stuff.
        padded_to: height and width of the network's input.
        max_objects: number of rows of the tables; of more objects the largest are kept, and the others are ignored.

    Raises:
        InvalidArgumentError: the ground truth has categories that the label space lacks or is larger than
            ``padded_to``.
    """
    check_categories(truth, labels)
    if any(side > padded for side, padded in zip(truth.size, padded_to, strict=True)):
        raise InvalidArgumentError(
            f"expected ground truth of at most {padded_to[0]}x{padded_to[1]} pixels, got "
            f"{truth.size.height}x{truth.size.width}"
        )
    number = torch.zeros(len(labels), dtype=torch.int64)
    number[list(labels.thing_ids)] = torch.arange(1, len(labels.thing_ids) + 1)
    boxes, areas, thing = truth.boxes(), truth.areas(), number[truth.category]
    is_crowd = torch.zeros(len(truth), dtype=torch.bool) if truth.crowd is None else truth.crowd
    rows = ((thing > 0) & ~is_crowd & (areas > 0)).nonzero()[:, 0]
    if len(rows) > max_objects:
        rows = rows[areas[rows].sort(descending=True, stable=True).indices[:max_objects]].sort().values
    # Ids of the map to rows of the tables.
    table = torch.zeros(len(truth) + 1, dtype=torch.int32)
    table[1:][thing > 0] = -1
    table[1 + rows] = torch.arange(1, len(rows) + 1, dtype=torch.int32)
    box, cut_off = torch.zeros(max_objects, 4), torch.zeros(max_objects, 4, dtype=torch.bool)
    category = torch.zeros(max_objects, dtype=torch.int64)
    box[: len(rows)], category[: len(rows)] = boxes[rows], thing[rows]
    if truth.cut_off is not None:
        cut_off[: len(rows)] = (truth.cut_off & touching_sides(boxes, truth.size))[rows]
    padded = truth.pad(*padded_to)
    valid = torch.tensor(truth.valid or (0, 0, truth.size.width, truth.size.height), dtype=torch.float32)
    return RegionTargets(padded.semantic(void=-1) + 1, table[padded.ids.long()], box, category, cut_off, valid)
