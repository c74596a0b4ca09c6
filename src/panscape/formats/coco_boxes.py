"""Detections of boxes as the results of COCO's detection task.

Source: the COCO data format, section "Results Format" (https://cocodataset.org/#format-results).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace


def encode_coco_boxes(
    boxes: Tensor, category: Tensor, score: Tensor, *, image_id: int, labels: LabelSpace
) -> list[dict[str, Any]]:
    """Return the detections of one image as entries of a results file, a JSON list of those of all images.

    Args:
        boxes: xyxy in pixels of the image, float [D, 4].
        category: index into ``labels.thing_ids``, integers [D]; a detector of COCO's 80 categories has the order of
            ``LabelSpace.load("coco_panoptic")``.
        score: float [D].
        image_id: the image's ``id`` in the annotations.
        labels: the label space, for the ``category_id`` of the dataset's files.

    Returns:
        ``image_id``, ``category_id``, ``bbox`` as x, y, width and height, and ``score`` of each detection.

    Raises:
        InvalidArgumentError: the tensors are not of one length, or a category is none of the things.
    """
    if boxes.shape != (len(boxes), 4) or not len(boxes) == len(category) == len(score):
        raise InvalidArgumentError(
            f"expected boxes [D, 4] with D categories and scores, got {list(boxes.shape)}, {list(category.shape)} and "
            f"{list(score.shape)}"
        )
    ids = [labels[thing].source_id for thing in labels.thing_ids]
    if len(category) and not 0 <= int(category.min()) <= int(category.max()) < len(ids):
        raise InvalidArgumentError(
            f"expected indices into the {len(ids)} things of {labels.name}, got {int(category.min())} to "
            f"{int(category.max())}; pass the label space that the detector was trained for"
        )
    sides = boxes.clone()
    sides[:, 2:] -= boxes[:, :2]
    rows = zip(category.tolist(), sides.tolist(), score.tolist(), strict=True)
    return [{"image_id": image_id, "category_id": ids[c], "bbox": box, "score": s} for c, box, s in rows]
