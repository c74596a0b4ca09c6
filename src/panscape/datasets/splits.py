"""The splits of a dataset: which there are, and which have no ground truth that can be read."""

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
        name: identifies it within its split.
        path: of the file.
        size: what the dataset says its height and width are; None if it does not say.
        image_id: by which a benchmark knows it; None for its name.
    """

    name: str
    path: Path
    size: Size | None = None
    image_id: int | str | None = None


@dataclass(frozen=True, slots=True)
class Splits:
    """The splits of a dataset by name.

    Attributes:
        data: name of the dataset, for errors.
        with_truth: names of the splits that have ground truth.
        without_truth: names of those that have none, with the reason.
        published: other names by which splits are known in the dataset itself, such as ``"val2017"``.
        has_benchmark: whether predictions can be written for the benchmark's server.
    """

    data: str
    with_truth: tuple[str, ...]
    without_truth: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, str] = field(default_factory=dict)
    has_benchmark: bool = False

    def require(self, split: str) -> str:
        """Return the split's name, which is another one where the dataset's own was given.

        Raises:
            InvalidArgumentError: there is no such split; those that there are are listed.
        """
        name = self.published.get(split, split)
        known = (*self.with_truth, *self.without_truth)
        if name not in known:
            raise InvalidArgumentError(f"expected split as one of {', '.join(known)} of {self.data}, got {split!r}")
        return name

    def require_truth(self, split: str) -> str:
        """Return the split's name as :meth:`require` does, if its ground truth can be read.

        Raises:
            InvalidArgumentError: there is no such split, or it has no ground truth; the message says why, and what can
                be done with it.
        """
        name = self.require(split)
        if name in self.without_truth:
            option = " --submission, for the benchmark's server" if self.has_benchmark else ""
            raise InvalidArgumentError(
                f"split {split!r} of {self.data} has no ground truth to compare with: {self.without_truth[name]}; "
                f"predict it with panscape predict --recipe NAME --split {split}{option}"
            )
        return name


def in_usual_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of splits without duplicates: train, val, test, then others by name."""
    found = set(names)
    return (*(name for name in _FIRST if name in found), *sorted(found.difference(_FIRST)))


def folders_in(folder: Path) -> set[str]:
    """Return the names of the folders in a folder, without hidden ones; none if there is no such folder."""
    return {p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != "."} if folder.is_dir() else set()


def folder_splits(data: str, root: Path) -> Splits:
    """Return the splits of ``ROOT/images/SPLIT`` and ``ROOT/labels/SPLIT``: train, val, and what else lies there."""
    images, labels = folders_in(root / "images"), folders_in(root / "labels")
    without = in_usual_order(images - labels - {"train", "val"})
    return Splits(
        data,
        in_usual_order({"train", "val"} | (images & labels)),
        {split: f"there is no folder {root / 'labels' / split}" for split in without},
    )


def image_files(folder: Path, layout: str, *, ending: str = "", pattern: str = "*") -> list[ImageFile]:
    """Return the images that lie in a folder, in the order of their names.

    Args:
        folder: where to look.
        layout: how the dataset's folders should look, for the error.
        ending: of the files' stems, which is no part of the images' names.
        pattern: as in ``Path.glob``.

    Raises:
        UnreadableFileError: there is no such folder, or no image in it.
        InvalidAnnotationError: two images have the same name.
    """
    found = files_by_name(folder, pattern, lambda path: path.stem.removesuffix(ending), layout)
    return [ImageFile(name, path) for name, path in sorted(found.items())]
