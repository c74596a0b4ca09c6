"""The splits of a dataset, with and without ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from panscape.datasets.file_pairs import files_by_name
from panscape.errors import InvalidArgumentError
from panscape.geometry import Size

_FIRST = ("train", "val", "test")


class ImageFile(NamedTuple):
    """An image of a split, without its ground truth.

    Attributes:
        name: identifies the image within its split.
        path: path of the file.
        size: height and width according to the dataset; None if unknown.
        image_id: its id in a benchmark; None if that is its name.
    """

    name: str
    path: Path
    size: Size | None = None
    image_id: int | str | None = None


@dataclass(frozen=True, slots=True)
class Splits:
    """The splits of a dataset by name.

    Attributes:
        data: name of the dataset, for error messages.
        with_truth: names of the splits with ground truth.
        without_truth: names of the splits without ground truth, with the reason.
        published: alternative names of splits in the dataset itself, such as ``"val2017"``.
        has_benchmark: whether predictions can be written in the submission format of the benchmark server.
    """

    data: str
    with_truth: tuple[str, ...]
    without_truth: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, str] = field(default_factory=dict)
    has_benchmark: bool = False

    def require(self, split: str) -> str:
        """Return the canonical name of a split, given that name or the dataset's own.

        Raises:
            InvalidArgumentError: the split does not exist; the message lists the existing ones.
        """
        name = self.published.get(split, split)
        known = (*self.with_truth, *self.without_truth)
        if name not in known:
            raise InvalidArgumentError(f"expected split as one of {', '.join(known)} of {self.data}, got {split!r}")
        return name

    def require_truth(self, split: str) -> str:
        """Return the canonical name of a split with ground truth; see :meth:`require`.

        Raises:
            InvalidArgumentError: the split does not exist, or it has no ground truth; the message gives the reason and
                the supported use.
        """
        name = self.require(split)
        if name in self.without_truth:
            option = " --submission, for the benchmark's server" if self.has_benchmark else ""
            raise InvalidArgumentError(
                f"split {split!r} of {self.data} has no ground truth: {self.without_truth[name]}; "
                f"predict it with panscape predict --recipe NAME --split {split}{option}"
            )
        return name


def in_usual_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return unique split names in the order train, val, test, then others by name."""
    found = set(names)
    return (*(name for name in _FIRST if name in found), *sorted(found.difference(_FIRST)))


def image_files(folder: Path, layout: str, *, ending: str = "", is_recursive: bool = False) -> list[ImageFile]:
    """Return the images in a folder, sorted by name.

    Args:
        folder: the folder of the images.
        layout: expected layout of the dataset, for the error message.
        ending: ending of the file stems, removed from the names.
        is_recursive: search subfolders too.

    Raises:
        UnreadableFileError: the folder does not exist or has no image.
        InvalidAnnotationError: two images have the same name.
    """
    found = files_by_name(folder, layout, ending=ending, is_recursive=is_recursive)
    return [ImageFile(name, path) for name, path in sorted(found.items())]
