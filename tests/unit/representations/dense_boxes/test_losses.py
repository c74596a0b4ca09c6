"""Losses of dense boxes against loops over locations and cells, by hand, and on ground truth with few objects."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from maps import SHAPES, generated_map
from processes import end_together
from torch import Tensor, distributed
from torch.nn import functional as F

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.representations.dense_boxes import (
    DenseBoxDecoding,
    DenseBoxOutputs,
    DenseBoxRepresentation,
    DenseBoxTargets,
)
from panscape.representations.dense_boxes.locations import Pyramid, level_sizes
from panscape.representations.dense_boxes.select_boxes import BoxSelection, select_boxes

SIZE = (64, 96)
SMALL = DenseBoxRepresentation(level_ends=(16.0, 40.0))


def outputs_for(batch: int, size: tuple[int, int] = SIZE, seed: int = 0) -> DenseBoxOutputs:
    """Random outputs at stride 8, of three levels; all that is asked of a loss hangs on them."""
    g = torch.Generator().manual_seed(seed)
    num = sum(s.area for s in level_sizes(Pyramid(size, 8, 3)))
    h, w = size[0] // 8, size[1] // 8
    parts = (
        torch.randn(batch, len(SHAPES), h, w, generator=g),
        torch.randn(batch, 2, num, generator=g) - 1,
        30 * torch.rand(batch, 4, num, generator=g) + 0.5,
        torch.randn(batch, num, generator=g),
        torch.randn(batch, 4, 2 * h, 2 * w, generator=g),
    )
    return DenseBoxOutputs(*(p.requires_grad_() for p in parts))


def targets_of(truths: list[PanopticMap], representation: DenseBoxRepresentation = SMALL) -> DenseBoxTargets:
    targets = [representation.encode(t, SHAPES, SIZE) for t in truths]
    return DenseBoxTargets(*(torch.stack(parts) for parts in zip(*targets, strict=True)))


def scenes(count: int) -> list[PanopticMap]:
    return [generated_map(seed, SIZE, crowd=seed % 2 == 0) for seed in range(count)]


# One location, one cell, one pixel at a time


def by_loops(outputs: DenseBoxOutputs, targets: DenseBoxTargets, box_loss: str, normalization: str) -> dict[str, float]:
    """Every term but the mask loss, in double precision."""
    semantic, logits, box, centerness, levelness = (o.detach().double() for o in outputs)
    batch, num = targets.box_category.shape
    box_cost = center_cost = category_cost = 0.0
    positives = 0
    for b in range(batch):
        for i in range(num):
            category = int(targets.box_category[b, i])
            if category > 0:
                positives += 1
                left, up, right, down = targets.box[b, :, i].tolist()
                x1, y1, x2, y2 = box[b, :, i].tolist()
                common = (min(left, x1) + min(right, x2)) * (min(up, y1) + min(down, y2))
                union = (left + right) * (up + down) + (x1 + x2) * (y1 + y2) - common
                if box_loss == "iou":
                    box_cost -= math.log((common + 1) / (union + 1))
                else:
                    hull = (max(left, x1) + max(right, x2)) * (max(up, y1) + max(down, y2))
                    box_cost += 1 - (common / union - (hull - union) / hull)
                truth = math.sqrt(min(left, right) / max(left, right) * min(up, down) / max(up, down))
                prob = 1 / (1 + math.exp(-float(centerness[b, i])))
                center_cost -= truth * math.log(prob) + (1 - truth) * math.log(1 - prob)
            if category >= 0:
                for t in range(logits.shape[1]):
                    prob = 1 / (1 + math.exp(-float(logits[b, t, i])))
                    if category == t + 1:
                        category_cost -= 0.25 * (1 - prob) ** 2 * math.log(prob)
                    else:
                        category_cost -= 0.75 * prob**2 * math.log(1 - prob)
    logs = levelness.log_softmax(1)
    level_costs = [
        -float(logs[b, int(level), y, x])
        for b in range(batch)
        for y, row in enumerate(targets.levelness[b])
        for x, level in enumerate(row)
        if level >= 0
    ]
    semantic_costs = []
    whole = F.interpolate(semantic, size=SIZE, mode="bilinear", align_corners=False)
    for b in range(batch):
        logs = whole[b].log_softmax(0).tolist()
        category = (targets.semantic[b] - 1).tolist()
        costs = [-logs[category[y][x]][y][x] for y in range(SIZE[0]) for x in range(SIZE[1]) if category[y][x] >= 0]
        hardest = sorted(costs, reverse=True)[: math.ceil(0.3 * len(costs))]
        semantic_costs.append(sum(hardest) / len(hardest))
    return {
        "box": box_cost / positives,
        "centerness": center_cost / positives,
        "category": category_cost / (positives if normalization == "positives" else batch * num),
        "semantic": sum(semantic_costs) / batch,
        "levelness": sum(level_costs) / len(level_costs),
    }


@pytest.mark.parametrize("supervision", ["masks", "boxes"])
@pytest.mark.parametrize("box_loss", ["iou", "giou"])
@pytest.mark.parametrize("normalization", ["positives", "locations"])
def test_losses_are_those_of_loops(supervision: str, box_loss: str, normalization: str) -> None:
    representation = replace(
        SMALL,
        supervision=supervision,  # type: ignore[arg-type]
        box_loss=box_loss,  # type: ignore[arg-type]
        category_normalization=normalization,  # type: ignore[arg-type]
        mask_loss_weight=0.0,
    )
    outputs, targets = outputs_for(2), targets_of(scenes(2), representation)
    assert (targets.box_category < 0).any()
    losses = representation.loss(outputs, targets)
    expected = by_loops(outputs, targets, box_loss, normalization)
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        assert float(loss.detach()) == pytest.approx(expected[name], rel=2e-5), name


def test_weights_multiply_and_zero_leaves_the_mask_loss_out() -> None:
    outputs, targets = outputs_for(2), targets_of(scenes(2))
    plain = SMALL.loss(outputs, targets)
    weights = dict(zip(("box", "centerness", "category", "levelness", "semantic", "mask"), range(2, 8), strict=True))
    heavy = replace(SMALL, **{f"{name}_loss_weight": float(w) for name, w in weights.items()}).loss(outputs, targets)
    assert plain.keys() == heavy.keys() == weights.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(heavy[name], weight * plain[name], rtol=1e-6, atol=0)
    # Twice the weight of every category is twice the semantic loss and nothing else; of one, it lies between.
    doubled = replace(SMALL, category_weights=(2.0,) * len(SHAPES)).loss(outputs, targets)
    for name, loss in plain.items():
        torch.testing.assert_close(doubled[name], (1 + (name == "semantic")) * loss, rtol=1e-6, atol=0)
    one = replace(SMALL, category_weights=(2.0, *(1.0,) * (len(SHAPES) - 1))).loss(outputs, targets)
    assert plain["semantic"] < one["semantic"] < doubled["semantic"]
    assert "mask" not in replace(SMALL, mask_loss_weight=0.0).loss(outputs, targets)
    assert "levelness" not in SMALL.loss(outputs._replace(levelness=None), targets)


# The mask loss


def iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return common / (areas - common)


def points_of(size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Level, row and column of every location."""
    return [
        (level, y * (8 << level) + (4 << level), x * (8 << level) + (4 << level))
        for level, s in enumerate(level_sizes(Pyramid(size, 8, 3)))
        for y in range(s.height)
        for x in range(s.width)
    ]


def mask_loss_by_loops(
    outputs: DenseBoxOutputs, targets: DenseBoxTargets, max_detections: int, compat: str = "released"
) -> tuple[float, int]:
    """Queries by plain NMS, dense boxes by torch's own upsampling, cells one at a time."""
    points, sizes = points_of(SIZE), level_sizes(Pyramid(SIZE, 8, 3))
    total, count = 0.0, 0
    for b in range(len(outputs.box)):
        box = outputs.box[b].detach()
        boxes = [
            [
                min(max(x + s * float(d), 0), bound)
                for x, s, d, bound in zip(
                    (px, py, px, py), (-1, -1, 1, 1), box[:, i], (SIZE[1] - 1, SIZE[0] - 1) * 2, strict=True
                )
            ]
            for i, (_, py, px) in enumerate(points)
        ]
        prob, sureness = outputs.box_category[b].detach().sigmoid(), outputs.centerness[b].detach().sigmoid()
        candidates = [
            (float(prob[t, i] * sureness[i]), t, i) for t in (0, 1) for i in range(len(points)) if prob[t, i] > 0.06
        ]
        candidates.sort(key=lambda c: (-c[0], c[1], c[2]))
        for apart, limit in ((True, 0.6), (False, 0.97))[: 1 if compat == "paper" else 2]:
            kept: list[tuple[float, int, int]] = []
            for c in candidates:
                if all((apart and c[1] != k[1]) or iou(boxes[c[2]], boxes[k[2]]) <= limit for k in kept):
                    kept.append(c)
            candidates = kept
        queries = [i for _, _, i in candidates[:100] if targets.location_segment[b, i] > 0][:max_detections]

        begins = [sum(s.area for s in sizes[:n]) for n in range(4)]
        grid = targets.segment.shape[1:]
        levels = [
            F.interpolate(box[None, :, begins[n] : begins[n + 1]].unflatten(2, s), grid, mode="bilinear")[0]
            for n, s in enumerate(sizes)
        ]
        chosen = None
        if outputs.levelness is not None:  # -1 is no object
            best = outputs.levelness[b].argmax(0) if compat == "paper" else outputs.levelness[b, 1:].argmax(0) + 1
            chosen = best - 1
        for i in queries:
            _, py, px = points[i]
            left, up, right, down = targets.box[b, :, i].tolist()
            quality = iou(boxes[i], [px - left, py - up, px + right, py + down])
            inside = targets.segment[b] == targets.location_segment[b, i]
            error = 0.0
            for y in range(grid[0]):
                for x in range(grid[1]):
                    if targets.levelness[b, y, x] < 0:
                        continue
                    agreements = [0.0]
                    for level in range(3) if chosen is None else {int(chosen[y, x])} - {-1}:
                        d = levels[level][:, y, x].tolist()
                        cx, cy = 4 * x + 2, 4 * y + 2
                        agreements.append(iou(boxes[i], [cx - d[0], cy - d[1], cx + d[2], cy + d[3]]))
                    error += 1 - max(agreements) if inside[y, x] else max(agreements)
            total += quality / max(int(inside.sum()), 1) * error
            count += 1
    return total / count, count


@pytest.mark.parametrize(
    ("has_levelness", "max_detections", "compat"),
    [(True, 40, "released"), (True, 3, "released"), (False, 40, "released"), (True, 40, "paper")],
)
def test_the_mask_loss_is_that_of_loops(has_levelness: bool, max_detections: int, compat: str) -> None:
    outputs, targets = outputs_for(2), targets_of(scenes(2))
    if not has_levelness:
        outputs = outputs._replace(levelness=None)
    expected, count = mask_loss_by_loops(outputs, targets, max_detections, compat)
    assert count == 6 if max_detections == 3 else count > 10
    decoding = DenseBoxDecoding(compat)  # type: ignore[arg-type]
    found = replace(SMALL, max_mask_queries=max_detections, decoding=decoding).loss(outputs, targets)["mask"]
    assert float(found.detach()) == pytest.approx(expected, rel=1e-4)


def test_gradients_of_the_mask_loss_flow_through_boxes_of_chosen_levels_alone() -> None:
    outputs, targets = outputs_for(1), targets_of(scenes(1))
    levelness = torch.zeros_like(outputs.levelness)
    levelness[:, 2] = 9.0  # every cell takes the second level
    outputs = outputs._replace(levelness=levelness.requires_grad_())
    SMALL.loss(outputs, targets)["mask"].backward()
    begins = [0]
    for s in level_sizes(Pyramid(SIZE, 8, 3)):
        begins.append(begins[-1] + s.area)
    first, second, third = (outputs.box.grad[..., a:b] for a, b in pairwise(begins))
    assert second.abs().sum() > 0
    assert first.abs().sum() == third.abs().sum() == 0
    for part in (outputs.semantic, outputs.box_category, outputs.centerness, outputs.levelness):
        assert part.grad is None or part.grad.abs().sum() == 0

    # The query's own box gets a gradient only on request, in addition to those of the cells.
    moved = outputs_for(1)
    moved = moved._replace(levelness=levelness.detach())
    replace(SMALL, detach_query=False).loss(moved, targets)["mask"].backward()
    assert moved.box.grad[..., : begins[1]].abs().sum() > 0


def test_gradients_of_the_mask_loss_are_those_of_small_steps() -> None:
    outputs, targets = outputs_for(1), targets_of(scenes(1))
    SMALL.loss(outputs, targets)["mask"].backward()
    g = torch.Generator().manual_seed(3)
    # Queries shall stay where they are: what stands at their locations is left alone.
    chosen = select_boxes(
        outputs.box_category[0],
        outputs.box[0],
        outputs.centerness[0],
        Pyramid(SIZE, 8, 3),
        SIZE,
        BoxSelection(threshold=0.0),
    ).location
    direction = torch.randn(outputs.box.shape, generator=g)
    direction[..., chosen] = 0
    step = 1e-2
    ends = [float(_mask_with(outputs, outputs.box.detach() + s * step * direction, targets)) for s in (-1, 1)]
    slope = float((outputs.box.grad * direction).sum())
    assert slope != 0
    assert (ends[1] - ends[0]) / (2 * step) == pytest.approx(slope, rel=0.05)


def _mask_with(outputs: DenseBoxOutputs, box: Tensor, targets: DenseBoxTargets) -> Tensor:
    return SMALL.loss(outputs._replace(box=box), targets)["mask"].detach()


def test_perfect_boxes_cost_no_mask_loss() -> None:
    # One object fills the image's left half, one level only: its boxes agree at all cells of its own, and the others
    # point elsewhere.
    ids = torch.ones(SIZE, dtype=torch.int32)
    ids[:, 48:] = 2
    truth = PanopticMap(ids, torch.tensor([2, 3]))
    representation = replace(SMALL, level_ends=())
    targets = DenseBoxTargets(*(t[None] for t in representation.encode(truth, SHAPES, SIZE)))
    logits = torch.where(targets.box_category[:, None] == torch.tensor([1, 2])[:, None], 9.0, -9.0)
    h, w = SIZE[0] // 8, SIZE[1] // 8
    outputs = DenseBoxOutputs(
        torch.zeros(1, 4, h, w),
        logits,
        targets.box,
        torch.zeros(1, h * w),
        torch.zeros(1, 2, 2 * h, 2 * w),
    )
    loss = representation.loss(outputs, targets)
    # Distances change by a pixel a pixel, but where the image ends (by 2 pixels, in one cell of 2 x 24) and where the
    # objects meet: cells beside that take distances of both.
    assert float(loss["box"]) == pytest.approx(0, abs=1e-6)
    assert 0 <= float(loss["mask"]) < 0.2
    worse = representation.loss(outputs._replace(box=outputs.box * 1.3), targets)
    assert float(worse["mask"]) > 2 * float(loss["mask"])


# Few objects


def truth_of(kind: str) -> PanopticMap:
    whole = torch.ones(SIZE, dtype=torch.int32)
    if kind == "all void":
        return PanopticMap(torch.zeros(SIZE, dtype=torch.int32), torch.tensor([0, 2]))
    if kind == "one crowd":
        return PanopticMap(whole, torch.tensor([2]), None, torch.tensor([True]))
    if kind == "one thing":
        return PanopticMap(whole, torch.tensor([2]))
    if kind == "one stuff":
        return PanopticMap(whole, torch.tensor([0]))
    if kind == "one location":
        whole[4, 4] = 2
        return PanopticMap(whole, torch.tensor([0, 3]))
    assert kind == "empty"
    return PanopticMap.empty(SIZE)


@pytest.mark.parametrize("supervision", ["masks", "boxes"])
@pytest.mark.parametrize("normalization", ["positives", "locations"])
@pytest.mark.parametrize("kind", ["empty", "all void", "one crowd", "one thing", "one stuff", "one location"])
def test_losses_are_finite_with_a_gradient_path_to_every_output(
    kind: str, normalization: str, supervision: str
) -> None:
    representation = replace(
        SMALL,
        category_normalization=normalization,  # type: ignore[arg-type]
        supervision=supervision,  # type: ignore[arg-type]
    )
    outputs, targets = outputs_for(2), targets_of([truth_of(kind)] * 2, representation)
    losses = representation.loss(outputs, targets)
    assert ("mask" in losses) == (supervision == "masks")
    for name, loss in losses.items():
        assert loss.ndim == 0, name
        assert loss >= 0, name
        assert torch.isfinite(loss), name
        assert loss.requires_grad, name
    torch.stack(list(losses.values())).sum().backward()
    for name, part in outputs._asdict().items():
        assert part.grad is not None, name
        assert torch.isfinite(part.grad).all(), name
    # A box of one pixel, whose location lies on its sides, has nothing strictly inside.
    num_objects = 2 if kind == "one location" and supervision == "masks" else 0
    assert int((targets.box_category > 0).sum()) == num_objects or kind == "one thing"
    if kind in ("empty", "all void"):
        assert all(loss == 0 for loss in losses.values())
    if kind == "one crowd":
        assert all(loss == 0 for name, loss in losses.items() if name != "semantic")
        assert losses["semantic"] > 0


def test_boxes_of_no_size_and_of_any_size_cost_finitely() -> None:
    outputs, targets = outputs_for(1), targets_of(scenes(1))
    for size in (1e-30, 1e4):
        for kind in ("iou", "giou"):
            box = torch.full_like(outputs.box, size).requires_grad_()
            representation = replace(SMALL, box_loss=kind)  # type: ignore[arg-type]
            losses = representation.loss(outputs._replace(box=box), targets)
            torch.stack(list(losses.values())).sum().backward()
            assert all(torch.isfinite(loss) for loss in losses.values())
            assert torch.isfinite(box.grad).all()


def test_networks_in_double_precision_have_losses_of_the_same_type() -> None:
    outputs, targets = outputs_for(1), targets_of(scenes(1))
    double = DenseBoxOutputs(*(o.detach().double().requires_grad_() for o in outputs))
    for kind in ("iou", "giou"):
        representation = replace(SMALL, box_loss=kind)  # type: ignore[arg-type]
        losses = representation.loss(double, targets)
        for name, loss in representation.loss(outputs, targets).items():
            assert losses[name].dtype == torch.float64, name
            torch.testing.assert_close(losses[name].float(), loss, rtol=1e-5, atol=0)


def test_targets_of_another_size_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"expected targets of 64x128 pixels .* got \[64, 96\]"):
        SMALL.loss(outputs_for(1, (64, 128)), targets_of(scenes(1)))


# Processes


def losses_and_gradients(share: slice, representation: DenseBoxRepresentation) -> tuple[dict, list[Tensor]]:
    # The second half has nothing in one image and little in the other: its counts are far from those of the first.
    truths = [*scenes(2), PanopticMap.empty(SIZE), truth_of("one location")]
    targets = DenseBoxTargets(*(t[share] for t in targets_of(truths, representation)))
    whole = outputs_for(4)
    outputs = DenseBoxOutputs(*(o.detach()[share].requires_grad_() for o in whole))
    losses = representation.loss(outputs, targets)
    torch.stack(list(losses.values())).sum().backward()
    return {name: loss.detach() for name, loss in losses.items()}, [o.grad for o in outputs]


ROWS = [SMALL, replace(SMALL, category_normalization="locations"), replace(SMALL, supervision="boxes")]


def joined(rank: int, folder: str) -> None:
    """Save what one of two processes sees of each row."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        share = slice(0, 2) if rank == 0 else slice(2, 4)
        torch.save([losses_and_gradients(share, row) for row in ROWS], f"{folder}/{rank}.pt")
    finally:
        distributed.destroy_process_group()


def test_two_processes_learn_what_one_does_with_the_whole_batch(tmp_path: Path) -> None:
    end_together(tmp_path, joined, 2, tmp_path)
    mine, theirs = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for row, (losses_0, gradients_0), (losses_1, gradients_1) in zip(ROWS, mine, theirs, strict=True):
        losses, gradients = losses_and_gradients(slice(None), row)
        for name, loss in losses.items():
            torch.testing.assert_close((losses_0[name] + losses_1[name]) / 2, loss, rtol=1e-5, atol=1e-6)
        for some, others, whole in zip(gradients_0, gradients_1, gradients, strict=True):
            assert whole[:2].abs().sum() > 0
            torch.testing.assert_close(torch.cat([some, others]) / 2, whole, rtol=1e-4, atol=1e-7)
