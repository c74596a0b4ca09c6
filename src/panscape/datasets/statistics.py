"""Read samples of a dataset before a training: find files that cannot be used, and what probably is a mistake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from panscape.datasets.base import PanopticDataset
from panscape.datasets.load import OnError, SkippedSample, load_sample
from panscape.errors import BadSampleError, InvalidAnnotationError, listed
from panscape.image_io import exif_orientation
from panscape.labels import LabelSpace
from panscape.spread import evenly_spread

MAX_SAMPLES = 100
"""Default number of samples that are read."""


@dataclass(frozen=True, slots=True)
class PixelCounts:
    """The pixels of a split.

    Attributes:
        labels: the categories.
        pixels: number of pixels by category id, crowds included.
        void: number of pixels without category.
        num_maps: number of maps counted; those of skipped samples are left out.
        num_images: number of images of the split.
        num_turned: number of images counted whose EXIF orientation is not 1 and is applied.
        skipped: the samples that cannot be used.
    """

    labels: LabelSpace
    pixels: tuple[int, ...]
    void: int
    num_maps: int
    num_images: int
    num_turned: int = 0
    skipped: tuple[SkippedSample, ...] = ()

    @property
    def void_fraction(self) -> float:
        """Fraction of void pixels, in 0..1; 0 without any map."""
        return self.void / max(1, self.void + sum(self.pixels))

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the categories without a pixel."""
        return tuple(c.name for c, count in zip(self.labels, self.pixels, strict=True) if count == 0)


def count_pixels(
    dataset: PanopticDataset,
    *,
    limit: int = MAX_SAMPLES,
    on_error: OnError = "raise",
    progress: Callable[[int, int], None] | None = None,
) -> PixelCounts:
    """Count the pixels of each category.

    Images are read too, so that damaged ones, and labels of another size, are found before the training.

    Args:
        dataset: the split.
        limit: maximum number of samples, spread evenly over the split; 0 for all.
        on_error: "raise" raises the error of a sample that cannot be used; "skip" leaves it out and returns it.
        progress: called after each sample with the number done and the total.

    Raises:
        BadSampleError: a sample cannot be used.
    """
    indices = evenly_spread(len(dataset), limit)
    pixels = np.zeros(len(dataset.labels), np.int64)
    void, used, skipped = 0, [], []
    for done, index in enumerate(indices, start=1):
        try:
            truth = load_sample(dataset, index).truth
        except BadSampleError as error:
            if on_error == "raise":
                raise
            skipped.append(SkippedSample(error.image, error.reason))
        else:
            areas = truth.areas().numpy()
            np.add.at(pixels, truth.category.numpy(), areas)
            void += truth.ids.numel() - int(areas.sum())
            used.append(index)
        if progress is not None:
            progress(done, len(indices))
    return PixelCounts(
        dataset.labels,
        tuple(pixels.tolist()),
        void,
        num_maps=len(used),
        num_images=len(dataset),
        num_turned=_num_turned(dataset, used),
        skipped=tuple(skipped),
    )


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
        if counts.skipped:
            num_read = counts.num_maps + len(counts.skipped)
            reasons = listed([skip.reason for skip in counts.skipped])
            notes.append(f"{len(counts.skipped)} of {num_read} {split} images inspected cannot be used: {reasons}")
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
    if not train.num_maps:  # all samples inspected are skipped; the training raises if all others are
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


def _num_turned(dataset: PanopticDataset, indices: Sequence[int]) -> int:
    files = getattr(dataset, "image_files", None)
    if files is None or not getattr(dataset, "apply_orientation", True):
        return 0
    return sum(exif_orientation(files[index].path) != 1 for index in indices)
