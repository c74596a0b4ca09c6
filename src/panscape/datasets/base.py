"""The interface of datasets and their samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """An image and its ground truth.

    Attributes:
        image: uint8 [3, H, W], red, green, blue.
        truth: the ground truth, a map of the same height and width.
        name: identifies the sample within its dataset; the file name stem of its prediction.
    """

    image: Tensor
    truth: PanopticMap
    name: str


class MapSources(NamedTuple):
    """What the maps of a dataset depend on; the same files and options give the same maps.

    Attributes:
        files: that the maps are read from.
        options: of the dataset that change the maps; JSON values.
    """

    files: Sequence[Path]
    options: Sequence[Any] = ()


@runtime_checkable
class PanopticDataset(Protocol):
    """A map-style dataset: a length, samples by index, and the label space of their maps."""

    @property
    def labels(self) -> LabelSpace:
        """The label space of the ground truth."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int) -> Sample:
        """Return the sample at ``index``."""
