"""Runs of equal pixels, and what readers make of them, against what NumPy finds pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panscape.evaluation.records import truth_digest
from panscape.formats.segments_info import IdRuns, SegmentInfo, map_from_id_image
from panscape.ops import runs

DTYPES = [np.uint8, np.uint16, np.int32, np.int64]
SIZES = [(1, runs.BLOCK), (1, runs.BLOCK + 1), (2, runs.BLOCK + 3), (3, 2731), (7, 5), (0, 4), (4, 0), (1, 1)]


def id_image(size: tuple[int, int], dtype: type, run: int, seed: int) -> np.ndarray:
    """Return runs of random numbers, of the whole range in a few of them."""
    random = np.random.default_rng(seed)
    low, high = (-2, 5) if np.issubdtype(dtype, np.signedinteger) else (0, 5)
    drawn = random.integers(low, high, size[0] * size[1] // run + 1).repeat(run)[: size[0] * size[1]]
    far = np.array([np.iinfo(dtype).max, np.iinfo(dtype).min]).astype(dtype)
    return np.where(drawn == 4, far[drawn % 2], drawn.astype(dtype)).reshape(size)


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from(SIZES),
    dtype=st.sampled_from(DTYPES),
    run=st.sampled_from([1, 2, 9, 300, 10**6]),
    seed=st.integers(0, 2**31),
)
def test_runs_rebuild_the_image_with_its_areas_and_boxes(size, dtype, run, seed):
    image = id_image(size, dtype, run, seed)
    found = IdRuns.of(image)
    flat = image.reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    assert found.ends.tolist() == [*changes.tolist(), *([flat.size] if flat.size else [])]
    numbers, inverse, areas = np.unique(image, return_inverse=True, return_counts=True)
    assert found.numbers.tolist() == numbers.tolist()
    assert np.array_equal(found.filled(np.arange(len(numbers), dtype=np.int32)), inverse.reshape(size))
    assert found.areas().tolist() == areas.tolist()
    _, boxes = runs.run_extents(found.ends, found.which, max(size[1], 1), len(numbers) + 1)
    for number, box in zip(numbers, boxes.tolist(), strict=False):
        y, x = np.nonzero(image == number)
        assert box == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert boxes[-1].tolist() == [0, 0, 0, 0]


@settings(max_examples=30, deadline=None)
@given(size=st.sampled_from(SIZES), run=st.sampled_from([1, 2, 9, 300]), seed=st.integers(0, 2**31))
def test_runs_of_colors_are_those_of_their_ids(size, run, seed):
    random = np.random.default_rng(seed)
    ids = random.choice([0, 1, 255, 256, 65535, 65536, 256**3 - 1], size[0] * size[1] // run + 1)
    ids = ids.repeat(run)[: size[0] * size[1]].reshape(size)
    colors = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
    for of_colors, of_ids in zip(IdRuns.of(colors), IdRuns.of(ids), strict=True):
        assert np.array_equal(of_colors, of_ids)


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda image: image[::2, ::-1]])
def test_any_memory_layout(layout):
    image = layout(id_image((8, 9), np.uint16, 2, 0))
    segments = [SegmentInfo(int(number), 0) for number in np.unique(image) if number]
    panoptic, undescribed = map_from_id_image(image, segments)
    number_of = np.array([0, *(segment.number for segment in segments)])
    assert undescribed == []
    assert np.array_equal(number_of[panoptic.ids.numpy()], image)
    assert truth_digest(panoptic) == truth_digest(map_from_id_image(image.copy(), segments)[0])
