"""Drawings: blending and lines against brute force, text and legends by layout, torchvision's flow wheel."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from maps import SHAPES, a_map, generated_map
from PIL import Image, ImageCms, ImageDraw
from scipy import ndimage

from panscape import Category, LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.visualize import (
    category_colors,
    draw,
    draw_heatmap,
    draw_offsets,
    draw_segments,
    draw_semantic,
    make_grid,
    segment_colors,
)
from panscape.visualize.blend import blend
from panscape.visualize.names import _deepest
from panscape.visualize.outlines import draw_outlines, outline_width
from panscape.visualize.text import ink_on, text_size

CAMVID = Path("../shared/data/camvid")


def a_image(size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def to_lab(colors: np.ndarray) -> np.ndarray:
    """CIE Lab by Pillow's color management library, an independent reference."""
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    image = ImageCms.applyTransform(Image.fromarray(colors.reshape(1, -1, 3)), transform)
    lab = np.asarray(image).reshape(-1, 3).astype(float)
    return np.stack([lab[:, 0] / 2.55, *((lab[:, 1:].astype(np.uint8).view(np.int8)).astype(float).T)], axis=1)


class TestDraw:
    @pytest.mark.parametrize("opacity", [0.0, 0.3, 0.5, 1.0])
    def test_blend_is_that_of_real_numbers(self, opacity):
        truth, image = generated_map(3), a_image((96, 128))
        drawn = draw(image, truth, SHAPES, opacity=opacity, outlines=False, names="none")
        colors = torch.from_numpy(segment_colors(truth, SHAPES)).double()
        expected = image.double()
        void = truth.ids == 0
        assert void.any()
        for row in range(truth.num_segments):
            mask = truth.ids == row + 1
            expected[:, mask] = (1 - opacity) * expected[:, mask] + opacity * colors[row][:, None]
        assert drawn.dtype == torch.uint8
        assert (drawn.double() - expected)[:, ~void].abs().max() <= 1.0
        assert torch.equal(drawn[:, void], image[:, void]) == (opacity == 0)

    def test_the_arguments_stay_as_they_were(self):
        truth, image = generated_map(1), a_image((96, 128))
        before = image.clone(), truth.ids.clone()
        draw(image, truth, SHAPES)
        assert torch.equal(image, before[0])
        assert torch.equal(truth.ids, before[1])

    def test_an_outline_is_light_inside_a_thing_and_dark_around_it(self):
        truth = a_map("AAAAAAA\nAAAAAAA\nAACCCAA\nAACCCAA\nAACCCAA\nAAAAAAA\nAAAAAAA", {"A": 1, "C": 2})
        grey = torch.full((3, 7, 7), 128, dtype=torch.uint8)
        drawn = draw(grey, truth, SHAPES, opacity=0, names="none")[0]
        ring = torch.zeros(7, 7, dtype=torch.bool)
        ring[2:5, 2:5] = True
        ring[3, 3] = False
        around = torch.zeros(7, 7, dtype=torch.bool)
        around[1, 2:5] = around[5, 2:5] = around[2:5, 1] = around[2:5, 5] = True
        assert (drawn[ring] > 220).all()
        assert (drawn[around] < 60).all()
        assert (drawn[~(ring | around)] == 128).all()

    @pytest.mark.parametrize("seed", range(4))
    def test_outlines_touch_boundaries_and_nothing_else(self, seed):
        truth, image = generated_map(seed), torch.full((3, 96, 128), 128, dtype=torch.uint8)
        changed = (draw(image, truth, SHAPES, opacity=0, names="none") != 128).any(0)
        ids = truth.ids
        boundary = torch.zeros_like(changed)
        for y, x in itertools.product(range(96), range(128)):
            for v, u in ((y + 1, x), (y, x + 1)):
                if v < 96 and u < 128 and ids[v, u] != ids[y, x]:
                    boundary[y, x] = boundary[v, u] = True
                    assert changed[y, x] or changed[v, u]
        assert not changed[~boundary].any()

    def test_outlines_grow_with_the_image(self):
        def line(side: int) -> int:
            ids = torch.ones(side, side, dtype=torch.int32)
            ids[:, side // 2 :] = 2
            truth = PanopticMap(ids, torch.tensor([0, 2]))
            image = torch.full((3, side, side), 128, dtype=torch.uint8)
            return int((draw(image, truth, SHAPES, opacity=0, names="none")[0, 0] != 128).sum())

        assert line(64) == 2
        assert line(3000) == 8

    def test_lines_and_text_are_bounded_on_extreme_images(self):
        assert outline_width(32, 1_048_576) == 1  # a share of the root of the area would be 7, of the longer side 1300
        assert text_size(32, 1_048_576) == 11
        assert text_size(20_000, 20_000) == 72
        sizes = {(480, 360): 11, (720, 1280): 19, (1024, 2048): 29, (1365, 2048): 33}
        assert {size: text_size(*size) for size in sizes} == sizes

    def test_an_image_of_another_size_or_type_is_refused(self):
        truth = generated_map(0)
        with pytest.raises(InvalidArgumentError, match="of the map's size 96x128, got 96x127"):
            draw(a_image((96, 127)), truth, SHAPES)
        with pytest.raises(InvalidArgumentError, match=r"\[3, H, W\], uint8 or floating in 0\.\.1, got int64"):
            draw(a_image((96, 128)).long(), truth, SHAPES)
        with pytest.raises(InvalidArgumentError, match=r"opacity from 0 to 1, got 1\.5"):
            draw(a_image((96, 128)), truth, SHAPES, opacity=1.5)

    def test_images_of_all_kinds_and_the_labels_of_the_map(self, tmp_path):
        image, truth = a_image((96, 128)), replace(generated_map(0), labels=SHAPES)
        pixels = image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / "image.png")
        expected = draw(image, replace(truth, labels=None), SHAPES)
        sources = (str(tmp_path / "image.png"), tmp_path / "image.png", Image.fromarray(pixels), pixels, image / 255)
        for source in (*sources, image):
            assert torch.equal(draw(source, truth), expected)
        other = draw(image, truth, LabelSpace.load("cityscapes"))
        assert not torch.equal(other, expected)  # given labels come first
        assert torch.equal(other, draw(image, truth, "cityscapes"))
        assert torch.equal(draw_segments(truth), draw_segments(truth, SHAPES))
        with pytest.raises(InvalidArgumentError, match=r"expected labels, as the map has none; .* model\.labels"):
            draw_segments(replace(truth, labels=None))
        with pytest.raises(InvalidArgumentError, match="expected a PanopticMap to draw, got Tensor"):
            draw(truth, image)

    def test_one_pixel_and_empty_maps_can_be_drawn(self):
        image = a_image((1, 1))
        assert draw(image, a_map("C", {"C": 2}), SHAPES).shape == (3, 1, 1)
        assert draw(image, PanopticMap.empty((1, 1)), SHAPES, legend=True).shape == (3, 1, 1)

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"min_score": 1.5}, r"a min_score from 0 to 1, got 1\.5"),
            ({"opacity": "a"}, "an opacity from 0 to 1, got 'a'"),
            ({"names": "all"}, 'names as one of "none", "category", "segment", got \'all\''),
            ({"palette": "pretty"}, 'the palette "distinct" or "published", got \'pretty\''),
        ],
    )
    def test_unknown_options_are_refused(self, option, message):
        with pytest.raises(InvalidArgumentError, match=message):
            draw(a_image((1, 1)), PanopticMap.empty((1, 1)), SHAPES, **option)


class TestFastPaths:
    """The compiled passes over the pixels against whole-array NumPy: equal in every pixel."""

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("opacity", [0.0, 0.37, 1.0])
    def test_blending(self, seed, opacity):
        truth, image = generated_map(seed), a_image((96, 128), seed)
        colors = np.random.default_rng(seed).integers(0, 256, (len(truth) + 1, 3)).astype(np.uint8)
        strength = np.linspace(0, opacity, len(truth) + 1)
        ids, share = truth.ids.numpy(), np.rint(256 * strength).astype(int)[:, None]
        expected = (image.permute(1, 2, 0).numpy() * (256 - share)[ids] + (colors * share + 128)[ids]) >> 8
        assert np.array_equal(blend(image.numpy(), ids, colors, strength), expected)

    @pytest.mark.parametrize(("seed", "scale"), [(0, 1), (1, 1), (2, 9), (3, 18)])
    def test_outlines(self, seed, scale):
        size = 96 * scale, 128 * scale
        truth, image = generated_map(seed).resize(*size), a_image(size, seed)
        strength = np.random.default_rng(seed).random(len(truth))
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        rank = np.arange(len(truth) + 1)
        rank[1:] += [len(truth) * SHAPES[c].is_thing for c in truth.category.tolist()]
        field = rank[truth.ids.numpy()]
        low, high = field.copy(), field.copy()
        for step in range(1, outline_width(*size) + 1):
            for pick, extreme in ((np.minimum, low), (np.maximum, high)):
                extreme[step:] = pick(extreme[step:], field[:-step])
                extreme[:-step] = pick(extreme[:-step], field[step:])
                extreme[:, step:] = pick(extreme[:, step:], field[:, :-step])
                extreme[:, :-step] = pick(extreme[:, :-step], field[:, step:])
        of_rank = np.zeros(2 * len(truth) + 1)
        of_rank[rank[1:]] = strength
        is_dark = (high > field) & (high > len(truth))
        is_light = (field > len(truth)) & (low < field) & ~is_dark
        opacity = np.where(is_dark, 0.65 * of_rank[high], np.where(high > field, 0.4, 0.0))
        opacity = np.where(is_light, 0.82 * of_rank[field], opacity)
        share = np.rint(256 * opacity).astype(int)[..., None]
        expected = (pixels * (256 - share) + 255 * is_light[..., None] * share) >> 8
        draw_outlines(pixels, truth.arrays(), SHAPES, strength)
        assert np.array_equal(pixels, expected)

    @pytest.mark.parametrize("seed", range(4))
    def test_names_are_anchored_at_the_pixel_that_survives_most_erosions(self, seed):
        ids = generated_map(seed, (64, 80)).ids.numpy()
        expected = np.full(ids.max() + 1, -1)
        for value in range(len(expected)):
            mask, depth = ids == value, np.zeros(ids.shape, int)
            while mask.any():
                depth += mask
                mask = ndimage.binary_erosion(mask)
            if depth.any():
                expected[value] = np.flatnonzero(depth == depth.max())[-1]
        assert np.array_equal(_deepest(ids), expected)


class TestScores:
    TRUTH = a_map("AACCDDEE", {"A": 0, "C": 2, "D": 2, "E": 3})

    def drawn(self, **options) -> torch.Tensor:
        result = PanopticMap(self.TRUTH.ids, self.TRUTH.category, torch.tensor([0.1, 0.2, 0.8, 0.3]))
        options = {"outlines": False, "names": "none"} | options
        return draw(torch.full((3, 1, 8), 128, dtype=torch.uint8), result, SHAPES, **options)[:, 0].double()

    def test_things_fade_with_low_scores_and_stuff_does_not(self):
        colors = torch.from_numpy(segment_colors(self.TRUTH, SHAPES)).double()
        strength = (self.drawn()[:, ::2] - 128) / (colors.T - 128)
        for row, expected in enumerate((0.5, 0.5 * 0.64, 0.5, 0.5 * 0.76)):
            assert strength[:, row].isclose(torch.tensor(expected, dtype=torch.double), atol=0.03).all()

    def test_outlines_fade_too(self):
        lines = self.drawn(opacity=0, outlines=True)[0]
        assert 128 < lines[2] < lines[4] - 20  # the light lines of scores 0.2 and 0.8

    def test_things_below_the_smallest_score_are_void(self):
        hidden, void = self.drawn(min_score=0.25), self.drawn(min_score=1.0)
        assert torch.equal(hidden[:, :2], self.drawn()[:, :2])  # stuff has no score of its own
        assert torch.equal(hidden[:, 2:4], void[:, 2:4])
        assert torch.equal(hidden[:, 4:], self.drawn()[:, 4:])


class TestVoid:
    def test_it_is_grey_with_lines_and_differs_from_all_colors(self):
        image = a_image((60, 60))
        drawn = draw(image, PanopticMap.empty((60, 60)), SHAPES, opacity=1.0)
        assert torch.equal(drawn[0], drawn[1])
        assert torch.equal(drawn[0], drawn[2])
        line = drawn[0] == 225
        assert 0.1 < line.double().mean() < 0.3
        assert drawn[0][~line].max() <= 158

    def test_without_opacity_it_shows_the_image(self):
        image = a_image((9, 9))
        assert torch.equal(draw(image, PanopticMap.empty((9, 9)), SHAPES, opacity=0), image)


class TestLegend:
    def test_it_lists_what_is_there_and_void(self, monkeypatch):
        texts = []
        monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda pen, xy, what, **kwargs: texts.append(what))
        ids = torch.zeros(200, 400, dtype=torch.int32)
        ids[:100], ids[100:150], ids[150:, :100], ids[160:, 100:150] = 1, 2, 3, 4
        image = a_image((200, 400))
        result = PanopticMap(ids, torch.tensor([0, 1, 3, 3]), torch.tensor([1.0, 1.0, 0.9, 0.4]))
        drawn = draw(image, result, SHAPES, names="none", legend=True)
        assert texts == ["box (2)", "sky", "ground", "void"]
        assert torch.equal(drawn[:, :200], draw(image, result, SHAPES, names="none"))
        strip = drawn[:, 200:].flatten(1).T.tolist()
        for category in (0, 1, 3):
            assert category_colors(SHAPES)[category].tolist() in strip
        assert category_colors(SHAPES)[2].tolist() not in strip
        texts.clear()
        draw(image, result, SHAPES, names="none", legend=True, min_score=0.5)
        assert texts == ["box", "sky", "ground", "void, or score below 0.50"]

    def test_entries_wrap_and_stay_inside(self):
        truth = a_map("ABCD", {"A": 0, "B": 1, "C": 2, "D": 3}).resize(120, 120)
        wide, narrow = (draw(a_image(s), truth.resize(*s), SHAPES, legend=True) for s in ((120, 800), (120, 130)))
        assert wide.shape[1] - 120 < narrow.shape[1] - 120
        assert (narrow[:, 120:, -1] == 255).all()

    def test_an_image_too_narrow_has_none(self):
        assert draw(a_image((500, 40)), generated_map(0, (500, 40)), SHAPES, legend=True).shape == (3, 500, 40)


class TestNames:
    @pytest.fixture
    def written(self, monkeypatch):
        """The boxes, texts and colors of the labels that were drawn."""
        boxes, texts, fills = [], [], []

        def keep(pixels, box, text, size, color):
            left, top, right, bottom = box
            boxes.append((left, top, right - 1, bottom - 1))
            texts.append(text)
            fills.append(color)

        monkeypatch.setattr("panscape.visualize.names._write_label", keep)
        return boxes, texts, fills

    @pytest.mark.parametrize("seed", range(6))
    def test_labels_keep_apart_and_inside(self, seed, written):
        truth = generated_map(seed, (360, 480), objects=40)
        draw(a_image((360, 480)), truth, SHAPES, names="segment")
        boxes, _, _ = written
        assert len(boxes) >= 3
        for left, top, right, bottom in boxes:
            assert 0 <= left < right < 480
            assert 0 <= top < bottom < 360
        for a, b in itertools.combinations(boxes, 2):
            assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]

    def test_the_largest_come_first_and_specks_get_none(self, written):
        ids = torch.ones(360, 480, dtype=torch.int32)
        ids[20:120, 20:220], ids[200:340, 20:460], ids[150:154, 300:304] = 2, 3, 4
        truth = PanopticMap(ids, torch.tensor([0, 2, 3, 2]), torch.tensor([0.5, 0.123, 1.0, 0.9]))
        draw(a_image((360, 480)), truth, SHAPES, names="segment")
        assert written[1] == ["sky", "box 1.00", "disc 0.12"]  # stuff has no score of its own

    def test_a_wire_too_thin_for_a_name_takes_none_from_smaller_segments(self, written):
        ids = torch.ones(1024, 2048, dtype=torch.int32)
        ids[3:6], ids[400:460, 500:560], ids[700:740, 900:940] = 2, 3, 4  # areas: 6144, 3600 and 1600
        draw_segments(PanopticMap(ids, torch.tensor([0, 1, 2, 3])), SHAPES, names="segment")
        assert written[1] == ["sky", "disc", "box"]

    def test_truth_has_names_without_scores_and_marks_crowds(self, written):
        ids = torch.ones(100, 200, dtype=torch.int32)
        draw_segments(PanopticMap(ids, torch.tensor([2]), None, torch.tensor([True])), SHAPES, names="segment")
        assert written[1] == ["disc (crowd)"]

    def test_a_label_lies_on_its_segment(self, written):
        ids = torch.zeros(200, 300, dtype=torch.int32)
        ids[:40], ids[40:, :30], ids[40:, 170:] = 1, 1, 1  # the middle of all its pixels is not its own
        draw_segments(PanopticMap(ids, torch.tensor([0])), SHAPES, names="segment")
        left, top, right, bottom = written[0][0]
        assert ids[(top + bottom) // 2, (left + right) // 2] == 1

    def test_one_name_a_category_with_the_number_of_things(self, written):
        ids = torch.ones(360, 480, dtype=torch.int32)
        ids[20:120, 20:220], ids[200:340, 20:460], ids[20:120, 240:440] = 2, 3, 4
        draw_segments(PanopticMap(ids, torch.tensor([0, 2, 3, 2])), SHAPES, names="category")
        assert written[1] == ["sky", "box", "disc (2)"]
        assert written[2] == [tuple(color) for color in category_colors(SHAPES)[[0, 3, 2]].tolist()]

    @pytest.mark.parametrize("names", ["category", "segment"])
    def test_names_hide_little_of_any_of_66_small_roofs(self, names, written):
        ids = torch.ones(600, 900, dtype=torch.int32)
        for i in range(66):
            y, x = 20 + i // 11 * 95, 15 + i % 11 * 80
            ids[y : y + 40, x : x + 60] = i + 2
        result = PanopticMap(ids, torch.tensor([0] + [3] * 66), torch.full((67,), 0.5))
        draw(a_image((600, 900)), result, SHAPES, names=names)
        hidden = torch.zeros(68)
        for left, top, right, bottom in written[0]:
            hidden += torch.bincount(ids[top : bottom + 1, left : right + 1].flatten(), minlength=68)
        share = hidden[1:] / torch.bincount(ids.flatten(), minlength=68)[1:]
        assert share.max() <= 0.3
        assert hidden.sum() < 0.25 * ids.numel()
        if names == "category":
            assert written[1] == ["sky", "box (66)"]
        else:
            assert written[1].count("box 0.50") >= 20

    @pytest.mark.parametrize("color", [(r, g, b) for r in (0, 90, 255) for g in (0, 90, 255) for b in (0, 90, 255)])
    def test_text_has_the_contrast_of_wcag(self, color):
        def luminance(rgb) -> float:
            value = np.array(rgb) / 255
            return float(
                np.where(value <= 0.03928, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
            )

        low, high = sorted([luminance(color), luminance(ink_on(color))])
        assert (high + 0.05) / (low + 0.05) >= 4.5

    def test_an_image_too_small_for_text_has_none(self, written):
        draw_segments(a_map("AA\nAA"), SHAPES, names="segment")
        assert written[0] == []


class TestSemantic:
    def test_each_pixel_has_its_categorys_colour_and_others_are_black(self):
        drawn = draw_semantic(torch.tensor([[0, 3], [255, -1]]), SHAPES, palette="published")
        assert [tuple(p) for p in drawn.flatten(1).T.tolist()] == [(70, 130, 180), (0, 0, 142), (0, 0, 0), (0, 0, 0)]

    def test_logits_are_refused(self):
        with pytest.raises(InvalidArgumentError, match=r"integers \[H, W\], got torch\.float32 \[4, 2, 2\]"):
            draw_semantic(torch.rand(4, 2, 2), SHAPES)


class TestHeatmap:
    def test_hotter_is_lighter(self):
        drawn = draw_heatmap(torch.linspace(0, 1, 64)[None])
        lightness = to_lab(drawn[:, 0].T.contiguous().numpy())[:, 0]
        assert lightness[0] < 3
        assert lightness[-1] > 97
        assert (np.diff(lightness) > -0.5).all()  # Pillow's Lab has 8 bits
        assert (np.diff(lightness[::8]) > 3).all()

    def test_positions_outside_are_clamped(self):
        drawn = draw_heatmap(torch.tensor([[-3.0, 0.0, float("nan")], [7.0, 1.0, float("inf")]]))
        assert torch.equal(drawn[:, 0, 0], drawn[:, 0, 1])
        assert torch.equal(drawn[:, 0, 2], drawn[:, 0, 1])
        assert torch.equal(drawn[:, 1, 0], drawn[:, 1, 1])
        assert torch.equal(drawn[:, 1, 2], drawn[:, 1, 1])

    def test_over_an_image_cold_is_grey_and_hot_glows(self):
        image = torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None].expand(3, 1, 2).contiguous()
        drawn = draw_heatmap(torch.tensor([[0.0, 1.0]]), image)
        assert len(set(drawn[:, 0, 0].tolist())) == 1
        assert torch.equal(drawn[:, 0, 1], draw_heatmap(torch.ones(1, 1))[:, 0, 0])
        with pytest.raises(InvalidArgumentError, match="of the heatmap's size"):
            draw_heatmap(torch.ones(2, 2), image)


class TestOffsets:
    def test_agrees_with_torchvision(self):
        flow_to_image = pytest.importorskip("torchvision.utils").flow_to_image
        offset = 40 * torch.randn(2, 60, 80, generator=torch.Generator().manual_seed(0))
        peer = flow_to_image(offset.flip(0))  # it takes x before y
        assert (draw_offsets(offset).int() - peer.int()).abs().max() <= 1

    @pytest.mark.parametrize(
        ("y", "x", "color"),
        [
            (0.0, 1.0, (255, 0, 0)),
            (0.0, 0.0, (255, 255, 255)),
            # Where the six parts of 15, 6, 4, 11, 13 and 6 colours begin, on a circle of 54 steps.
            (np.sin(2 * np.pi * 15 / 54), np.cos(2 * np.pi * 15 / 54), (255, 255, 0)),
            (np.sin(2 * np.pi * 21 / 54), np.cos(2 * np.pi * 21 / 54), (0, 255, 0)),
            (np.sin(2 * np.pi * 25 / 54), np.cos(2 * np.pi * 25 / 54), (0, 255, 255)),
            (np.sin(2 * np.pi * 36 / 54), np.cos(2 * np.pi * 36 / 54), (0, 0, 255)),
            (np.sin(2 * np.pi * 49 / 54), np.cos(2 * np.pi * 49 / 54), (255, 0, 255)),
        ],
    )
    def test_the_published_wheel(self, y, x, color):
        drawn = draw_offsets(torch.tensor([y, x], dtype=torch.float32)[:, None, None], reach=1.0)
        assert np.abs(drawn[:, 0, 0].numpy().astype(int) - color).max() <= 1

    def test_reach_saturates_and_darkens_beyond(self):
        drawn = draw_offsets(torch.tensor([[[0.0, 0.0, 0.0]], [[5.0, 10.0, 20.0]]]), reach=10.0)
        assert drawn[:, 0, 1].tolist() == [255, 0, 0]
        assert drawn[:, 0, 2].tolist() == [191, 0, 0]
        assert drawn[:, 0, 0].tolist() == [255, 127, 127]

    def test_the_mask_is_black_and_does_not_count_for_the_reach(self):
        offset = torch.tensor([[[0.0, 0.0]], [[1.0, 1000.0]]])
        drawn = draw_offsets(offset, torch.tensor([[True, False]]))
        assert drawn[:, 0, 0].tolist() == [255, 0, 0]
        assert drawn[:, 0, 1].tolist() == [0, 0, 0]
        assert not draw_offsets(offset, torch.zeros(1, 2, dtype=torch.bool)).any()

    def test_wrong_arguments_are_refused(self):
        with pytest.raises(InvalidArgumentError, match=r"float \[2, H, W\]"):
            draw_offsets(torch.zeros(3, 4, 4))
        with pytest.raises(InvalidArgumentError, match=r"mask as bool \[4, 4\], got torch\.bool \[4, 5\]"):
            draw_offsets(torch.zeros(2, 4, 4), torch.ones(4, 5, dtype=torch.bool))
        with pytest.raises(InvalidArgumentError, match="positive reach"):
            draw_offsets(torch.zeros(2, 4, 4), reach=0.0)


class TestSideBySide:
    def test_every_image_is_there_whole_in_reading_order(self):
        images = [torch.full((3, 40, 60), value, dtype=torch.uint8) for value in (10, 90, 170)]
        sheet = make_grid(images, columns=2)[0]
        corners = []
        for value in (10, 90, 170):
            y, x = torch.nonzero(sheet == value, as_tuple=True)
            assert len(y) == 40 * 60
            corners.append((int(y.min()), int(x.min())))
        assert corners[0][0] == corners[1][0] < corners[2][0]
        assert corners[0][1] == corners[2][1] < corners[1][1]

    def test_a_smaller_image_is_centred(self):
        sheet = make_grid([torch.zeros(3, 20, 20, dtype=torch.uint8), torch.full((3, 40, 60), 9, dtype=torch.uint8)])
        y, x = torch.nonzero(sheet[0] == 0, as_tuple=True)
        other_y, _ = torch.nonzero(sheet[0] == 9, as_tuple=True)
        assert y.float().mean() == other_y.float().mean()
        assert len(x) == 400

    def test_titles_stay_above_and_inside_their_column(self):
        images = [torch.full((3, 40, 60), 10, dtype=torch.uint8)] * 2
        sheet = make_grid(images, ["a title much longer than the image is wide", ""])[0]
        y, x = torch.nonzero((sheet != 10) & (sheet != 246), as_tuple=True)
        assert len(y) > 50
        y_image, x_image = torch.nonzero(sheet == 10, as_tuple=True)
        assert y.max() < y_image.min()
        assert x.max() <= x_image.min() + 60

    def test_wrong_arguments_are_refused(self):
        image = torch.zeros(3, 4, 4, dtype=torch.uint8)
        with pytest.raises(InvalidArgumentError, match="at least one image"):
            make_grid([])
        with pytest.raises(InvalidArgumentError, match="expected 1 titles"):
            make_grid([image], ["a", "b"])
        with pytest.raises(InvalidArgumentError, match="at least one column"):
            make_grid([image], columns=0)


@pytest.mark.real_data
@pytest.mark.skipif(not CAMVID.is_dir(), reason="the developers' data folder is not here")
def test_a_real_annotation_keeps_every_pixels_colour():
    label = np.asarray(Image.open(min((CAMVID / "labels/val").glob("*.png"))))
    labels = LabelSpace("eleven", tuple(Category(str(i), i in (8, 9), i, (20 * i, 255 - i, i)) for i in range(11)))
    present = [int(v) for v in np.unique(label) if v < 11]
    ids = torch.zeros(label.shape, dtype=torch.int32)
    for row, value in enumerate(present, start=1):
        ids[torch.from_numpy(label == value)] = row
    truth = PanopticMap(ids, torch.tensor(present))
    drawn = draw_segments(truth, labels, outlines=False, palette="published").permute(1, 2, 0).numpy()
    expected = np.zeros_like(drawn)
    for value in present:
        expected[label == value] = labels[value].color
    assert np.array_equal(drawn, expected)
