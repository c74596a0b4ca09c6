"""Targets of dense boxes against loops over locations, and against cases worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from maps import a_map, generated_map

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.representations.dense_boxes.encode import DenseBoxTargetMaps, dense_box_targets


def targets(truth: PanopticMap, padded: tuple[int, int], **options: object) -> DenseBoxTargetMaps:
    """Categories 2 and 3 are things, 1 and 2 among themselves."""
    crowd = torch.zeros_like(truth.category, dtype=torch.bool) if truth.crowd is None else truth.crowd
    number = (truth.category - 1).clamp_min(0)
    return dense_box_targets(truth.pad(*padded).ids, truth.boxes(), number, crowd, **options)  # type: ignore[arg-type]


def by_loops(
    truth: PanopticMap, padded: tuple[int, int], level_ends: tuple[float, ...], finest_stride: int, supervision: str
) -> tuple[list[int], list[list[float]], list[list[int]], list[list[int]], list[int]]:
    """One location and one cell at a time, one object at a time."""
    ids = truth.ids.tolist()
    objects: dict[int, tuple[int, int, int, int]] = {}
    crowds = set()
    for row in range(truth.num_segments):
        pixels = (truth.ids == row + 1).nonzero().tolist()
        if truth.crowd is not None and truth.crowd[row]:
            crowds.add(row + 1)
        elif truth.category[row] >= 2 and pixels:
            ys, xs = [y for y, _ in pixels], [x for _, x in pixels]
            objects[row + 1] = (min(xs), min(ys), max(xs) + 1, max(ys) + 1)
    ranges = list(zip((0, *level_ends), (*level_ends, math.inf), strict=True))

    def look(y: int, x: int, low: float, high: float) -> tuple[int, tuple[int, ...], bool]:
        inside = y < truth.size.height and x < truth.size.width
        pixel = ids[y][x] if inside else 0
        is_ignored = pixel == 0 or pixel in crowds
        best: tuple[int, int, tuple[int, ...]] | None = None
        for s, (x1, y1, x2, y2) in objects.items():
            offsets = (x - x1, y - y1, x2 - x, y2 - y)
            mine = pixel == s if supervision == "masks" else min(offsets) > 0
            area = (x2 - x1) * (y2 - y1)
            if mine and low <= max(offsets) <= high and (best is None or area < best[0]):
                best = (area, s, offsets)
        return (0, (0, 0, 0, 0), is_ignored) if best is None else (best[1], best[2], is_ignored)

    category, box, location_segment = [], [], []
    height, width = padded[0] // finest_stride, padded[1] // finest_stride
    for level, (low, high) in enumerate(ranges):
        z = finest_stride * 2**level
        for j in range(height):
            for i in range(width):
                s, offsets, is_ignored = look(j * z + z // 2, i * z + z // 2, low, high)
                category.append(int(truth.category[s - 1]) - 1 if s else -1 if is_ignored else 0)
                box.append(list(offsets))
                location_segment.append(s)
        height, width = -(-height // 2), -(-width // 2)
    g = finest_stride // 2
    levelness, segment = [], []
    for j in range(padded[0] // g):
        cells = [look(j * g + g // 2, i * g + g // 2, 0, math.inf) for i in range(padded[1] // g)]
        segment.append([s for s, _, _ in cells])
        levelness.append(
            [
                next(n + 1 for n, (_, high) in enumerate(ranges) if max(offsets) <= high)
                if s
                else -1
                if is_ignored
                else 0
                for s, offsets, is_ignored in cells
            ]
        )
    return category, box, levelness, segment, location_segment


@pytest.mark.parametrize("supervision", ["masks", "boxes"])
@pytest.mark.parametrize(
    ("seed", "padded", "ends", "stride"),
    [
        (0, (96, 128), (16.0, 32.0, 64.0), 8),
        (1, (96, 128), (8.0, 20.0), 4),
        (2, (104, 136), (16.0, 30.0, 50.0, 80.0), 8),  # levels of odd sizes, whose last cells lie in the padding
        (3, (96, 128), (), 2),
    ],
)
def test_targets_are_those_of_loops(
    seed: int, padded: tuple[int, int], ends: tuple[float, ...], stride: int, supervision: str
) -> None:
    truth = generated_map(seed, crowd=True)
    found = targets(truth, padded, level_ends=ends, finest_stride=stride, supervision=supervision)
    category, box, levelness, segment, location_segment = by_loops(truth, padded, ends, stride, supervision)
    assert found.box_category.tolist() == category
    assert found.box.T.tolist() == box
    assert found.levelness.tolist() == levelness
    assert found.segment.tolist() == segment
    assert found.location_segment.tolist() == location_segment
    assert {-1, 0} < set(category)
    assert (found.box_category.dtype, found.levelness.dtype) == (torch.int64, torch.int64)
    assert (found.segment.dtype, found.location_segment.dtype, found.box.dtype) == (
        torch.int32,
        torch.int32,
        torch.float32,
    )


def test_a_case_by_hand() -> None:
    # 16x16 pixels at stride 4: 4x4 locations at pixels 2, 6, 10, 14, then 2x2 at 4 and 12. The object fills rows 4..11
    # of columns 0..11, so that locations at rows 6, 10 of columns 2, 6, 10 are its own.
    ids = torch.ones(16, 16, dtype=torch.int32)
    ids[4:12, 0:12] = 2
    truth = PanopticMap(ids, torch.tensor([0, 3]))
    found = targets(truth, (16, 16), level_ends=(8.0,), finest_stride=4)
    # Distances at (6, 2): left 2, up 2, right 10, down 6: too far for the first level. At (6, 6): 6, 2, 6, 6. The
    # second level's only one is at (4, 4): 4, 0, 8, 8, at the end of both ranges.
    assert found.box_category[:16].view(4, 4).tolist() == [[0, 0, 0, 0], [0, 2, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0]]
    assert found.box_category[16:].tolist() == [2, 0, 0, 0]
    assert found.box[:, 5].tolist() == [6, 2, 6, 6]
    assert found.box[:, 9].tolist() == [6, 6, 6, 2]
    assert found.box[:, 16].tolist() == [4, 0, 8, 8]
    assert found.location_segment.tolist() == [2 * int(c > 0) for c in found.box_category]
    # The dense grid has 8x8 cells at pixels 1, 3, .. 15; rows 5, 7, 9, 11 of columns 1 .. 11 are the object's.
    assert found.segment.tolist() == [[2 if 2 <= y < 6 and x < 6 else 0 for x in range(8)] for y in range(8)]
    # Columns 1, 3 and 11 are more than 8 from a side: 11, 9 and 11 pixels; columns 5, 7, 9 have 7, 7, 9.
    row = [2, 2, 1, 1, 2, 2, 0, 0]
    assert found.levelness.tolist() == [row if 2 <= y < 6 else [0] * 8 for y in range(8)]


def test_at_the_end_of_a_range_two_levels_learn_and_levelness_is_the_finer() -> None:
    ids = torch.zeros(16, 16, dtype=torch.int32)
    ids[0:12, 0:12] = 1  # the second level's location (4, 4) and the dense cell (5, 5): distances of 8 and of 7
    found = targets(PanopticMap(ids, torch.tensor([2])), (16, 16), level_ends=(8.0,), finest_stride=4)
    assert found.box[:, 16].tolist() == [4, 4, 8, 8]
    one = targets(PanopticMap(ids, torch.tensor([2])), (16, 16), level_ends=(7.0,), finest_stride=4)
    assert one.box_category[16] == 1
    assert (found.levelness[2, 2], one.levelness[2, 2]) == (1, 1)  # 7 is in both finer ranges
    assert (
        targets(PanopticMap(ids, torch.tensor([2])), (16, 16), level_ends=(6.0,), finest_stride=4).levelness[2, 2] == 2
    )


def test_with_boxes_the_smallest_around_a_location_counts_and_of_equal_ones_the_first() -> None:
    ids = torch.zeros(16, 16, dtype=torch.int32)
    ids[0, 0], ids[15, 15] = 1, 1  # the largest box, of two pixels
    ids[4, 4], ids[11, 11] = 2, 2
    ids[4, 11], ids[11, 4] = 3, 3  # as large and at the same place as the second
    truth = PanopticMap(ids, torch.tensor([2, 3, 2]))
    found = targets(truth, (16, 16), level_ends=(), finest_stride=4, supervision="boxes")
    assert found.location_segment.view(4, 4).tolist() == [[1, 1, 1, 1], [1, 2, 2, 1], [1, 2, 2, 1], [1, 1, 1, 1]]
    # Void pixels in a box are no longer void: the mask is not known.
    assert (found.box_category > 0).all()
    masks = targets(truth, (16, 16), level_ends=(), finest_stride=4)
    assert (masks.box_category == -1).all()  # no location meets a pixel of these objects


def test_an_object_that_no_location_meets_has_none() -> None:
    drawing = """AAAAAAAA
                 AAAAAAAA
                 AAAAAAAA
                 AAABAAAA
                 AAAAAAAA
                 AAAAAAAA
                 AAAAAAAA
                 AAAAAAAA"""
    truth = a_map(drawing, {"A": 0, "B": 2})
    found = targets(truth, (8, 8), level_ends=(4.0,), finest_stride=4)
    assert (found.box_category == 0).all()
    assert found.levelness.count_nonzero() == 1  # the dense grid, twice as fine, meets it at (3, 3)


@pytest.mark.parametrize(
    ("size", "stride", "text"),
    [((12, 16), 8, "multiples of 8, got 12x16"), ((16, 16), 3, "even finest_stride of at least 2, got 3")],
)
def test_impossible_values_are_refused(size: tuple[int, int], stride: int, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        targets(PanopticMap.empty(size), size, level_ends=(), finest_stride=stride)


def test_ids_without_a_segment_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"ids in 0\.\.1, got 2\.\.2"):
        dense_box_targets(
            torch.full((8, 8), 2, dtype=torch.int32),
            torch.zeros(1, 4),
            torch.zeros(1, dtype=torch.int64),
            torch.zeros(1, dtype=torch.bool),
            level_ends=(),
            finest_stride=8,
        )
