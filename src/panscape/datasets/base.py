"""What every dataset gives: samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """An image and its truth.

    Attributes:
        image: uint8 [3, H, W], red, green, blue.
        truth: a map of the same height and width.
        name: identifies the sample within its dataset; the stem under which predictions are written.
    """

    image: Tensor
    truth: PanopticMap
    name: str


@runtime_checkable
class PanopticDataset(Protocol):
    """A map-style dataset: a length, samples by position, and the label space their maps use."""

    @property
    def labels(self) -> LabelSpace:
        """The label space of every truth."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int) -> Sample:
        """Return the sample at ``index``."""
