"""Conversion of a `PanopticMap` to and from files, images and the types of other libraries.

The other libraries are imported only by the method that needs them.
"""

# mypy: disable-error-code="misc"
# (the only subclass is PanopticMap, so that `self` is one)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from panscape.errors import InvalidArgumentError, shown
from panscape.ops.polygons import Polygon, segment_polygons

if TYPE_CHECKING:
    import pandas as pd
    import supervision as sv

    from panscape.labels import LabelSpace
    from panscape.panoptic import PanopticMap


class Interchange:
    """The methods of :class:`~panscape.panoptic.PanopticMap` that convert it."""

    __slots__ = ()

    @classmethod
    def load(cls, path: str | Path, labels: LabelSpace | str | None = None) -> PanopticMap:
        """Read a map that :meth:`save` or ``panscape predict`` wrote, with its labels.

        Args:
            path: the PNG; its description is the JSON of the same name, or that of its folder, such as
                ``panoptic.json`` beside ``panoptic/``.
            labels: the label space to read it in, or the name of a bundled one; None for that in the JSON.

        Raises:
            UnreadableFileError: one of the two files is missing or unreadable.
            InvalidAnnotationError: they contradict each other, or a category is not in ``labels``.
        """
        from panscape.formats import load_coco

        return load_coco(path, labels)

    def save(self: PanopticMap, path: str | Path, labels: LabelSpace | str | None = None) -> None:
        """Write ``path`` (.png) in COCO panoptic format and its segments_info beside it (.json), atomically.

        Args:
            path: the file to write; its folder must exist.
            labels: as in :meth:`to_coco`; also written into the JSON.
        """
        from panscape.formats import save_coco

        save_coco(self, path, labels or self.labels)

    @classmethod
    def from_coco(
        cls, rgb: ArrayLike | Tensor, segments_info: Sequence[Mapping[str, Any]], labels: LabelSpace | None = None
    ) -> PanopticMap:
        """Convert COCO panoptic format; the inverse of :meth:`to_coco`.

        Args:
            rgb: uint8 [H, W, 3], the id of every pixel as R + 256 G + 65536 B; 0 is void.
            segments_info: ``id`` and ``category_id`` of each segment, optionally ``iscrowd`` and ``score``.
            labels: the label space whose dataset ids are the ``category_id``; without it, they are category ids.

        Raises:
            InvalidArgumentError: ``rgb`` has another type or shape.
            InvalidAnnotationError: pixels and descriptions contradict each other, or a category is not in ``labels``.
        """
        from panscape.formats import decode_coco

        return decode_coco(rgb if isinstance(rgb, Tensor) else np.asarray(rgb), segments_info, labels)

    def to_coco(self: PanopticMap, labels: LabelSpace | None = None) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return COCO panoptic format: uint8 [H, W, 3] with ids as R + 256 G + 65536 B, and its segments_info.

        Args:
            labels: defines the ``category_id`` of segments as in the dataset's files; None for the labels of this map,
                and for category ids if it has none.
        """
        from panscape.formats import encode_coco

        return encode_coco(self, labels or self.labels)

    @classmethod
    def from_transformers(cls, result: Mapping[str, Any], labels: LabelSpace | None = None) -> PanopticMap:
        """Convert the result of ``post_process_panoptic_segmentation`` for one image.

        Args:
            result: with ``segmentation`` and ``segments_info``.
            labels: the label space whose category ids are the ``label_id``.

        Raises:
            InvalidArgumentError: it is not such a result, such as the list for a batch.
            InvalidAnnotationError: pixels and descriptions contradict each other, or a category is not in ``labels``.
        """
        from panscape.formats import from_transformers

        if not isinstance(result, Mapping) or not {"segmentation", "segments_info"} <= result.keys():
            raise InvalidArgumentError(
                "expected the result for one image, a dict with 'segmentation' and 'segments_info', got "
                f"{shown(result if isinstance(result, Mapping) else type(result).__name__)}; "
                "post_process_panoptic_segmentation returns a list of them: give one at a time"
            )
        return from_transformers(result["segmentation"], result["segments_info"], labels)

    def to_transformers(self: PanopticMap) -> dict[str, Any]:
        """Return ``segmentation`` and ``segments_info`` as image processors of transformers do; void is -1."""
        from panscape.formats import to_transformers

        return to_transformers(self)

    def to_detectron2(self: PanopticMap) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return the pair that detectron2's models return as ``panoptic_seg``.

        Returns:
            int32 [H, W] with 0 for void, and for each segment ``id``, ``isthing``, ``category_id`` (the category id:
            metadata needs all category names in ``thing_classes`` and in ``stuff_classes``), ``area`` and ``score``.

        Raises:
            InvalidMapError: the map has no labels.
        """
        from panscape.formats import to_detectron2

        return to_detectron2(self)

    def to_supervision(self: PanopticMap, *, things_only: bool = False) -> sv.Detections:
        """Return the segments as ``supervision.Detections``, with masks, and with names in ``data["class_name"]``.

        Args:
            things_only: leave out stuff; the map needs labels.

        Raises:
            ImportError: supervision is not installed.
            InvalidMapError: ``things_only`` is set, but the map has no labels.
        """
        from panscape.formats import to_supervision

        return to_supervision(self, things_only=things_only)

    def to_pandas(self: PanopticMap) -> pd.DataFrame:
        """Return a table with one row per segment, indexed by its id.

        Raises:
            ImportError: pandas is not installed.
        """
        from panscape.formats import to_pandas

        return to_pandas(self)

    def to_geojson(self: PanopticMap) -> dict[str, Any]:
        """Return a GeoJSON FeatureCollection with a MultiPolygon per segment, in pixels (x, y)."""
        from panscape.formats import to_geojson

        return to_geojson(self)

    def draw(self: PanopticMap, image: Any = None, **options: Any) -> Tensor:
        """Draw the map over its image; see :func:`panscape.draw`.

        Args:
            image: as for :func:`panscape.draw`; None to draw only the segments.
            **options: those of :func:`panscape.draw`, or of :func:`panscape.visualize.draw_segments` without an image.

        Returns:
            uint8 [3, H, W].

        Raises:
            InvalidArgumentError: as :func:`panscape.draw`; the labels are those of the map, or given as an option.
        """
        from panscape import visualize

        if image is None:
            return visualize.draw_segments(self, **options)
        return visualize.draw(image, self, **options)

    def to_polygons(self: PanopticMap) -> list[list[Polygon]]:
        """Return the polygons of each segment along the edges of its pixels, with holes.

        Returns:
            For each of the S segments its connected parts; none if it has no pixels. Points are ``x, y`` in pixels.
        """
        return segment_polygons(self.ids.cpu().numpy(), len(self))

    # Notebooks

    def _repr_html_(self: PanopticMap) -> str:
        from panscape.visualize.notebook import map_as_html

        return map_as_html(self)

    def _repr_png_(self: PanopticMap) -> bytes:
        from panscape.visualize.notebook import map_as_png

        return map_as_png(self)
