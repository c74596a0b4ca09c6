"""A note on images that are unlike those that a model was trained for, if its card has the measurement for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from panscape.notes import note_once
from panscape.ops.confidence import mean_confidence

if TYPE_CHECKING:
    from panscape.inference.image_predictor import ImagePrediction

CONFIDENCE = "lowest confidence on val"
"""Entry of a model's card: the lowest :func:`mean_confidence` of its validation images, 0..1."""


def note_if_unlike(source: object, prediction: ImagePrediction, lowest: float | None) -> None:
    """Log a note if the semantic head is less sure of an image than of every validation image.

    Args:
        source: the image's name, for the note.
        prediction: of the image; without a semantic head nothing is compared.
        lowest: the value of :data:`CONFIDENCE`; None if it was not measured.
    """
    if lowest is None or prediction.semantic is None:
        return
    if mean_confidence(prediction.semantic) < lowest:
        note_once(
            source,
            f"the model is less sure of its categories here (mean confidence below {lowest:g}) than in any of its "
            "validation images; the image may be unlike those that it was trained for",
        )
