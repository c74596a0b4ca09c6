from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from maps import SHAPES, a_map, generated_map
from scipy import ndimage

from panscape import LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError, InvalidMapError, UnknownNameError
from panscape.panoptic import stack_masks


def ids(rows):
    return torch.tensor(rows, dtype=torch.int32)


def scored(panoptic, *scores):
    return PanopticMap(panoptic.ids, panoptic.category, torch.tensor(scores), panoptic.crowd)


class TestWhatItAccepts:
    @pytest.mark.parametrize(
        ("parts", "message"),
        [
            ((np.zeros((2, 2), np.int32), torch.zeros(0).long()), r"ids as a torch.int32 tensor \[H, W\], got ndarray"),
            ((torch.zeros(2, 2), torch.zeros(0).long()), r"ids as torch.int32 \[H, W\], got torch.float32 \[2, 2\]"),
            ((ids([[[0]]]), torch.zeros(0).long()), r"ids as torch.int32 \[H, W\], got torch.int32 \[1, 1, 1\]"),
            ((ids([[0]]), torch.zeros(1)), r"category as torch.int64 \[S\], got torch.float32 \[1\]"),
            (
                (ids([[2]]), torch.tensor([0])),
                r"ids in 0\.\.1 \(0 is void, category has 1 segments\), got 2\.\.2; give",
            ),
            ((ids([[-1, 1]]), torch.tensor([0])), r"got -1\.\.1; give a category for every id, or read"),
            ((ids([[1]]), torch.tensor([-1])), r"category ids of at least 0, got -1; use void"),
            (
                (ids([[1]]), torch.tensor([0]), torch.zeros(1).double()),
                r"score as torch.float32 \[S\], got torch.float64",
            ),
            (
                (ids([[1]]), torch.tensor([0]), torch.zeros(2)),
                r"one score for each of the 1 segments in category, got \[2\]",
            ),
            (
                (ids([[1]]), torch.tensor([0]), None, torch.zeros(2).bool()),
                r"one crowd for each of the 1 segments.*got \[2\]",
            ),
            ((ids([[1]]), torch.tensor([0]), torch.tensor([5.0])), r"scores in 0\.\.1, got 5\.\.5; give probabilities"),
            ((ids([[2]]), torch.tensor([0, 1]), torch.tensor([-0.1, 1])), r"scores in 0\.\.1, got -0\.1\.\.1; give"),
            ((ids([[2]]), torch.tensor([0, 1]), torch.tensor([0.5, torch.nan])), r"scores in 0\.\.1, got nan\.\.nan"),
            ((ids([[1]]), torch.tensor([0]), None, [True]), r"crowd as a torch.bool tensor \[S\], got list"),
            (
                (ids([[1]]), torch.tensor([0]), None, None, None, torch.zeros(1, 3).bool()),
                r"one cut_off for each of the 1 segments .*got \[1, 3\]",
            ),
            ((ids([[1]]), torch.tensor([0]).to("meta")), "all parts on one device, got cpu, meta; move them"),
        ],
    )
    def test_contradictions_are_refused(self, parts, message):
        with pytest.raises(InvalidMapError, match=message):
            PanopticMap(*parts)

    def test_a_map_without_segments_or_pixels(self):
        for size in ((3, 4), (0, 4), (3, 0)):
            empty = PanopticMap.empty(size)
            assert empty.size == size
            assert empty.boxes().shape == (0, 4)
            assert empty.areas().shape == (0,)
            assert empty.masks().shape == (0, *size)
            assert empty.semantic(void=9).tolist() == torch.full(size, 9).tolist()
            assert empty.equals(empty.compact())

    def test_maps_survive_pickling_and_copying(self):
        panoptic = generated_map(0, crowd=True)
        for other in (pickle.loads(pickle.dumps(panoptic)), copy.deepcopy(panoptic)):
            assert other.equals(panoptic)


class TestViews:
    def test_views_of_a_drawn_map(self):
        panoptic = a_map("AAB\n.CB", {"A": 3, "B": 0, "C": 3})
        assert repr(panoptic) == "PanopticMap(2x3, 3 segments)"
        assert panoptic.semantic(void=255).tolist() == [[3, 3, 0], [255, 3, 0]]
        for void in ("x", 1.5, None, 2**63):
            with pytest.raises(InvalidArgumentError, match="expected void as an integer, such as 255, got "):
                panoptic.semantic(void=void)
        assert panoptic.areas().tolist() == [2, 2, 1]
        assert panoptic.boxes().tolist() == [[0, 0, 2, 1], [2, 0, 3, 2], [1, 1, 2, 2]]
        assert panoptic.masks()[1].tolist() == [[False, False, True], [False, False, True]]
        assert panoptic.masks().dtype == torch.bool

    def test_a_segment_without_pixels_has_no_area_and_a_zero_box(self):
        panoptic = PanopticMap(ids([[0, 2]]), torch.tensor([1, 1, 1]))
        assert panoptic.areas().tolist() == [0, 1, 0]
        assert panoptic.boxes().tolist() == [[0, 0, 0, 0], [1, 0, 2, 1], [0, 0, 0, 0]]

    @pytest.mark.parametrize("seed", range(20))
    def test_boxes_equal_those_of_scipy(self, seed):
        rng = np.random.default_rng(seed)
        size = rng.integers(1, 12, 2)
        num_segments = int(rng.integers(1, 9))
        values = rng.integers(0, num_segments + 1, size).astype(np.int32)
        panoptic = PanopticMap(torch.from_numpy(values), torch.zeros(num_segments, dtype=torch.int64))
        want = [
            [0, 0, 0, 0] if found is None else [found[1].start, found[0].start, found[1].stop, found[0].stop]
            for found in ndimage.find_objects(values, num_segments)
        ]
        assert panoptic.boxes().tolist() == want
        assert panoptic.boxes().dtype == torch.float32
        assert panoptic.areas().tolist() == [int((values == s + 1).sum()) for s in range(num_segments)]

    def test_views_of_a_view_with_strides(self):
        panoptic = generated_map(2)
        turned = PanopticMap(panoptic.ids.T, panoptic.category)
        assert torch.equal(turned.boxes(), panoptic.boxes()[:, [1, 0, 3, 2]])
        assert torch.equal(turned.areas(), panoptic.areas())


class TestEquals:
    @pytest.mark.parametrize("seed", range(5))
    def test_the_order_of_segments_does_not_matter(self, seed):
        panoptic = generated_map(seed, crowd=True)
        order = torch.randperm(panoptic.num_segments, generator=torch.Generator().manual_seed(seed))
        position = torch.cat([torch.tensor([0]), order.argsort() + 1]).int()
        other = PanopticMap(position[panoptic.ids.long()], panoptic.category[order], None, panoptic.crowd[order])
        assert panoptic.equals(other)
        assert other.equals(panoptic)

    def test_unused_descriptions_and_scores_do_not_matter(self):
        panoptic = a_map("AB", {"A": 0, "B": 1})
        assert panoptic.equals(scored(PanopticMap(ids([[3, 1]]), torch.tensor([1, 7, 0])), 0.1, 0.2, 0.3))

    @pytest.mark.parametrize(
        ("drawing", "categories", "crowd"),
        [
            ("AAB", {"A": 0, "B": 1}, "A"),  # a crowd
            ("AAB", {"A": 0, "B": 2}, ""),  # another category
            ("AB.", {"A": 0, "B": 1}, ""),  # void elsewhere
            ("ABB", {"A": 0, "B": 1}, ""),  # another border
            ("AAC\n", {"A": 0, "C": 0}, ""),  # a segment of the same category
            ("ACB", {"A": 0, "B": 1, "C": 0}, ""),  # split
            ("AAA", {"A": 0}, ""),  # merged
            ("AABB", {"A": 0, "B": 1}, ""),  # another size
            ("..B", {"B": 1}, ""),
        ],
    )
    def test_differences_are_seen_from_both_sides(self, drawing, categories, crowd):
        panoptic = a_map("AAB", {"A": 0, "B": 1})
        other = a_map(drawing, categories, crowd)
        with pytest.raises(InvalidArgumentError, match="expected a PanopticMap to compare with, got NoneType"):
            panoptic.equals(None)
        assert not panoptic.equals(other)
        assert not other.equals(panoptic)

    def test_void_does_not_pair_with_a_segment(self):
        assert not a_map("A.", {"A": 0}).equals(a_map(".A", {"A": 0}))

    def test_two_segments_that_exchange_a_part_are_not_equal(self):
        assert not a_map("AABB", {"A": 0, "B": 0}).equals(a_map("ABAB", {"A": 0, "B": 0}))


class TestContainer:
    labeled = replace(a_map("AABB\nAACC\n.ACC", {"A": 0, "B": 2, "C": 3}, crowd="B"), labels=SHAPES)

    def test_segments(self):
        assert len(self.labeled) == 3
        sky, disc, box = self.labeled
        assert (sky.name, sky.is_thing, sky.area, sky.box) == ("sky", False, 5, (0, 0, 2, 3))
        assert (disc.id, disc.category, disc.name, disc.is_thing, disc.is_crowd) == (2, 2, "disc", True, True)
        assert (box.described, box.score, box.is_crowd) == (SHAPES["box"], None, False)
        assert torch.equal(box.mask, self.labeled.masks()[2])
        unlabeled, *_ = replace(self.labeled, labels=None)
        assert (unlabeled.name, unlabeled.is_thing) == (None, None)

    def test_a_map_without_segments_is_a_result(self):
        assert len(PanopticMap.empty((2, 2))) == 0
        assert PanopticMap.empty((2, 2))

    def test_one_category(self):
        discs = self.labeled.for_category("disc")
        assert [s.name for s in discs] == ["disc"]
        assert int((discs.ids > 0).sum()) == 2
        assert discs == self.labeled.for_category(2)
        with pytest.raises(UnknownNameError, match="did you mean disc"):
            self.labeled.for_category("disk")
        with pytest.raises(InvalidMapError, match=r"a category id, 0\.\.3 of shapes, got 4"):
            self.labeled.for_category(4)
        with pytest.raises(InvalidMapError, match="the map has no labels, got the name 'disc'"):
            replace(self.labeled, labels=None).for_category("disc")

    def test_as_an_array(self):
        array = np.asarray(self.labeled)
        assert array.dtype == np.int32
        assert array.tolist() == self.labeled.ids.tolist()
        assert np.asarray(self.labeled, dtype=np.uint8).dtype == np.uint8
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 0  # it shares the map's memory
        copied = np.array(self.labeled)
        copied[0, 0] = 0
        assert self.labeled.ids[0, 0] == 1

    def test_equality_is_that_of_content(self):
        assert self.labeled == copy.deepcopy(self.labeled)
        assert self.labeled == replace(self.labeled, labels=None)
        reordered = a_map("CCAA\nCCBB\n.CBB", {"C": 0, "A": 2, "B": 3}, crowd="A")
        assert self.labeled == reordered
        assert self.labeled != self.labeled.flip()
        assert self.labeled != replace(self.labeled, crowd=None)
        high, low = (scored(self.labeled, 0.5, x, 1) for x in (0.5, 0.25))
        assert high == scored(self.labeled, 0.5, 0.5, 1)
        assert high != low
        assert high != self.labeled
        assert self.labeled != "a map"
        with pytest.raises(TypeError, match="unhashable"):
            hash(self.labeled)

    def test_labels_are_kept_by_derived_maps(self):
        m = self.labeled
        derived = [m.flip(), m.crop(0, 0, 1, 1), m.pad(4, 4), m.resize(6, 8), m.compact(), m.to("cpu"), m.to("meta")]
        assert all(d.labels is SHAPES for d in derived)
        assert m.paste(a_map("A"), 0, 0).labels is SHAPES
        assert a_map("A").paste(m, 0, 0).labels is SHAPES
        with pytest.raises(InvalidMapError, match="one label space, got 'shapes' and 'other'"):
            m.paste(PanopticMap.empty((1, 1), LabelSpace("other", SHAPES.categories)), 0, 0)
        assert repr(m) == "PanopticMap(3x4, 3 segments of shapes)"

    def test_provenance_is_kept_by_derived_maps(self, tmp_path: Path):
        m = self.labeled.with_provenance({"weights": "street"})
        assert self.labeled.provenance is None
        assert m == self.labeled
        cut, moved = m.crop(0, 0, 1, 1), m.to("meta")
        derived = [m.flip(), cut, m.pad(4, 4), m.resize(6, 8), m.select([True] * len(m)), m.to("cpu"), moved]
        assert all(d.provenance == {"weights": "street"} for d in [*derived, m.paste(cut, 0, 0)])
        assert m.paste(self.labeled, 0, 0).provenance is None
        m.save(tmp_path / "m.png")
        assert PanopticMap.load(tmp_path / "m.png").provenance == {"weights": "street"}
        self.labeled.save(tmp_path / "m.png")
        assert '"info"' not in (tmp_path / "m.json").read_text()

    def test_categories_beyond_the_labels_are_refused(self):
        with pytest.raises(
            InvalidMapError, match=r"category ids in 0\.\.3, the positions in label space 'shapes', got 4"
        ):
            PanopticMap(ids([[1]]), torch.tensor([4]), labels=SHAPES)


class TestFromIds:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.uint64, torch.int16, torch.int64])
    def test_any_integer_type(self, dtype):
        drawn = [[0, 1], [2, 2]]
        array = torch.tensor(drawn, dtype=dtype) if isinstance(dtype, torch.dtype) else np.array(drawn, dtype)
        built = PanopticMap.from_ids(array, ["disc", 0], labels=SHAPES, scores=[0.5, 1], crowds=np.array([True, False]))
        assert built.ids.tolist() == drawn
        assert built.category.tolist() == [2, 0]
        assert built.score.tolist() == [0.5, 1]
        assert built.crowd.tolist() == [True, False]

    def test_ids_with_gaps_by_a_mapping(self):
        built = PanopticMap.from_ids(np.array([[26001, 7], [0, 26001]]), {7: "ground", 26001: "box"}, labels=SHAPES)
        assert built.ids.tolist() == [[2, 1], [0, 2]]
        assert built.category.tolist() == [1, 3]

    @pytest.mark.parametrize(
        ("array", "categories", "message"),
        [
            (np.zeros((2, 2)), [], r"ids as integers \[H, W\], got float64 \[2, 2\]; for masks, use"),
            (np.zeros((2, 2), bool), [], "got bool"),
            (np.zeros((1, 2, 2), int), [], r"got int64 \[1, 2, 2\]"),
            (np.array([[3]]), [0, 1], r"ids in 0\.\.2"),
            (np.array([[2**40]]), [0], r"ids below 2147483648, got 1099511627776; map them"),
            (np.array([[5, 9]]), {5: 0}, "a category for every id, none for 9; 0 is void"),
            (np.array([[1]]), [1.5], r"a category id or name, got 1\.5"),
            (np.array([[1]]), [True], "a category id or name, got True"),
        ],
    )
    def test_contradictions_are_refused(self, array, categories, message):
        with pytest.raises(InvalidMapError, match=message):
            PanopticMap.from_ids(array, categories)


class TestNewMaps:
    def test_select_keeps_the_chosen_and_renumbers(self):
        panoptic = scored(a_map("ABC", {"A": 5, "B": 6, "C": 7}, crowd="C"), 0.1, 0.2, 0.3)
        kept = panoptic.select(torch.tensor([True, False, True]))
        assert kept.ids.tolist() == [[1, 0, 2]]
        assert kept.category.tolist() == [5, 7]
        assert kept.score.tolist() == pytest.approx([0.1, 0.3])
        assert kept.crowd.tolist() == [False, True]
        with pytest.raises(InvalidMapError, match=r"keep as bool \[3\], one for each segment, got torch.int64 \[3\]"):
            panoptic.select(torch.tensor([1, 0, 1]))
        with pytest.raises(InvalidMapError, match=r"keep as bool \[3\], one for each segment, got torch.bool \[2\]"):
            panoptic.select(torch.tensor([True, False]))
        with pytest.raises(InvalidMapError, match=r"map\.for_category selects by category"):
            panoptic.select(["car"])
        assert panoptic.select([True, False, True]) == kept

    def test_compact_drops_what_no_pixel_shows(self):
        panoptic = PanopticMap(ids([[0, 2]]), torch.tensor([4, 5, 6]))
        assert panoptic.compact().ids.tolist() == [[0, 1]]
        assert panoptic.compact().category.tolist() == [5]
        assert panoptic.compact().compact().equals(panoptic)

    def test_crop_is_the_slice(self):
        panoptic = generated_map(0)
        window = panoptic.crop(10, 20, 30, 40)
        assert torch.equal(window.ids, panoptic.ids[10:40, 20:60])
        assert torch.equal(panoptic.crop(0, 0, *panoptic.size).ids, panoptic.ids)
        for wrong in ((-1, 0, 4, 4), (0, -1, 4, 4), (0, 0, 0, 4), (93, 0, 4, 4), (0, 125, 4, 4)):
            with pytest.raises(InvalidMapError, match="a window inside 96x128, got rows"):
                panoptic.crop(*wrong)

    def test_padding_is_void_on_the_right_and_at_the_bottom(self):
        padded = a_map("AB", {"A": 0, "B": 1}).pad(2, 3)
        assert padded.ids.tolist() == [[1, 2, 0], [0, 0, 0]]
        with pytest.raises(InvalidMapError, match="at least 2x3, got 2x2"):
            padded.pad(2, 2)

    @pytest.mark.parametrize("size", [(96, 128), (48, 64), (33, 200), (1, 1), (192, 256)])
    def test_resize_takes_the_nearest_like_torch(self, size):
        panoptic = generated_map(0)
        # Integers below 2^24 are exact in float32, which interpolate needs.
        want = torch.nn.functional.interpolate(panoptic.ids[None, None].float(), size=size, mode="nearest")
        assert torch.equal(panoptic.resize(*size).ids, want[0, 0].int())
        with pytest.raises(InvalidMapError, match="at least 1x1, got 0x5"):
            panoptic.resize(0, 5)

    def test_flip_exchanges_left_and_right(self):
        assert a_map("AB.").flip().ids.tolist() == [[0, 2, 1]]
        assert generated_map(0).flip().flip().equals(generated_map(0))

    @pytest.mark.parametrize("top", [-7, -4, -1, 0, 3, 5, 6, 9])
    @pytest.mark.parametrize("left", [-9, -2, 0, 4, 8, 20])
    def test_paste_lays_over_what_both_show(self, top, left):
        below, above = generated_map(1, (6, 8), objects=2, smallest=2), generated_map(2, (4, 5), objects=3, smallest=2)
        pasted = below.paste(above, top, left)
        for y in range(6):
            for x in range(8):
                on_top = 0
                if 0 <= y - top < 4 and 0 <= x - left < 5:
                    on_top = int(above.ids[y - top, x - left])
                want = on_top + below.num_segments if on_top else int(below.ids[y, x])
                assert pasted.ids[y, x] == want
        assert torch.equal(pasted.category, torch.cat([below.category, above.category]))

    def test_paste_keeps_scores_of_both_and_crowds_of_either(self):
        below, above = a_map("AA"), a_map("A", crowd="A")
        assert below.paste(above, 0, 0).crowd.tolist() == [False, True]
        assert below.paste(above, 0, 0).score is None
        assert scored(below, 0.5).paste(above, 0, 0).score is None
        assert below.paste(scored(above, 0.5), 0, 0).score is None
        assert scored(below, 0.5).paste(scored(above, 1.0), 0, 0).score.tolist() == [0.5, 1.0]

    def test_nothing_changes_the_map_it_came_from(self):
        panoptic = generated_map(5)
        before = panoptic.ids.clone()
        panoptic.paste(generated_map(6), 3, 3)
        panoptic.flip(), panoptic.resize(5, 5), panoptic.pad(200, 200), panoptic.compact()
        assert torch.equal(panoptic.ids, before)

    def test_to_moves_every_part(self):
        panoptic = scored(a_map("AB", crowd="A"), 0.5, 1.0)
        moved = panoptic.to("cpu")
        assert moved.equals(panoptic)
        assert torch.equal(moved.score, panoptic.score)


class TestStackMasks:
    def test_later_masks_are_on_top(self):
        masks = torch.tensor([[[1, 1, 0]], [[0, 1, 0]]], dtype=torch.bool)
        panoptic = stack_masks(masks, [7, 8])
        assert panoptic.ids.tolist() == [[1, 2, 0]]
        assert panoptic.category.tolist() == [7, 8]

    def test_masks_and_back(self):
        panoptic = generated_map(3).compact()
        assert stack_masks(panoptic.masks(), panoptic.category).equals(panoptic)
        assert stack_masks(torch.zeros(0, 2, 3, dtype=torch.bool), []).equals(PanopticMap.empty((2, 3)))

    def test_errors(self):
        with pytest.raises(InvalidMapError, match=r"masks as bool \[S, H, W\], got torch.float32 \[1, 2, 2\]"):
            stack_masks(torch.zeros(1, 2, 2), [0])
        with pytest.raises(InvalidMapError, match=r"one category for each of 1 masks, got \[2\]"):
            stack_masks(torch.zeros(1, 2, 2, dtype=torch.bool), [0, 1])


def test_generated_maps_follow_from_the_seed():
    assert generated_map(4, crowd=True).equals(generated_map(4, crowd=True))
    assert not generated_map(4).equals(generated_map(5))
    assert int(generated_map(4).category.max()) < len(SHAPES)
