"""Sample number n: position, randomness, pasted objects, and invalid images."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from maps import SHAPES, generated_map
from torch import Tensor

from panscape import PanopticMap
from panscape.datasets.base import Sample
from panscape.datasets.load import categories_of
from panscape.errors import BadSampleError, InvalidAnnotationError, InvalidArgumentError, UnreadableFileError
from panscape.geometry import Size
from panscape.training.config import Augmentation
from panscape.training.data.augmentation import build_augmentation
from panscape.training.data.stream import MultiScale, SampleStream
from panscape.transforms import Compose, RandomCrop, RandomSizeCrop, ResizeShortestEdge


class Targets(NamedTuple):
    ids: Tensor
    categories: Tensor


def encode(truth: PanopticMap) -> Targets:
    return Targets(truth.ids, truth.semantic(void=255))


def cut(image: Tensor, truth: PanopticMap, generator: torch.Generator) -> tuple[Tensor, PanopticMap]:
    """Crop 8 x 8 pixels at random."""
    top, left = (int(v) for v in torch.randint(0, 9, (2,), generator=generator))
    return image[:, top : top + 8, left : left + 8], truth.crop(top, left, 8, 8)


class Images:
    """Images of one color, their index; some cannot be read. Counts the reads."""

    labels = SHAPES

    def __init__(self, length: int, bad: dict[int, Exception] | None = None) -> None:
        self.length, self.bad, self.read = length, bad or {}, []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        if index in self.bad:
            raise self.bad[index]
        image = torch.full((3, 16, 16), index, dtype=torch.uint8)
        return Sample(image, generated_map(index, (16, 16), smallest=2), f"p{index}")


def numbers_of(stream: SampleStream, count: int) -> list[int]:
    return [int(stream[n].name[1:]) for n in range(count)]


def test_every_epoch_has_every_image_in_an_order_of_its_own():
    drawn = numbers_of(SampleStream(Images(20), cut, encode, 5), 60)
    epochs = [drawn[:20], drawn[20:40], drawn[40:]]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert drawn == numbers_of(SampleStream(Images(20), cut, encode, 5), 60)
    assert drawn != numbers_of(SampleStream(Images(20), cut, encode, 6), 60)


def test_a_sample_does_not_depend_on_those_before():
    repeats = torch.tensor([1, 1.5, 2.3], dtype=torch.float64)
    forward = SampleStream(Images(3), cut, encode, 1, repeats=repeats)
    items = [forward[n] for n in range(40)]
    for n in (39, 3, 17, 0, 39):
        fresh = SampleStream(Images(3), cut, encode, 1, repeats=repeats)[n]
        assert fresh.name == items[n].name
        assert torch.equal(fresh.image, items[n].image)
        assert all(torch.equal(a, b) for a, b in zip(fresh.targets, items[n].targets, strict=True))


def test_crops_of_one_image_differ():
    stream = SampleStream(Images(1), cut, encode, 0)
    crops = {tuple(stream[n].targets.ids.flatten().tolist()) for n in range(20)}
    assert len(crops) > 10


def test_targets_belong_to_the_crop():
    crops: list[tuple[Tensor, PanopticMap]] = []

    def noted(*args):
        crops.append(cut(*args))
        return crops[-1]

    stream = SampleStream(Images(4), noted, encode, 0)
    for n in range(6):
        item = stream[n]
        ((image, truth),) = crops
        assert item.image.shape == (3, 8, 8)
        assert torch.equal(item.image, image)
        assert torch.equal(item.targets.ids, truth.ids)
        crops.clear()


def test_repeats_are_met_within_an_epoch():
    stream = SampleStream(Images(3), cut, encode, 0, repeats=torch.tensor([1.0, 3.0, 2.0]))
    drawn = numbers_of(stream, 18)
    for start in (0, 6, 12):
        assert sorted(drawn[start : start + 6]) == [0, 1, 1, 1, 2, 2]


def test_epochs_of_different_lengths_follow_without_a_gap():
    stream = SampleStream(Images(4), cut, encode, 0, repeats=torch.tensor([1, 1.5, 1.5, 1.5]))
    places = [stream.epoch_position(n) for n in range(300)]
    lengths = []
    for (epoch, position), (next_epoch, next_position) in pairwise(places):
        assert (next_epoch, next_position) in ((epoch, position + 1), (epoch + 1, 0))
        if next_epoch > epoch:
            lengths.append(position + 1)
    assert set(lengths) == {4, 5, 6, 7}
    names = [stream[n].name for n in range(sum(lengths[:10]))]
    for epoch, length in enumerate(lengths[:10]):
        start = sum(lengths[:epoch])
        assert set(names[start : start + length]) == {"p0", "p1", "p2", "p3"}


@dataclass
class PutBeside:
    """Writes the color of the other image into the first pixel."""

    probability: float

    def __call__(
        self, image: Tensor, truth: PanopticMap, other_image: Tensor, other_truth: PanopticMap, _: torch.Generator
    ) -> tuple[Tensor, PanopticMap]:
        assert other_image.shape == image.shape
        assert other_truth.size == truth.size
        image = image.clone()
        image[:, 0, 0] = other_image[:, 0, 0]
        return image, truth


def test_the_other_image_is_another_one_and_read_only_if_drawn():
    images = Images(5)
    stream = SampleStream(images, cut, encode, 0, copy_paste=PutBeside(0.3))
    others = []
    for n in range(300):
        images.read.clear()
        item = stream[n]
        has_other = int(item.image[0, 0, 0]) != int(item.image[0, 1, 1])
        assert len(images.read) == 1 + has_other
        others.append(has_other)
    assert sum(others) == pytest.approx(90, abs=30)  # the standard deviation is 8
    alone = SampleStream(Images(1), cut, encode, 0, copy_paste=PutBeside(1))
    assert alone[0].name == "p0"


def test_colours_change_last():
    def invert(image: Tensor, truth: PanopticMap, _: torch.Generator) -> tuple[Tensor, PanopticMap]:
        return 255 - image, truth

    plain = SampleStream(Images(5), cut, encode, 0, copy_paste=PutBeside(0.5))
    stream = SampleStream(Images(5), cut, encode, 0, copy_paste=PutBeside(0.5), appearance=invert)
    assert all(torch.equal(stream[n].image, 255 - plain[n].image) for n in range(10))


def test_multi_scale_draws_a_size_of_all_samples_of_some_steps_after_pasting():
    sizes = (Size(4, 4), Size(8, 8), Size(16, 16))
    options = {"copy_paste": PutBeside(0.5)}
    plain = SampleStream(Images(5), cut, encode, 3, **options)
    stream = SampleStream(Images(5), cut, encode, 3, **options, multi_scale=MultiScale(sizes, 6))
    items = [stream[n] for n in range(240)]
    periods = [{tuple(item.image.shape[1:]) for item in items[n : n + 6]} for n in range(0, 240, 6)]
    assert all(len(period) == 1 for period in periods)
    drawn = [period.pop() for period in periods]
    assert all(8 <= drawn.count(size) <= 19 for size in sizes)  # 13.3 on average, with a deviation of 3
    for n in (0, 7, 100, 200):
        size = drawn[n // 6]
        image = torch.nn.functional.interpolate(plain[n].image[None], size, mode="bilinear", antialias=True)[0]
        assert torch.equal(items[n].image, image)
        assert tuple(items[n].targets.ids.shape) == size
        assert items[n].name == plain[n].name
        fresh = pickle.loads(pickle.dumps(stream))[n]
        assert torch.equal(fresh.image, items[n].image)
    other = SampleStream(Images(5), cut, encode, 4, multi_scale=MultiScale(sizes, 6))
    assert [tuple(other[n].image.shape[1:]) for n in range(0, 240, 6)] != drawn
    for start in (0, 3, 77):
        number = stream.number_of_largest(start)
        assert drawn[number // 6] == (16, 16)
        assert (16, 16) not in drawn[start // 6 : number // 6]


BAD = {
    2: UnreadableFileError("/data/p2.jpg", "truncated;\nmake it again"),
    4: InvalidAnnotationError("/data/p4.png: two descriptions of id 7"),
    5: PermissionError(13, "Permission denied", "/data/p5.jpg"),
}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (BAD[2], "/data/p2.jpg: truncated; make it again"),
        (BAD[4], "image 0 of the dataset: /data/p4.png: two descriptions of id 7"),  # no such file here
        (InvalidAnnotationError(f"{__file__}: two descriptions of id 7"), f"{__file__}: two descriptions of id 7"),
        (BAD[5], "/data/p5.jpg: [Errno 13] Permission denied: '/data/p5.jpg'"),
    ],
)
def test_bad_images_stop_with_one_line_that_names_file_and_remedy(error, text):
    with pytest.raises(BadSampleError) as caught:
        SampleStream(Images(1, {0: error}), cut, encode, 0)[0]
    remedy = "; repair or remove it, or skip invalid images with --on-error skip"
    assert str(caught.value) == text + remedy


def test_the_next_of_the_epoch_takes_the_place_of_a_bad_image():
    good = SampleStream(Images(6), cut, encode, 3)
    order = numbers_of(good, 12)
    stream = SampleStream(Images(6, BAD), cut, encode, 3, on_error="skip")
    for n in range(12):
        epoch = order[n // 6 * 6 : n // 6 * 6 + 6]
        candidates = epoch[n % 6 :] + epoch[: n % 6]
        expected = next(i for i in candidates if i not in BAD)
        item = stream[n]
        assert item.name == f"p{expected}"
        assert len(item.skipped) == candidates.index(expected)
    files = {skipped.image for n in range(12) for skipped in stream[n].skipped}
    assert {"/data/p2.jpg", "/data/p5.jpg"} < files
    reasons = {skipped.reason for n in range(12) for skipped in stream[n].skipped}
    assert "/data/p2.jpg: truncated; make it again" in reasons


def test_a_bad_other_image_is_left_out_of_pasting():
    stream = SampleStream(Images(2, {1: BAD[2]}), cut, encode, 0, copy_paste=PutBeside(1), on_error="skip")
    for n in range(6):
        item = stream[n]
        assert item.name == "p0"
        assert [s.image for s in item.skipped] == ["/data/p2.jpg"]
    with pytest.raises(BadSampleError, match=r"p2\.jpg"):
        SampleStream(Images(2, {1: BAD[2]}), cut, encode, 0, copy_paste=PutBeside(1))[0]


@pytest.mark.parametrize(("length", "tried"), [(3, 3), (250, 100)])
def test_only_bad_images(length, tried):
    images = Images(length, {i: UnreadableFileError(f"{i}.jpg", "empty") for i in range(length)})
    with pytest.raises(BadSampleError) as caught:
        SampleStream(images, cut, encode, 0, on_error="skip")[0]
    last = images.read[-1]
    assert str(caught.value) == (
        f"{last}.jpg: empty; {tried} consecutive images, of {length} in all, could not be used; "
        "this is the last of them"
    )


class Ones(Images):
    def __init__(self, sample: Sample) -> None:
        super().__init__(1)
        self.sample = sample

    def __getitem__(self, _: int) -> Sample:
        return self.sample


@pytest.mark.parametrize(
    ("image", "truth", "text"),
    [
        (torch.zeros(3, 8, 9, dtype=torch.uint8), (8, 8), "expected labels of 8x9 pixels like the image, got 8x8"),
        (torch.zeros(3, 8, 8), (8, 8), r"expected an image as uint8 \[3, H, W\], got torch.float32 \[3, 8, 8\]"),
        (torch.zeros(8, 8, dtype=torch.uint8), (8, 8), r"expected an image as uint8 \[3, H, W\], got torch.uint8"),
    ],
)
def test_a_sample_that_contradicts_itself(image, truth, text):
    with pytest.raises(BadSampleError, match="odd: " + text):
        SampleStream(Ones(Sample(image, PanopticMap.empty(truth), "odd")), cut, encode, 0)[0]


def test_a_category_that_the_label_space_lacks():
    truth = PanopticMap(torch.ones(8, 8, dtype=torch.int32), torch.tensor([4]))
    sample = Sample(torch.zeros(3, 8, 8, dtype=torch.uint8), truth, "odd")
    with pytest.raises(BadSampleError, match=r"odd: expected category ids in 0\.\.3, got 4"):
        SampleStream(Ones(sample), cut, encode, 0)[0]


def test_arguments():
    with pytest.raises(InvalidArgumentError, match="expected at least one image to train on, got an empty dataset"):
        SampleStream(Images(0), cut, encode, 0)
    with pytest.raises(InvalidArgumentError, match='expected on_error "raise" or "skip", got \'ignore\''):
        SampleStream(Images(1), cut, encode, 0, on_error="ignore")
    with pytest.raises(InvalidArgumentError, match="expected a repeat factor for each of 2 images"):
        SampleStream(Images(2), cut, encode, 0, repeats=torch.ones(3))
    with pytest.raises(IndexError):
        SampleStream(Images(1), cut, encode, 0)[-1]


def test_a_stream_can_be_pickled():
    stream = SampleStream(Images(6), cut, encode, 3, repeats=torch.full((6,), 1.5))
    other = pickle.loads(pickle.dumps(stream))
    assert all(torch.equal(stream[n].image, other[n].image) for n in (0, 20))


class Knowing(Images):
    def categories_of(self, index: int) -> frozenset[int]:
        return frozenset({index, 0})


def test_categories_come_from_the_truths_or_from_a_dataset_that_knows():
    images = Images(4, {2: BAD[2]})
    found = categories_of(images, on_error="skip")
    expected = [set(generated_map(i, (16, 16), smallest=2).semantic(void=9).unique().tolist()) - {9} for i in (0, 1, 3)]
    assert found == [*expected[:2], set(), expected[2]]
    with pytest.raises(BadSampleError, match=r"p2\.jpg"):
        categories_of(images)
    knowing = Knowing(3)
    assert categories_of(knowing) == [{0}, {0, 1}, {0, 2}]
    assert knowing.read == []


def test_crops_record_where_they_cut_segments_off_if_asked():
    maps: list[PanopticMap] = []

    def encode(truth: PanopticMap) -> Targets:
        maps.append(truth)
        return Targets(truth.ids, truth.semantic(void=255))

    plain, recording = (SampleStream(Images(1), cut, encode, 0, record_cut_off=on) for on in (False, True))
    plain[3]
    recording[3]
    assert maps[0].cut_off is None
    assert torch.equal(maps[0].ids, maps[1].ids)
    assert maps[1].cut_off is not None
    touches = maps[1].boxes()[:, [0, 1]] == 0
    assert maps[1].cut_off.any()
    assert not (maps[1].cut_off[:, :2] & ~touches).any()


def test_the_augmentation_of_detr_crops_before_it_resizes() -> None:
    sides = tuple(range(480, 801, 32))
    options = Augmentation(random_size_crop=0.5, shortest_sides=sides, longest_side=1333, crop=(96, 128), flip=0)
    steps = RandomSizeCrop(0.5, (400, 500, 600), 384, 600), ResizeShortestEdge(sides, 1333), RandomCrop((96, 128))
    assert build_augmentation(options, SHAPES).augment == Compose(steps)
