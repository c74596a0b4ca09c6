"""The stream of training samples: what sample number n is depends on the seed and n alone.

A number has a place in an epoch, the place has a picture, and chance comes from a generator seeded with the number. A
training can thus be resumed at any sample, whichever process prepares it.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from panscape.datasets.sample import PanopticDataset, Sample
from panscape.errors import BadSampleError, InvalidAnnotationError, InvalidArgumentError, PanscapeError
from panscape.panoptic import PanopticMap
from panscape.sampling import epoch_order, rounded_repeats
from panscape.training.timing import SampleTimes

if TYPE_CHECKING:
    from panscape.transforms import CopyPaste, Transform

OnBadSample = Literal["stop", "skip"]

_MOST_SKIPPED = 100  # in a row: then it is no picture's fault, and a large dataset is not read to its end to say so


class SkippedSample(NamedTuple):
    """A picture that could not be used, for which the next one was taken.

    Attributes:
        picture: its file or name.
        reason: what is wrong; begins with the file or name.
    """

    picture: str
    reason: str


class StreamItem(NamedTuple):
    """One training sample.

    Attributes:
        image: the crop, uint8 [3, h, w].
        targets: the encoded truth of the crop, a NamedTuple of tensors.
        name: of the picture in its dataset.
        skipped: pictures that could not be used for this sample.
        times: what it cost.
    """

    image: Tensor
    targets: tuple[Tensor, ...]
    name: str
    skipped: list[SkippedSample]
    times: SampleTimes


class SampleStream(Dataset[StreamItem]):
    """Augmented, encoded samples by their number in the training, from 0 on without an end.

    Everything can be pickled if the arguments can.

    Args:
        dataset: what is drawn from.
        augment: gives crops of one size; takes its chance from the generator alone.
        encode: the truth of a crop to targets, a NamedTuple of tensors.
        seed: decides order and augmentation.
        repeats: float64 [N], how often each picture is drawn in an epoch (see :mod:`panscape.sampling`); None for once.
        copy_paste: pastes objects of a second augmented picture, with its own probability.
        recolor: applied last, so that what was pasted changes its colours with the crop.
        on_bad_sample: "stop" raises the error of a picture that cannot be read; "skip" takes the next usable one of
            the epoch instead and says so in the item.

    Raises:
        InvalidArgumentError: the dataset is empty, or another argument is out of range.
    """

    def __init__(
        self,
        dataset: PanopticDataset,
        augment: Transform,
        encode: Callable[[PanopticMap], tuple[Tensor, ...]],
        seed: int,
        *,
        repeats: Tensor | None = None,
        copy_paste: CopyPaste | None = None,
        recolor: Transform | None = None,
        on_bad_sample: OnBadSample = "stop",
    ) -> None:
        self.length = len(dataset)
        if self.length == 0:
            raise InvalidArgumentError("expected at least one picture to train on, got an empty dataset")
        if on_bad_sample not in get_args(OnBadSample):
            raise InvalidArgumentError(f'expected on_bad_sample "stop" or "skip", got {on_bad_sample!r}')
        self.dataset, self.augment, self.encode, self.seed = dataset, augment, encode, seed
        self.repeats, self.copy_paste, self.recolor = repeats, copy_paste, recolor
        self.on_bad_sample = on_bad_sample
        self._starts = [0]  # sample numbers at which epochs begin, as far as they have been asked for
        self._epoch, self._order = 0, self._epoch_order(0)

    def __getitem__(self, number: int) -> StreamItem:
        """Return sample ``number``.

        Raises:
            BadSampleError: a picture cannot be used, or with "skip", none of those that were tried.
        """
        epoch, position = self.place(number)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._epoch_order(epoch)
        generator = _generator(self.seed, "sample", number)
        bad: dict[int, SkippedSample] = {}
        for offset in range(len(self._order)):
            index = int(self._order[(position + offset) % len(self._order)])
            if index in bad:
                continue
            started = perf_counter()
            try:
                sample = load_sample(self.dataset, index)
                return self._item(sample, index, generator, bad, perf_counter() - started)
            except BadSampleError as error:
                if self.on_bad_sample == "stop":
                    raise
                bad[index] = SkippedSample(error.picture, error.reason)
            if len(bad) == _MOST_SKIPPED:
                break
        last = list(bad.values())[-1]
        raise BadSampleError(
            last.picture,
            last.reason,
            f"{len(bad)} pictures in a row, of {self.length} in all, could not be used; this is the last of them",
        )

    def place(self, number: int) -> tuple[int, int]:
        """Return the epoch of a sample number and its position in that epoch's order."""
        if number < 0:
            raise IndexError(f"expected a sample number of at least 0, got {number}")
        if self.repeats is None:
            return divmod(number, self.length)
        while number >= self._starts[-1]:
            counts = rounded_repeats(self.repeats, _generator(self.seed, "epoch", len(self._starts) - 1))
            self._starts.append(self._starts[-1] + int(counts.sum()))
        epoch = bisect.bisect_right(self._starts, number) - 1
        return epoch, number - self._starts[epoch]

    def _epoch_order(self, epoch: int) -> Tensor:
        return epoch_order(self.repeats, self.length, _generator(self.seed, "epoch", epoch))

    def _item(
        self,
        sample: Sample,
        index: int,
        generator: Generator,
        bad: dict[int, SkippedSample],
        seconds_to_read: float,
    ) -> StreamItem:
        started = perf_counter()
        image, truth = self.augment(sample.image, sample.truth, generator)
        if self.copy_paste is not None and float(torch.rand(1, generator=generator)) < self.copy_paste.probability:
            other_index = (index + int(torch.randint(1, max(2, self.length), (1,), generator=generator))) % self.length
            try:
                other = load_sample(self.dataset, other_index)
            except BadSampleError as error:
                if self.on_bad_sample == "stop":
                    raise
                bad[other_index] = SkippedSample(error.picture, error.reason)
            else:
                image, truth = self.copy_paste(
                    image, truth, *self.augment(other.image, other.truth, generator), generator
                )
        if self.recolor is not None:
            image, truth = self.recolor(image, truth, generator)
        varied = perf_counter()
        targets = self.encode(truth)
        times = SampleTimes(seconds_to_read, varied - started, perf_counter() - varied)
        return StreamItem(image, targets, sample.name, list(bad.values()), times)


def load_sample(dataset: PanopticDataset, index: int) -> Sample:
    """Return a sample that picture, truth and label space of the dataset agree on.

    Raises:
        BadSampleError: it cannot be read, or they do not agree; names the file if that is known.
    """
    name = f"picture {index} of the dataset"
    try:
        sample = dataset[index]
        name = sample.name
        _check(sample, len(dataset.labels))
    except (PanscapeError, OSError) as error:
        raise _bad_sample(error, name) from error
    return sample


def categories_of(dataset: PanopticDataset, *, on_bad_sample: OnBadSample = "stop") -> list[set[int]]:
    """Return the category ids in each picture, for :func:`panscape.sampling.repeat_factors`.

    A dataset that knows them without reading pictures says so by a method ``categories_of(index)``.

    Args:
        dataset: otherwise, each of its samples is read once.
        on_bad_sample: "skip" gives a picture that cannot be read no category.

    Raises:
        BadSampleError: a picture cannot be read.
    """
    known = getattr(dataset, "categories_of", None)
    found: list[set[int]] = []
    for index in range(len(dataset)):
        try:
            found.append(set(known(index) if known else dataset[index].truth.category.tolist()))
        except (PanscapeError, OSError) as error:
            if on_bad_sample == "stop":
                raise _bad_sample(error, f"picture {index} of the dataset") from error
            found.append(set())
    return found


def _check(sample: Sample, num_categories: int) -> None:
    image, truth = sample.image, sample.truth
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise InvalidAnnotationError(f"expected a picture as uint8 [3, H, W], got {image.dtype} {list(image.shape)}")
    if tuple(image.shape[1:]) != tuple(truth.size):
        raise InvalidAnnotationError(
            f"expected labels of {image.shape[1]}x{image.shape[2]} pixels like the picture, got "
            f"{truth.size.height}x{truth.size.width}"
        )
    if truth.num_segments and int(truth.category.max()) >= num_categories:
        raise InvalidAnnotationError(
            f"expected category ids in 0..{num_categories - 1}, got {int(truth.category.max())}"
        )


def _bad_sample(error: PanscapeError | OSError, name: str) -> BadSampleError:
    file = getattr(error, "path", None) or getattr(error, "filename", None)
    if file is None:
        start = Path(str(error).partition(": ")[0])  # errors about annotations begin with their file
        file = start if start.is_file() else None
    return BadSampleError(file or name, str(error))


def _generator(seed: int, purpose: str, number: int) -> Generator:
    digest = hashlib.blake2b(f"{seed} {purpose} {number}".encode(), digest_size=8).digest()
    return Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
