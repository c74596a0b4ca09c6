"""Pixels of each category, and what is reported about them before a training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from maps import SHAPES, a_map

from panscape import Category, LabelSpace
from panscape.datasets import Sample
from panscape.datasets.load import SkippedSample
from panscape.datasets.statistics import PixelCounts, count_pixels, data_notes
from panscape.errors import BadSampleError, InvalidAnnotationError, UnreadableFileError

ONE = LabelSpace("one", (Category("disc", True, 1, (9, 9, 9)),))
STUFF = LabelSpace("one", (Category("road", False, 1, (9, 9, 9)),))


class Maps:
    """A dataset of drawn maps; None is a map that cannot be read."""

    def __init__(self, *maps, labels=SHAPES):
        self.labels, self._maps = labels, maps

    def __len__(self):
        return len(self._maps)

    def __getitem__(self, index):
        truth = self._maps[index]
        if truth is None:
            raise UnreadableFileError("a.png", "no such file")
        return Sample(torch.zeros(3, *truth.size, dtype=torch.uint8), truth, str(index))


def test_pixels_are_counted_by_category():
    maps = Maps(a_map("AAB\n..C"), None, a_map("DD.", {"D": 3}, crowd="D"))
    calls = []
    counts = count_pixels(maps, on_error="skip", progress=lambda *done: calls.append(done))
    skipped = (SkippedSample("a.png", "a.png: no such file"),)
    assert counts == PixelCounts(SHAPES, (2, 1, 1, 2), void=3, num_maps=2, num_images=3, skipped=skipped)
    assert counts.void_fraction == pytest.approx(3 / 9)
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert count_pixels(maps, limit=1).pixels == (2, 1, 1, 0)
    assert count_pixels(Maps(maps[0].truth, None, a_map("DD."), None), limit=2).pixels == (2, 1, 1, 2)
    with pytest.raises(BadSampleError, match=r"a\.png: no such file; repair or remove it, or skip invalid images with"):
        count_pixels(maps)


def test_sound_data_has_no_notes():
    counts = count_pixels(Maps(a_map("ABCD")))
    assert data_notes(counts, counts) == ()


def test_what_probably_is_a_mistake_is_noted():
    train = PixelCounts(SHAPES, (1, 1, 0, 0), void=3, num_maps=2, num_images=8, num_turned=1)
    val = PixelCounts(
        SHAPES, (1, 1, 1, 1), void=0, num_maps=1, num_images=9, skipped=(SkippedSample("a.png", "a.png: no PNG"),)
    )
    assert data_notes(train, val) == (
        "60% of the pixels in 2 of 8 train maps are void, and are neither learnt nor evaluated",
        "no pixel in 2 of 8 train maps: disc, box",
        "1 of 2 val images inspected cannot be used: a.png: no PNG",
        "1 of 3 images are turned by their EXIF orientation; if their labels were drawn on the stored pixels, use "
        "--data.no-apply-orientation",
    )


def test_a_single_category():
    things = count_pixels(Maps(a_map("A."), labels=ONE))
    assert data_notes(things, things)[0].startswith("'disc' is the only category, so every pixel outside of its")
    stuff = count_pixels(Maps(a_map("A."), labels=STUFF))
    with pytest.raises(InvalidAnnotationError, match=r"at least two categories .* got only 'road' and 50\.0% void, so"):
        data_notes(stuff, stuff)
    sky = count_pixels(Maps(a_map("AA")))
    with pytest.raises(InvalidAnnotationError, match=r"in 1 of 1 training maps, got only 'sky', so nothing can"):
        data_notes(sky, sky)
    assert len(data_notes(replace(sky, num_images=2), sky)) == 2, "others may be in the maps that were not counted"


def test_nothing_but_void():
    counts = count_pixels(Maps(a_map("..")))
    with pytest.raises(InvalidAnnotationError, match="in 1 of 1 training maps, but all pixels are void; check"):
        data_notes(counts, counts)
    unreadable = count_pixels(Maps(None), on_error="skip")
    assert len(data_notes(unreadable, unreadable)) == 2, "others may be usable"
