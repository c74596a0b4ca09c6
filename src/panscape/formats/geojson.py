"""Segments as GeoJSON."""

from __future__ import annotations

from typing import Any

from panscape.formats.tables import properties_of
from panscape.ops.polygons import Polygon
from panscape.panoptic import PanopticMap


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
            "properties": properties_of(segment),
        }
        for segment, polygons in zip(panoptic, panoptic.to_polygons(), strict=True)
        if polygons
    ]
    return {"type": "FeatureCollection", "features": features}


def _rings(polygon: Polygon) -> list[list[list[int]]]:
    """Return the rings of a polygon, closed as GeoJSON requires."""
    return [[*ring.tolist(), ring[0].tolist()] for ring in (polygon.exterior_xy, *polygon.holes_xy)]
