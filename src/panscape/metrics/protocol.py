"""Evaluation protocols of panoptic quality: one field for each difference between published evaluators, by name.

All protocols match a predicted and a true segment of equal category if their IoU is strictly above 0.5. Pixels that are
void in the ground truth are removed from the predicted segment first. An unmatched prediction is ignored if more than
half of it lies on void. Protocols differ in crowds, predicted void, stuff in several segments, and which categories
enter the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from panscape.constraints import check_fields
from panscape.errors import UnknownNameError

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

    Raises:
        InvalidArgumentError: ``crowd`` has another value.
    """

    crowd: CrowdHandling = "excuse"
    is_stuff_whole: bool = False
    predicted_void_leaves_union: bool = False
    predicted_void_excuses_misses: bool = False
    absent_categories_count: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


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
