"""Maps under an evaluation protocol, so that drawn errors correspond to counted ones."""

from __future__ import annotations

from dataclasses import replace

import torch

from panscape.labels import LabelSpace
from panscape.metrics.matching import ids_under_protocol
from panscape.metrics.protocol import Protocol
from panscape.panoptic import PanopticMap


def apply_protocol(
    prediction: PanopticMap, truth: PanopticMap, labels: LabelSpace, protocol: Protocol
) -> tuple[PanopticMap, PanopticMap]:
    """Return both maps of an image under a protocol: crowds may be void or ordinary segments, stuff may be merged.

    Rows keep their positions, as in :class:`~panscape.metrics.matching.SegmentMatches`: merged stuff has its first row,
    and the other rows have no pixels. Maps that the protocol does not change are returned unchanged.

    Args:
        prediction: of the same size as ``truth``.
        truth: with its crowds, if any.
        labels: the label space of both.
        protocol: of panoptic quality.
    """
    converted = []
    for panoptic, is_truth in ((prediction, False), (truth, True)):
        new_ids = ids_under_protocol(panoptic, protocol, labels.stuff_ids, is_truth=is_truth)
        if new_ids is not None:
            panoptic = replace(panoptic, ids=torch.from_numpy(new_ids).to(panoptic.ids)[panoptic.ids.long()])
        if protocol.crowd != "excuse" and panoptic.crowd is not None:
            panoptic = replace(panoptic, crowd=None)
        converted.append(panoptic)
    return converted[0], converted[1]
