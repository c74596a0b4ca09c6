"""Colors against Pillow's color management, and as seen with color vision deficiencies simulated by another method."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from maps import SHAPES, a_map
from PIL import Image, ImageCms

from panscape import Category, LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.visualize import category_colors, draw_segments, instances, segment_colors
from panscape.visualize.oklab import VISIONS, to_oklab

THING_COLORS = [(220, 20, 60), (0, 0, 142), (0, 60, 100), (255, 0, 0), (119, 11, 32), (0, 80, 100), (220, 220, 0)]

# The smallest OKLab distance between two categories, with normal vision and with any simulated deficiency. 0.02 is the
# difference that people just notice.
SMALLEST = {
    "camvid": (0.12, 0.08),
    "cityscapes": (0.08, 0.05),
    "aerial": (0.18, 0.09),
    "town": (0.10, 0.05),
    "bsb": (0.13, 0.07),
    "idd_26": (0.09, 0.05),
    "vistas_v1.2": (0.05, 0.03),
    "vistas_v2.0": (0.03, 0.015),
    "coco_panoptic": (0.03, 0.015),
    "ade20k_150": (0.025, 0.01),
}
# A thing and the stuff it usually stands on, or is seen before.
ON = {
    "camvid": [("car", "road"), ("pedestrian", "tree"), ("pedestrian", "pavement"), ("sign", "building")],
    "cityscapes": [("car", "road"), ("truck", "road"), ("person", "vegetation"), ("person", "sidewalk")],
    "aerial": [("building", "land"), ("building", "vegetation"), ("building", "road")],
    "bsb": [("vehicle", "street"), ("boat", "lake"), ("house", "permeable area")],
    "town": [("car", "road"), ("person", "pavement"), ("boat", "water"), ("tree", "vegetation")],
}


def to_lab(colors: np.ndarray) -> np.ndarray:
    """CIE Lab by Pillow's color management library, an independent reference."""
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    image = ImageCms.applyTransform(Image.fromarray(colors.reshape(1, -1, 3)), transform)
    lab = np.asarray(image).reshape(-1, 3).astype(float)
    return np.stack([lab[:, 0] / 2.55, *((lab[:, 1:].astype(np.uint8).view(np.int8)).astype(float).T)], axis=1)


def distances(colors: np.ndarray, vision: str = "normal") -> np.ndarray:
    lab = to_oklab(colors, vision)
    return np.linalg.norm(lab[:, None] - lab[None], axis=2) + 9 * np.eye(len(lab))


def seen_by_vienot(colors: np.ndarray, vision: str) -> np.ndarray:
    """Viénot, Brettel and Mollon, "Digital video colourmaps for checking ... displays by dichromats", 1999."""
    rgb_to_lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
    reduced = np.eye(3)
    if vision == "protanopia":
        reduced[0] = [0, 2.02344, -2.52581]
    else:
        reduced[1] = [0.494207, 0, 1.24827]
    linear = np.where(colors <= 10, colors / 255 / 12.92, ((colors / 255 + 0.055) / 1.055) ** 2.4)
    linear = (linear @ (np.linalg.inv(rgb_to_lms) @ reduced @ rgb_to_lms).T).clip(0, 1)
    return np.rint(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)).astype(
        np.uint8
    )


class TestOklab:
    def test_published_values(self):
        # Ottosson's own code, as in the CSS Color 4 specification.
        lab = to_oklab(np.array([(255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8))
        expected = [(1, 0, 0), (0.62796, 0.22486, 0.12585), (0.86644, -0.23389, 0.1795), (0.45201, -0.03246, -0.31153)]
        np.testing.assert_allclose(lab, expected, atol=2e-4)

    @pytest.mark.parametrize("vision", VISIONS)
    def test_greys_stay_grey(self, vision):
        lab = to_oklab(np.array([(v, v, v) for v in (0, 40, 128, 255)], np.uint8), vision)
        assert np.abs(lab[:, 1:]).max() < 0.002

    def test_the_colors_that_a_deficiency_confuses_come_close(self):
        red, green = np.array((190, 60, 40), np.uint8), np.array((106, 106, 40), np.uint8)
        blue, teal = np.array((60, 100, 200), np.uint8), np.array((30, 120, 120), np.uint8)
        for pair, vision in (((red, green), "deuteranopia"), ((blue, teal), "tritanopia")):
            near = np.linalg.norm(to_oklab(pair[0], vision) - to_oklab(pair[1], vision))
            assert near < 0.6 * np.linalg.norm(to_oklab(pair[0]) - to_oklab(pair[1]))


class TestPalette:
    @pytest.mark.parametrize("name", LabelSpace.bundled())
    def test_all_categories_are_distinct_for_every_vision(self, name):
        colors = category_colors(LabelSpace.load(name))
        normal, deficient = SMALLEST[name]
        assert distances(colors).min() >= normal
        for vision in VISIONS:
            assert distances(colors, vision).min() >= deficient

    @pytest.mark.parametrize("name", ["camvid", "cityscapes", "aerial", "town", "bsb"])
    @pytest.mark.parametrize("vision", ["protanopia", "deuteranopia"])
    def test_they_are_for_another_simulation_too(self, name, vision):
        seen = seen_by_vienot(category_colors(LabelSpace.load(name)).astype(float), vision)
        assert distances(seen).min() >= 0.04

    @pytest.mark.parametrize("name", ON)
    def test_things_stand_out_from_the_stuff_below(self, name):
        labels = LabelSpace.load(name)
        colors = category_colors(labels)
        for thing, stuff in ON[name]:
            pair = colors[[labels.index(thing), labels.index(stuff)]]
            assert distances(pair).min() >= 0.15, (thing, stuff)
            for vision in VISIONS:
                assert distances(pair, vision).min() >= 0.08, (thing, stuff, vision)

    def test_the_published_colors_hide_cars_on_roads_and_people_under_trees(self):
        labels = LabelSpace.load("camvid")
        published = category_colors(labels, "published")
        pair = [labels.index("pedestrian"), labels.index("tree")]
        assert distances(published, "deuteranopia").min() < 0.03
        assert distances(category_colors(labels)[pair]).min() > 1.2 * distances(published[pair]).min()

    @pytest.mark.parametrize(
        ("name", "water"), [("aerial", "water"), ("bsb", "lake"), ("town", "water"), ("vistas_v1.2", "Water")]
    )
    def test_water_is_blue_and_vegetation_green(self, name, water):
        labels = LabelSpace.load(name)
        plants = {"bsb": "permeable area", "vistas_v1.2": "Vegetation"}.get(name, "vegetation")
        for category, low, high in ((water, 210, 270), (plants, 100, 165)):
            _, a, b = to_oklab(category_colors(labels)[labels.index(category)])
            assert low <= np.degrees(np.arctan2(b, a)) % 360 <= high

    def test_things_are_more_vivid_than_stuff(self):
        for name in ("camvid", "cityscapes", "aerial", "town"):
            labels = LabelSpace.load(name)
            lab = to_oklab(category_colors(labels))
            chroma = np.hypot(lab[:, 1], lab[:, 2])
            assert chroma[list(labels.thing_ids)].mean() > 1.5 * chroma[list(labels.stuff_ids)].mean()

    def test_published_colors_are_those_of_the_label_space(self):
        for name in LabelSpace.bundled():
            labels = LabelSpace.load(name)
            assert category_colors(labels, "published").tolist() == [list(c.color) for c in labels]

    def test_a_category_is_found_by_the_end_or_the_beginning_of_its_name(self):
        def color(name: str, *, is_thing: bool = False) -> list[int]:
            return category_colors(LabelSpace("one", (Category(name, is_thing, 1, (9, 99, 9)),)))[0].tolist()

        assert color("road") == color("Main Road") == color("road, route") == color("street")
        assert color("sky-other-merged") == color("sky") != color("skyscraper")
        assert color("building", is_thing=True) != color("building")

    def test_a_caller_cannot_change_the_palette(self):
        category_colors(SHAPES)[:] = 0
        assert category_colors(SHAPES).any()

    def test_another_palette_is_refused(self):
        with pytest.raises(InvalidArgumentError, match=r'palette "distinct" or "published", got \'pretty\''):
            category_colors(SHAPES, "pretty")


class TestSegments:
    @pytest.mark.parametrize("color", THING_COLORS)
    def test_things_in_a_row_are_distinct_and_keep_their_hue(self, color):
        ids = torch.arange(1, 25, dtype=torch.int32).repeat_interleave(4)[None].expand(8, -1).contiguous()
        labels = LabelSpace("one", (Category("thing", True, 1, color),))
        lab = to_lab(segment_colors(PanopticMap(ids, torch.zeros(24, dtype=torch.int64)), labels, "published"))
        for a, b in itertools.pairwise(lab):
            assert np.linalg.norm(a - b) > 6  # 2.3 is the difference that people just notice
        turn = np.degrees(np.arctan2(lab[:, 2], lab[:, 1]))
        turn = np.degrees(np.angle(np.exp(1j * np.radians(turn - turn[0]))))
        assert np.abs(turn[np.hypot(lab[:, 1], lab[:, 2]) > 20]).max() < 45

    @pytest.mark.parametrize("name", ["camvid", "aerial", "cityscapes"])
    def test_a_mosaic_of_things_has_no_two_alike_neighbours(self, name):
        labels = LabelSpace.load(name)
        g = torch.Generator().manual_seed(4)
        points = torch.rand(60, 2, generator=g) * 200
        y, x = torch.meshgrid(torch.arange(200.0), torch.arange(200.0), indexing="ij")
        nearest = torch.stack([(y - a) ** 2 + (x - b) ** 2 for a, b in points]).argmin(0)
        result = PanopticMap((nearest + 1).int(), torch.full((60,), labels.thing_ids[0]))
        lab = to_oklab(segment_colors(result, labels))
        ids = nearest.numpy()
        touching = {
            *zip(ids[1:].ravel(), ids[:-1].ravel(), strict=True),
            *zip(ids[:, 1:].ravel(), ids[:, :-1].ravel(), strict=True),
        }
        apart = [np.linalg.norm(lab[a] - lab[b]) for a, b in touching if a != b]
        assert len(apart) > 120
        assert np.quantile(apart, 0.02) > 0.03
        assert min(apart) > 0

    def test_stuff_and_the_first_thing_have_the_colour_of_their_category(self):
        truth = a_map("AABB\nCCDD\nCCEE", {"A": 0, "B": 1, "C": 2, "D": 2, "E": 3})
        for palette in ("distinct", "published"):
            colors, own = segment_colors(truth, SHAPES, palette), category_colors(SHAPES, palette)
            for row, category in ((0, 0), (1, 1), (2, 2), (4, 3)):
                assert np.array_equal(colors[row], own[category])
            assert not np.array_equal(colors[3], own[2])

    def test_a_map_without_segments(self):
        assert segment_colors(PanopticMap.empty((2, 2)), SHAPES).shape == (0, 3)

    def test_a_map_of_another_label_space_is_refused(self):
        with pytest.raises(InvalidArgumentError, match=r"categories of 'shapes', 0\.\.3, got 4"):
            draw_segments(a_map("A", {"A": 4}), SHAPES)


def test_neighbours_are_the_pairs_of_a_category_within_three_pixels():
    generator = np.random.default_rng(0)
    ids = np.repeat(np.repeat(generator.integers(0, 9, (20, 30)), 3, 0), 2, 1).astype(np.int32)
    category = np.array([0, 0, 1, 1, 2, 0, 1, 0])
    result = PanopticMap(torch.from_numpy(ids), torch.from_numpy(category))
    expected = set()
    for y, x in np.ndindex(ids.shape):
        for step_y, step_x in ((0, 1), (1, 0), (1, 1), (1, -1)):
            for step in (1, 2, 3):
                to = (y + step * step_y, x + step * step_x)
                if to[0] < ids.shape[0] and 0 <= to[1] < ids.shape[1]:
                    a, b = ids[y, x], ids[to]
                    if a != b and 0 not in (a, b) and category[a - 1] == category[b - 1]:
                        expected |= {(a - 1, b - 1), (b - 1, a - 1)}
    found = instances._neighbours(result.arrays(), category)
    assert {(a, b) for a, others in found.items() for b in others} == expected
    assert len(expected) == 18
