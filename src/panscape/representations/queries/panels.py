"""Visualisation of the outputs of a network that classifies masks."""

from __future__ import annotations

from torch import Tensor

from panscape.geometry import ImageGeometry
from panscape.labels import LabelSpace
from panscape.ops.interpolate import upsample
from panscape.panoptic import PanopticMap
from panscape.representations.queries.merge import merge_queries
from panscape.representations.queries.semantic import semantic_categories
from panscape.representations.queries.types import QueryOutputs
from panscape.visualize import draw_heatmap, draw_segments, draw_semantic


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
        * "queries", every pixel in the colour of the query it is assigned to, before the thresholds of post-processing.
        * "probability", the largest probability of a mask times that of its query's category.
    """
    category_logits, mask_logits = outputs.category_logits[0], outputs.mask_logits[0]
    category_prob = category_logits.float().softmax(dim=1)[:, :-1].amax(dim=1)
    best = (category_prob[:, None, None] * mask_logits.float().sigmoid()).amax(dim=0)
    merged = merge_queries(
        category_logits,
        mask_logits,
        size,
        rule="maskformer",
        things=labels.thing_ids,
        score_threshold=0,
        overlap_threshold=0,
        padded_size=padded_size,
    )
    semantic = semantic_categories(category_logits, mask_logits, ImageGeometry.of(size, padded_size=padded_size))
    return {
        "semantic": draw_semantic(semantic, labels),
        "queries": draw_segments(PanopticMap(merged.ids, merged.category, labels=labels)),
        "probability": draw_heatmap(upsample(best, padded_size, size, align_corners=False)),
    }
