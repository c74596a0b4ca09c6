"""`Town`: synthetic images of a small town from the street and from above, with exact ground truth.

For training and testing without any download. The scenes contain the difficulties of panoptic segmentation: objects
from 8 to more than 500 pixels, crowds and queues, objects truncated by the border, large objects that look like stuff
from close by (a bus like a facade, a hull like a wall, a tree crown like a hedge), night, haze and noise.
"""

from __future__ import annotations

import functools
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from panscape.datasets.base import MapSources, Sample
from panscape.datasets.town.image_effects import apply_camera_effects, compact_ids
from panscape.datasets.town.layout import build_town
from panscape.datasets.town.meshes import town_meshes
from panscape.datasets.town.renderer import rasterize
from panscape.datasets.town.scene import Rng, noise_tile, sensor_noise
from panscape.errors import InvalidArgumentError
from panscape.geometry import Size
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap

View = Literal["street", "above", "both"]
SMALLEST_AREA = 64  # pixels; segments with a smaller visible area become void
_SEEDS = {"train": 0, "val": 1, "test": 2}
_SMALLEST_SIDE = 32


@functools.cache
def town_labels() -> LabelSpace:
    """Return the town's 6 stuff and 8 thing categories."""
    return LabelSpace.load("town")


class Town:
    """A dataset of synthetic scenes.

    Sample ``i`` is a function of (``seed``, ``i``, ``size``, ``view``) only: the same in every process, on every
    machine and in any order of access.

    Args:
        length: number of samples.
        size: height and width of the images in pixels, at least 32 each. Larger images show more of the scene.
        view: ``"street"``, ``"above"``, or ``"both"`` with equal probability.
        seed: random seed of the scenes; at least 0.

    Raises:
        InvalidArgumentError: an argument is out of range.
    """

    def __init__(
        self, length: int = 1000, size: tuple[int, int] = (256, 256), view: View = "street", seed: int = 0
    ) -> None:
        if view not in get_args(View):
            raise InvalidArgumentError(f"expected view as one of {', '.join(get_args(View))}, got {view!r}")
        if min(size) < _SMALLEST_SIDE:
            raise InvalidArgumentError(
                f"expected a size (height, width) of at least {_SMALLEST_SIDE}x{_SMALLEST_SIDE}, "
                f"got {size[0]}x{size[1]}"
            )
        if length < 0 or seed < 0:
            raise InvalidArgumentError(f"expected a length and a seed of at least 0, got {length} and {seed}")
        self.length, self.size, self.view, self.seed = length, Size(*size), view, seed

    @property
    def labels(self) -> LabelSpace:
        """The town's 14 categories."""
        return town_labels()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        index = range(self.length)[index]
        rng = Rng(self.seed, index)
        is_high = rng.chance(0.5)
        view = self.view if self.view != "both" else ("above" if is_high else "street")
        image, ids, category = _render_sample(rng, self.size, view)
        truth = PanopticMap(torch.from_numpy(ids), torch.from_numpy(category), labels=self.labels)
        return Sample(torch.from_numpy(image), truth, f"town_{index:06d}")

    def map_sources(self) -> MapSources:
        """Return the arguments."""
        return MapSources((), (self.length, *self.size, self.view, self.seed))


def town(split: str = "train", length: int = 1000, size: tuple[int, int] = (256, 256), view: View = "street") -> Town:
    """Return the town dataset of a split; splits share no scene.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        length: number of samples, as for :class:`Town`.
        size: height and width in pixels.
        view: as for :class:`Town`.

    Raises:
        InvalidArgumentError: an argument is out of range.
    """
    if split not in _SEEDS:
        raise InvalidArgumentError(f"expected split as one of {', '.join(_SEEDS)}, got {split!r}")
    return Town(length, size, view, _SEEDS[split])


def _render_sample(rng: Rng, size: Size, view: str) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int64]]:
    """Return image [3, H, W], ids [H, W] and the categories [S] of a new scene."""
    scene, light, air = build_town(rng, size, view)
    things, materials = scene.tables()
    meshes, camera, noise = town_meshes(), scene.camera.table(), noise_tile()
    color = np.empty((*size, 3), np.float32)
    inverse_depth, ids = np.zeros(size, np.float32), np.zeros(size, np.int32)
    ground = np.zeros(size, np.uint8)
    rasterize(meshes.vertices, meshes.parts, things, materials, camera, light, noise, color, inverse_depth, ids, ground)
    image = np.empty((3, *size), np.uint8)
    apply_camera_effects(color, inverse_depth, ids, camera, air, noise, sensor_noise(), image)
    kept = np.empty(len(scene.categories), np.int64)
    count = compact_ids(ids, len(scene.categories), SMALLEST_AREA, kept)
    return image, ids, np.array(scene.categories, np.int64)[kept[:count] - 1]
