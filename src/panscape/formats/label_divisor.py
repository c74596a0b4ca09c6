"""Label divisor format: one number per pixel, its category times a divisor plus the instance number.

Source: the output of the released code of Panoptic-DeepLab and Panoptic SwiftNet, which follows DeeperLab (Yang et al.,
2019). The numbering of instances differs, and so does void: -1 in detectron2 and Panoptic SwiftNet, 255 times the
divisor in the older repository of Panoptic-DeepLab.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidAnnotationError, InvalidArgumentError
from panscape.formats.source_ids import source_ids
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap

Numbering = Literal["of_category", "of_image"]


def encode_label_divisor(
    panoptic: PanopticMap,
    labels: LabelSpace,
    *,
    divisor: int = 1000,
    void: int = -1,
    numbering: Numbering = "of_category",
    use_source_ids: bool = False,
) -> NDArray[np.int64]:
    """Convert a map to label divisor format; the inverse of :func:`decode_label_divisor`.

    Objects are numbered from 1 in the order of the map; after decoding from centres this is the order of the centres.
    Stuff and crowds get 0, so the segments of one stuff category and the crowds of one thing category are merged.

    Args:
        panoptic: the map; segments without pixels get no number.
        labels: the label space, which separates things from stuff.
        divisor: larger than the number of objects.
        void: the value of void.
        numbering: "of_category" numbers the objects of each category from 1 (Panoptic-DeepLab), "of_image" all objects
            together (Panoptic SwiftNet, which also counts centres without pixels).
        use_source_ids: write the category ids of the dataset files instead of the positions in ``labels``.

    Returns:
        int64 [H, W].

    Raises:
        InvalidArgumentError: a category is not in ``labels``, the divisor is too small for the objects, or a segment
            would get the value of void.
    """
    _check_divisor(divisor)
    if numbering not in get_args(Numbering):
        raise InvalidArgumentError(f'expected numbering "of_category" or "of_image", got {numbering!r}')
    panoptic = panoptic.compact().to("cpu")
    positions = panoptic.category.tolist()
    sources = source_ids(panoptic, labels)
    crowd = [False] * panoptic.num_segments if panoptic.crowd is None else panoptic.crowd.tolist()
    table = np.full(panoptic.num_segments + 1, void, dtype=np.int64)
    counts: dict[int, int] = {}
    for row, (category, source) in enumerate(zip(positions, sources, strict=True)):
        number = 0
        if labels[category].is_thing and not crowd[row]:
            counted = category if numbering == "of_category" else -1
            number = counts[counted] = counts.get(counted, 0) + 1
        value = (source if use_source_ids else category) * divisor + number
        if number >= divisor:
            raise InvalidArgumentError(
                f"a divisor of {divisor} allows at most {divisor - 1} objects, got more; use a larger one"
            )
        if value == void:
            raise InvalidArgumentError(
                f"expected a void value that no segment has, got {void}, which is a segment of "
                f"{labels[category].name!r}; use another one, such as -1"
            )
        table[row + 1] = value
    encoded: NDArray[np.int64] = table[panoptic.ids.numpy()]
    return encoded


def decode_label_divisor(
    values: NDArray[Any] | Tensor,
    labels: LabelSpace,
    *,
    divisor: int = 1000,
    void: int = -1,
    use_source_ids: bool = False,
) -> PanopticMap:
    """Convert label divisor format to a map, for any numbering of its objects.

    Number 0 of a thing category is a crowd. All values of a stuff category are one segment.

    Args:
        values: integers [H, W].
        labels: the label space, which separates things from stuff.
        divisor: of the values.
        void: the value of void; may be in the range of a category that ``labels`` lacks, such as 255 times the divisor.
        use_source_ids: categories are the ids of the dataset files instead of positions in ``labels``.

    Returns:
        A map with segments in ascending order of the values.

    Raises:
        InvalidArgumentError: the array is not integers [H, W].
        InvalidAnnotationError: the category of a value is not in ``labels``.
    """
    _check_divisor(divisor)
    numbers = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if numbers.ndim != 2 or numbers.dtype.kind not in "iu":
        raise InvalidArgumentError(
            f"expected label divisor format as integers [H, W], got {numbers.dtype} {list(numbers.shape)}"
        )
    known = labels.id_of_source if use_source_ids else {i: i for i in range(len(labels))}
    present, place = np.unique(numbers.astype(np.int64), return_inverse=True)
    table = np.zeros(len(present), dtype=np.int32)
    rows: dict[tuple[int, int], int] = {}  # (category, value; 0 for stuff) to the row that describes it
    crowd: list[bool] = []
    for i, value in enumerate(present.tolist()):
        if value == void:
            continue
        category = known.get(value // divisor)
        if category is None:
            raise InvalidAnnotationError(
                f"expected values of the {len(labels)} categories of {labels.name!r} times {divisor}, or {void} for "
                f"void, got {value}; use the divisor, void value and label space of the writer"
            )
        is_thing = labels[category].is_thing
        key = (category, value if is_thing else 0)
        if key not in rows:
            rows[key] = len(rows) + 1
            crowd.append(is_thing and value % divisor == 0)
        table[i] = rows[key]
    return PanopticMap(
        torch.from_numpy(table[place.reshape(numbers.shape)]),
        torch.tensor([category for category, _ in rows], dtype=torch.int64),
        None,
        torch.tensor(crowd) if any(crowd) else None,
    )


def _check_divisor(divisor: int) -> None:
    if divisor < 1:
        raise InvalidArgumentError(f"expected a divisor of at least 1, got {divisor}")
