from __future__ import annotations

import math

import pytest
import torch
from darknet_reference import boxes as reference_boxes
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.ops import yolo_boxes
from panscape.ops.nms import nms
from panscape.ops.yolo_boxes import ANCHORS, decode_logits, select_detections

SHEET = torch.tensor(ANCHORS).float()


def a_generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("level", "stride", "anchor", "sizes"), [(0, 8, 1, (16, 30)), (2, 32, 2, (373, 326))])
def test_a_box_by_hand(level: int, stride: int, anchor: int, sizes: tuple[int, int]) -> None:
    logits = [torch.full((1, 24, 128 // s, 192 // s), -20.0) for s in (8, 16, 32)]
    # Sigmoids 3/4, 1/2, 0.9 and 0.8; a width of twice and a height of half the anchor's.
    values = [math.log(3), 0, math.log(2), -math.log(2), math.log(9), -20, math.log(4), -20]
    logits[level][0, 8 * anchor : 8 * anchor + 8, 1, 2] = torch.tensor(values)
    found = select_detections(*(t[0] for t in decode_logits(logits, SHEET)))
    x, y, (w, h) = 2.75 * stride, 1.5 * stride, sizes
    torch.testing.assert_close(found.boxes, torch.tensor([[x - w, y - h / 4, x + w, y + h / 4]]))
    assert found.category.tolist() == [1]
    torch.testing.assert_close(found.score, torch.tensor([0.72]))
    torch.testing.assert_close(found.objectness, torch.tensor([0.9]))


def test_decoding_equals_a_second_one_in_order_and_values() -> None:
    generator = a_generator()
    logits = [torch.randn(1, 3 * 9, 64 // s, 96 // s, generator=generator) for s in (8, 16, 32)]
    found = decode_logits(logits, SHEET)
    expected = reference_boxes(logits)
    assert found.boxes.shape == (1, 3 * (96 + 24 + 6), 4)
    for ours, theirs in zip(found, map(torch.tensor, zip(*expected, strict=True)), strict=True):
        torch.testing.assert_close(ours[0], theirs.float(), atol=1e-3, rtol=1e-5)


def test_extreme_logits_stay_finite_in_half_precision() -> None:
    logits = [torch.full((1, 24, 64 // s, 64 // s), 6e4, dtype=torch.float16) for s in (8, 16, 32)]
    assert all(tensor.isfinite().all() for tensor in decode_logits(logits, SHEET))


def test_logits_of_other_anchors_are_refused() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"expected logits \[B, 3 \* \(5 \+ categories\), h, w\], got \[1, 25"
    ):
        decode_logits([torch.zeros(1, 25, 2, 2)] * 3, SHEET)


def darknet_nms(boxes: Tensor, objectness: Tensor, prob: Tensor, threshold: float) -> set[tuple[int, int]]:
    """Return box and category of what remains, as Darknet computes it: scores are set to 0 one by one."""

    def overlap(a: list[float], b: list[float]) -> float:
        w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        shared = w * h if w > 0 and h > 0 else 0.0
        return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)

    kept = [i for i in range(len(boxes)) if objectness[i] > threshold]
    scores = {(i, c): float(objectness[i] * prob[i, c]) for i in kept for c in range(prob.shape[1])}
    scores = {key: s if s > threshold else 0.0 for key, s in scores.items()}
    for c in range(prob.shape[1]):
        order = sorted(kept, key=lambda i: -scores[i, c])
        for n, i in enumerate(order):
            if scores[i, c]:
                for j in order[n + 1 :]:
                    if overlap(boxes[i].tolist(), boxes[j].tolist()) > 0.45:
                        scores[j, c] = 0.0
    return {key for key, score in scores.items() if score}


def test_selection_equals_darknets_and_keeps_a_box_under_one_category_if_asked() -> None:
    generator = a_generator()
    corner, side = torch.rand(60, 2, generator=generator) * 60, 20 + torch.rand(60, 2, generator=generator) * 30
    boxes = torch.cat([corner, corner + side], dim=1)
    objectness, prob = torch.rand(60, generator=generator), torch.rand(60, 3, generator=generator)
    expected = darknet_nms(boxes, objectness, prob, 0.2)
    found = select_detections(boxes, objectness, prob, min_score=0.2)
    pairs = [
        (boxes.eq(b).all(dim=1).nonzero().item(), c) for b, c in zip(found.boxes, found.category.tolist(), strict=True)
    ]
    assert set(pairs) == expected
    assert len(pairs) == len(expected)
    assert found.score.tolist() == sorted(found.score.tolist(), reverse=True)
    torch.testing.assert_close(found.score, torch.tensor([objectness[i] * prob[i, c] for i, c in pairs]))
    assert found.objectness.tolist() == [objectness[i].item() for i, _ in pairs]

    single = select_detections(boxes, objectness, prob, min_score=0.2, one_category=True, max_detections=7)
    first = dict(reversed(pairs))
    assert len(first) < len(pairs)  # some boxes have several
    assert single.category.tolist() == [c for i, c in pairs if first[i] == c][:7]


def test_an_untrained_detector_has_no_more_than_the_best_candidates_before_nms(monkeypatch: pytest.MonkeyPatch) -> None:
    num, seen = 1000, list[int]()
    monkeypatch.setattr(yolo_boxes, "nms", lambda box, *rest: (seen.append(len(box)), nms(box, *rest))[1])
    corner = torch.arange(num, dtype=torch.float32)[:, None].expand(num, 2)
    prob = 0.4 + 0.1 * torch.rand(num, 20, generator=a_generator())
    boxes = torch.cat([corner, corner + 0.5], dim=1)  # apart from each other
    found = select_detections(boxes, torch.ones(num), prob, min_score=0.3, max_detections=12_000)
    assert seen == [10_000]
    torch.testing.assert_close(found.score, prob.flatten().sort(descending=True).values[:10_000], rtol=0, atol=0)
    single = select_detections(boxes, torch.ones(num), prob, min_score=0.3, max_detections=12_000, one_category=True)
    torch.testing.assert_close(single.score, prob.amax(dim=1).sort(descending=True).values, rtol=0, atol=0)


def test_half_precision_selects_alike() -> None:
    boxes, prob = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 7], [20, 0, 30, 8]]), torch.tensor([[0.75], [1], [0.625]])
    found = select_detections(boxes.half(), torch.ones(3).half(), prob.half())
    assert found.score.tolist() == [1, 0.625]


def test_no_detections_and_boxes_without_area() -> None:
    empty = select_detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 3))
    flat = select_detections(torch.tensor([[5.0, 5, 5, 9]]), torch.ones(1), torch.ones(1, 3), one_category=True)
    for found in (empty, flat):
        assert [tuple(t.shape) for t in found] == [(0, 4), (0,), (0,), (0,), (0,)]
