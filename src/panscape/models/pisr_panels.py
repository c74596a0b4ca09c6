"""What relations do to the features of a category, as images.

Figure 4 of *Panoptic, Instance, and Semantic Relations: A Relational Context Encoder to Enhance Panoptic Segmentation*
(Borse et al., CVPR 2022) shows "heatmaps for a given class" before and after relations, and that its "signals are
considerably stronger" after. The paper does not say what a signal is; :func:`class_similarity_map` is our choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.images import resize_images
from panscape.models.base import PanopticModel, in_eval_mode
from panscape.models.pisr import CenterRelations
from panscape.ops.interpolate import upsample
from panscape.representations.centers import CenterOutputs
from panscape.visualize import draw_heatmap

_NO_DIFFERENCE = 1e-4  # of features from their mean, as a share of their length: less is rounding


class RelationActivations(NamedTuple):
    """What went into relations and what came out.

    Attributes:
        before: features, [B, C, h, w].
        after: features, [B, C', h, w].
        semantic_prob: what the first stage made of the image, probabilities of categories, [B, N, h, w].
        valid: where the image is, bool [B or 1, 1, h, w]; None if it is everywhere.
    """

    before: Tensor
    after: Tensor
    semantic_prob: Tensor
    valid: Tensor | None


def relation_panels(
    model: PanopticModel,
    relations: CenterRelations | None,
    images: Tensor,
    size: tuple[int, int],
    categories: Sequence[int],
    *,
    padded_size: Callable[[CenterOutputs], tuple[int, int]],
    align_corners: bool,
) -> dict[str, Tensor]:
    """Draw the signal of categories before and after relations, glowing over the image.

    Both images of a category have the same scale. Before and after, the encoding is made with the probabilities of
    the first stage, which the relations were given, so that the features are all that differs. With object-contextual
    representations, the features are those of the semantic branch; with concatenation, what is appended counts as well.

    Args:
        model: the network; it looks at the image once more, in eval mode.
        relations: its relations; if it has none, nothing is drawn.
        images: of one image, as for the model's ``forward``.
        size: height and width of the images to draw.
        categories: ids.
        padded_size: tells of outputs the size of the padded input that gave them.
        align_corners: how outputs are enlarged to that size.

    Returns:
        Images uint8 [3, H, W] by name, such as "car before relations" and "car after relations".
    """
    if relations is None or not categories:
        return {}
    with in_eval_mode(model), torch.no_grad(), capture_activations(relations) as seen:
        padded = padded_size(model(images))
    (related,) = seen
    image = (resize_images(images.float(), size)[0] * 255).round().to(torch.uint8)
    valid = None if related.valid is None else related.valid[0, 0]
    panels = {}
    for category in categories:
        for when, features in (("before", related.before), ("after", related.after)):
            signal = class_similarity_map(features[0], related.semantic_prob[0, category], valid).cpu()
            whole = upsample(signal, padded, (images.shape[-2], images.shape[-1]), align_corners)
            heat = F.interpolate(whole[None, None], tuple(size), mode="bilinear", align_corners=False)[0, 0]
            panels[f"{model.labels[category].name} {when} relations"] = draw_heatmap(heat, image)
    return panels


def class_similarity_map(features: Tensor, prob: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return how much the features of each place are those of a category.

    The category's encoding is the mean of the features weighted by its probability, as in Section 3.2. The signal is
    the cosine of the angle between encoding and features, both less the mean of the whole image: what all places have
    in common says nothing of a category. It has no unit, so features of any network and width can be compared.

    Args:
        features: [C, h, w].
        prob: probability of the category at each place, [h, w].
        valid: where the image is, bool [h, w]; None if it is everywhere.

    Returns:
        float32 [h, w] in 0..1: 1 where features point as the encoding does, 0 where they are at a right angle to it or
        point away, where they are the mean, and outside the image.
    """
    shown = torch.ones_like(prob, dtype=torch.bool) if valid is None else valid
    x = features.detach()[:, shown].float()
    weight = prob.detach()[shown].float()
    tiny = torch.finfo(x.dtype).tiny
    x = x / x.norm(dim=0).mean().clamp_min(tiny)
    x = x - x.mean(1, keepdim=True)
    encoding = (x * weight).sum(1) / weight.sum().clamp_min(tiny)  # no product of matrices: autocast would round it
    signal = torch.zeros(prob.shape, device=x.device)
    signal[shown] = F.cosine_similarity(x, encoding[:, None], dim=0, eps=_NO_DIFFERENCE).clamp(0, 1)
    return signal


@contextmanager
def capture_activations(relations: CenterRelations) -> Iterator[list[RelationActivations]]:
    """Note what passes through relations for a while; one item for each forward pass."""
    seen: list[RelationActivations] = []

    def note(_: Any, given: tuple[Any, ...], after: Tensor) -> None:
        before, semantic_prob, _, valid = given
        seen.append(RelationActivations(before, after, semantic_prob, valid))

    handle = relations.related.register_forward_hook(note)
    try:
        yield seen
    finally:
        handle.remove()
