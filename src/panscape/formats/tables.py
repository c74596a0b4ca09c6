"""Segments as a table and as GeoJSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from panscape.errors import MissingExtraError
from panscape.ops.polygons import Polygon
from panscape.panoptic import PanopticMap
from panscape.segment import Segment

if TYPE_CHECKING:
    import pandas as pd


def to_pandas(panoptic: PanopticMap) -> pd.DataFrame:
    """Convert a map to a table with one row per segment.

    Returns:
        Indexed by ``id``: ``category``, ``name``, ``is_thing``, ``score``, ``is_crowd``, ``area`` in pixels, and its
        box ``left``, ``top``, ``right``, ``bottom`` in pixels, half-open. What the map does not have is missing (NA).

    Raises:
        MissingExtraError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError("pandas", None, "to_pandas") from error
    columns = ["id", *_COLUMNS, *_SIDES]
    rows = [{"id": s.id, **_properties(s), **dict(zip(_SIDES, map(int, s.box), strict=True))} for s in panoptic]
    return pd.DataFrame(rows, columns=columns).set_index("id")


def to_geojson(panoptic: PanopticMap) -> dict[str, Any]:
    """Convert a map to GeoJSON in pixel coordinates: x to the right, y down, (0, 0) at the upper left corner.

    Returns:
        A FeatureCollection with one Feature per segment with pixels. Its ``id`` is that of the segment, its geometry a
        MultiPolygon along the edges of the pixels, its properties ``category``, ``name``, ``is_thing``, ``score``,
        ``is_crowd`` and ``area`` in pixels.
    """
    features = [
        {
            "type": "Feature",
            "id": segment.id,
            "geometry": {"type": "MultiPolygon", "coordinates": [_rings(polygon) for polygon in polygons]},
            "properties": _properties(segment),
        }
        for segment, polygons in zip(panoptic, panoptic.to_polygons(), strict=True)
        if polygons
    ]
    return {"type": "FeatureCollection", "features": features}


_COLUMNS = ("category", "name", "is_thing", "score", "is_crowd", "area")
_SIDES = ("left", "top", "right", "bottom")


def _properties(segment: Segment) -> dict[str, Any]:
    return {name: getattr(segment, name) for name in _COLUMNS}


def _rings(polygon: Polygon) -> list[list[list[int]]]:
    """Return the rings of a polygon, closed as GeoJSON requires."""
    return [[*ring.tolist(), ring[0].tolist()] for ring in (polygon.exterior_xy, *polygon.holes_xy)]
