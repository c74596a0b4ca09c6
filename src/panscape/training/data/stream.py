"""The stream of training samples: sample number n depends only on the seed and on n.

A number maps to a position in an epoch and the position to an image, or a segment is drawn; all randomness comes from a
generator seeded with the number. A training can thus be resumed at any sample, whichever process prepares it.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, get_args

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from panscape.datasets.base import PanopticDataset, Sample
from panscape.datasets.load import OnError, SkippedSample, load_sample
from panscape.datasets.repeat_factor_sampling import epoch_order, stochastic_round
from panscape.datasets.segment_sampling import CropChoice, SegmentSampler
from panscape.errors import BadSampleError, InvalidArgumentError
from panscape.geometry import Size
from panscape.panoptic import PanopticMap
from panscape.training.profiler import SampleTimes
from panscape.transforms import crop_around
from panscape.transforms.random_numbers import integer
from panscape.transforms.resize import resize, scaled

if TYPE_CHECKING:
    from panscape.transforms import CopyPaste, Transform


_MAX_SKIPPED = 100  # consecutive; then the cause is not a single image, and reading the whole dataset would not help
_MAX_CHOICES = 1000  # if all images of a rare category are unusable, another category is drawn soon


class StreamItem(NamedTuple):
    """One training sample.

    Attributes:
        image: the crop, uint8 [3, h, w].
        targets: the encoded ground truth of the crop, a NamedTuple of tensors.
        name: name of the image in its dataset.
        skipped: images that could not be used for this sample.
        times: preparation time.
        is_clamped: see :class:`~panscape.datasets.segment_sampling.Scale`.
    """

    image: Tensor
    targets: tuple[Tensor, ...]
    name: str
    skipped: list[SkippedSample]
    times: SampleTimes
    is_clamped: bool | None = None


@dataclass(frozen=True)
class SegmentCrops:
    """Crops that show what a sampler draws, at its scale.

    Attributes:
        sampler: draws segments and scales.
        size: height and width of the crops in pixels.
    """

    sampler: SegmentSampler
    size: tuple[int, int]

    def __call__(
        self, sample: Sample, choice: CropChoice, generator: Generator
    ) -> tuple[Tensor, PanopticMap, bool | None]:
        """Return the crop, and whether its scale was clamped.

        Raises:
            BadSampleError: the map has no such segment.
        """
        rows = choice.rows(sample.truth)
        if not rows.any():
            raise BadSampleError(
                sample.name,
                f"{sample.name}: expected a segment of category {choice.category}, as when the training began, found "
                "none; do not change annotations during a training",
            )
        size = sample.truth.size
        factor, is_clamped = self.sampler.sample_scale(choice, size, generator)
        crop = crop_around(sample.image, sample.truth, scaled(size, factor), rows, self.size, generator)
        return *crop, is_clamped


@dataclass(frozen=True)
class MultiScale:
    """Multi-scale training: all crops of a step are resized to one size, which changes every few steps.

    Attributes:
        sizes: heights and widths in pixels, one of which is drawn uniformly.
        samples: number of samples until the next draw.
    """

    sizes: tuple[Size, ...]
    samples: int


class SampleStream(Dataset[StreamItem]):
    """An endless dataset of augmented, encoded samples, indexed by their number in the training from 0.

    It can be pickled if the arguments can.

    Args:
        dataset: the source of the samples.
        augment: returns crops of one size; all of its randomness comes from the generator.
        encode: encodes the ground truth of a crop into targets, a NamedTuple of tensors.
        seed: determines order and augmentation.
        crops: draws which image a sample shows, at which place and scale; its crops are then augmented, and
            ``repeats`` is not used. None samples each image once per epoch.
        repeats: float64 [N], how often each image is sampled per epoch (see
            :mod:`panscape.datasets.repeat_factor_sampling`); None for once.
        copy_paste: pastes objects of a second augmented image, with its own probability.
        multi_scale: sizes to which crops are resized, after objects are pasted; a function of the seed and the sample
            number. None keeps their size.
        appearance: applied last, so that pasted objects change their colors and sharpness together with the crop.
        record_cut_off: record in the ground truth at which sides augmentation cuts segments off.
        on_error: "raise" raises the error of an image that cannot be read; "skip" uses the next valid image of the
            epoch instead and records the skipped one in the item.

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
        crops: SegmentCrops | None = None,
        repeats: Tensor | None = None,
        copy_paste: CopyPaste | None = None,
        multi_scale: MultiScale | None = None,
        appearance: Transform | None = None,
        record_cut_off: bool = False,
        on_error: OnError = "raise",
    ) -> None:
        self.length = len(dataset)
        if self.length == 0:
            raise InvalidArgumentError("expected at least one image to train on, got an empty dataset")
        if on_error not in get_args(OnError):
            raise InvalidArgumentError(f'expected on_error "raise" or "skip", got {on_error!r}')
        self.dataset, self.augment, self.encode, self.seed = dataset, augment, encode, seed
        self.crops, self.repeats, self.copy_paste, self.appearance = crops, repeats, copy_paste, appearance
        self.multi_scale = multi_scale
        self.record_cut_off, self.on_error = record_cut_off, on_error
        self._starts = [0]  # sample numbers at which epochs begin, for the epochs requested so far
        self._epoch, self._order = 0, self._epoch_order(0)

    def __getitem__(self, number: int) -> StreamItem:
        """Return sample ``number``.

        Raises:
            BadSampleError: an image cannot be used, or with "skip", no image that was tried.
        """
        generator = _generator(self.seed, "sample", number)
        bad: dict[int, SkippedSample] = {}
        for choice in self._candidates(number, generator):
            if choice.image in bad:
                continue
            started = perf_counter()
            try:
                sample = load_sample(self.dataset, choice.image)
                return self._item(number, sample, choice, generator, bad, perf_counter() - started)
            except BadSampleError as error:
                if self.on_error == "raise":
                    raise
                bad[choice.image] = SkippedSample(error.image, error.reason)
            if len(bad) == _MAX_SKIPPED:
                break
        last = list(bad.values())[-1]
        raise BadSampleError(
            last.image,
            last.reason,
            f"{len(bad)} consecutive images, of {self.length} in all, could not be used; this is the last of them",
        )

    def _candidates(self, number: int, generator: Generator) -> Iterator[CropChoice]:
        """Yield what a sample may show, the first choice first."""
        epoch, position = self.epoch_position(number)
        if self.crops is not None:
            yield from (self.crops.sampler.sample(generator) for _ in range(_MAX_CHOICES))
            return
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._epoch_order(epoch)
        for offset in range(len(self._order)):
            yield CropChoice(int(self._order[(position + offset) % len(self._order)]))

    def _augment(
        self, sample: Sample, choice: CropChoice, generator: Generator
    ) -> tuple[Tensor, PanopticMap, bool | None]:
        if self.record_cut_off:
            cut_off = torch.zeros(len(sample.truth), 4, dtype=torch.bool)
            sample = replace(sample, truth=replace(sample.truth, cut_off=cut_off))
        if self.crops is None:
            return *self.augment(sample.image, sample.truth, generator), None
        image, truth, is_clamped = self.crops(sample, choice, generator)
        return *self.augment(image, truth, generator), is_clamped

    def epoch_position(self, number: int) -> tuple[int, int]:
        """Return the epoch of a sample number and its position in that epoch's order."""
        if number < 0:
            raise IndexError(f"expected a sample number of at least 0, got {number}")
        if self.repeats is None:
            return divmod(number, self.length)
        while number >= self._starts[-1]:
            counts = stochastic_round(self.repeats, _generator(self.seed, "epoch", len(self._starts) - 1))
            self._starts.append(self._starts[-1] + int(counts.sum()))
        epoch = bisect.bisect_right(self._starts, number) - 1
        return epoch, number - self._starts[epoch]

    def number_of_largest(self, number: int) -> int:
        """Return the first sample number from ``number`` on whose crop has the largest size."""
        multi_scale = self.multi_scale
        if multi_scale is None:
            return number
        largest = max(multi_scale.sizes)
        return next(n for n in count(number, multi_scale.samples) if self._size(multi_scale, n) == largest)

    def _size(self, multi_scale: MultiScale, number: int) -> Size:
        generator = _generator(self.seed, "size", number // multi_scale.samples)
        return multi_scale.sizes[integer(len(multi_scale.sizes), generator)]

    def _epoch_order(self, epoch: int) -> Tensor:
        return epoch_order(self.repeats, self.length, _generator(self.seed, "epoch", epoch))

    def _item(
        self,
        number: int,
        sample: Sample,
        choice: CropChoice,
        generator: Generator,
        bad: dict[int, SkippedSample],
        read_seconds: float,
    ) -> StreamItem:
        started = perf_counter()
        image, truth, is_clamped = self._augment(sample, choice, generator)
        if self.copy_paste is not None and float(torch.rand(1, generator=generator)) < self.copy_paste.probability:
            other_choice = self._other(choice, generator)
            try:
                pasted = self._augment(load_sample(self.dataset, other_choice.image), other_choice, generator)
            except BadSampleError as error:
                if self.on_error == "raise":
                    raise
                bad[other_choice.image] = SkippedSample(error.image, error.reason)
            else:
                image, truth = self.copy_paste(image, truth, *pasted[:2], generator)
        if self.multi_scale is not None:
            image, truth = resize(image, truth, self._size(self.multi_scale, number))
        if self.appearance is not None:
            image, truth = self.appearance(image, truth, generator)
        augmented = perf_counter()
        targets = self.encode(truth)
        times = SampleTimes(read_seconds, augmented - started, perf_counter() - augmented)
        return StreamItem(image, targets, sample.name, list(bad.values()), times, is_clamped)

    def _other(self, choice: CropChoice, generator: Generator) -> CropChoice:
        """Draw the sample whose objects are pasted."""
        if self.crops is not None:
            return self.crops.sampler.sample(generator)
        distance = int(torch.randint(1, max(2, self.length), (1,), generator=generator))
        return CropChoice((choice.image + distance) % self.length)


def _generator(seed: int, purpose: str, number: int) -> Generator:
    digest = hashlib.blake2b(f"{seed} {purpose} {number}".encode(), digest_size=8).digest()
    return Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
