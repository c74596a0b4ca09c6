"""Where an exported network departs first from the original: the first layer whose outputs differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_TOLERANCES = {"fp32": 1e-3, "fp16": 0.03, "bf16": 0.1, "int8": 0.3}


class Departure(NamedTuple):
    """A layer whose outputs differ.

    Attributes:
        layer: its name in the model.
        difference: root mean square of the difference, as a share of that of the original's outputs.
    """

    layer: str
    difference: float

    def __str__(self) -> str:
        return f"the layer {self.layer!r}, whose outputs differ by {100 * self.difference:.2g} %"


def first_departure(
    names: Sequence[str],
    found: Sequence[NDArray[np.float32]],
    expected: Mapping[str, NDArray[np.float32]],
    precision: str,
) -> Departure:
    """Return the first layer that differs by more than rounding explains, or else the one that differs most.

    Args:
        names: the layers, in the order of execution.
        found: their outputs in the exported network.
        expected: their outputs in the original by name.
        precision: of the exported network.
    """
    departures = [Departure(name, _difference(ours, expected[name])) for name, ours in zip(names, found, strict=True)]
    return next(
        (d for d in departures if not d.difference <= _TOLERANCES[precision]),
        max(departures, key=lambda d: d.difference),
    )


def _difference(ours: Floats, theirs: Floats) -> float:
    if ours.shape != theirs.shape:
        return float("nan")
    scale = float(np.sqrt(np.square(theirs, dtype=np.float64).mean()))
    return float(np.sqrt(np.square(ours - theirs, dtype=np.float64).mean())) / max(scale, 1e-12)
