"""The table of the segments of a dataset, and its cache."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from maps import SHAPES, a_map, generated_map

from panscape import LabelSpace, PanopticMap
from panscape.datasets import load_segment_index
from panscape.datasets.base import MapSources, Sample
from panscape.datasets.in_memory import InMemoryDataset
from panscape.datasets.segment_index import SEGMENT, segments_of_map
from panscape.errors import BadSampleError, UnreadableFileError


class Maps:
    """Maps that depend on a file; one may be unreadable. Counts the reads."""

    def __init__(self, file: Path, labels: LabelSpace = SHAPES, bad: int | None = None, offset: int = 0) -> None:
        self.file, self.labels, self.bad, self.offset, self.num_read = file, labels, bad, offset, 0

    def __len__(self) -> int:
        return 3

    def truth_of(self, index: int) -> PanopticMap:
        self.num_read += 1
        if index == self.bad:
            raise UnreadableFileError("p1.png", "truncated")
        return generated_map(index + self.offset, (24, 32), crowd=True)

    def __getitem__(self, index: int) -> Sample:
        return Sample(torch.zeros(3, 24, 32, dtype=torch.uint8), self.truth_of(index), f"p{index}")

    def map_sources(self) -> MapSources:
        return MapSources([self.file], (self.offset,))


@pytest.fixture
def maps(tmp_path: Path) -> Maps:
    (tmp_path / "truth.json").write_text("one")
    return Maps(tmp_path / "truth.json")


def test_the_segments_of_a_map_are_those_with_pixels():
    truth = a_map("AAB.\nAABC\n..B.", crowd="B")
    truth = PanopticMap(truth.ids, torch.tensor([0, 3, 2, 2]), None, torch.tensor([False, True, False, False]))
    assert segments_of_map(truth).tolist() == [(0, 0, 2, 2, 0, False), (0, 1, 1, 3, 3, True), (0, 2, 1, 1, 2, False)]
    assert len(segments_of_map(PanopticMap.empty((4, 5)))) == 0
    assert SEGMENT.itemsize == 19


def test_all_images_in_order(maps: Maps, tmp_path: Path):
    segments = load_segment_index(maps, folder=tmp_path / "cache")
    assert np.unique(segments["image"]).tolist() == [0, 1, 2]
    for index in range(3):
        expected = segments_of_map(maps.truth_of(index))
        expected["image"] = index
        assert segments[segments["image"] == index].tolist() == expected.tolist()


def test_it_is_read_once_until_the_data_change(maps: Maps, tmp_path: Path):
    cache = tmp_path / "cache"
    first = load_segment_index(maps, folder=cache)
    assert maps.num_read == 3
    assert np.array_equal(load_segment_index(Maps(maps.file), folder=cache), first)
    assert load_segment_index(maps, folder=cache).tolist() == first.tolist()
    assert maps.num_read == 3
    renamed = LabelSpace("other", (SHAPES[1], SHAPES[0], SHAPES[2], SHAPES[3]))
    for changed in (Maps(maps.file, renamed), Maps(maps.file, offset=5)):
        load_segment_index(changed, folder=cache)
        assert changed.num_read == 3
    os.utime(maps.file, ns=(0, 1))
    load_segment_index(maps, folder=cache)
    assert maps.num_read == 6
    maps.file.write_text("another length")
    load_segment_index(maps, folder=cache)
    assert maps.num_read == 9


@pytest.mark.parametrize("damage", ["truncated", "empty", "of another dtype", "of another image"])
def test_a_damaged_cache_is_rebuilt(damage: str, maps: Maps, tmp_path: Path):
    expected = load_segment_index(maps, folder=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    wrong = expected.copy()
    wrong["image"] = 3
    if damage == "of another dtype":
        np.save(file, np.zeros(4))
    elif damage == "of another image":
        np.save(file, wrong)
    else:
        file.write_bytes(file.read_bytes()[: 0 if damage == "empty" else -1])
    assert load_segment_index(maps, folder=tmp_path / "cache").tolist() == expected.tolist()
    assert maps.num_read == 6
    load_segment_index(maps, folder=tmp_path / "cache")
    assert maps.num_read == 6


def test_a_cache_that_cannot_be_written_is_a_warning(maps: Maps, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "file").touch()
    assert len(load_segment_index(maps, folder=tmp_path / "file" / "cache")) > 0
    assert "the segments are read again next time" in caplog.text


def test_the_default_is_the_cache_folder_of_the_user(
    maps: Maps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.delenv("PANSCAPE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    with caplog.at_level("INFO"):
        load_segment_index(maps)
        load_segment_index(maps)
    assert caplog.text.count("reading the segments of 3 training images") == 1
    assert [file.suffix for file in (tmp_path / "own" / "panscape" / "segments").iterdir()] == [".npy"]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    load_segment_index(maps)
    assert len(list((tmp_path / "home" / ".cache" / "panscape" / "segments").iterdir())) == 1
    monkeypatch.setenv("PANSCAPE_CACHE", str(tmp_path / "other"))
    load_segment_index(maps)
    assert len(list((tmp_path / "other" / "segments").iterdir())) == 1


def test_unreadable_images_are_raised_or_left_out_and_then_nothing_is_cached(maps: Maps, tmp_path: Path):
    maps.bad = 1
    with pytest.raises(BadSampleError, match=r"p1\.png: truncated"):
        load_segment_index(maps, folder=tmp_path / "cache")
    segments = load_segment_index(maps, on_error="skip", folder=tmp_path / "cache")
    assert np.unique(segments["image"]).tolist() == [0, 2]
    assert not (tmp_path / "cache").exists()


def test_data_in_memory_are_not_cached(maps: Maps, tmp_path: Path):
    segments = load_segment_index(InMemoryDataset(maps), folder=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    assert segments.tolist() == load_segment_index(maps, folder=tmp_path / "cache").tolist()
