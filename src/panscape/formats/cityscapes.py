"""Instance id images of Cityscapes: category times 1000 plus instance number.

Source: Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", 2016, and the published
cityscapesScripts (``json2instanceImg``, ``labels``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.formats.segments_info import IdRuns
from panscape.formats.source_ids import source_ids
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap

DIVISOR = 1000
"""Values from here on are the category times this, plus the instance number."""
_VOID = 0  # "unlabeled"


def decode_cityscapes(instance_ids: NDArray[Any] | Tensor, labels: LabelSpace) -> PanopticMap:
    """Convert an instance id image of Cityscapes (``*_gtFine_instanceIds.png``) to a map.

    A value below 1000 is a category without instance number: stuff, or for a thing category a group annotation, which
    becomes a crowd. Values from 1000 are 1000 times the category plus the instance number. Categories that are not in
    ``labels`` become void.

    Args:
        instance_ids: integers [H, W]; negative values are void.
        labels: the source ids of its categories are the "label ids" of Cityscapes.

    Returns:
        A map with segments in ascending order of the values.

    Raises:
        InvalidArgumentError: the array is not integers [H, W].
    """
    values = instance_ids.cpu().numpy() if isinstance(instance_ids, Tensor) else np.asarray(instance_ids)
    if values.ndim != 2 or values.dtype.kind not in "iu":
        raise InvalidArgumentError(f"expected instance ids as integers [H, W], got {values.dtype} {list(values.shape)}")
    return map_of_instance_ids(IdRuns.of(values), labels)


def map_of_instance_ids(runs: IdRuns, labels: LabelSpace) -> PanopticMap:
    """Return the map of runs of instance ids; see :func:`decode_cityscapes`."""
    values = runs.numbers.tolist()
    row_of = np.zeros(len(values), np.int32)
    rows: dict[tuple[int, int], int] = {}  # (category, value; 0 for stuff) to the row that describes it
    crowd = []
    for place, value in enumerate(values):
        category = labels.id_of_source.get(category_number(value)) if value >= 0 else None
        if category is None:
            continue
        is_thing = labels[category].is_thing
        key = (category, value if is_thing else 0)
        if key not in rows:
            rows[key] = len(rows) + 1
            crowd.append(is_thing and value < DIVISOR)
        row_of[place] = rows[key]
    return PanopticMap(
        torch.from_numpy(runs.filled(row_of)),
        torch.tensor([category for category, _ in rows], dtype=torch.int64),
        None,
        torch.tensor(crowd) if any(crowd) else None,
    )


def category_number(value: int) -> int:
    """Return the category's number in an instance id."""
    return value if value < DIVISOR else value // DIVISOR


def encode_cityscapes(panoptic: PanopticMap, labels: LabelSpace) -> NDArray[np.uint16]:
    """Convert a map to an instance id image of Cityscapes; the inverse of :func:`decode_cityscapes`.

    The segments of one stuff category are merged, and so are the crowds of one thing category, as the format has no
    numbers for them. Objects are numbered from 0 within their category, in the order of the map.

    Returns:
        uint16 [H, W], ready for ``PIL.Image.fromarray(...).save("..._instanceIds.png")``. Void is 0.

    Raises:
        InvalidArgumentError: a category is not in ``labels``, a source id is out of range, or a category has more than
            1000 objects.
    """
    panoptic = panoptic.compact().to("cpu")
    crowd = [False] * panoptic.num_segments if panoptic.crowd is None else panoptic.crowd.tolist()
    table = np.full(panoptic.num_segments + 1, _VOID, np.uint16)
    counts: dict[int, int] = {}
    sources = source_ids(panoptic, labels)
    for row, (category, source) in enumerate(zip(panoptic.category.tolist(), sources, strict=True)):
        is_object = labels[category].is_thing and not crowd[row]
        count = counts.get(category, 0)
        value = source * DIVISOR + count if is_object else source
        if count >= DIVISOR:
            raise InvalidArgumentError(
                f"Cityscapes allows at most {DIVISOR} objects of a category, got more of "
                f"{labels[category].name!r}; use COCO panoptic format instead"
            )
        if not 0 < source < DIVISOR or value > np.iinfo(np.uint16).max:
            raise InvalidArgumentError(
                f"Cityscapes allows source ids 1..999 for stuff and 1..64 for things, got {source} for "
                f"{labels[category].name!r}; use COCO panoptic format instead"
            )
        counts[category] = count + is_object
        table[row + 1] = value
    encoded: NDArray[np.uint16] = table[panoptic.ids.numpy()]
    return encoded
