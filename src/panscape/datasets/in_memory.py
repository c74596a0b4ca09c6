"""Cache the samples of a dataset in memory."""

from __future__ import annotations

from collections.abc import Sequence

from panscape.datasets.base import PanopticDataset, Sample
from panscape.datasets.splits import ImageFile
from panscape.errors import PanscapeError
from panscape.labels import LabelSpace


class InMemoryDataset:
    """A dataset that reads all samples of another one at construction.

    If a sample cannot be read, its error is raised whenever the sample is accessed.

    Args:
        dataset: small enough for the memory: a sample needs ``7 * height * width`` bytes.

    Attributes:
        image_files: the image files, in the order of the samples; empty if they are not known.
    """

    def __init__(self, dataset: PanopticDataset) -> None:
        self._labels = dataset.labels
        self.image_files: Sequence[ImageFile] = getattr(dataset, "image_files", ())
        self._samples = [_read(dataset, i) for i in range(len(dataset))]

    @property
    def labels(self) -> LabelSpace:
        """The label space of the ground truth."""
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
