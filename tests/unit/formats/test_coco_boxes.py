from __future__ import annotations

import contextlib
import io
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from panscape import LabelSpace
from panscape.errors import InvalidArgumentError
from panscape.formats import encode_coco_boxes

LABELS = LabelSpace.load("coco_panoptic")
NAMES = ["person", "bicycle", "car", "motorcycle", "bus", "train", "truck", "traffic light", "stop sign"]


def test_indices_are_those_of_yolov3() -> None:
    # Positions in Darknet's coco.names, and COCO's ids; unused ids make them differ from position + 1.
    positions, ids = [0, 1, 2, 3, 5, 6, 7, 9, 11], [1, 2, 3, 4, 6, 7, 8, 10, 13]
    assert [LABELS[LABELS.thing_ids[i]].name for i in positions] == NAMES
    found = encode_coco_boxes(torch.zeros(9, 4), torch.tensor(positions), torch.zeros(9), image_id=7, labels=LABELS)
    assert [one["category_id"] for one in found] == ids
    assert {one["image_id"] for one in found} == {7}


def test_pycocotools_scores_true_boxes_with_1() -> None:
    boxes = torch.tensor([[1.0, 2, 21, 32], [40, 5, 90, 25], [3, 50, 13, 70.5]])
    category, score = torch.tensor([0, 2, 11]), torch.tensor([0.75, 0.5, 0.25])
    results = encode_coco_boxes(boxes, category, score, image_id=3, labels=LABELS)
    assert results[2] == {"image_id": 3, "category_id": 13, "bbox": [3.0, 50.0, 10.0, 20.5], "score": 0.25}
    truth: Any = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 3, "height": 100, "width": 100}],
        "categories": [{"id": c.source_id, "name": c.name} for c in LABELS if c.is_thing],
        "annotations": [
            {**one, "id": i + 1, "iscrowd": 0, "area": one["bbox"][2] * one["bbox"][3]} for i, one in enumerate(results)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_no_detections_and_wrong_arguments() -> None:
    none = torch.zeros(0)
    assert encode_coco_boxes(torch.zeros(0, 4), none.long(), none, image_id=1, labels=LABELS) == []
    with pytest.raises(InvalidArgumentError, match=r"expected boxes \[D, 4\] with D .*, got \[2, 4\], \[1\] and \[2\]"):
        encode_coco_boxes(torch.zeros(2, 4), torch.zeros(1), torch.zeros(2), image_id=1, labels=LABELS)
    with pytest.raises(InvalidArgumentError, match="indices into the 80 things of coco_panoptic, got 0 to 80; pass"):
        encode_coco_boxes(torch.zeros(2, 4), torch.tensor([0, 80]), torch.zeros(2), image_id=1, labels=LABELS)
