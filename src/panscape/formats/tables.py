"""Segments as a table of pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from panscape.errors import MissingExtraError
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
    rows = [{"id": s.id, **properties_of(s), **dict(zip(_SIDES, map(int, s.box), strict=True))} for s in panoptic]
    return pd.DataFrame(rows, columns=columns).set_index("id")


_COLUMNS = ("category", "name", "is_thing", "score", "is_crowd", "area")
_SIDES = ("left", "top", "right", "bottom")


def properties_of(segment: Segment) -> dict[str, Any]:
    """Return what tables and GeoJSON say of a segment, without its id and place."""
    return {name: getattr(segment, name) for name in _COLUMNS}
