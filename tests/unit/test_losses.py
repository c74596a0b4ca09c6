from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.losses import hardest_cross_entropy, weighted_absolute_error, weighted_squared_error


def test_cross_entropy_counts_void_pixels_and_keeps_the_hardest() -> None:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 10, 10, generator=g)
    category = torch.randint(0, 6, (2, 10, 10), generator=g)
    weight = torch.randint(1, 4, (2, 10, 10), generator=g).float()
    cost = torch.stack(
        [
            -logits[b, :, y, x].log_softmax(0)[category[b, y, x] - 1] * weight[b, y, x]
            if category[b, y, x] > 0
            else torch.tensor(0.0)
            for b in range(2)
            for y in range(10)
            for x in range(10)
        ]
    )
    for fraction in (0.2, 0.203, 1.0):
        expected = cost.sort(descending=True).values[: int(fraction * 200)].mean()
        torch.testing.assert_close(hardest_cross_entropy(logits, category, weight, fraction), expected)


def test_cross_entropy_of_a_single_pixel_and_of_void_alone() -> None:
    one = torch.zeros(1, 2, 1, 1, requires_grad=True)
    category, weight = torch.ones(1, 1, 1, dtype=torch.int64), torch.ones(1, 1, 1)
    torch.testing.assert_close(hardest_cross_entropy(one, category, weight, 0.2), torch.tensor(2.0).log())
    loss = hardest_cross_entropy(one, category * 0, weight, 0.2)
    loss.backward()
    assert loss == 0
    assert torch.equal(one.grad, torch.zeros_like(one))


def test_squared_error_is_a_weighted_mean() -> None:
    prediction = torch.tensor([[[1.0, 2.0, 5.0]]], requires_grad=True)
    target, weight = torch.tensor([[[0.0, 4.0, 0.0]]]), torch.tensor([[[1.0, 3.0, 0.0]]])
    torch.testing.assert_close(weighted_squared_error(prediction, target, weight), torch.tensor((1 + 12) / 4))
    nothing = weighted_squared_error(prediction, target, weight * 0)
    nothing.backward()
    assert nothing == 0
    assert torch.equal(prediction.grad, torch.zeros_like(prediction))


@pytest.mark.parametrize(("divisor", "expected"), [("weights", (2 * 3 + 8 * 7) / 10), ("pixels", (2 * 3 + 8 * 7) / 3)])
def test_absolute_error_sums_channels_and_divides_once(divisor: str, expected: float) -> None:
    # Published code: |dy| + |dx| over the sum of one weight a pixel; Equation 1: over the number of pixels.
    prediction = torch.tensor([[[1.0, 3.0, 9.0]], [[2.0, 4.0, 9.0]]])[None]
    weight = torch.tensor([[[2.0, 8.0, 0.0]]])
    found = weighted_absolute_error(prediction, torch.zeros_like(prediction), weight, divisor)  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_an_unknown_divisor_is_refused() -> None:
    ones = torch.ones(1, 2, 3, 3)
    with pytest.raises(InvalidArgumentError, match=r'expected divisor "weights" or "pixels", got \'pixles\''):
        weighted_absolute_error(ones, ones, ones[:, 0], "pixles")  # type: ignore[arg-type]


def test_absolute_error_without_weight_is_zero_with_a_gradient_path() -> None:
    prediction = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = weighted_absolute_error(prediction, torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4))
    loss.backward()
    assert loss == 0
    assert torch.equal(prediction.grad, torch.zeros_like(prediction))


def test_absolute_error_without_boundary_weights_equals_l1() -> None:
    g = torch.Generator().manual_seed(1)
    prediction, target = torch.randn(2, 2, 6, 6, generator=g), torch.randn(2, 2, 6, 6, generator=g)
    found = weighted_absolute_error(prediction, target, torch.ones(2, 6, 6))
    torch.testing.assert_close(found, 2 * F.l1_loss(prediction, target))
