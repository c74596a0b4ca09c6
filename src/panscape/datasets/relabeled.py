"""A dataset in the label space of a model; categories correspond by name."""

from __future__ import annotations

import logging

import torch

from panscape.datasets.base import PanopticDataset, Sample
from panscape.errors import InvalidArgumentError, listed
from panscape.formats.reading.numbering import same_names
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap

_logger = logging.getLogger(__name__)


def relabeled(dataset: PanopticDataset, labels: LabelSpace) -> PanopticDataset:
    """Return a dataset whose ground truth has the categories of ``labels``, to evaluate a model on other data.

    Categories correspond by name, without case and punctuation. Others become void, as the model cannot predict them.
    Segments of one category are united if ``labels`` has it as stuff, and become a crowd if only ``labels`` has it as a
    thing. A log message says which categories correspond.

    Returns:
        ``dataset`` itself if it has this label space.

    Raises:
        InvalidArgumentError: no category has the same name.
    """
    if dataset.labels == labels:
        return dataset
    same = same_names(dataset.labels, labels)
    if not same:
        raise InvalidArgumentError(
            f"expected data with categories of the model, {labels.name!r}: {listed(labels.names)}; got those of "
            f"{dataset.labels.name!r}, of which none has the same name: {listed(dataset.labels.names)}; rename them, "
            "or use a model that was trained for this data"
        )
    _logger.info("%s", _correspondence(dataset.labels, labels, same))
    return RelabeledDataset(dataset, labels, same)


def _correspondence(of_data: LabelSpace, labels: LabelSpace, same: dict[int, int]) -> str:
    """Return which categories of the data are which of the model."""
    parts = {
        "void": [c.name for i, c in enumerate(of_data) if i not in same],
        "not in the data": [c.name for i, c in enumerate(labels) if i not in same.values()],
        "crowds, as they are things of the model only": [
            of_data[i].name for i, new in same.items() if labels[new].is_thing and not of_data[i].is_thing
        ],
        "stuff of the model only": [
            of_data[i].name for i, new in same.items() if of_data[i].is_thing and not labels[new].is_thing
        ],
    }
    renamed = [f"{of_data[i].name} = {labels[new].name}" for i, new in same.items()]
    rest = "".join(f"; {title}: {listed(names)}" for title, names in parts.items() if names)
    return (
        f"{len(same)} of the {len(of_data)} categories of {of_data.name!r} are those of the model, "
        f"{labels.name!r}, by name: {listed(renamed)}{rest}"
    )


class RelabeledDataset:
    """A dataset whose ground truth is in another label space; see :func:`relabeled`.

    Args:
        dataset: the dataset.
        labels: the other label space.
        same: category id of ``labels`` by category id of ``dataset``; others become void.
    """

    def __init__(self, dataset: PanopticDataset, labels: LabelSpace, same: dict[int, int]) -> None:
        self._dataset, self._labels, self._same = dataset, labels, same

    @property
    def labels(self) -> LabelSpace:
        """The label space of the ground truth."""
        return self._labels

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        return Sample(sample.image, self._converted(sample.truth), sample.name)

    def _converted(self, truth: PanopticMap) -> PanopticMap:
        crowd = [False] * len(truth) if truth.crowd is None else truth.crowd.tolist()
        table = torch.zeros(len(truth) + 1, dtype=torch.int32)
        rows: dict[tuple[int, int], int] = {}  # (category, old row; 0 for stuff) to the new row
        flags = []
        for row, (old, is_crowd) in enumerate(zip(truth.category.tolist(), crowd, strict=True), start=1):
            if old not in self._same:
                continue
            new = self._same[old]
            is_thing = self._labels[new].is_thing
            key = (new, row if is_thing else 0)
            if key not in rows:
                rows[key] = len(rows) + 1
                flags.append(is_crowd or (is_thing and not self._dataset.labels[old].is_thing))
            table[row] = rows[key]
        return PanopticMap(
            table[truth.ids.long()],
            torch.tensor([category for category, _ in rows], dtype=torch.int64),
            None,
            torch.tensor(flags) if any(flags) else None,
            self._labels if truth.labels is not None else None,
        )
