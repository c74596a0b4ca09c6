"""Visualisation of the outputs of a network that classifies masks."""

from __future__ import annotations

from torch import Tensor

from panscape.geometry import ImageGeometry
from panscape.labels import LabelSpace
from panscape.ops.interpolate import upsample
from panscape.representations.queries.semantic import semantic_categories
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

        * "semantic", see :func:`~panscape.representations.queries.semantic.semantic_categories`.
        * "masks", the largest probability of a mask times that of its query's category.
    """
    category_prob = outputs.category_logits[0].float().softmax(dim=1)[:, :-1]
    mask_prob = outputs.mask_logits[0].float().sigmoid()
    geometry = ImageGeometry.of(size, padded_size=padded_size)
    semantic = semantic_categories(outputs.category_logits[0], outputs.mask_logits[0], geometry)
    best = (category_prob.amax(dim=1)[:, None, None] * mask_prob).amax(dim=0)
    return {
        "semantic": draw_semantic(semantic, labels),
        "masks": draw_heatmap(upsample(best, padded_size, size, align_corners=False)),
    }
