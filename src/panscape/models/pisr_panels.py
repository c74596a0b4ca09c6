"""Visualisation of the effect of relations on the features of a category.

Figure 4 of *Panoptic, Instance, and Semantic Relations: A Relational Context Encoder to Enhance Panoptic Segmentation*
(Borse et al., CVPR 2022) shows "heatmaps for a given class" before and after relations, and that its "signals are
considerably stronger" after. The paper does not say what a signal is; :func:`class_similarity_map` is our choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.images import resize_images
from panscape.models.base import PanopticModel, in_eval_mode
from panscape.nn.pisr import RelationModule
from panscape.ops.interpolate import upsample
from panscape.visualize import draw_heatmap

_NO_DIFFERENCE = 1e-4  # smallest difference of features from their mean, relative to their norm: below is rounding


class RelationActivations(NamedTuple):
    """Inputs and outputs of relations in one forward pass.

    Attributes:
        before: features before relations, [B, C, h, w].
        after: features after relations, [B, C', h, w].
        semantic_prob: the first stage's probabilities of categories, [B, N, h, w].
        valid: cells that belong to the image, bool [B or 1, 1, h, w]; None if there is no padding.
    """

    before: Tensor
    after: Tensor
    semantic_prob: Tensor
    valid: Tensor | None


def relation_panels(
    model: PanopticModel,
    relations: RelationModule | None,
    images: Tensor,
    size: tuple[int, int],
    categories: Sequence[int],
    *,
    padded_size: Callable[[Any], tuple[int, int]],
    align_corners: bool = False,
    channel: Mapping[int, int] | None = None,
) -> dict[str, Tensor]:
    """Draw similarity maps of categories before and after relations as heatmaps over the image.

    Both heatmaps of a category have the same scale. Both encodings use the probabilities of the first stage, which are
    the input of the relations, so that only the features differ. With OCR, the features are those of the semantic
    branch; with concatenation, the appended channels are included.

    Args:
        model: the network; it runs once more on the image, in eval mode.
        relations: the module of its relations; if None, the result is empty.
        images: one image, as for the model's ``forward``.
        size: height and width of the visualisations.
        categories: ids of the categories.
        padded_size: returns the size of the padded input of some outputs.
        align_corners: how outputs are upsampled to that size.
        channel: channel of each category in the probabilities; None if they have one for each category, in their order.

    Returns:
        Visualisations uint8 [3, H, W] by name, such as "car before relations" and "car after relations".
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
        prob = related.semantic_prob[0, category if channel is None else channel[category]]
        for when, features in (("before", related.before), ("after", related.after)):
            signal = class_similarity_map(features[0], prob, valid).cpu()
            whole = upsample(signal, padded, (images.shape[-2], images.shape[-1]), align_corners)
            heat = F.interpolate(whole[None, None], tuple(size), mode="bilinear", align_corners=False)[0, 0]
            panels[f"{model.labels[category].name} {when} relations"] = draw_heatmap(heat, image)
    return panels


def class_similarity_map(features: Tensor, prob: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the similarity of the features of each place to the encoding of a category.

    The category's encoding is the mean of the features weighted by its probability, as in Section 3.2. The similarity
    is the cosine of the angle between encoding and features, both minus the mean of the whole image, as components that
    all places share do not depend on the category. It has no unit, so features of different networks are comparable.

    Args:
        features: [C, h, w].
        prob: probability of the category at each place, [h, w].
        valid: cells that belong to the image, bool [h, w]; None if there is no padding.

    Returns:
        float32 [h, w] in 0..1: 1 where features have the direction of the encoding, 0 where they are orthogonal or
        opposed to it, where they equal the mean, and outside the image.
    """
    shown = torch.ones_like(prob, dtype=torch.bool) if valid is None else valid
    x = features.detach()[:, shown].float()
    weight = prob.detach()[shown].float()
    tiny = torch.finfo(x.dtype).tiny
    x = x / x.norm(dim=0).mean().clamp_min(tiny)
    x = x - x.mean(1, keepdim=True)
    encoding = (x * weight).sum(1) / weight.sum().clamp_min(tiny)  # not a matrix product, which autocast would round
    signal = torch.zeros(prob.shape, device=x.device)
    signal[shown] = F.cosine_similarity(x, encoding[:, None], dim=0, eps=_NO_DIFFERENCE).clamp(0, 1)
    return signal


@contextmanager
def capture_activations(relations: RelationModule) -> Iterator[list[RelationActivations]]:
    """Record the inputs and outputs of relations within a context; one item for each forward pass."""
    seen: list[RelationActivations] = []

    def note(_: Any, given: tuple[Any, ...], after: Tensor) -> None:
        before, semantic_prob, _, valid = given
        seen.append(RelationActivations(before, after, semantic_prob, valid))

    handle = relations.register_forward_hook(note)
    try:
        yield seen
    finally:
        handle.remove()
