"""Outputs and targets of networks of two stages: regions are proposed, then classified, refined and given masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class RegionOutputs(NamedTuple):
    """Network outputs for a padded input [H, W].

    The numbers of regions and of masks are those of :meth:`RegionRepresentation.num_regions`; an image with fewer has
    empty boxes at the end, whose other values have no meaning. Boxes are xyxy in pixels of the input, and offsets those
    of :func:`~panscape.ops.boxes.encode_boxes`.

    In training, when the network receives the targets, the regions are sampled by them and the masks are those of the
    positive regions; else regions are all proposals, and masks those of the detected objects.

    Iterate over :attr:`tensors` for the tensors, as the last field is not one.

    Attributes:
        semantic: category logits, float [B, K, h, w], at a fraction of the padded size. With
            :attr:`RegionRepresentation.merge_things`, channel 0 is any thing and 1 + i is ``labels.stuff_ids[i]``.
        objectness: logits of all anchors, float [B, A].
        anchor_offsets: from the anchors, float [B, A, 4].
        regions: float [B, R, 4].
        category: logits of the regions, float [B, R, T + 1]: background, then category ``labels.thing_ids[t]``.
        region_offsets: from the regions, for each category of things, float [B, R, T, 4].
        mask_boxes: the boxes of masks, float [B, D, 4].
        mask_category: thing of each mask, an index into ``labels.thing_ids``, int64 [B, D].
        mask_score: probability of this thing, float [B, D].
        masks: logits of the cells of each box, float [B, D, M, M].
        first_stage: outputs before relations (:mod:`panscape.models.pisr_regions`), returned in training by networks
            with relations; None in inference and for all other networks. It is never decoded into maps.
    """

    semantic: Tensor
    objectness: Tensor
    anchor_offsets: Tensor
    regions: Tensor
    category: Tensor
    region_offsets: Tensor
    mask_boxes: Tensor
    mask_category: Tensor
    mask_score: Tensor
    masks: Tensor
    first_stage: RegionOutputs | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors, in their order."""
        return tuple(self[:10])

    def apply(self, change: Callable[[Tensor], Tensor]) -> RegionOutputs:
        """Return the outputs with all tensors changed by a function, without those of a first stage."""
        return RegionOutputs._make((*map(change, self.tensors), None))


class RegionTargets(NamedTuple):
    """Encoded and padded ground truth; stacked along a first axis for a batch.

    Attributes:
        semantic: category id + 1, int64 [H, W]; 0 is void.
        segment: int32 [H, W], the object, as its row in the tables plus 1; 0 no object, -1 ignored: crowds, and objects
            beyond the largest N.
        box: tight box of the visible part of each object, xyxy in pixels, float32 [N, 4]; 0 for unused rows.
        category: 1 + index into ``labels.thing_ids``, int64 [N]; 0 for unused rows.
        cut_off: whether a crop cut the object off at its left, top, right and bottom side, bool [N, 4].
        valid: the part that shows the image and is not padding, xyxy in pixels, float32 [4].
    """

    semantic: Tensor
    segment: Tensor
    box: Tensor
    category: Tensor
    cut_off: Tensor
    valid: Tensor
