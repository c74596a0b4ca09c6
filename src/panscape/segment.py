"""`Segment`: one segment of a map, as iterating over a `PanopticMap` yields it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from panscape.labels import Category
from panscape.ops.polygons import Polygon, segment_polygons


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One segment: an object, or the stuff of one category.

    Attributes:
        id: the value of its pixels in the map, from 1 on.
        category: category id.
        described: its :class:`~panscape.labels.Category`; None if the map has no labels.
        score: confidence in 0..1; None for ground truth.
        is_crowd: whether it annotates a group of objects.
        area: number of pixels.
        box: left, top, right, bottom in pixels, half-open; zeros if it has no pixels.
        ids: the ids of the map.
    """

    id: int
    category: int
    described: Category | None = field(repr=False)
    score: float | None
    is_crowd: bool
    area: int
    box: tuple[float, float, float, float]
    ids: Tensor = field(repr=False)

    @property
    def name(self) -> str | None:
        """Name of the category; None if the map has no labels."""
        return None if self.described is None else self.described.name

    @property
    def is_thing(self) -> bool | None:
        """Whether it is an object; None if the map has no labels."""
        return None if self.described is None else self.described.is_thing

    @property
    def mask(self) -> Tensor:
        """Its pixels, bool [H, W]."""
        return self.ids == self.id

    def to_polygons(self) -> list[Polygon]:
        """Return its connected parts, see :meth:`PanopticMap.to_polygons <panscape.PanopticMap.to_polygons>`."""
        left, top, right, bottom = map(int, self.box)
        (polygons,) = segment_polygons(self.mask[top:bottom, left:right].int().cpu().numpy(), 1)
        corner = np.array([left, top], np.int32)
        return [
            Polygon(polygon.exterior_xy + corner, tuple(hole + corner for hole in polygon.holes_xy))
            for polygon in polygons
        ]
