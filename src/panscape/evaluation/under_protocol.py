"""Maps as the rules of an evaluator see them, so that errors are drawn among what it counts."""

from __future__ import annotations

from dataclasses import replace

import torch

from panscape.labels import LabelSpace
from panscape.metrics.matching import ids_under_protocol
from panscape.metrics.protocol import Protocol
from panscape.panoptic import PanopticMap


def under_protocol(
    prediction: PanopticMap, truth: PanopticMap, labels: LabelSpace, protocol: Protocol
) -> tuple[PanopticMap, PanopticMap]:
    """Return both maps of an image as rules see them: crowds may be void or segments like others, stuff may be whole.

    Rows stay where they are, as in :class:`~panscape.metrics.matching.SegmentMatches`: what is whole goes by its first
    row, and the others have no pixels any more. Maps that the rules see as they are come back as they are.

    Args:
        prediction: of the same size as ``truth``.
        truth: with its crowds, if any.
        labels: of both.
        protocol: of panoptic quality.
    """
    judged = []
    for panoptic, is_truth in ((prediction, False), (truth, True)):
        names = ids_under_protocol(panoptic, protocol, labels.stuff_ids, is_truth=is_truth)
        if names is not None:
            panoptic = replace(panoptic, ids=torch.from_numpy(names).to(panoptic.ids)[panoptic.ids.long()])
        if protocol.crowd != "excuse" and panoptic.crowd is not None:
            panoptic = replace(panoptic, crowd=None)
        judged.append(panoptic)
    return judged[0], judged[1]
