"""Maps from detected objects with masks, and a semantic segmentation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.ops.cropped_masks import CroppedMasks
from panscape.ops.paste_masks import paste_masks
from panscape.panoptic import PanopticMap
from panscape.postprocess.inputs import (
    Array,
    Sides,
    before_resizing,
    floats,
    geometry_of,
    integers,
    label_space,
    require_finite,
    require_logits,
    require_one_device,
    require_size,
    resized,
    to_tensor,
    with_given_labels,
)
from panscape.representations.decoding_options import replace_options
from panscape.representations.fusion import fuse_instances
from panscape.representations.regions import RegionDecoding
from panscape.representations.regions.decode import semantic_at_image_size


def map_from_detections(
    masks: Array,
    category: Array,
    score: Array,
    semantic: Array,
    size: Sides,
    *,
    boxes: Array | None = None,
    labels: LabelSpace | str | None = None,
    things: Iterable[int] | None = None,
    inference_size: Sides | None = None,
    padded_size: Sides | None = None,
    **options: Any,
) -> PanopticMap:
    """Merge detected objects with masks, the highest score first, and fill the rest with stuff.

    Replaces ``combine_semantic_and_instance_outputs`` of detectron2's Panoptic FPN, which numbers things from 0 and has
    stuff after one category for all things::

        category = torch.tensor(labels.thing_ids)[instances.pred_classes]
        semantic = torch.tensor((labels.thing_ids[0], *labels.stuff_ids))[sem_seg.argmax(0)]
        result = map_from_detections(instances.pred_masks, category, instances.scores, semantic, size, labels=labels)

    Faster, with the outputs of the heads, as masks are pasted without copies of full size, and logits are not upsampled
    as a whole::

        result = map_from_detections(
            mask_logits, category, instances.scores, sem_seg, size, boxes=instances.pred_boxes.tensor, labels=labels,
            inference_size=image_size, padded_size=images.tensor.shape[-2:])

    Args:
        masks: of P objects, bool [P, H, W] at the size of the map; or with ``boxes`` logits of the cells of each box,
            before the sigmoid, float [P, M, M].
        category: of each object, a thing of the label space, integers [P].
        score: of each object, 0..1, float [P].
        semantic: category of every pixel, integers [H, W] at the size of the map; or logits, float [C, h, w], or of one
            channel for all things and then the stuff, as in detectron2.
        size: height and width of the map.
        boxes: float [P, 4], xyxy in pixels of the network's input; may exceed the image. None for full masks.
        labels: label space of the C categories, or its name.
        things: instead of ``labels``, the categories that are things; with logits of all categories.
        inference_size: size of the image at the network's input; None for ``size``.
        padded_size: size of the network's input, which semantic logits cover; None for ``inference_size``.
        **options: those of :class:`~panscape.representations.regions.RegionDecoding` and of its
            :class:`~panscape.representations.fusion.FusionConfig`: ``min_score``, ``max_overlap``, ``stuff_area``,
            ``mask_threshold``, ``resize``, ... With ``resize="map"``, full masks and categories have the inference
            size.

    Returns:
        A map of the given size on the device of the masks. First the stuff with score 1, then the objects.

    Raises:
        InvalidArgumentError: a tensor, a size or an option is not as described.
        UnknownNameError: there is no such option, or no such label space.
    """
    decoding = replace_options(RegionDecoding(), options)
    fusion = decoding.fusion
    category, score = integers("category", category, "P"), floats("score", score, "P")
    require_finite(score=score)
    semantic = to_tensor("semantic", semantic, "logits, float [C, h, w], or categories, integers [H, W]")
    if semantic.is_floating_point():
        semantic = floats("semantic", semantic, "C, h, w")
        geometry = geometry_of(size, inference_size, padded_size, semantic)
        seen = before_resizing(geometry) if decoding.resize == "map" else geometry
        space, is_merged = _space_of_channels(labels, things, len(semantic))
        semantic = semantic_at_image_size(semantic[None], [seen], space, fusion, merge_things=is_merged)[0]
    else:
        if labels is None or fusion.stuff_on_uncovered:
            raise InvalidArgumentError(
                "expected semantic as logits for things and for stuff_on_uncovered, got categories; give labels"
            )
        semantic, space = integers("semantic", semantic, "H, W"), LabelSpace.of(labels)
        geometry = geometry_of(size, inference_size, padded_size, None)
        seen = before_resizing(geometry) if decoding.resize == "map" else geometry
        require_size("semantic", semantic, seen)
    if boxes is None:
        masks = to_tensor("masks", masks, "bool [P, H, W], or logits with boxes")
        if masks.dtype != torch.bool and masks.ndim == 3:
            raise InvalidArgumentError(
                f"expected masks as bool [P, H, W], got {masks.dtype}; compare them with a threshold, masks > 0 for 0 "
                "and 1 and for logits, masks >= 0.5 for probabilities; logits of the cells of boxes need boxes"
            )
        require_one_device(masks=masks, category=category, score=score, semantic=semantic)
        cropped = CroppedMasks.from_masks(masks)
        require_size("masks", masks, seen)
    else:
        masks, boxes = floats("masks", masks, "P, M, M"), floats("boxes", boxes, "P, 4")
        require_one_device(masks=masks, boxes=boxes, category=category, score=score, semantic=semantic)
        require_finite(boxes=boxes)
        require_logits("masks", masks)
        scale = boxes.new_tensor([full / one for full, one in zip(seen.size, seen.inference_size, strict=True)] * 2)
        cropped = paste_masks(masks.sigmoid(), boxes * scale[[1, 0, 3, 2]], seen.size, decoding.mask_threshold)
    merged = fuse_instances(cropped, category, score, semantic, space, fusion)
    return with_given_labels(resized(merged, geometry), labels)


def _space_of_channels(
    labels: LabelSpace | str | None, things: Iterable[int] | None, num: int
) -> tuple[LabelSpace, bool]:
    """Return the label space of semantic logits, and whether they have one channel for all things."""
    if labels is not None:
        space = LabelSpace.of(labels)
        if num == 1 + len(space.stuff_ids) != len(space):
            return space, True
    return label_space(labels, things, num, "semantic"), False
