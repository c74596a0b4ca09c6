"""What exported models must reach in the comparison with the original."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
