"""The result type of the supervision library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from panscape.errors import InvalidMapError, MissingExtraError
from panscape.panoptic import PanopticMap

if TYPE_CHECKING:
    import supervision as sv


def to_supervision(panoptic: PanopticMap, *, things_only: bool = False) -> sv.Detections:
    """Convert the segments of a map to ``supervision.Detections``.

    Args:
        panoptic: the map.
        things_only: leave out stuff.

    Returns:
        Detections of the segments with pixels: boxes, masks, category ids, scores if the map has them,
        ``data["segment_id"]``, and ``data["class_name"]`` if the map has labels.

    Raises:
        MissingExtraError: supervision is not installed.
        InvalidMapError: ``things_only`` is set, but the map has no labels.
    """
    try:
        import supervision as sv
    except ImportError as error:
        raise MissingExtraError("supervision", None, "to_supervision") from error
    if things_only and panoptic.labels is None:
        raise InvalidMapError("expected a map with labels, which say what is a thing, got one without")
    segments = [s for s in panoptic.to("cpu") if s.area and (s.is_thing or not things_only)]
    if not segments:
        return sv.Detections.empty()
    data: dict[str, NDArray[Any] | list[Any]] = {"segment_id": np.array([s.id for s in segments])}
    if panoptic.labels is not None:
        data["class_name"] = np.array([s.name for s in segments])
    return sv.Detections(
        xyxy=np.array([s.box for s in segments], np.float32),
        mask=np.stack([s.mask.numpy() for s in segments]),
        confidence=None if panoptic.score is None else np.array([s.score for s in segments], np.float32),
        class_id=np.array([s.category for s in segments]),
        data=data,
    )
