"""Matching and losses against a second implementation: mask by mask, and all assignments tried."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from maps import SHAPES, generated_map
from torch import Tensor
from torch.nn import functional as F

from panscape.representations.queries import QueryLossWeights, QueryTargets
from panscape.representations.queries import losses as losses_module
from panscape.representations.queries.encode import encode_queries
from panscape.representations.queries.losses import mask_losses, query_losses
from panscape.representations.queries.match import match_queries, matching_costs

SIZE = (32, 48)
WEIGHTS = QueryLossWeights()


def targets_of(*seeds: int, max_masks: int = 8) -> QueryTargets:
    """Different numbers of masks: by seed, some without one."""
    encoded = [
        encode_queries(generated_map(seed, size=SIZE, objects=seed, crowd=seed == 3), SHAPES, SIZE, max_masks)
        for seed in seeds
    ]
    return QueryTargets(*(torch.stack(parts) for parts in zip(*encoded, strict=True)))


def outputs_of(batch: int, queries: int, seed: int = 0, size: tuple[int, int] = (8, 12)) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    logits = (
        torch.randn(batch, queries, len(SHAPES) + 1, generator=g),
        3 * torch.randn(batch, queries, *size, generator=g),
    )
    return logits[0].requires_grad_(), logits[1].requires_grad_()


def focal_of(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the focal loss of a mask as its equation says: alpha 0.25, gamma 2, mean over pixels."""
    prob = torch.where(mask, logits.sigmoid(), 1 - logits.sigmoid())
    alpha = torch.where(mask, 0.25, 0.75)
    return (-alpha * (1 - prob) ** 2 * prob.clamp_min(1e-30).log()).mean()


def dice_of(logits: Tensor, mask: Tensor) -> Tensor:
    prob = logits.sigmoid()
    return 1 - (2 * prob[mask].sum() + 1) / (prob.sum() + mask.sum() + 1)


def costs_of(category_logits: Tensor, mask_logits: Tensor, numbers: Tensor, category: Tensor) -> Tensor:
    """Return the costs of one image: every fourth pixel of the ground truth, pair by pair."""
    masks = [numbers[::4, ::4] == n + 1 for n in range(int(category.count_nonzero()))]
    return torch.stack(
        [
            torch.stack(
                [
                    -logits.softmax(0)[category[n] - 1] + 20 * focal_of(planes, m) + dice_of(planes, m)
                    for n, m in enumerate(masks)
                ]
            )
            for logits, planes in zip(category_logits.double(), mask_logits.double(), strict=True)
        ]
    )


def test_costs_of_one_pixel_by_hand() -> None:
    # Two categories and none, of equal probability; the mask's logit is 0: focal loss 0.25 * 0.25 * ln 2.
    targets = QueryTargets(torch.ones(1, 1, 1, dtype=torch.int32), torch.tensor([[2]]))
    focal, dice = 0.0625 * math.log(2), 1 - (2 * 0.5 + 1) / (0.5 + 1 + 1)
    for weights, expected in (
        (QueryLossWeights(1, 0, 0), -1 / 3),
        (QueryLossWeights(0, 1, 0), focal),
        (QueryLossWeights(0, 0, 1), dice),
        (WEIGHTS, -1 / 3 + 20 * focal + dice),
    ):
        cost = matching_costs(torch.zeros(1, 1, 3), torch.zeros(1, 1, 1, 1), targets, weights)
        assert cost.item() == pytest.approx(expected, rel=1e-6)


def test_costs_and_matching_as_by_brute_force() -> None:
    targets, layers = targets_of(2, 3, 1, max_masks=5), [outputs_of(3, 6, seed) for seed in range(2)]
    matched = match_queries(layers, targets, WEIGHTS)
    assert matched.shape == (2, 3, 5)
    for layer, (category_logits, mask_logits) in enumerate(layers):
        costs = matching_costs(category_logits, mask_logits, targets, WEIGHTS)
        for image in range(3):
            truth = targets.mask[image], targets.category[image]
            expected = costs_of(category_logits[image], mask_logits[image], *truth).detach()
            num = expected.shape[1]
            torch.testing.assert_close(costs[image, :, :num].double(), expected, atol=1e-5, rtol=1e-5)
            best = min(permutations(range(6), num), key=lambda q: float(expected[list(q), range(num)].sum()))
            assert matched[layer, image].tolist() == [*best, *[-1] * (5 - num)]
    assert (targets.category > 0).sum(1).tolist() == [4, 4, 3]


def test_more_masks_than_queries_leave_the_costliest_out() -> None:
    targets, (category_logits, mask_logits) = targets_of(5), outputs_of(1, 3)
    matched = match_queries([(category_logits, mask_logits)], targets, WEIGHTS)[0, 0]
    expected = costs_of(category_logits[0], mask_logits[0], targets.mask[0], targets.category[0]).detach()
    rows = min(permutations(range(expected.shape[1]), 3), key=lambda r: float(expected[range(3), list(r)].sum()))
    assert {int(r): int(matched[r]) for r in (matched >= 0).nonzero()} == dict(zip(rows, range(3), strict=True))
    assert expected.shape[1] > 3


def test_outputs_that_are_not_finite_still_match() -> None:
    category_logits, mask_logits = (t.detach() for t in outputs_of(1, 6))
    matched = match_queries([(category_logits * torch.nan, mask_logits * torch.inf)], targets_of(3), WEIGHTS)
    assert matched[0, 0, :4].unique().numel() == 4


def test_losses_as_mask_by_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses_module, "_PIXELS_AT_ONCE", 2 * 32 * 48)  # two masks at once
    targets, layers = targets_of(2, 0, 4), [outputs_of(3, 6, seed) for seed in range(2)]
    matched = match_queries(layers, targets, WEIGHTS)
    found = query_losses(layers, targets, matched, 0.1)
    number = int(targets.category.count_nonzero())
    for layer, (category_logits, mask_logits) in enumerate(layers):
        whole = F.interpolate(mask_logits, size=SIZE, mode="bilinear", align_corners=False)
        category, focal, dice = torch.zeros(3).unbind()
        sum_of_weights = 0.0
        for image in range(3):
            row_of = {int(q): r for r, q in enumerate(matched[layer, image].tolist()) if q >= 0}
            for query in range(6):
                row = row_of.get(query)
                target, weight = (len(SHAPES), 0.1) if row is None else (int(targets.category[image, row]) - 1, 1.0)
                category = category - weight * category_logits[image, query].log_softmax(0)[target]
                sum_of_weights += weight
                if row is not None:
                    mask = targets.mask[image] == row + 1
                    focal = focal + focal_of(whole[image, query], mask) / number
                    dice = dice + dice_of(whole[image, query], mask) / number
        expected = [category / sum_of_weights, focal, dice]
        torch.testing.assert_close([loss[layer] for loss in found], expected, atol=1e-5, rtol=1e-5)
        found_gradients, gradients = (
            torch.autograd.grad(sum(losses), layers[layer], retain_graph=True)
            for losses in ([loss[layer] for loss in found], expected)
        )
        torch.testing.assert_close(found_gradients, gradients, atol=1e-6, rtol=1e-4)


def test_two_processes_share_their_divisors(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, (category_logits, mask_logits) = targets_of(1, 5), outputs_of(2, 6)

    def losses(images: slice) -> Tensor:
        part, layer = QueryTargets(*(t[images] for t in targets)), (category_logits[images], mask_logits[images])
        return torch.stack(query_losses([layer], part, match_queries([layer], part, WEIGHTS), 0.1))

    counts: list[Tensor] = []
    whole = losses(slice(None))
    monkeypatch.setattr(losses_module, "global_normalizers", lambda count: counts.append(count) or count)
    first, second = losses(slice(0, 1)), losses(slice(1, 2))
    divisors = torch.stack(counts)[:, [1, 0, 0]]  # of the cross entropy and twice the number of masks
    assert divisors[:, 1].tolist() == [3, 7]
    shared = divisors.mean(dim=0)  # as two processes compute it; their gradients are averaged
    average = (first[:, 0] * divisors[0] / shared + second[:, 0] * divisors[1] / shared) / 2
    torch.testing.assert_close(average, whole[:, 0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("logit", [0.0, 50.0, -50.0])
def test_an_image_without_masks_trains_no_object_only(logit: float) -> None:
    empty = QueryTargets(torch.zeros(1, *SIZE, dtype=torch.int32), torch.zeros(1, 4, dtype=torch.int64))
    category_logits, mask_logits = outputs_of(1, 20)
    mask_logits = (mask_logits + logit).detach().requires_grad_()
    layer = category_logits, mask_logits
    found = query_losses([layer], empty, match_queries([layer], empty, WEIGHTS), 0.1)
    assert [loss.tolist() for loss in found[1:]] == [[0], [0]]
    expected = F.cross_entropy(category_logits[0], torch.full((20,), len(SHAPES)))
    torch.testing.assert_close(found.category[0], expected, atol=1e-6, rtol=1e-6)
    gradients = torch.autograd.grad(torch.cat(found).sum(), layer)
    assert gradients[0].abs().sum() > 0
    assert not gradients[1].any()


def test_perfect_masks_cost_nothing() -> None:
    targets = targets_of(4)
    number = int(targets.category.count_nonzero())
    rows = torch.arange(number)
    logits = torch.where(targets.mask == rows[:, None, None] + 1, 40.0, -40.0)
    found = mask_losses(logits, targets.mask, torch.zeros_like(rows), rows + 1)
    assert float(found.abs().max()) < 1e-6
    assert number == 6


def test_matching_and_losses_as_in_transformers() -> None:
    # What MaskFormerHungarianMatcher and MaskFormerLoss of transformers 5.24.0 return for these inputs.
    queries = [
        [[6, 7, 1, 9], [5, 6, 1, 11], [10, 7, 6, 3, 5, 2, 1]],
        [[10, 3, 6, 1], [0, 2, 11, 6], [6, 8, 1, 2, 3, 4, 9]],
        [[4, 7, 2, 0], [3, 6, 8, 4], [9, 8, 4, 10, 7, 11, 5]],
    ]
    expected = torch.tensor(
        [
            [1.9800388813018799, 1.7365832328796387, 1.919302225112915],
            [0.3637663722038269, 0.41177961230278015, 0.3830518424510956],
            [0.7478605508804321, 0.7678701877593994, 0.7540441155433655],
        ]
    )
    targets, layers = targets_of(2, 3, 5), [outputs_of(3, 12, seed) for seed in range(3)]
    matched = match_queries(layers, targets, WEIGHTS)
    assert [[[q for q in image if q >= 0] for image in layer] for layer in matched.tolist()] == queries
    torch.testing.assert_close(torch.stack(query_losses(layers, targets, matched, 0.1)), expected, atol=1e-6, rtol=1e-5)
