"""Maps from the queries of networks that classify masks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.postprocess.inputs import (
    Array,
    Sides,
    floats,
    geometry_of,
    label_space,
    require_logits,
    require_one_device,
    with_given_labels,
)
from panscape.representations.decoding_options import replace_options
from panscape.representations.queries import MergeRule, QueryDecoding, QueryOutputs
from panscape.representations.queries.decode import decode_queries


def map_from_queries(
    category_logits: Array,
    mask_logits: Array,
    size: Sides,
    *,
    rule: MergeRule,
    labels: LabelSpace | str | None = None,
    things: Iterable[int] | None = None,
    inference_size: Sides | None = None,
    padded_size: Sides | None = None,
    use_source_ids: bool = False,
    **options: Any,
) -> PanopticMap:
    """Merge queries with categories and masks into a map, by the rule of their authors' code.

    Replaces ``post_process_panoptic_segmentation`` of transformers, for Mask2Former, MaskFormer, OneFormer and EoMT::

        result = map_from_queries(
            outputs.class_queries_logits[i], outputs.masks_queries_logits[i], size, rule="mask2former",
            labels="coco_panoptic", inference_size=(800, 1066), padded_size=inputs.pixel_values.shape[-2:])

    and for DETR, whose categories are the ids of COCO's files::

        result = map_from_queries(
            outputs.logits[i], outputs.pred_masks[i], size, rule="detr", score_threshold=0.85,
            labels="coco_panoptic", use_source_ids=True, padded_size=inputs.pixel_values.shape[-2:])

    The rules are those of :mod:`panscape.representations.queries.merge`, whose ``merge_queries`` also returns the query
    of each segment.

    Args:
        category_logits: of Q queries, float [Q, C + 1]; the last category is "no object".
        mask_logits: before the sigmoid, float [Q, h, w].
        size: height and width of the map.
        rule: "mask2former", "oneformer" and "eomt" paint the pixels of a query within its mask, "maskformer" all pixels
            that are assigned to it; "detr" assigns them by the masks alone.
        labels: label space of the C categories, or its name.
        things: instead of ``labels``, the categories that are things; all others are merged to one segment each.
        inference_size: size of the image at the network's input; None for ``size``.
        padded_size: size of the network's input; None for ``inference_size``.
        use_source_ids: category logits are in the order of the ids in the dataset's files (``Category.source_id``)
            instead of those of ``labels``.
        **options: ``score_threshold`` and ``overlap_threshold`` of
            :class:`~panscape.representations.queries.QueryDecoding`.

    Returns:
        A map of the given size on the device of the logits. The score of a segment is the probability of its category.

    Raises:
        InvalidArgumentError: a tensor, a size or an option is not as described, or the tensors are probabilities.
        UnknownNameError: there is no such option, or no such label space.
    """
    decoding = replace_options(QueryDecoding(), {"rule": rule, **options})
    category_logits = floats("category_logits", category_logits, "Q, C + 1")
    mask_logits = floats("mask_logits", mask_logits, "Q, h, w")
    require_one_device(category_logits=category_logits, mask_logits=mask_logits)
    if len(category_logits) != len(mask_logits) or category_logits.shape[1] < 2 or 0 in mask_logits.shape[1:]:
        raise InvalidArgumentError(
            f"expected category logits [Q, C + 1] and mask logits [Q, h, w] of the same queries, got "
            f"{list(category_logits.shape)} and {list(mask_logits.shape)}"
        )
    require_logits("category_logits", category_logits, category_logits.sum(1))
    require_logits("mask_logits", mask_logits)
    if use_source_ids:
        if labels is None:
            raise InvalidArgumentError("expected labels, which define the source ids of use_source_ids, got none")
        category_logits = _in_order_of(LabelSpace.of(labels), category_logits)
    space = label_space(labels, things, category_logits.shape[1] - 1, "category_logits, besides no object,")
    geometry = geometry_of(size, inference_size, padded_size, mask_logits)
    outputs = QueryOutputs(category_logits[None], mask_logits[None])
    return with_given_labels(decode_queries(outputs, [geometry], space, decoding)[0], labels)


def _in_order_of(space: LabelSpace, logits: Tensor) -> Tensor:
    """Return logits in the order of a label space; probabilities of other ids are added to that of "no object"."""
    ids = [category.source_id for category in space]
    if not 0 <= min(ids) <= max(ids) < logits.shape[1] - 1:
        raise InvalidArgumentError(
            f"expected category_logits of all source ids of {space.name}, up to {max(ids)}, and of no object, got "
            f"{list(logits.shape)}; leave out use_source_ids if they are in the order of the label space"
        )
    is_other = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    is_other[ids] = False
    return torch.cat([logits[:, ids], logits[:, is_other].logsumexp(1, keepdim=True)], dim=1)
