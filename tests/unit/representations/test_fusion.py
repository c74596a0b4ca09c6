"""Fusion of objects and stuff into a map: the limits, counted by hand."""

from __future__ import annotations

import pytest
import torch
from maps import SHAPES, a_map

from panscape import Category, LabelSpace
from panscape.errors import InvalidArgumentError
from panscape.representations.fusion import CroppedMasks, FusionConfig, fuse_instances

SKY, GROUND, DISC, BOX = range(4)
RULES = FusionConfig(stuff_area=1)


def drawn(*drawings):
    return torch.stack([torch.tensor([[c == "#" for c in row] for row in d.split()]) for d in drawings])


def fused(drawings, score, category=None, semantic=None, labels=SHAPES, fusion=RULES):
    masks = drawn(*drawings)
    category = [DISC] * len(masks) if category is None else category
    semantic = torch.full(masks.shape[1:], DISC) if semantic is None else torch.tensor(semantic)
    windows = CroppedMasks.from_masks(masks)
    return fuse_instances(windows, torch.tensor(category), torch.tensor(score), semantic, labels, fusion)


def test_the_surer_object_is_on_top():
    result = fused(["####..", "..####"], [0.6, 0.9], [DISC, BOX])
    assert result.equals(a_map("AABBBB", {"A": DISC, "B": BOX}))
    assert result.category.tolist() == [BOX, DISC]
    assert torch.equal(result.score, torch.tensor([0.9, 0.6]))


def test_priority_decides_who_is_on_top_and_the_score_who_stays():
    masks, category, score = drawn("####..", "..####", "######"), torch.tensor([DISC, BOX, BOX]), [0.6, 0.9, 0.4]
    result = fuse_instances(
        CroppedMasks.from_masks(masks),
        category,
        torch.tensor(score),
        torch.full((1, 6), DISC),
        SHAPES,
        RULES,
        torch.tensor([0.8, 0.7, 1.0]),
    )
    assert result.equals(a_map("AAAABB", {"A": DISC, "B": BOX}))
    assert torch.equal(result.score, torch.tensor([0.6, 0.9]))


def test_of_equally_sure_objects_the_first_one_is_on_top():
    result = fused(["####..", "..####"], [0.6, 0.6], [DISC, BOX])
    assert result.ids.tolist() == [[1, 1, 1, 1, 2, 2]]
    assert result.category.tolist() == [DISC, BOX]


def test_an_object_of_which_just_the_limit_is_covered_stays():
    first = "##......"
    assert fused([first, ".##....."], [0.9, 0.8]).num_segments == 2  # 1/2
    assert fused([first, "###....."], [0.9, 0.8]).num_segments == 1  # 2/3
    third = FusionConfig(max_overlap=1 / 3, stuff_area=1)
    assert fused([first, ".###...."], [0.9, 0.8], fusion=third).num_segments == 2


def test_a_refused_object_covers_nothing():
    # The second has 2/3 under the first and is refused, so the third has only 1/2 under the first, not all of it.
    result = fused(["##......", "###.....", ".##....."], [0.9, 0.8, 0.7])
    assert result.ids.tolist() == [[1, 1, 2, 0, 0, 0, 0, 0]]


def test_an_object_wholly_covered_has_no_row_even_where_it_is_allowed():
    fusion = FusionConfig(max_overlap=1, stuff_area=1)
    result = fused(["###.", "##..", "####"], [0.9, 0.8, 0.7], fusion=fusion)
    assert result.ids.tolist() == [[1, 1, 1, 2]]
    assert result.num_segments == 2


def test_an_object_of_exactly_the_minimum_score_stays():
    fusion = FusionConfig(min_score=0.7, stuff_area=1)  # the float32 next to 0.7 is below it
    assert fused(["#...", ".#.."], [0.7, 0.69999], fusion=fusion).ids.tolist() == [[1, 0, 0, 0]]


def test_stuff_of_exactly_the_minimum_area_stays_as_one_segment_of_any_number_of_parts():
    semantic = [[SKY, SKY, GROUND, SKY, GROUND, GROUND]]
    object_ = [".....#"]
    for limit, expected in ((2, [[1, 1, 2, 1, 2, 3]]), (3, [[1, 1, 0, 1, 0, 2]]), (4, [[0, 0, 0, 0, 0, 1]])):
        result = fused(object_, [0.9], semantic=semantic, fusion=FusionConfig(stuff_area=limit))
        assert result.ids.tolist() == expected
        assert result.score[:-1].tolist() == [1] * (result.num_segments - 1)


def test_stuff_of_exactly_the_minimum_share_stays():
    semantic = [[SKY, SKY, GROUND, SKY, GROUND, GROUND, SKY, SKY]]  # free: five pixels of eight, and two
    object_ = [".....#.."]
    for share, expected in (
        (0.25, [[1, 1, 2, 1, 2, 3, 1, 1]]),
        (0.26, [[1, 1, 0, 1, 0, 2, 1, 1]]),
        (0.625, [[1, 1, 0, 1, 0, 2, 1, 1]]),
        (0.626, [[0, 0, 0, 0, 0, 1, 0, 0]]),
    ):
        fusion = FusionConfig(stuff_area=1, stuff_share=share)
        assert fused(object_, [0.9], semantic=semantic, fusion=fusion).ids.tolist() == expected
    # Both are requested.
    fusion = FusionConfig(stuff_area=3, stuff_share=0.1)
    assert fused(object_, [0.9], semantic=semantic, fusion=fusion).ids.tolist() == [[1, 1, 0, 1, 0, 2, 1, 1]]


def test_things_that_no_object_covers_are_void():
    result = fused(["##.."], [0.9], semantic=[[SKY, SKY, BOX, SKY]])
    assert result.ids.tolist() == [[2, 2, 0, 1]]
    assert result.category.tolist() == [SKY, DISC]


def test_stuff_may_fill_all_uncovered_pixels():
    scores = torch.tensor([[[1.0, 2, 1]], [[2.0, 1, 0]], [[0.0, 3, 3]], [[1.0, 2, 9]]])
    found = {}
    for everywhere in (False, True):
        fusion = FusionConfig(stuff_area=1, stuff_on_uncovered=everywhere)
        ids = torch.tensor(fusion.semantic_ids(SHAPES))
        semantic = ids[scores[ids].argmax(dim=0)]
        found[everywhere] = fused(["#.."], [0.9], semantic=semantic.tolist(), fusion=fusion).semantic(void=-1).tolist()
    assert found == {False: [[DISC, -1, -1]], True: [[DISC, SKY, SKY]]}


def test_stuff_on_uncovered_needs_stuff():
    things = LabelSpace("things", SHAPES.categories[2:])
    assert FusionConfig(stuff_on_uncovered=True).semantic_ids(things) == (0, 1)


@pytest.mark.parametrize("score", [[], [0.1, 0.49]])
def test_without_objects_or_with_none_sure_enough_there_is_stuff_alone(score):
    windows = CroppedMasks.from_masks(torch.ones(len(score), 2, 3, dtype=torch.bool))
    category = torch.full((len(score),), BOX)
    semantic = torch.tensor([[SKY, SKY, BOX], [GROUND, GROUND, DISC]])
    result = fuse_instances(windows, category, torch.tensor(score), semantic, SHAPES, RULES)
    assert result.ids.tolist() == [[1, 1, 0], [2, 2, 0]]
    assert result.category.tolist() == [SKY, GROUND]
    assert result.score.tolist() == [1, 1]


def test_a_label_space_of_things_alone_and_one_of_stuff_alone():
    things = LabelSpace("things", SHAPES.categories[2:])
    result = fused(["#.."], [0.9], [1], semantic=[[0, 1, 0]], labels=things)
    assert (result.ids.tolist(), result.category.tolist()) == ([[1, 0, 0]], [1])
    stuff = LabelSpace("stuff", SHAPES.categories[:2])
    none = CroppedMasks.from_masks(torch.zeros(0, 1, 3, dtype=torch.bool))
    empty = torch.zeros(0, dtype=torch.int64)
    result = fuse_instances(none, empty, empty.float(), torch.tensor([[0, 1, 0]]), stuff, RULES)
    assert (result.ids.tolist(), result.category.tolist()) == ([[1, 2, 1]], [0, 1])


def test_categories_may_be_any_integers_and_lie_anyhow_in_memory():
    semantic = torch.tensor([[SKY, GROUND], [SKY, DISC], [SKY, SKY]])
    masks = CroppedMasks.from_masks(drawn(".#. ..."))
    for dtype in (torch.uint8, torch.int16, torch.int32, torch.int64):
        result = fuse_instances(masks, torch.tensor([BOX]), torch.tensor([0.9]), semantic.to(dtype).T, SHAPES, RULES)
        assert result.ids.tolist() == [[1, 3, 1], [2, 0, 1]]


def test_categories_under_objects_are_ignored():
    assert fused(["##."], [0.9], semantic=[[-1, 99, SKY]]).ids.tolist() == [[2, 2, 1]]
    for strange in (-1, 4, 255):
        with pytest.raises(InvalidArgumentError, match=r"expected categories in 0\.\.3 .* got others at 2 pixels"):
            fused(["#..."], [0.9], semantic=[[SKY, strange, SKY, strange]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": [0.9]}, r"expected score as torch.float32 \[2\], one for each mask, got torch.float32 \[1\]"),
        ({"score": [1, 0]}, r"expected score as torch.float32 \[2\], one for each mask, got torch.int64"),
        ({"score": [0.9, 1.1]}, r"expected scores in 0\.\.1, got 0.9\.\.1.1"),
        ({"score": [0.9, float("nan")]}, r"expected scores in 0\.\.1, got nan\.\.nan"),
        ({"category": [DISC]}, r"expected category as torch.int64 \[2\]"),
        ({"category": [DISC, SKY]}, r"expected objects of thing categories of shapes, \[2, 3\], got categories \[0\]"),
        ({"category": [DISC, 4]}, r"got categories \[4\]"),
        ({"semantic": [[0.0, 1, 2]]}, r"expected semantic as integers \[H, W\], got torch.float32 \[1, 3\]"),
        ({"semantic": [0, 1, 2]}, r"expected semantic as integers \[H, W\], got torch.int64 \[3\]"),
        ({"semantic": [[0, 1]]}, "expected windows inside the image of 1x2, got windows up to row 1 and column"),
    ],
)
def test_contradictions_are_refused(changes, message):
    arguments = {"score": [0.9, 0.8], **changes}
    with pytest.raises(InvalidArgumentError, match=message):
        fused(["##.", "..#"], **arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_score": 1.5}, r"expected min_score in 0\.\.1, got 1.5"),
        ({"max_overlap": -0.1}, r"expected max_overlap in 0\.\.1, got -0.1"),
        ({"max_overlap": float("nan")}, "expected max_overlap"),
        ({"stuff_area": -1}, "expected stuff_area of 0 or more, got -1"),
        ({"stuff_area": float("nan")}, "expected stuff_area as an integer, got nan"),
        ({"stuff_share": 1.0}, "expected stuff_share in \\[0, 1\\), got 1.0"),
    ],
)
def test_rules_are_checked(changes, message):
    with pytest.raises(InvalidArgumentError, match=message):
        FusionConfig(**changes)


def test_a_label_space_whose_things_come_first():
    labels = LabelSpace("mixed", (Category("a", True, 0, (0, 0, 0)), Category("b", False, 1, (0, 0, 0))))
    result = fused(["#.."], [0.9], [0], semantic=[[0, 1, 0]], labels=labels)
    assert (result.ids.tolist(), result.category.tolist()) == ([[2, 1, 0]], [1, 0])


def test_pixels_of_smaller_parts_join_the_stuff_of_their_category():
    semantic = [[DISC, DISC, SKY, SKY, GROUND, DISC, SKY]]
    rules = FusionConfig(stuff_area=2, largest_part=True)  # the pixel of ground is too few, whatever is freed
    result = fused(["##.###."], [0.9], semantic=semantic, fusion=rules)
    assert result.ids.tolist() == [[0, 0, 1, 2, 2, 2, 1]]
    result = fused(["###.##."], [0.9], semantic=semantic, fusion=rules)
    assert result.ids.tolist() == [[2, 2, 2, 1, 0, 0, 1]]
    assert result.category.tolist() == [SKY, DISC]


def test_leftover_things_become_objects_of_the_lowest_score():
    semantic = [[DISC, DISC, SKY, BOX, BOX, DISC]]
    rules = FusionConfig(stuff_area=1, min_score=0.25, leftover_area=2)
    result = fused(["#....."], [0.9], semantic=semantic, fusion=rules)
    assert result.ids.tolist() == [[2, 0, 1, 3, 3, 0]]
    assert result.category.tolist() == [SKY, DISC, BOX]
    assert torch.equal(result.score, torch.tensor([1, 0.9, 0.25]))


def test_areas_scale_with_the_image_and_leftover_things_stay_on():
    scaled = FusionConfig(stuff_area=100, leftover_area=1).at_ratio(0.25)
    assert (scaled.stuff_area, scaled.leftover_area) == (25, 1)
    assert FusionConfig(leftover_area=0).at_ratio(4).leftover_area == 0
