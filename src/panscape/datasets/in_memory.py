"""Keep a dataset's samples in memory once they have been read."""

from __future__ import annotations

from panscape.datasets.base import PanopticDataset, Sample
from panscape.errors import PanscapeError
from panscape.labels import LabelSpace


class InMemoryDataset:
    """A dataset that reads each sample of another one once, at construction.

    What the other raises for a sample that cannot be used is raised whenever that sample is asked for.

    Args:
        dataset: small enough to fit: an image takes ``7 * height * width`` bytes with its map.
    """

    def __init__(self, dataset: PanopticDataset) -> None:
        self._labels = dataset.labels
        self._samples = [_read(dataset, i) for i in range(len(dataset))]

    @property
    def labels(self) -> LabelSpace:
        """The label space of every truth."""
        return self._labels

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self._samples[index]
        if isinstance(sample, Exception):
            raise sample
        return sample


def _read(dataset: PanopticDataset, index: int) -> Sample | PanscapeError | OSError:
    try:
        return dataset[index]
    except (PanscapeError, OSError) as error:
        return error
