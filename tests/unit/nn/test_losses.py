from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.nn.losses import (
    dice_loss,
    global_normalizers,
    ltrb_iou_loss,
    ohem_cross_entropy,
    ohem_cross_entropy_per_image,
    sigmoid_focal_loss,
    weighted_l1_loss,
    weighted_mse_loss,
)


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
        torch.testing.assert_close(ohem_cross_entropy(logits, category, weight, fraction), expected)


def test_cross_entropy_of_a_single_pixel_and_of_void_alone() -> None:
    one = torch.zeros(1, 2, 1, 1, requires_grad=True)
    category, weight = torch.ones(1, 1, 1, dtype=torch.int64), torch.ones(1, 1, 1)
    torch.testing.assert_close(ohem_cross_entropy(one, category, weight, 0.2), torch.tensor(2.0).log())
    loss = ohem_cross_entropy(one, category * 0, weight, 0.2)
    loss.backward()
    assert loss == 0
    assert torch.equal(one.grad, torch.zeros_like(one))


def test_squared_error_is_a_weighted_mean() -> None:
    prediction = torch.tensor([[[1.0, 2.0, 5.0]]], requires_grad=True)
    target, weight = torch.tensor([[[0.0, 4.0, 0.0]]]), torch.tensor([[[1.0, 3.0, 0.0]]])
    torch.testing.assert_close(weighted_mse_loss(prediction, target, weight), torch.tensor((1 + 12) / 4))


@pytest.mark.parametrize(("divisor", "expected"), [("weights", (2 * 3 + 8 * 7) / 10), ("pixels", (2 * 3 + 8 * 7) / 3)])
def test_absolute_error_sums_channels_and_divides_once(divisor: str, expected: float) -> None:
    # Published code: |dy| + |dx| over the sum of one weight a pixel; Equation 1: over the number of pixels.
    prediction = torch.tensor([[[1.0, 3.0, 9.0]], [[2.0, 4.0, 9.0]]])[None]
    weight = torch.tensor([[[2.0, 8.0, 0.0]]])
    found = weighted_l1_loss(prediction, torch.zeros_like(prediction), weight, divisor)  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_an_unknown_divisor_is_refused() -> None:
    ones = torch.ones(1, 2, 3, 3)
    with pytest.raises(InvalidArgumentError, match=r'expected divisor "weights" or "pixels", got \'pixles\''):
        weighted_l1_loss(ones, ones, ones[:, 0], "pixles")  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [1.0, 200.0, 65536 * 200.0])  # of the loss: none, a weight, that and fp16's
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_errors_without_weights_are_zero_and_so_is_their_gradient(dtype: torch.dtype, scale: float) -> None:
    plane = torch.randn(1, 4, 4, dtype=dtype, requires_grad=True)
    vector = torch.randn(1, 2, 4, 4, dtype=dtype, requires_grad=True)
    none = torch.zeros(1, 4, 4)
    losses = [weighted_mse_loss(plane, none, none), weighted_l1_loss(vector, none[:, None], none)]
    for loss, prediction in zip(losses, (plane, vector), strict=True):
        (scale * loss).backward()
        assert loss == 0
        assert torch.equal(prediction.grad, torch.zeros_like(prediction))


def test_absolute_error_without_boundary_weights_equals_l1() -> None:
    g = torch.Generator().manual_seed(1)
    prediction, target = torch.randn(2, 2, 6, 6, generator=g), torch.randn(2, 2, 6, 6, generator=g)
    found = weighted_l1_loss(prediction, target, torch.ones(2, 6, 6))
    torch.testing.assert_close(found, 2 * F.l1_loss(prediction, target))


def test_bootstrapped_cross_entropy_takes_the_hardest_of_each_image_and_no_void() -> None:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, 9, generator=g)
    category = torch.randint(0, 6, (3, 7, 9), generator=g)
    category[1] = 0  # nothing is known of one image, little of another
    category[2, 1:] = 0
    means = []
    for b in range(3):
        cost = [
            float(-logits[b, :, y, x].log_softmax(0)[category[b, y, x] - 1])
            for y in range(7)
            for x in range(9)
            if category[b, y, x] > 0
        ]
        hardest = sorted(cost, reverse=True)[: -(-3 * len(cost) // 10)]
        means.append(sum(hardest) / max(len(hardest), 1))
    assert means[1] == 0
    found = ohem_cross_entropy_per_image(logits.requires_grad_(), category, 0.3)
    torch.testing.assert_close(found, torch.tensor(sum(means) / 3), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        ohem_cross_entropy_per_image(logits[:1], category[:1], 1.0),
        F.cross_entropy(logits[:1], category[:1] - 1, ignore_index=-1),
    )
    found.backward()
    assert (logits.grad.abs().sum(1) > 0)[category == 0].sum() == 0


def test_bootstrapped_cross_entropy_with_weights_takes_what_is_hardest_with_them() -> None:
    g = torch.Generator().manual_seed(0)
    logits, weights = torch.randn(2, 3, 5, 8, generator=g), (1.0, 4.0, 0.25)
    category = torch.randint(0, 4, (2, 5, 8), generator=g)
    means = []
    for b in range(2):
        cost = [
            weights[c - 1] * float(-logits[b, :, y, x].log_softmax(0)[c - 1])
            for y in range(5)
            for x in range(8)
            if (c := int(category[b, y, x]))
        ]
        hardest = sorted(cost, reverse=True)[: -(-3 * len(cost) // 10)]
        means.append(sum(hardest) / len(hardest))
    found = ohem_cross_entropy_per_image(logits, category, 0.3, weights)
    torch.testing.assert_close(found, torch.tensor(sum(means) / 2), rtol=1e-6, atol=0)
    ones = ohem_cross_entropy_per_image(logits, category, 0.3, (1.0, 1.0, 1.0))
    assert torch.equal(ones, ohem_cross_entropy_per_image(logits, category, 0.3))


def test_bootstrapped_cross_entropy_of_void_alone_is_zero_with_a_gradient_path() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = ohem_cross_entropy_per_image(logits, torch.zeros(2, 4, 4, dtype=torch.int64), 0.3)
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_focal_cross_entropy_by_hand() -> None:
    logits, target = torch.tensor([0.0, 0.0, 3.0, 3.0]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    prob = 1 / (1 + math.exp(-3))
    expected = [
        0.25 * 0.25 * math.log(2),
        0.75 * 0.25 * math.log(2),
        -0.25 * (1 - prob) ** 2 * math.log(prob),
        -0.75 * prob**2 * math.log(1 - prob),
    ]
    torch.testing.assert_close(sigmoid_focal_loss(logits, target), torch.tensor(expected))


def test_box_distance_losses_are_those_of_torchvision() -> None:
    from torchvision import ops

    g = torch.Generator().manual_seed(2)
    some, other = 50 * torch.rand(40, 4, generator=g), 50 * torch.rand(40, 4, generator=g)
    point = torch.tensor([100.0, 80.0, 100.0, 80.0])
    a, b = (point + box * torch.tensor([-1, -1, 1, 1]) for box in (some, other))
    giou = ops.generalized_box_iou(a, b).diagonal()
    torch.testing.assert_close(ltrb_iou_loss(some, other, "giou"), 1 - giou, rtol=1e-4, atol=1e-5)
    # Of large boxes, the pixel that FCOS adds is nothing.
    iou = ops.box_iou(a, b).diagonal()
    torch.testing.assert_close(ltrb_iou_loss(1e3 * some, 1e3 * other, "iou"), -iou.log(), rtol=1e-3, atol=1e-4)
    # By hand: 4x4 and 2x4 pixels around a point, the second in the first.
    one = ltrb_iou_loss(torch.tensor([[2.0, 2, 2, 2]]), torch.tensor([[1.0, 2, 1, 2]]), "iou")
    torch.testing.assert_close(one, torch.tensor([math.log(17 / 9)]))


def test_box_distance_losses_of_no_boxes_and_of_an_unknown_kind() -> None:
    none = torch.zeros(0, 4, requires_grad=True)
    for kind in ("iou", "giou"):
        loss = ltrb_iou_loss(none, torch.zeros(0, 4), kind)  # type: ignore[arg-type]
        assert loss.shape == (0,)
        loss.sum().backward()
    with pytest.raises(InvalidArgumentError, match=r'expected kind "iou" or "giou", got \'diou\''):
        ltrb_iou_loss(none, none, "diou")  # type: ignore[arg-type]


def test_divisors_of_one_process_are_its_counts_and_at_least_one() -> None:
    found = global_normalizers(torch.tensor([0, 1, 70_000]))
    assert found.dtype == torch.float32
    assert found.tolist() == [1, 1, 70_000]


def test_dice_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0, math.log(3), 0.0], [-90.0] * 4, [90.0] * 4], requires_grad=True)
    mask = torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    loss = dice_loss(logits, mask)
    torch.testing.assert_close(loss, torch.tensor([1 - (2 * 1.25 + 1) / (2.25 + 2 + 1), 0, 0]), atol=1e-6, rtol=0)
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad[0].sign().tolist() == [-1, 1, -1, 1]
    assert bool(logits.grad.isfinite().all())
