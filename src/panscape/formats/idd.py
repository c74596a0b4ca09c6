"""Annotations of the India Driving Dataset (IDD): polygons in JSON, painted in the order of the file.

Source: Varma et al., "IDD: A Dataset for Exploring Problems of Autonomous Navigation in Unconstrained Environments",
WACV 2019, and AutoNUE's published tools (``anue_labels``, ``json2instanceImg``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from panscape.errors import InvalidAnnotationError, listed, shown
from panscape.geometry import Size
from panscape.input_files import is_flag, to_integer
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap

# The labels of each level-3 id, from 0. An animal has the id of a person, as in the published tools.
_LEVEL3_LABELS = (
    *(("road",), ("parking", "drivable fallback"), ("sidewalk",), ("rail track", "non-drivable fallback")),
    *(("person", "animal"), ("rider",), ("motorcycle",), ("bicycle",), ("autorickshaw",), ("car",), ("truck",)),
    *(("bus",), ("vehicle fallback", "caravan", "trailer", "train"), ("curb",), ("wall",), ("fence",)),
    *(("guard rail",), ("billboard",), ("traffic sign",), ("traffic light",), ("pole", "polegroup")),
    *(("obs-str-bar-fallback",), ("building",), ("bridge", "tunnel"), ("vegetation",), ("sky", "fallback background")),
)
_LEVEL3_ID = {label: number for number, names in enumerate(_LEVEL3_LABELS) for label in names}
_VOID_LABELS = frozenset({"unlabeled", "ego vehicle", "rectification border", "out of roi", "license plate"})
_GROUP = "group"


def idd_size(annotation: Mapping[str, Any]) -> Size:
    """Return the size of the image of an annotation.

    Raises:
        InvalidAnnotationError: it has no size.
    """
    height, width = (to_integer(annotation.get(name)) for name in ("imgHeight", "imgWidth"))
    if height is None or width is None or min(height, width) < 1:
        found = shown([annotation.get("imgHeight"), annotation.get("imgWidth")])
        raise InvalidAnnotationError(f'expected "imgHeight" and "imgWidth" as positive integers, got {found}')
    return Size(height, width)


def decode_idd(annotation: Mapping[str, Any], labels: LabelSpace) -> PanopticMap:
    """Convert the polygons of an image (``*_gtFine_polygons.json``) to a map.

    Later polygons cover earlier ones, and their outlines belong to them. Each polygon of a thing is an object, that of
    a label that ends in "group" is part of the crowd of its category. The labels of IDD are united to the 26 categories
    of its level 3; pixels without polygon are void, and so are labels such as "ego vehicle".

    Args:
        annotation: the content of the file.
        labels: the source ids of its categories are level-3 ids.

    Returns:
        A map with segments in the order of the file; covered objects are left out.

    Raises:
        InvalidAnnotationError: the size, a label or a polygon is invalid.
    """
    size = idd_size(annotation)
    rows: dict[tuple[int, int], int] = {}  # (category, number of the object; 0 for stuff, -1 for a crowd) to its row
    canvas = Image.new("I", (size.width, size.height))
    draw = ImageDraw.Draw(canvas)
    for number, (label, polygon) in enumerate(_polygons(annotation), start=1):
        name = label.removesuffix(_GROUP) if label not in _LEVEL3_ID else label
        category = labels.id_of_source.get(_LEVEL3_ID.get(name, -1))
        row = 0
        if category is not None:
            kind = 0 if not labels[category].is_thing else number if name == label else -1
            row = rows.setdefault((category, kind), len(rows) + 1)
        draw.polygon(polygon, fill=row)
    crowd = [kind == -1 for _, kind in rows]
    panoptic = PanopticMap(
        torch.from_numpy(np.array(canvas, dtype=np.int32)),
        torch.tensor([category for category, _ in rows], dtype=torch.int64),
        None,
        torch.tensor(crowd) if any(crowd) else None,
    )
    return panoptic.compact()


def _polygons(annotation: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Yield the label and the points (x, y) of each polygon that is not deleted and can be drawn."""
    objects = annotation.get("objects")
    if not isinstance(objects, list) or not all(isinstance(each, dict) for each in objects):
        raise InvalidAnnotationError(f'expected "objects" as a list of polygons with labels, got {shown(objects)}')
    unknown = {shown(each.get("label")) for each in objects if not _is_label(each.get("label"))}
    if unknown:
        raise InvalidAnnotationError(f"expected labels of IDD, got {listed(sorted(unknown))}")
    for each in objects:
        deleted, polygon = each.get("deleted", 0), each.get("polygon")
        if not is_flag(deleted) or not isinstance(polygon, list) or not all(map(_is_point, polygon)):
            what = f'"polygon" as a list of points [x, y] and "deleted" as 0 or 1 of a {each["label"]}'
            raise InvalidAnnotationError(f"expected {what}, got {shown(polygon)} and {shown(deleted)}")
        if not deleted and len(polygon) >= 2:  # of fewer points Pillow draws nothing
            yield each["label"], [(x, y) for x, y in polygon]


def _is_label(label: object) -> bool:
    return isinstance(label, str) and (
        label in _VOID_LABELS or label in _LEVEL3_ID or (label.endswith(_GROUP) and label[: -len(_GROUP)] in _LEVEL3_ID)
    )


def _is_point(point: object) -> bool:
    return (
        isinstance(point, Sequence)
        and len(point) == 2
        and all(isinstance(value, int | float) and math.isfinite(value) for value in point)
    )
