"""Decode queries into panoptic maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from panscape.constraints import UnitInterval, check_fields
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.representations.queries.merge import MergeRule, merge_queries
from panscape.representations.queries.types import QueryOutputs


@dataclass(frozen=True, slots=True)
class QueryDecoding:
    """Options of decoding queries, see :mod:`panscape.representations.queries.merge`.

    Attributes:
        rule: Rule for merging: "maskformer" paints all pixels assigned to a query; "mask2former", "oneformer" and
            "eomt" paint those where its mask is at least 0.5; "detr" assigns pixels by the masks alone and leaves none
            void.
        score_threshold: Score that a query must exceed, 0..1.
        overlap_threshold: Minimum share of a mask that is assigned to its query, 0..1; not used by "detr".

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    rule: MergeRule = "maskformer"
    score_threshold: UnitInterval = 0.8
    overlap_threshold: UnitInterval = 0.8

    def __post_init__(self) -> None:
        check_fields(self)


def decode_queries(
    outputs: QueryOutputs, geometries: Sequence[ImageGeometry], labels: LabelSpace, decoding: QueryDecoding
) -> list[PanopticMap]:
    """Decode outputs into one map per image, at the image's own size.

    Args:
        outputs: of a batch.
        geometries: sizes of each image.
        labels: label space of the categories.
        decoding: options.

    Raises:
        InvalidArgumentError: the number of geometries or of categories differs from that of the outputs.
    """
    if len(outputs.category_logits) != len(geometries):
        raise InvalidArgumentError(
            f"expected one size for each of the {len(outputs.category_logits)} images, got {len(geometries)}"
        )
    if outputs.category_logits.shape[-1] != len(labels) + 1:
        raise InvalidArgumentError(
            f"expected category logits for the {len(labels)} categories of {labels.name} and no object, got "
            f"{outputs.category_logits.shape[-1]}"
        )
    maps = []
    for category_logits, mask_logits, geometry in zip(
        outputs.category_logits, outputs.mask_logits, geometries, strict=True
    ):
        merged = merge_queries(
            category_logits,
            mask_logits,
            geometry.size,
            rule=decoding.rule,
            things=labels.thing_ids,
            score_threshold=decoding.score_threshold,
            overlap_threshold=decoding.overlap_threshold,
            inference_size=geometry.inference_size,
            padded_size=geometry.padded_size,
        )
        maps.append(PanopticMap(merged.ids, merged.category, merged.score, labels=labels))
    return maps
