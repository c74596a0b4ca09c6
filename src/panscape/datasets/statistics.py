"""Count the pixels of each category in a dataset, and report what probably is a mistake in it before a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from panscape.datasets.base import PanopticDataset
from panscape.datasets.load import truth_of
from panscape.errors import InvalidAnnotationError, PanscapeError, listed
from panscape.images import exif_orientation
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.spread import evenly_spread

MAX_MAPS = 100
"""Default number of maps that are counted."""


@dataclass(frozen=True, slots=True)
class PixelCounts:
    """The pixels of a split.

    Attributes:
        labels: the categories.
        pixels: number of pixels by category id, crowds included.
        void: number of pixels without category.
        num_maps: number of maps counted; those that cannot be read are left out.
        num_images: number of images of the split.
        num_turned: number of images counted whose EXIF orientation is not 1 and is applied.
    """

    labels: LabelSpace
    pixels: tuple[int, ...]
    void: int
    num_maps: int
    num_images: int
    num_turned: int = 0

    @property
    def void_fraction(self) -> float:
        """Fraction of void pixels, in 0..1; 0 without any map."""
        return self.void / max(1, self.void + sum(self.pixels))

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the categories without a pixel."""
        return tuple(c.name for c, count in zip(self.labels, self.pixels, strict=True) if count == 0)


def count_pixels(
    dataset: PanopticDataset, *, limit: int = MAX_MAPS, progress: Callable[[int, int], None] | None = None
) -> PixelCounts:
    """Count the pixels of each category.

    A method ``truth_of(index)`` of the dataset, if it exists, gives the map without decoding the image.

    Args:
        dataset: the split. Maps that cannot be read are left out.
        limit: maximum number of maps, spread evenly over the split; 0 for all.
        progress: called after each map with the number done and the total.
    """
    indices = evenly_spread(len(dataset), limit)
    pixels = np.zeros(len(dataset.labels), np.int64)
    void = num_maps = 0
    for done, index in enumerate(indices, start=1):
        truth = _readable_truth(dataset, index)
        if truth is not None:
            areas = truth.areas().numpy()
            np.add.at(pixels, truth.category.numpy(), areas)
            void += truth.ids.numel() - int(areas.sum())
            num_maps += 1
        if progress is not None:
            progress(done, len(indices))
    counts = tuple(pixels.tolist())
    return PixelCounts(dataset.labels, counts, void, num_maps, len(dataset), _num_turned(dataset, indices))


def data_notes(train: PixelCounts, val: PixelCounts) -> tuple[str, ...]:
    """Return a line for each finding that probably is a mistake in the data.

    Args:
        train: of the training split.
        val: of the validation split.

    Raises:
        InvalidAnnotationError: nothing can be learnt, as all pixels are void or of one stuff category.
    """
    _require_content(train)
    notes = []
    if train.labels.same_colors:
        same = listed([" = ".join(names) for names in train.labels.same_colors])
        notes.append(f"categories of one color, which look alike in images of maps: {same}")
    if len(train.labels) == 1:
        notes.append(
            f"{train.labels[0].name!r} is the only category, so every pixel outside of its objects is void and is not "
            "learnt; label the background as a category of its own"
        )
    for split, counts in (("train", train), ("val", val)):
        maps = f"{counts.num_maps} of {counts.num_images} {split} maps"
        if counts.num_maps and counts.void_fraction > 0.5:
            notes.append(
                f"{counts.void_fraction:.0%} of the pixels in {maps} are void, and are neither learnt nor evaluated"
            )
        if counts.num_maps and counts.absent:
            notes.append(f"no pixel in {maps}: {listed(counts.absent)}")
    turned = train.num_turned + val.num_turned
    if turned:
        notes.append(
            f"{turned} of {train.num_maps + val.num_maps} images are turned by their EXIF orientation; if their labels "
            "were drawn on the stored pixels, use --data.no-apply-orientation"
        )
    return tuple(notes)


def _require_content(train: PixelCounts) -> None:
    if not train.num_maps:  # the errors of the files are raised when they are used
        return
    present = [c for c, count in zip(train.labels, train.pixels, strict=True) if count]
    maps = f"in {train.num_maps} of {train.num_images} training maps"
    if not present:
        raise InvalidAnnotationError(
            f"expected categories {maps}, but all pixels are void; check the void value (--data.void of masks) and the "
            "categories"
        )
    is_complete = train.num_maps == train.num_images or len(train.labels) == 1
    if is_complete and len(present) == 1 and not present[0].is_thing:
        void = f" and {train.void_fraction:.1%} void" if train.void else ""
        raise InvalidAnnotationError(
            f"expected at least two categories {maps}, got only {present[0].name!r}{void}, so nothing can be learnt; "
            "check the numbers of the categories and of void (--data.void of masks), and label the background too"
        )


def _readable_truth(dataset: PanopticDataset, index: int) -> PanopticMap | None:
    try:
        return truth_of(dataset, index)
    except (PanscapeError, OSError):
        return None


def _num_turned(dataset: PanopticDataset, indices: Sequence[int]) -> int:
    files = getattr(dataset, "image_files", None)
    if files is None or not getattr(dataset, "apply_orientation", True):
        return 0
    return sum(_is_turned(files[index].path) for index in indices)


def _is_turned(path: Path) -> bool:
    try:
        return exif_orientation(path) != 1
    except PanscapeError:  # raised again when the image is used
        return False
