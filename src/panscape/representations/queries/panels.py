"""Visualisation of the outputs of a network that classifies masks."""

from __future__ import annotations

import torch
from torch import Tensor

from panscape.geometry import require_fits
from panscape.labels import LabelSpace
from panscape.ops.argmax import upsampled_argmax
from panscape.ops.interpolate import upsample
from panscape.representations.queries.types import QueryOutputs
from panscape.visualize import draw_heatmap, draw_semantic


def draw_panels(
    outputs: QueryOutputs, size: tuple[int, int], padded_size: tuple[int, int], labels: LabelSpace
) -> dict[str, Tensor]:
    """Visualise the outputs of one image.

    Args:
        outputs: a batch of one, on the CPU.
        size: height and width of the image.
        padded_size: of the network's input.
        labels: label space, which defines the colours.

    Returns:
        Visualisations by name, uint8 [3, H, W]:

        * "semantic", the category of which the probabilities of all masks, each times that of its category, have the
          largest sum (MaskFormer, Section 3.4).
        * "masks", the largest probability of a mask times that of its query's category.
    """
    require_fits(size, padded_size)
    category_prob = outputs.category_logits[0].float().softmax(dim=1)[:, :-1]
    mask_prob = outputs.mask_logits[0].float().sigmoid()
    semantic = torch.einsum("qc,qhw->chw", category_prob, mask_prob)
    best = (category_prob.amax(dim=1)[:, None, None] * mask_prob).amax(dim=0)
    return {
        "semantic": draw_semantic(upsampled_argmax(semantic, padded_size, size).long(), labels),
        "masks": draw_heatmap(upsample(best, padded_size, size, align_corners=False)),
    }
