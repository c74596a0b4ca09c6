"""Confidence scores of segments for average precision.

The rule of Panoptic-DeepLab (Cheng et al., CVPR 2020) as in detectron2's project, which Panoptic SwiftNet and PISR
adopted: the score of an object is the mean, over its pixels, of the softmax probability of its category, times the
centre heatmap's value at the mean position of its pixels, both coordinates rounded down. The score of stuff is the mean
probability alone.

Probabilities are those of the upsampled logits, at the resolution of the map, as published; upsampling probabilities
instead would give other values at every boundary. All probabilities together would take 160 MB or more, so rows are
processed in chunks. Two differences from the published code: the heatmap is clamped to 0..1, as networks return values
beyond and scores are in 0..1; and mean positions are exact, where a float32 mean can round to the next pixel.

The scores that decoding itself assigns, the heatmap's value at the centre and 1 for stuff, do not follow this rule:
they are the values by which centres were selected, and cost nothing.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.ops.interpolate import finite_values
from panscape.ops.source_weights import SourceWeights, source_weights
from panscape.panoptic import PanopticMap
from panscape.representations.centers.types import CenterOutputs

_VALUES_AT_ONCE = 1 << 22  # 16 MiB of upsampled logits


def score_instances(
    panoptic: PanopticMap,
    outputs: CenterOutputs,
    labels: LabelSpace,
    padded_size: tuple[int, int],
    align_corners: bool,
) -> PanopticMap:
    """Return the map with the scores of the rule at the top of this module.

    Args:
        panoptic: the map of one image, at the size at which it entered the network; on any device.
        outputs: a batch of one, at a fraction of the padded size.
        labels: label space, which defines things and stuff.
        padded_size: height and width of the padded input, to which outputs are upsampled.
        align_corners: how outputs are upsampled; as in the decoding.

    Returns:
        The map, on its device, with scores in 0..1; segments without pixels have 0.

    Raises:
        InvalidArgumentError: the outputs are not a batch of one, are smaller than the map, or lack one of its
            categories.
    """
    logits, heat = finite_values(outputs.semantic), finite_values(outputs.center)
    size = panoptic.size
    if logits.shape[0] != 1 or size[0] > padded_size[0] or size[1] > padded_size[1]:
        raise InvalidArgumentError(
            f"expected the outputs of one image of {size[0]}x{size[1]}, got outputs of {logits.shape[0]} of at most "
            f"{padded_size[0]}x{padded_size[1]}; pass the outputs that the map was decoded from"
        )
    if panoptic.num_segments and int(panoptic.category.max()) >= logits.shape[1]:
        raise InvalidArgumentError(
            f"expected categories below {logits.shape[1]}, for which there are logits, got "
            f"{int(panoptic.category.max())}; pass the outputs that the map was decoded from"
        )
    rows = source_weights(logits.shape[-2], padded_size[0], align_corners, size[0])
    columns = source_weights(logits.shape[-1], padded_size[1], align_corners, size[1])
    ids, category = panoptic.ids.to(logits.device).long(), panoptic.category.to(logits.device)
    area, mean_y, mean_x = _extent(ids, panoptic.num_segments)
    score = _probability_sums(logits[0], ids, category, rows, columns) / area.clamp_min(1)
    is_thing = torch.tensor([c.is_thing for c in labels], device=category.device)[category]
    at_center = _values_at(heat[0, 0], mean_y, mean_x, rows, columns).clamp(0, 1).double()
    score = torch.where(is_thing, score * at_center, score)
    return replace(panoptic, score=score.clamp(0, 1).float().to(panoptic.ids.device))


def _extent(ids: Tensor, num_segments: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the area and mean position (y, x), rounded down, of every segment, all int64 [S]."""
    height, width = ids.shape
    flat = ids.flatten()
    area = torch.zeros(num_segments + 1, dtype=torch.int64, device=ids.device)
    sums = area.new_zeros(2, num_segments + 1)
    area.index_add_(0, flat, torch.ones_like(flat))
    y = torch.arange(height, device=ids.device)[:, None].expand(height, width)
    x = torch.arange(width, device=ids.device).expand(height, width)
    sums[0].index_add_(0, flat, y.flatten())
    sums[1].index_add_(0, flat, x.flatten())
    mean = sums // area.clamp_min(1)
    return area[1:], mean[0, 1:], mean[1, 1:]


def _probability_sums(
    logits: Tensor, ids: Tensor, category: Tensor, rows: SourceWeights, columns: SourceWeights
) -> Tensor:
    """Return the sum over each segment's pixels of the softmax probability of its category, float64 [S].

    Args:
        logits: float32 [C, h, w].
        ids: int64 [H, W].
        category: int64 [S].
        rows: source weights of the vertical axis.
        columns: source weights of the horizontal axis.
    """
    height, width = ids.shape
    sums = torch.zeros(len(category) + 1, dtype=torch.float64, device=logits.device)
    table = torch.cat([category.new_zeros(1), category])
    step = max(1, _VALUES_AT_ONCE // (len(logits) * width))
    for start, stop in pairwise([*range(0, height, step), height]):
        part = ids[start:stop]
        values = _upsampled_rows(logits, start, stop, rows, columns)
        own = values.gather(0, table[part][None])[0]
        prob = (own - values.logsumexp(0)).exp()
        sums.index_add_(0, part.flatten(), prob.flatten().double())
    return sums[1:]


def _upsampled_rows(planes: Tensor, start: int, stop: int, rows: SourceWeights, columns: SourceWeights) -> Tensor:
    """Return rows ``start`` to ``stop`` of planes [C, h, w] upsampled by :func:`panscape.ops.interpolate.upsample`."""
    device = planes.device
    first = int(rows.low[start])
    planes = planes[:, first : int(rows.high[stop - 1]) + 1]
    low, high, fraction = (torch.tensor(part, device=device) for part in columns)
    wide = (1 - fraction) * planes[..., low.long()] + fraction * planes[..., high.long()]
    low, high, fraction = (torch.tensor(part[start:stop], device=device) for part in rows)
    down = fraction[:, None]
    return (1 - down) * wide[:, low.long() - first] + down * wide[:, high.long() - first]


def _values_at(plane: Tensor, y: Tensor, x: Tensor, rows: SourceWeights, columns: SourceWeights) -> Tensor:
    """Return the upsampled plane's values at some points, without upsampling the whole plane."""
    device = plane.device
    top, bottom, down = (torch.tensor(part, device=device)[y] for part in rows)
    left, right, across = (torch.tensor(part, device=device)[x] for part in columns)
    above = (1 - across) * plane[top.long(), left.long()] + across * plane[top.long(), right.long()]
    below = (1 - across) * plane[bottom.long(), left.long()] + across * plane[bottom.long(), right.long()]
    return (1 - down) * above + down * below
