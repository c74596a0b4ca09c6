"""What exported models must reach in the comparison with the original."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ParityFloor:
    """What an exported model must reach.

    Attributes:
        equal_pixels: share of the pixels of all maps that are equal, 0 to 1.
        pq: PQ of its maps against those of the original, 0 to 1.
    """

    equal_pixels: float
    pq: float

    def is_met(self, equal_pixels: float, pq: float) -> bool:
        """Return whether these values reach it."""
        return equal_pixels >= self.equal_pixels and pq >= self.pq


FLOORS: Mapping[str, ParityFloor] = {
    "fp32": ParityFloor(0.999, 0.99),
    "fp16": ParityFloor(0.99, 0.95),
    "bf16": ParityFloor(0.98, 0.9),
    "int8": ParityFloor(0.95, 0.7),
}
"""The floors by precision. Rounding moves single pixels in fp32, borders of segments in 16 bits, and in 8 bits whole
small segments."""

AGREEMENT = "agreement with torch on val"
"""Entry of a model's card: by precision, the share of equal pixels and the PQ, 0 to 1 each, of its maps of validation
images in a runtime of this precision against those in torch."""


def floor_on_scenes(precision: str, card: Mapping[str, Any]) -> ParityFloor:
    """Return the floor of a comparison on synthetic scenes.

    A model whose maps of its own validation images reach the floor of a precision, by its card, needs on scenes, which
    it was not trained for and where it is unsure of many pixels, no more than a graph that works.

    Args:
        precision: one of :data:`FLOORS`.
        card: of the model.
    """
    measured = card.get(AGREEMENT, {}).get(precision)
    is_measured = measured is not None and FLOORS[precision].is_met(*measured)
    return FLOORS["int8" if is_measured else precision]
