"""A note on images that are unlike those that a model was trained for, if its card has the measurement for it."""

from __future__ import annotations

from typing import Any

from panscape.models import PanopticModel
from panscape.notes import note_once
from panscape.ops.confidence import mean_confidence

CONFIDENCE = "lowest confidence on val"
"""Entry of a model's card: the lowest :func:`mean_confidence` of its validation images, 0..1."""


def note_if_unlike(source: object, model: PanopticModel, outputs: Any) -> None:
    """Log a note if the semantic head is less sure of an image than of every validation image.

    Args:
        source: the image's name, for the note.
        model: whose card may have :data:`CONFIDENCE`; without it nothing is compared.
        outputs: the outputs of the network for the image, a batch of one, with ``semantic``.
    """
    lowest = model.card.get(CONFIDENCE)
    semantic = getattr(outputs, "semantic", None)
    if lowest is None or semantic is None or not semantic.is_floating_point():
        return
    if mean_confidence(semantic[0].float().cpu().numpy()) < lowest:
        note_once(
            source,
            f"the model is less sure of its categories here (mean confidence below {lowest:g}) than in any of its "
            "validation images; the image may be unlike those that it was trained for",
        )
