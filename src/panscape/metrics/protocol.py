"""Evaluation protocols of panoptic quality: one field for each difference between published evaluators, by name.

All protocols match a predicted and a true thing of equal category if their IoU is strictly above 0.5, and all but one
also stuff. Pixels that are void in the ground truth are removed from the predicted segment first. An unmatched
prediction is ignored if more than half of it lies on void. Protocols differ in crowds, predicted void, stuff in several
segments, and how groups of categories are summarized.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from panscape.constraints import check_fields
from panscape.errors import InvalidArgumentError, UnknownNameError

CrowdHandling = Literal["excuse", "void", "segment"]


@dataclass(frozen=True, slots=True)
class Protocol:
    """The choices in which evaluators differ; the defaults are those of the COCO panopticapi.

    Attributes:
        crowd: how crowd segments of the ground truth are handled. "excuse": they are neither matched nor missed, they
            stay in unions, and the last crowd of a category in an image excuses predictions of this category as void
            does. "void": they are void for predictions of all categories. "segment": they are ordinary segments.
        is_stuff_whole: whether all segments of one stuff category in an image are merged into one.
        predicted_void_leaves_union: whether pixels that are void in the prediction are removed from the union, as
            pixels that are void in the ground truth are. Predicting void then costs nothing.
        predicted_void_excuses_misses: whether an unmatched ground-truth segment is ignored, not a false negative, if
            more than half of it is void in the prediction.
        absent_categories_count: whether a category without any true positive, false positive and false negative enters
            the means, with 0.
        any_overlap_matches_stuff: whether a predicted and a true stuff segment of equal category match if they share a
            pixel, whatever their IoU; requires ``is_stuff_whole``, as matches are one to one.
        groups_pool_segments: whether PQ, SQ and RQ of all, things and stuff are those of all segments of the group as
            if they had one category, and not means over categories.

    Raises:
        InvalidArgumentError: ``crowd`` has another value, or ``any_overlap_matches_stuff`` lacks what it requires.
    """

    crowd: CrowdHandling = "excuse"
    is_stuff_whole: bool = False
    predicted_void_leaves_union: bool = False
    predicted_void_excuses_misses: bool = False
    absent_categories_count: bool = False
    any_overlap_matches_stuff: bool = False
    groups_pool_segments: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.any_overlap_matches_stuff and not self.is_stuff_whole:
            raise InvalidArgumentError(
                "expected is_stuff_whole=True with any_overlap_matches_stuff=True, as a segment has one match at most, "
                "got False; set both"
            )


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        # panopticapi, and evalPanopticSemanticLabeling of cityscapesScripts, which is the same algorithm.
        "coco": Protocol(),
        # deeplab2/evaluation/panoptic_quality.py on data from its converters, which write crowds with the ignore label
        # (treat_crowd_as_ignore is their default) and stuff with instance 0.
        "deeplab2": Protocol(crowd="void", is_stuff_whole=True),
        # torchmetrics.detection.PanopticQuality(allow_unknown_preds_category=True): it sets the instance of stuff to 0.
        "torchmetrics": Protocol(
            crowd="segment",
            is_stuff_whole=True,
            predicted_void_leaves_union=True,
            predicted_void_excuses_misses=True,
        ),
        # seamseg's panoptic_stats on its converted data, in which crowds are void. seamseg compares maps at the size of
        # the network's input; this is not reproduced.
        "seamseg": Protocol(crowd="void", absent_categories_count=True),
        # Tables 3.7, 3.8 and B.1 to B.4 of Diaz-Zapata, "YOLO-Based Panoptic Segmentation" (2020), as far as they can
        # be derived from its numbers; docs/metrics.md has the derivation.
        "yolo_panoptic": Protocol(is_stuff_whole=True, any_overlap_matches_stuff=True, groups_pool_segments=True),
    }
)
"""The rules of known evaluators by name."""


def get_protocol(protocol: str | Protocol) -> Protocol:
    """Return the protocol of a name; a :class:`Protocol` is returned unchanged.

    Raises:
        UnknownNameError: no protocol has this name; the nearest names are suggested.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise UnknownNameError("protocol", protocol, PROTOCOLS)
    return PROTOCOLS[protocol]
