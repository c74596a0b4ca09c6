"""Samples at segments: a function of seed and number, with every other option of the stream."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import NamedTuple

import pytest
import torch
from maps import SHAPES, generated_map
from torch import Tensor

from panscape import PanopticMap
from panscape.datasets import SegmentSampler, load_segment_index
from panscape.datasets.base import Sample
from panscape.errors import BadSampleError, UnreadableFileError
from panscape.training.config import Augmentation
from panscape.training.data.augmentation import build_augmentation
from panscape.training.data.stream import SampleStream, _generator

THINGS = set(SHAPES.thing_ids)


class Targets(NamedTuple):
    ids: Tensor
    categories: Tensor
    cut_off: Tensor


def encode(truth: PanopticMap) -> Targets:
    any_cut = torch.zeros(4) if truth.cut_off is None else truth.cut_off.sum(dim=0)
    return Targets(truth.ids, truth.category, any_cut)


class Scenes:
    """Six generated scenes; some cannot be read any more, or have lost their segments."""

    labels = SHAPES

    def __init__(self, bad: tuple[int, ...] = (), empty: tuple[int, ...] = ()) -> None:
        self.bad, self.empty = bad, empty

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Sample:
        if index in self.bad:
            raise UnreadableFileError(f"/data/{index}.png", "truncated")
        truth = generated_map(index, (48, 64), crowd=index % 2 == 0)
        if index in self.empty:
            truth = PanopticMap.empty(truth.size)
        image = torch.full((3, 48, 64), index, dtype=torch.uint8)
        return Sample(image, truth, f"p{index}")


def stream_of(
    dataset: Scenes, *, by_scale: bool = True, seed: int = 0, record: bool = True, on_error: str = "raise", **options
) -> SampleStream:
    sampler = SegmentSampler(load_segment_index(Scenes()), SHAPES, by_scale=by_scale, thing_scale=(0.5, 4.0))
    augment, crops, copy_paste, appearance = build_augmentation(
        Augmentation(crop=(24, 32), **options), SHAPES, sampler=sampler
    )
    return SampleStream(
        dataset,
        augment,
        encode,
        seed,
        crops=crops,
        copy_paste=copy_paste,
        appearance=appearance,
        record_cut_off=record,
        on_error=on_error,
    )


EVERYTHING = {"copy_paste": 0.5, "color_jitter": 0.5, "flip": 0.5}


def same(a, b) -> bool:
    tensors = zip((a.image, *a.targets), (b.image, *b.targets), strict=True)
    return a.name == b.name and a.is_clamped == b.is_clamped and all(torch.equal(x, y) for x, y in tensors)


def test_a_sample_depends_on_seed_and_number_only():
    stream = stream_of(Scenes(), **EVERYTHING)
    items = [stream[n] for n in range(30)]
    fresh = pickle.loads(pickle.dumps(stream_of(Scenes(), **EVERYTHING)))
    assert all(same(fresh[n], items[n]) for n in (29, 3, 17, 0))
    other = stream_of(Scenes(), seed=1, **EVERYTHING)
    assert not any(same(other[n], items[n]) for n in range(5))
    with pytest.raises(IndexError):
        stream[-1]


@pytest.mark.parametrize("by_scale", [False, True])
def test_categories_are_shown_equally_often_and_scales_only_of_things(by_scale):
    stream = stream_of(Scenes(), by_scale=by_scale)
    items = [stream[n] for n in range(120)]
    drawn = Counter(stream.crops.sampler.sample(_generator(0, "sample", n)).category for n in range(120))
    assert min(drawn.values()) > 15  # 30 on average, with a deviation of 5
    for n, item in enumerate(items):
        choice = stream.crops.sampler.sample(_generator(0, "sample", n))
        assert item.name == f"p{choice.image}"
        assert choice.category in item.targets.categories.tolist()
        assert (item.is_clamped is not None) == (by_scale and choice.category in THINGS)
        assert item.image.shape == (3, 24, 32)
    assert {item.is_clamped for item in items} == ({None, True, False} if by_scale else {None})
    assert any(item.targets.cut_off.any() for item in items)


def test_sides_are_recorded_only_if_asked():
    assert not any(stream_of(Scenes(), record=False)[n].targets.cut_off.any() for n in range(20))


def test_an_unreadable_image_is_replaced_by_another_choice():
    with pytest.raises(BadSampleError, match=r"/data/\d\.png: truncated"):
        [stream_of(Scenes(bad=(1, 2)))[n] for n in range(20)]
    stream = stream_of(Scenes(bad=(1, 2)), on_error="skip", **EVERYTHING)
    items = [stream[n] for n in range(60)]
    assert {item.name for item in items} == {"p0", "p3", "p4", "p5"}
    assert {skipped.image for item in items for skipped in item.skipped} == {"/data/1.png", "/data/2.png"}
    with pytest.raises(BadSampleError, match="6 consecutive images, of 6 in all, could not be used"):
        stream_of(Scenes(bad=tuple(range(6))), on_error="skip")[0]


def test_a_map_that_has_lost_its_segments_is_named():
    with pytest.raises(BadSampleError, match=r"p\d: expected a segment of category \d, as when the training began"):
        stream_of(Scenes(empty=tuple(range(6))))[0]
    stream = stream_of(Scenes(empty=(3,)), on_error="skip")
    assert "p3" not in {stream[n].name for n in range(40)}


def test_turned_crops_still_show_the_segment():
    stream = stream_of(Scenes())
    sampler = stream.crops.sampler
    augment, crops, *_ = build_augmentation(
        Augmentation(crop=(24, 24), rotation="right_angles"), SHAPES, sampler=sampler
    )
    turned = SampleStream(Scenes(), augment, encode, 0, crops=crops)
    for n in range(20):
        assert sampler.sample(_generator(0, "sample", n)).category in turned[n].targets.categories.tolist()
