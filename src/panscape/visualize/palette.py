"""Colors of categories: a palette of distinguishable colors, or the colors of the label space."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from panscape.errors import InvalidArgumentError
from panscape.labels import Category, LabelSpace
from panscape.visualize.oklab import VISIONS, Colors, to_oklab

Palette = Literal["distinct", "published"]
"""Whose colours are drawn: ours, chosen for distance, or those of the dataset's authors."""

# Colors of common categories: lightness, chroma and hue in degrees, in OKLab. Stuff is muted, things are vivid. The
# first ones are the most certain of their color.
_COMMON = [
    (key, np.array([lightness, chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))]))
    for key, (lightness, chroma, hue) in {
        ("sky", False): (0.90, 0.05, 230),
        ("road", False): (0.49, 0.11, 312),
        ("vegetation", False): (0.55, 0.13, 142),
        ("water", False): (0.56, 0.13, 240),
        ("person", True): (0.62, 0.24, 25),
        ("car", True): (0.58, 0.22, 262),
        ("building", False): (0.70, 0.06, 60),
        ("building", True): (0.66, 0.20, 40),
        ("sidewalk", False): (0.76, 0.10, 345),
        ("ground", False): (0.87, 0.06, 85),
        ("terrain", False): (0.84, 0.11, 118),
        ("traffic sign", True): (0.90, 0.18, 100),
        ("rider", True): (0.76, 0.17, 62),
        ("bicycle", True): (0.70, 0.23, 345),
        ("motorcycle", True): (0.62, 0.24, 310),
        ("bus", True): (0.80, 0.14, 190),
        ("truck", True): (0.42, 0.20, 268),
        ("train", True): (0.70, 0.18, 150),
        ("boat", True): (0.72, 0.19, 45),
        ("vegetation", True): (0.72, 0.21, 142),
        ("pool", True): (0.84, 0.13, 215),
        ("traffic light", True): (0.80, 0.23, 128),
        ("animal", True): (0.58, 0.14, 60),
        ("wall", False): (0.47, 0.08, 40),
        ("fence", False): (0.66, 0.08, 190),
        ("pole", False): (0.96, 0.02, 100),
        ("snow", False): (0.97, 0.01, 220),
    }.items()
]
_RANKS = {key: rank for rank, (key, _) in enumerate(_COMMON)}
_SYNONYMS = {
    "river": "water",
    "lake": "water",
    "sea": "water",
    "street": "road",
    "pavement": "sidewalk",
    "house": "building",
    "tree": "vegetation",
    "grass": "terrain",
    "permeable area": "terrain",
    "land": "ground",
    "dirt": "ground",
    "sand": "ground",
    "pedestrian": "person",
    "bicyclist": "rider",
    "vehicle": "car",
    "sign": "traffic sign",
}
_DARKEST = 0.36  # lightness; void and outlines are darker
_ENOUGH = 0.14  # OKLab distance; a larger one is not worth a color that fits the category less
_LOYALTY = (0.1, 0.4)  # distance to be gained per distance from the color of another or a common category


def category_colors(labels: LabelSpace, palette: Palette = "distinct") -> Colors:
    """Return the color of every category, uint8 [C, 3].

    The palette "distinct" is computed from names, in order of the label space. Common categories keep the color that a
    viewer expects (water is blue, vegetation green), others that of the label space, unless it is too close to an
    earlier one: the distance in OKLab counts, for normal vision and for simulated protanopia, deuteranopia and
    tritanopia. Things are more vivid than stuff.

    Args:
        labels: label space.
        palette: "distinct", or "published" for the colors of the label space.

    Raises:
        InvalidArgumentError: there is no such palette.
    """
    if palette not in get_args(Palette):
        known = " or ".join(f'"{name}"' for name in get_args(Palette))
        raise InvalidArgumentError(f"expected the palette {known}, got {palette!r}")
    return np.array([c.color for c in labels], np.uint8) if palette == "published" else _distinct(labels).copy()


@lru_cache(maxsize=32)
def _distinct(labels: LabelSpace) -> Colors:
    levels = np.arange(0, 256, 15)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3).astype(np.uint8)
    seen = {vision: to_oklab(candidates, vision) for vision in VISIONS}
    lightness, chroma = seen["normal"][:, 0], np.hypot(seen["normal"][:, 1], seen["normal"][:, 2])
    colors = np.zeros((len(labels), 3), np.uint8)
    distance = np.full(len(candidates), np.inf)  # to the nearest color that is taken
    for rank, i in sorted((_rank(category), i) for i, category in enumerate(labels)):
        is_common, category = rank < len(_COMMON), labels[i]
        wanted = _COMMON[rank][1] if is_common else to_oklab(np.array(category.color, np.uint8))
        unfit = np.linalg.norm(seen["normal"] - wanted, axis=1)
        unfit += np.maximum(0, 0.12 - chroma if category.is_thing else chroma - 0.14)
        unfit += 4 * np.maximum(0, _DARKEST - lightness)
        best = int(np.argmax(np.minimum(distance, _ENOUGH) - _LOYALTY[is_common] * unfit))
        colors[i] = candidates[best]
        for vision, lab in seen.items():
            weight = 1.0 if vision == "normal" else 1.6
            distance = np.minimum(distance, weight * np.linalg.norm(lab - lab[best], axis=1))
    return colors


def _rank(category: Category) -> int:
    """Return the index of the entry of ``_COMMON`` for the longest known name that ends or begins the category's name.

    Categories without one have the length of ``_COMMON``.
    """
    words = re.findall(r"[a-z]+", category.name.lower())
    for size in range(len(words), 0, -1):
        for part in (words[-size:], words[:size]):
            name = " ".join(part)
            name = _SYNONYMS.get(name, name)
            for known in ((name, category.is_thing), (name, not category.is_thing)):
                if known in _RANKS:
                    return _RANKS[known]
    return len(_COMMON)
