"""Choose a few of many items."""

from __future__ import annotations


def evenly_spread(length: int, limit: int) -> list[int]:
    """Return at most ``limit`` indices, spread evenly over ``length`` items; 0 for all."""
    count = min(limit, length) if limit else length
    return [i * length // count for i in range(count)]
