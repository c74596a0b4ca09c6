"""A note on images that are unlike those that a model was trained for, if its card has the measurement for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from panscape.inference.image_predictor import ImagePrediction
from panscape.notes import note_once
from panscape.ops.confidence import mean_confidence

CONFIDENCE = "lowest confidence on val"
"""Entry of a model's card: the lowest :func:`mean_confidence` of its validation images, 0..1."""


def note_if_unlike(source: object, card: Mapping[str, Any], prediction: ImagePrediction) -> None:
    """Log a note if the semantic head is less sure of an image than of every validation image.

    Args:
        source: the image's name, for the note.
        card: of the model, which may have :data:`CONFIDENCE`; without it nothing is compared.
        prediction: of the image.
    """
    lowest = card.get(CONFIDENCE)
    if lowest is None:
        return
    semantic = prediction.semantic
    if semantic is not None and mean_confidence(semantic) < lowest:
        note_once(
            source,
            f"the model is less sure of its categories here (mean confidence below {lowest:g}) than in any of its "
            "validation images; the image may be unlike those that it was trained for",
        )
