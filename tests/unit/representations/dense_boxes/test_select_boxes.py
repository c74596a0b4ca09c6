from __future__ import annotations

import math

import pytest
import torch

from panscape.errors import InvalidArgumentError
from panscape.representations.dense_boxes.locations import Pyramid, fcos_locations
from panscape.representations.dense_boxes.select_boxes import BoxSelection, select_boxes

PADDED, STRIDE, LEVELS = (64, 96), 8, 3
NUM = fcos_locations(Pyramid(PADDED, STRIDE, LEVELS)).shape[1]


def outputs(seed: int, num_categories: int = 3, levels: int = 0):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_categories, NUM, generator=g) * 2 - 2
    centerness = torch.randn(NUM, generator=g)
    box = torch.rand(4, NUM, generator=g) * 40 + 1
    if levels:
        logits, centerness, box = ((part * levels).round() / levels for part in (logits, centerness, box))
    return logits, box, centerness


def overlap(a, b):
    """IoU of two boxes in float32, operation by operation as torchvision's."""
    one = torch.tensor
    width = (torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])).clamp_min(0)
    height = (torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])).clamp_min(0)
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return float(shared / union) if float(union) else float(one(math.nan))


def brute_force(logits, box, centerness, size, selection):
    """Apply the rules one by one to lists of (score, category, location, corners)."""
    points = fcos_locations(Pyramid(PADDED, STRIDE, LEVELS))
    prob, sure = logits.sigmoid(), centerness.sigmoid()
    found = []
    for begin, end in ((0, 96), (96, 96 + 24), (120, 126)):
        level = []
        for i in range(begin, end):
            y, x = points[:, i]
            corners = torch.stack([x - box[0, i], y - box[1, i], x + box[2, i], y + box[3, i]])
            corners = torch.stack([v.clamp(0, size[1 - n % 2] - 1) for n, v in enumerate(corners)])
            level += [
                (float(prob[c, i] * sure[i]), c, i, corners)
                for c in range(len(logits))
                if prob[c, i] > selection.threshold
            ]
        found += sorted(level, key=lambda e: -e[0])[: selection.pre_nms_top_k]

    def suppressed(entries, limit):
        kept = []
        for entry in sorted(entries, key=lambda e: -e[0]):
            if not any(overlap(other[3], entry[3]) > limit for other in kept):
                kept.append(entry)
        return kept

    found.sort(key=lambda e: (e[2], e[1]))
    ordered = []
    for c in range(len(logits)):
        ordered += suppressed([e for e in found if e[1] == c], selection.nms_iou)
    ordered = suppressed(ordered, selection.class_agnostic_nms_iou)
    if len(ordered) > selection.max_boxes:
        last = ordered[selection.max_boxes - 1][0]
        ordered = [e for e in ordered if e[0] >= last]
    return ordered


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "selection",
    [
        BoxSelection(),
        BoxSelection(pre_nms_top_k=11, max_boxes=9),
        BoxSelection(0.3, 50, 0.2, 0.4, 20),
        BoxSelection(class_agnostic_nms_iou=1.0),
    ],
)
def test_the_rules_one_by_one(seed, selection):
    logits, box, centerness = outputs(seed, levels=[0, 2][seed % 2])
    size = (57, 90)
    expected = brute_force(logits, box, centerness, size, selection)
    found = select_boxes(logits, box, centerness, Pyramid(PADDED, STRIDE, LEVELS), size, selection)
    assert found.category.tolist() == [e[1] for e in expected]
    assert found.location.tolist() == [e[2] for e in expected]
    assert torch.equal(found.score, torch.tensor([e[0] for e in expected]))
    assert torch.equal(found.boxes, torch.stack([e[3] for e in expected]))
    assert float(found.boxes[:, 2].max()) <= 89
    assert float(found.boxes[:, 3].max()) <= 56


def test_nothing_above_the_threshold():
    logits, box, centerness = outputs(0)
    found = select_boxes(logits - 50, box, centerness, Pyramid(PADDED, STRIDE, LEVELS), PADDED, BoxSelection())
    assert [list(part.shape) for part in found] == [[0, 4], [0], [0], [0]]


def test_more_than_a_hundred_that_tie_are_all_kept():
    logits = torch.zeros(2, NUM)
    box = torch.ones(4, NUM)
    found = select_boxes(
        logits, box, torch.zeros(NUM), Pyramid(PADDED, STRIDE, LEVELS), PADDED, BoxSelection(class_agnostic_nms_iou=1.0)
    )
    assert len(found.score) == 2 * NUM
    one_each = select_boxes(logits, box, torch.zeros(NUM), Pyramid(PADDED, STRIDE, LEVELS), PADDED, BoxSelection())
    assert len(one_each.score) == NUM  # of two categories in the same place, the first one stays
    assert one_each.category.unique().tolist() == [0]


def test_the_threshold_is_strict_and_before_centerness():
    logits = torch.full((1, NUM), -9.0)
    logits[0, :2] = torch.tensor([0.0, 1e-6])
    found = select_boxes(
        logits, torch.ones(4, NUM), torch.full((NUM,), -8.0), Pyramid(PADDED, STRIDE, LEVELS), PADDED, BoxSelection(0.5)
    )
    assert found.location.tolist() == [1]
    assert float(found.score[0]) == pytest.approx(0.5 / (1 + math.exp(8)), rel=1e-5)


def test_mismatches_are_refused():
    logits, box, centerness = outputs(0)
    with pytest.raises(InvalidArgumentError, match="expected box with 126 locations"):
        select_boxes(logits, box[:, :-1], centerness, Pyramid(PADDED, STRIDE, LEVELS), PADDED, BoxSelection())
    for wrong in ({"threshold": 1.5}, {"max_boxes": 0}, {"class_agnostic_nms_iou": -0.1}):
        with pytest.raises(InvalidArgumentError):
            BoxSelection(**wrong)
