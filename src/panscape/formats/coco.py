"""COCO panoptic format: segment ids as colours of a PNG, and their descriptions.

Source: the COCO data format, section "Panoptic Segmentation" (https://cocodataset.org/#format-data).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidAnnotationError, InvalidArgumentError, listed
from panscape.formats.label_images import source_ids
from panscape.labels import LabelSpace, generated_color
from panscape.panoptic import PanopticMap

_LARGEST_ID = 256**3 - 1


def encode_coco(panoptic: PanopticMap, labels: LabelSpace | None = None) -> tuple[Tensor, list[dict[str, Any]]]:
    """Convert a map to COCO panoptic format.

    Segments keep their ids; those without pixels are left out, as panopticapi rejects them.

    Args:
        panoptic: the map.
        labels: the label space, for the ``category_id`` of the dataset files; without it, the category is written.

    Returns:
        uint8 [H, W, 3], the id of every pixel as red + 256 green + 65536 blue, 0 for void; and for each segment ``id``,
        ``category_id``, ``area`` in pixels, ``bbox`` as x, y, width, height, ``iscrowd`` 0 or 1, and ``score`` if the
        map has scores.

    Raises:
        InvalidArgumentError: a category is not in ``labels``, or there are more segments than ids in the format.
    """
    panoptic = panoptic.to("cpu")
    if panoptic.num_segments > _LARGEST_ID:
        raise InvalidArgumentError(
            f"three bytes allow at most {_LARGEST_ID} segments, got {panoptic.num_segments}; split the map into tiles"
        )
    source = source_ids(panoptic, labels)
    areas = panoptic.areas().tolist()
    boxes = panoptic.boxes().long().tolist()
    crowd = [False] * len(source) if panoptic.crowd is None else panoptic.crowd.tolist()
    scores = None if panoptic.score is None else panoptic.score.tolist()
    segments: list[dict[str, Any]] = []
    for row, (category_id, area, (left, top, right, bottom)) in enumerate(zip(source, areas, boxes, strict=True)):
        if area == 0:
            continue
        segment = {
            "id": row + 1,
            "category_id": category_id,
            "area": area,
            "bbox": [left, top, right - left, bottom - top],
            "iscrowd": int(crowd[row]),
        }
        if scores is not None:
            segment["score"] = scores[row]
        segments.append(segment)
    # The lowest three bytes of a little-endian id are red, green and blue.
    ids = np.ascontiguousarray(panoptic.ids.numpy()).astype("<i4", copy=False)
    rgb = ids.view(np.uint8).reshape(*panoptic.size, 4)[..., :3]
    return torch.from_numpy(np.ascontiguousarray(rgb)), segments


def decode_coco(
    rgb: NDArray[np.uint8] | Tensor, segments_info: Sequence[Mapping[str, Any]], labels: LabelSpace | None = None
) -> PanopticMap:
    """Convert COCO panoptic format to a map; row ``i`` is ``segments_info[i]``.

    Args:
        rgb: uint8 [H, W, 3], the id of every pixel as red + 256 green + 65536 blue; 0 is void.
        segments_info: ``id`` and ``category_id`` of each segment, optionally ``iscrowd`` and ``score``. ``area`` and
            ``bbox`` are ignored. A segment may have no pixels.
        labels: the label space whose source ids are the ``category_id``; without it, they are categories.

    Raises:
        InvalidArgumentError: ``rgb`` has another type or shape.
        InvalidAnnotationError: pixels and descriptions contradict each other, or a category is not in ``labels``.
    """
    packed = coco_ids(rgb)
    segment_ids = _described_ids(segments_info)
    # A table of 64 MB for three bytes; the system only allocates the pages that are used.
    table = np.zeros(_LARGEST_ID + 1, np.int32)
    table[segment_ids] = np.arange(1, len(segment_ids) + 1)
    ids = table[packed]
    undescribed = np.unique(packed[(ids == 0) & (packed != 0)])
    if len(undescribed):
        raise InvalidAnnotationError(
            f"expected a description of every id in the PNG, but {listed(undescribed.tolist())} "
            f"{'is' if len(undescribed) == 1 else 'are'} not in segments_info; describe them, or set them to 0 (void)"
        )
    category = _categories([s["category_id"] for s in segments_info], segment_ids, labels)
    crowd = torch.tensor([bool(s.get("iscrowd", 0)) for s in segments_info], dtype=torch.bool)
    return PanopticMap(
        torch.from_numpy(ids),
        torch.tensor(category, dtype=torch.int64),
        _scores(segments_info),
        crowd if bool(crowd.any()) else None,
        labels,
    )


def coco_ids(rgb: NDArray[np.uint8] | Tensor) -> NDArray[np.int32]:
    """Return the segment id of every pixel, int32 [H, W].

    Args:
        rgb: uint8 [H, W, 3], red + 256 green + 65536 blue.

    Raises:
        InvalidArgumentError: ``rgb`` has another type or shape.
    """
    pixels = rgb.cpu().numpy() if isinstance(rgb, Tensor) else np.asarray(rgb)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InvalidArgumentError(
            f"expected segment ids as uint8 [H, W, 3], got {pixels.dtype} {list(pixels.shape)}; "
            "read the PNG with panscape.formats.load_coco"
        )
    four = np.zeros((*pixels.shape[:2], 4), np.uint8)
    four[..., :3] = pixels
    packed: NDArray[np.int32] = four.view("<i4")[..., 0]
    return packed


def coco_categories(labels: LabelSpace) -> list[dict[str, Any]]:
    """Return the ``categories`` of a COCO panoptic JSON."""
    return [
        {"id": c.source_id, "name": c.name, "supercategory": c.name, "isthing": int(c.is_thing), "color": list(c.color)}
        for c in labels
    ]


def labels_from_coco(name: str, categories: Iterable[Mapping[str, Any]]) -> LabelSpace:
    """Build a label space from the ``categories`` of a COCO panoptic JSON, in their order.

    Args:
        name: of the label space.
        categories: each with ``id``, ``name`` and ``isthing``; a missing ``color`` is generated.

    Raises:
        InvalidAnnotationError: a category lacks a field.
        InvalidLabelSpaceError: there is no category, a name or id occurs twice, or a field has the wrong type.
    """
    found = []
    for position, category in enumerate(categories):
        missing = [key for key in ("id", "name", "isthing") if key not in category]
        if missing:
            raise InvalidAnnotationError(
                f"expected id, name and isthing of every category, but {dict(category)} lacks {', '.join(missing)}; "
                "add it (isthing: 1 for countable objects, else 0)"
            )
        found.append(
            {
                "name": category["name"],
                "is_thing": category["isthing"],
                "source_id": category["id"],
                "color": category.get("color") or generated_color(position),
            }
        )
    return LabelSpace.from_dict({"name": name, "categories": found})


def _described_ids(segments_info: Sequence[Mapping[str, Any]]) -> NDArray[np.int64]:
    seen: set[int] = set()
    for segment in segments_info:
        for key in ("id", "category_id"):
            if not isinstance(segment.get(key), int):
                raise InvalidAnnotationError(
                    f"expected an integer {key!r} in every description of segments_info, got {dict(segment)}"
                )
        if not 0 < segment["id"] <= _LARGEST_ID:
            raise InvalidAnnotationError(
                f"expected segment ids in 1..{_LARGEST_ID} (0 is void), got {segment['id']}; renumber the segment"
            )
        if segment["id"] in seen:
            raise InvalidAnnotationError(
                f"expected one description for each segment, got two for id {segment['id']}; "
                "use a unique id for each segment, or keep one description"
            )
        seen.add(segment["id"])
    return np.array([s["id"] for s in segments_info], dtype=np.int64)


def _categories(source: list[int], segment_ids: NDArray[np.int64], labels: LabelSpace | None) -> list[int]:
    if labels is None:
        return source
    known = labels.id_of_source
    for category_id, segment_id in zip(source, segment_ids.tolist(), strict=True):
        if category_id not in known:
            raise InvalidAnnotationError(
                f"segment {segment_id}: expected a category_id of label space {labels.name!r} "
                f"({listed(sorted(known))}), got {category_id}; use the label space of this dataset"
            )
    return [known[c] for c in source]


def _scores(segments_info: Sequence[Mapping[str, Any]]) -> Tensor | None:
    scores = [s["score"] for s in segments_info if s.get("score") is not None]
    if not scores:
        return None
    if len(scores) != len(segments_info):
        raise InvalidAnnotationError(
            f"expected a score for every segment or for none, got {len(scores)} for {len(segments_info)} segments"
        )
    for segment in segments_info:
        if not 0 <= segment["score"] <= 1:
            raise InvalidAnnotationError(
                f"segment {segment['id']}: expected a score in 0..1, got {segment['score']}; scale the scores"
            )
    return torch.tensor(scores, dtype=torch.float32)
