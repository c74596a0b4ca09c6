from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from maps import SHAPES, a_map, generated_map

from panscape import LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.metrics import PanopticQuality
from panscape.representations.queries import (
    QUERY_ORACLES,
    QueryLossWeights,
    QueryOutputs,
    QueryRepresentation,
    QueryTargets,
)
from panscape.representations.queries.losses import query_losses
from panscape.representations.queries.match import match_queries
from panscape.visualize import PANEL_TITLES, draw_semantic

SIZE = (32, 48)
QUERIES = QueryRepresentation(max_masks=10)


def random_outputs(batch: int = 1, queries: int = 12, layers: int = 2) -> QueryOutputs:
    g = torch.Generator().manual_seed(0)

    def logits(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g).requires_grad_()

    last, grid = len(SHAPES) + 1, [side // 4 for side in SIZE]
    return QueryOutputs(
        logits(batch, queries, last),
        logits(batch, queries, *grid),
        logits(layers, batch, queries, last),
        logits(layers, batch, queries, *grid),
    )


def targets_of(*truths: PanopticMap) -> QueryTargets:
    encoded = [QUERIES.encode(truth, SHAPES, SIZE) for truth in truths]
    return QueryTargets(*(torch.stack(parts) for parts in zip(*encoded, strict=True)))


EMPTY = PanopticMap(torch.zeros(SIZE, dtype=torch.int32), torch.zeros(0, dtype=torch.int64))
OBJECT = PanopticMap(torch.ones(SIZE, dtype=torch.int32), torch.tensor([3]))
CROWD = PanopticMap(OBJECT.ids, OBJECT.category, None, torch.tensor([True]))
CROWDED = generated_map(5, size=SIZE, objects=30, smallest=4)


@pytest.mark.parametrize("truth", [EMPTY, OBJECT, CROWD, CROWDED])
@pytest.mark.parametrize("queries", [1, 12])
def test_losses_are_finite_with_a_gradient_whatever_the_truth(truth: PanopticMap, queries: int) -> None:
    outputs = random_outputs(2, queries)
    losses = QUERIES.loss(outputs, targets_of(truth, EMPTY), SHAPES)
    names = ["category", "focal", "dice"]
    assert list(losses) == [*names, *(f"auxiliary_{name}" for name in names)]
    gradients = torch.autograd.grad(torch.stack(list(losses.values())).sum(), outputs[:4])
    assert all(bool(g.isfinite().all()) for g in gradients)
    has_masks = truth is OBJECT or truth is CROWDED
    assert [bool(g.any()) for g in gradients] == [True, has_masks] * 2


def test_auxiliary_layers_have_the_same_losses_and_weights_multiply() -> None:
    outputs, targets = random_outputs(), targets_of(generated_map(1, size=SIZE))
    losses = QUERIES.loss(outputs, targets, SHAPES)
    no_layers = outputs._replace(
        auxiliary_category_logits=outputs.auxiliary_category_logits[:0],
        auxiliary_mask_logits=outputs.auxiliary_mask_logits[:0],
    )
    last = QUERIES.loss(no_layers, targets, SHAPES)
    assert {name: float(losses[name].detach()) for name in last} == {n: float(v.detach()) for n, v in last.items()}
    layers = [
        QUERIES.loss(no_layers._replace(category_logits=category, mask_logits=mask), targets, SHAPES)
        for category, mask in zip(outputs.auxiliary_category_logits, outputs.auxiliary_mask_logits, strict=True)
    ]
    for name in last:
        torch.testing.assert_close(losses[f"auxiliary_{name}"], layers[0][name] + layers[1][name], atol=0, rtol=1e-6)
    # All terms of the cost times 3 give the same matching.
    tripled = replace(QUERIES, loss_weights=QueryLossWeights(3.0, 60.0, 3.0)).loss(outputs, targets, SHAPES)
    for name, loss in losses.items():
        torch.testing.assert_close(tripled[name], 3 * loss, atol=0, rtol=1e-6)


def test_a_first_stage_has_the_same_losses_by_its_weight() -> None:
    targets, first = targets_of(generated_map(1, size=SIZE)), random_outputs()
    second = QueryOutputs(first.category_logits.flip(1), first.mask_logits.neg())
    own, of_first = (QUERIES.loss(one, targets, SHAPES) for one in (second, first))
    for weight in (0.4, 2.0):
        queries = replace(QUERIES, first_stage_weight=weight)
        both = queries.loss(second._replace(first_stage=first), targets, SHAPES)
        assert list(both) == [*own, *(f"first_{name}" for name in of_first)]
        for name, loss in both.items():
            expected = own[name] if name in own else weight * of_first[name.removeprefix("first_")]
            torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("side", [2, 4])
def test_a_loss_stride_compares_masks_at_one_pixel_of_each_square(side: int) -> None:
    outputs, targets = random_outputs(), targets_of(generated_map(1, size=SIZE))
    losses = replace(QUERIES, loss_stride=side).loss(outputs, targets, SHAPES)
    thin = torch.zeros(1, SIZE[0] // side, SIZE[1] // side, dtype=torch.int32)
    for y, x in product(range(thin.shape[1]), range(thin.shape[2])):
        thin[0, y, x] = targets.mask[0, side * y + x % side, side * x + y % side]
    matched = match_queries(outputs.layers, targets, QUERIES.loss_weights)
    expected = query_losses(outputs.layers, targets._replace(mask=thin), matched, QUERIES.no_object_weight)
    torch.testing.assert_close(losses["focal"], 20 * expected.focal[-1])
    torch.testing.assert_close(losses["auxiliary_dice"], expected.dice[:-1].sum())
    assert torch.equal(losses["category"], QUERIES.loss(outputs, targets, SHAPES)["category"])
    with pytest.raises(InvalidArgumentError, match="expected a loss_stride of 1, 2 or 4, got 3"):
        QueryRepresentation(loss_stride=3)


def test_outputs_that_do_not_fit_are_an_error() -> None:
    outputs, targets = random_outputs(2), targets_of(OBJECT)
    with pytest.raises(InvalidArgumentError, match=r"of 1 images of 32x48 pixels at stride 4, got \[2, 12, 8, 12\]"):
        QUERIES.loss(outputs, targets, SHAPES)
    with pytest.raises(InvalidArgumentError, match="expected 20 category logits, those of cityscapes and no object, g"):
        QUERIES.loss(random_outputs(), targets, LabelSpace.load("cityscapes"))


@pytest.mark.parametrize("elements", [2**24, 2 * 12 * 45])
def test_semantic_segmentation_is_the_sum_over_queries(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panscape.representations.queries.semantic._ELEMENTS_AT_ONCE", elements)
    outputs = random_outputs(2)
    outputs = outputs._replace(mask_logits=3 * outputs.mask_logits, category_logits=3 * outputs.category_logits)
    geometries = [ImageGeometry.of((30, 45)), ImageGeometry.of((60, 91), (32, 40))]
    found = QUERIES.decode_semantic(outputs, geometries)
    for index, (size, seen) in enumerate((((30, 45), (30, 45)), ((60, 91), (32, 40)))):
        masks = torch.nn.functional.interpolate(outputs.mask_logits[index][None], size=SIZE, mode="bilinear")
        masks = masks[..., : seen[0], : seen[1]]
        masks = torch.nn.functional.interpolate(masks, size=size, mode="bilinear")[0].sigmoid()
        scores = torch.einsum("qc,qhw->chw", outputs.category_logits[index].softmax(1)[:, :4], masks)
        top = scores.topk(2, dim=0).values
        is_clear = top[0] - top[1] > 1e-4
        assert is_clear.float().mean() > 0.99
        assert torch.equal(found[index][is_clear], scores.argmax(0)[is_clear])
        assert len(found[index].unique()) > 1


def test_panels_show_categories_queries_and_their_certainty() -> None:
    outputs = random_outputs(queries=2)
    category, masks = torch.zeros(1, 2, 5), torch.full((1, 2, 8, 12), -9.0)
    category[0, 0, 2], category[0, 1, 1] = 9, 1
    masks[0, 0, 2:4, 3:6], masks[0, 1] = 9, 0
    outputs = outputs._replace(category_logits=category, mask_logits=masks)
    panels = QUERIES.visualize(outputs, (30, 45), SHAPES)
    assert list(panels) == ["semantic", "queries", "probability"]
    assert set(panels) <= set(PANEL_TITLES)
    assert all((image.shape, image.dtype) == ((3, 30, 45), torch.uint8) for image in panels.values())
    expected = torch.ones(30, 45, dtype=torch.int64)
    expected[8:16, 12:24] = 2
    is_border = torch.zeros(30, 45, dtype=torch.bool)
    is_border[6:18, 10:26] = True
    is_border[10:14, 14:22] = False
    assert torch.equal(panels["semantic"][:, ~is_border], draw_semantic(expected, SHAPES)[:, ~is_border])
    sure, unsure = (int(panels["probability"][:, y, x].sum()) for y, x in ((12, 18), (25, 40)))
    assert sure > 700 > 300 > unsure
    # The second query is too unsure for the map, but is drawn.
    assert QUERIES.decode(outputs, [ImageGeometry.of((30, 45))], SHAPES)[0].category.tolist() == [2]
    assert panels["queries"][:, 12, 18].tolist() != panels["queries"][:, 25, 40].tolist() != [0, 0, 0]


def test_minimising_the_losses_makes_outputs_that_decode_to_the_truth() -> None:
    truth = a_map(
        "\n".join(["AAAAAABBBBBB"] * 3 + ["CCCAAABBBBBB"] * 3 + ["CCCAAADDDDAA"] * 2), {"A": 0, "B": 2, "C": 2, "D": 3}
    )
    truth = truth.resize(*SIZE)
    targets, outputs = targets_of(truth), random_outputs(queries=6, layers=0)
    optimizer = torch.optim.Adam(outputs[:2], 0.3)
    for _ in range(60):
        optimizer.zero_grad()
        torch.stack(list(QUERIES.loss(outputs, targets, SHAPES).values())).sum().backward()
        optimizer.step()
    found = QUERIES.decode(outputs, [ImageGeometry.of(SIZE)], SHAPES)[0]
    assert sorted(found.category.tolist()) == [0, 2, 2, 3]
    report = PanopticQuality(SHAPES)
    report.update(found, truth)
    assert report.compute().all.pq > 0.9


def test_oracles_replace_their_parts() -> None:
    truth = generated_map(3, size=SIZE, void=False, objects=4)
    targets = targets_of(truth)
    number = int(targets.category.count_nonzero())
    outputs = random_outputs(queries=number + 2)
    rows = torch.arange(number)
    # Sure, right and shifted by three pixels, but for two wrong categories; two queries are surplus.
    planes = torch.where(targets.mask.roll(3, 2) == rows[:, None, None] + 1, 4.0, -4.0)
    masks = torch.full((1, number + 2, 8, 12), -5.0)
    masks[0, :number] = torch.nn.functional.avg_pool2d(planes, 4)
    category = torch.zeros(1, number + 2, 5)
    category[0, rows, targets.category[0, :number] - 1] = 5
    category[0, 0] = category[0, 0].roll(1)
    category[0, number:, 1] = 5
    outputs = outputs._replace(category_logits=category, mask_logits=masks)
    quality = {}
    for parts in ((), ("categories",), ("masks",), QUERY_ORACLES):
        found = QUERIES.decode_with_truth(outputs, truth, parts, SHAPES)
        quality[parts] = int((found.semantic(void=-1) == truth.semantic(void=-1)).sum())
    assert quality[()] < quality["masks",] < quality[QUERY_ORACLES] == truth.ids.numel()
    assert quality[()] < quality["categories",] < quality[QUERY_ORACLES]
    assert QUERIES.decode_with_truth(outputs, truth, (), SHAPES).equals(
        QUERIES.decode(outputs, [ImageGeometry.of(SIZE)], SHAPES)[0]
    )


def test_maps_have_the_size_of_their_image() -> None:
    outputs = random_outputs(2)
    category = torch.full_like(outputs.category_logits, -20.0)
    category[:, 0, 0], category[:, 1, 2], category[:, 2:, 4] = 20.0, 20.0, 20.0
    masks = torch.full_like(outputs.mask_logits, -20.0)
    masks[:, 0], masks[:, 1, 2:4, 3:6] = 1.0, 20.0
    outputs = outputs._replace(category_logits=category, mask_logits=masks)
    geometries = [ImageGeometry.of((30, 45), padded_size=SIZE), ImageGeometry.of((60, 90), (30, 45))]
    first, second = QUERIES.decode(outputs, geometries, SHAPES)
    assert (first.size, second.size) == ((30, 45), (60, 90))
    assert first.category.tolist() == second.category.tolist() == [0, 2]
    (left, top, right, bottom), twice = first.boxes()[1].tolist(), second.boxes()[1].tolist()
    assert abs(left - 12) + abs(top - 8) + abs(right - 24) + abs(bottom - 16) <= 4
    assert max(abs(a - 2 * b) for a, b in zip(twice, (left, top, right, bottom), strict=True)) <= 1
