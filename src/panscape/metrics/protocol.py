"""In what published evaluators of panoptic quality differ: one field a decision, and the evaluators by name.

All of them match a predicted and a true segment of equal category whose IoU is strictly above 0.5, where pixels that
are void in the truth have left the predicted segment, and excuse an unmatched prediction if more than half of it is on
void. They differ over crowds, void in the prediction, stuff in several segments and what enters the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from panscape.errors import InvalidArgumentError, UnknownNameError

CrowdRule = Literal["excuse", "void", "segment"]


@dataclass(frozen=True, slots=True)
class Protocol:
    """How an evaluator decides where others decide differently; the defaults are those of the COCO panopticapi.

    Attributes:
        crowd: what the crowd segments of the truth are. "excuse": neither matched nor missed; they stay in unions, and
            the last one of a category in an image excuses predictions of this category as void does. "void": void, for
            predictions of all categories. "segment": segments like all others.
        is_stuff_whole: whether all segments of one stuff category in an image are one.
        predicted_void_leaves_union: whether pixels that are void in the prediction leave the union, as those that are
            void in the truth do, so that leaving them out costs nothing.
        predicted_void_excuses_misses: whether an unmatched segment of the truth, more than half of which is void in the
            prediction, is no miss.
        absent_categories_count: whether a category without any match, false positive and miss enters the means, with 0.

    Raises:
        InvalidArgumentError: ``crowd`` has another value.
    """

    crowd: CrowdRule = "excuse"
    is_stuff_whole: bool = False
    predicted_void_leaves_union: bool = False
    predicted_void_excuses_misses: bool = False
    absent_categories_count: bool = False

    def __post_init__(self) -> None:
        if self.crowd not in ("excuse", "void", "segment"):
            raise InvalidArgumentError(f'expected crowd="excuse", "void" or "segment", got {self.crowd!r}')


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        # panopticapi, and evalPanopticSemanticLabeling of cityscapesScripts, which is the same algorithm.
        "coco": Protocol(),
        # deeplab2/evaluation/panoptic_quality.py on data as its converters write it: they give crowds the ignored label
        # (treat_crowd_as_ignore is their default) and stuff the instance 0.
        "deeplab2": Protocol(crowd="void", is_stuff_whole=True),
        # torchmetrics.detection.PanopticQuality(allow_unknown_preds_category=True): it sets the instance of stuff to 0.
        "torchmetrics": Protocol(
            crowd="segment",
            is_stuff_whole=True,
            predicted_void_leaves_union=True,
            predicted_void_excuses_misses=True,
        ),
        # seamseg's panoptic_stats on its converted data, in which crowds are void. That it compares maps at the size of
        # the network's input is not imitated.
        "seamseg": Protocol(crowd="void", absent_categories_count=True),
    }
)


def get_protocol(protocol: str | Protocol) -> Protocol:
    """Return rules as they are, or those of a name.

    Raises:
        UnknownNameError: no evaluator has this name; the nearest names are suggested.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise UnknownNameError("protocol", protocol, PROTOCOLS)
    return PROTOCOLS[protocol]


def require_same_protocol(mine: Protocol, others: Protocol) -> None:
    """Check that two accumulators can be merged.

    Raises:
        InvalidArgumentError: they judge differently.
    """
    if mine != others:
        raise InvalidArgumentError(f"expected a metric by the rules {mine}, got one by {others}; merge one kind only")
