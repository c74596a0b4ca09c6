"""Category ids of dataset files, shared by all formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace

if TYPE_CHECKING:
    from panscape.map_arrays import MapArrays
    from panscape.panoptic import PanopticMap


def source_ids(panoptic: PanopticMap | MapArrays, labels: LabelSpace | None) -> list[int]:
    """Return the category id of each segment in the dataset files of ``labels``; without labels, the category itself.

    Raises:
        InvalidArgumentError: a category is not in ``labels``.
    """
    category: list[int] = panoptic.category.tolist()
    if labels is None:
        return category
    if category and max(category) >= len(labels):
        raise InvalidArgumentError(
            f"expected categories 0..{len(labels) - 1} of label space {labels.name!r}, got {max(category)}; "
            "use the label space of the map"
        )
    return [labels[c].source_id for c in category]
