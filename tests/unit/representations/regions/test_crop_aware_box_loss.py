"""The crop-aware box loss against published vectors, a dense scan and torchvision's ordinary loss."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder

from panscape.errors import InvalidArgumentError
from panscape.ops.boxes import cut_off_sides, encode_boxes
from panscape.representations.regions.crop_aware_box_loss import (
    crop_aware_box_loss,
    crop_aware_targets,
)

FIRST_STAGE = ((1.0, 1.0, 1.0, 1.0), 1 / 9)
SECOND_STAGE = ((10.0, 10.0, 5.0, 5.0), 1.0)

# stage, predicted centre and length, visible edges, free sides; best centre and length, loss, ordinary loss
VECTORS = [
    (FIRST_STAGE, 0.0, 1.0, -0.5, 0.3, 0, 0, -0.100000, 0.800000, 0.212588, 0.212588),
    (FIRST_STAGE, 0.4, 1.6, -0.5, 0.5, 0, 1, 0.340817, 1.681634, 0.026905, 0.758893),
    (FIRST_STAGE, 2.0, 0.5, -0.5, 0.5, 0, 1, 1.954736, 4.909472, 2.237978, 2.582036),
    (FIRST_STAGE, 3.0, 0.4, -0.5, 0.5, 0, 1, 2.967961, 6.935921, 2.802068, 3.805180),
    (FIRST_STAGE, -0.2, 1.2, -0.5, 0.5, 1, 0, -0.127816, 1.255633, 0.032689, 0.271210),
    (FIRST_STAGE, 0.1, 1.5, -0.5, 0.5, 1, 1, 0.100000, 1.500000, 0.0, 0.394910),
    (FIRST_STAGE, 0.3, 0.9, -0.5, 0.5, 1, 1, 0.000000, 1.000000, 0.294398, 0.294398),
    (FIRST_STAGE, 0.6, 1.5, -0.5, 0.5, 1, 1, 0.321698, 1.643396, 0.260257, 0.894354),
    (SECOND_STAGE, 0.4, 1.6, -0.5, 0.5, 0, 1, 0.374535, 1.749070, 0.131615, 5.350018),
    (SECOND_STAGE, 2.0, 0.5, -0.5, 0.5, 0, 1, 1.979837, 4.959675, 10.992763, 22.465736),
    (SECOND_STAGE, 0.3, 0.9, -0.5, 0.5, 1, 1, 0.231662, 1.463325, 2.163859, 2.638760),
    (SECOND_STAGE, 0.6, 1.5, -0.5, 0.5, 1, 1, 0.552494, 2.104988, 1.307064, 7.027326),
]


def along_x(center, length, low, high, low_free, high_free, weights):
    """Return offsets, anchors, visible boxes and cut-off sides; along y, the prediction is right."""
    anchor = torch.tensor([[40.0, 40.0, 60.0, 60.0]], dtype=torch.float64)
    visible = torch.tensor([[50 + 20 * low, 40.0, 50 + 20 * high, 60.0]], dtype=torch.float64)
    offsets = torch.tensor([[center, 0.0, np.log(length), 0.0]], dtype=torch.float64) * torch.tensor(weights)
    return offsets, anchor, visible, torch.tensor([[bool(low_free), False, bool(high_free), False]])


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("vector", VECTORS)
def test_published_vectors(vector, axis):
    (weights, beta), *case, center, length, expected, ordinary = vector
    swap = [0, 1, 2, 3] if axis == "x" else [1, 0, 3, 2]
    offsets, anchors, visible, cut_off = (t[:, swap] for t in along_x(*case, weights))
    options = {"weights": weights, "beta": beta}
    assert float(crop_aware_box_loss(offsets, anchors, visible, cut_off, **options)) == pytest.approx(
        expected, abs=6e-7
    )
    none = torch.zeros_like(cut_off)
    assert float(crop_aware_box_loss(offsets, anchors, visible, none, **options)) == pytest.approx(ordinary, abs=6e-7)
    targets = crop_aware_targets(offsets, encode_boxes(visible, anchors, weights), cut_off, **options)
    best = (targets / torch.tensor(weights))[0, swap]
    assert best.tolist() == pytest.approx([center, 0.0, np.log(length), 0.0], abs=1.5e-6)


def problems(num, seed, both=False):
    """Return boxes in a crop with partly cut-off objects, and predictions near and far from them."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)

    size = torch.exp(uniform(np.log(8), np.log(400), num, 2))
    center = uniform(-40, 296, num, 2)
    boxes = torch.cat([center - size / 2, center + size / 2], 1).round()
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    visible = boxes.clamp(0, 256)
    keep = (visible[:, 2:] > visible[:, :2]).all(1)
    boxes, visible = boxes[keep], visible[keep]
    cut_off = cut_off_sides(boxes, visible, (256, 256))
    if both:
        cut_off = torch.ones_like(cut_off)
    anchor_size = torch.exp(uniform(np.log(8), np.log(300), len(boxes), 2))
    anchor_center = (visible[:, :2] + visible[:, 2:]) / 2 + uniform(-0.4, 0.4, len(boxes), 2) * anchor_size
    anchors = torch.cat([anchor_center - anchor_size / 2, anchor_center + anchor_size / 2], 1)
    noise = torch.randn(len(boxes), 4, generator=generator, dtype=torch.float64)
    return encode_boxes(visible, anchors) + 0.7 * noise, anchors, visible, cut_off


def huber(x, beta):
    return torch.where(x.abs() < beta, x * x / (2 * max(beta, 1e-300)), x.abs() - beta / 2)


def scanned(center, log_size, low, high, low_free, high_free, weight, size_weight, beta):
    """Return the smallest loss along one axis of each box, [L], by a dense scan that is refined around its best."""

    def loss(delta, omega):
        size_error = size_weight * (log_size[:, None] - omega.log())
        return huber(weight * (center[:, None] - delta), beta) + huber(size_error, beta)

    shortest = high - low
    best = loss(((low + high) / 2)[:, None], shortest[:, None])[:, 0]
    for is_free, edge, sign in ((high_free, low, 1), (low_free, high, -1)):
        longest = 1.01 * torch.stack([shortest, log_size.exp(), 2 * (center - edge).abs()]).amax(0)
        start, end = shortest, longest
        for num in (1000, 41, 41, 41):
            grid = start[:, None] + (end - start)[:, None] * torch.linspace(0, 1, num, dtype=torch.float64)
            least, at = loss(edge[:, None] + sign * grid / 2, grid).min(dim=1)
            best = torch.where(is_free, torch.minimum(best, least), best)
            start, end = (grid.gather(1, (at + d).clamp(0, num - 1)[:, None])[:, 0] for d in (-1, 1))
    covers = (center - log_size.exp() / 2 <= low) & (center + log_size.exp() / 2 >= high)
    return torch.where(covers & low_free & high_free, 0.0, best)


@pytest.mark.parametrize("stage", [FIRST_STAGE, SECOND_STAGE, ((1.0, 1.0, 1.0, 1.0), 0.0)])
@pytest.mark.parametrize("both", [False, True])
def test_no_admissible_box_has_a_smaller_loss(stage, both):
    weights, beta = stage
    offsets, anchors, visible, cut_off = problems(1200 if both else 4200, seed=int(10 * beta) + both, both=both)
    ordinary = encode_boxes(visible, anchors)
    scaled = torch.tensor(weights, dtype=torch.float64)
    targets = crop_aware_targets(offsets * scaled, ordinary * scaled, cut_off, weights=weights, beta=beta)
    losses = F.smooth_l1_loss(offsets * scaled, targets, reduction="none", beta=beta)
    losses = losses[:, :2] + losses[:, 2:]  # along x and y
    best = targets / scaled
    low, high = (best[:, :2] + sign * best[:, 2:].exp() / 2 for sign in (-1, 1))
    visible_low, visible_high = (ordinary[:, :2] + sign * ordinary[:, 2:].exp() / 2 for sign in (-1, 1))
    assert (low - visible_low).abs()[~cut_off[:, :2]].sum() < 1e-9
    assert (high - visible_high).abs()[~cut_off[:, 2:]].sum() < 1e-9
    assert (low <= visible_low + 1e-12).all()
    assert (high >= visible_high - 1e-12).all()
    free = cut_off[:, :2] | cut_off[:, 2:]
    values = (offsets[:, :2], offsets[:, 2:], visible_low, visible_high, cut_off[:, :2], cut_off[:, 2:])
    expected = scanned(*(value[free] for value in values), weights[0], weights[2], beta)
    assert len(expected) > 1700
    difference = losses[free] - expected
    assert difference.max() < 1e-9
    assert difference.min() > (-1e-6 if beta else -1e-5)  # the scan is coarser, most at a kink


@pytest.mark.parametrize("stage", [FIRST_STAGE, SECOND_STAGE])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_the_best_box_is_as_exact_for_huge_predictions(stage, dtype, tolerance):
    weights, beta = stage
    scaled = torch.tensor(weights, dtype=torch.float64)
    generator = torch.Generator().manual_seed(8)
    low, length, center = torch.rand(3, 200, generator=generator, dtype=torch.float64) * scaled.new_tensor(
        [[2], [3], [6]]
    )
    low, high, center, zero = low - 2, low - 2 + length, center - 3, 0 * center
    anchors = torch.stack([zero - 0.5, zero - 0.5, zero + 0.5, zero + 0.5], dim=1)
    visible = torch.stack([low, zero - 0.5, high, zero + 0.5], dim=1)
    cut_off = torch.tensor([False, False, True, False]).expand(200, 4)
    losses = []
    for log_size in (5, 11, 20, 59):
        offsets = torch.stack([center, zero, zero + log_size, zero], dim=1) * scaled
        targets = encode_boxes(visible, anchors) * scaled
        targets = crop_aware_targets(offsets, targets, cut_off, weights=weights, beta=beta, dtype=dtype)
        losses.append(F.smooth_l1_loss(offsets, targets, reduction="none", beta=beta).sum(1))
    expected = scanned(center, zero + 5, low, high, cut_off[:, 0], cut_off[:, 2], weights[0], weights[2], beta)
    assert (losses[0] - expected).min() > -1e-4  # the scan is coarser
    assert (losses[0] - expected).max() < tolerance
    for log_size, loss in zip((11, 20, 59), losses[1:], strict=True):
        # So far from the best box, the loss of the size is linear, and the best box the same.
        assert (loss - losses[0] - weights[2] * (log_size - 5)).abs().max() < tolerance


def test_float32_is_close():
    offsets, anchors, visible, cut_off = problems(4000, seed=7)
    ordinary = encode_boxes(visible, anchors)
    losses = [
        F.smooth_l1_loss(
            offsets, crop_aware_targets(offsets, ordinary, cut_off, dtype=dtype), reduction="none", beta=1 / 9
        )
        for dtype in (torch.float64, torch.float32)
    ]
    assert (losses[1].sum(1) - losses[0].sum(1)).abs().max() < 4e-6


class TestOrdinaryLoss:
    @pytest.mark.parametrize("stage", [FIRST_STAGE, SECOND_STAGE])
    def test_without_a_cut_off_side_it_is_that_of_torchvision(self, stage):
        weights, beta = stage
        offsets, anchors, visible, cut_off = (t if t.dtype == torch.bool else t.float() for t in problems(500, seed=1))
        expected = BoxCoder(weights).encode_single(visible, anchors)
        assert torch.equal(encode_boxes(visible, anchors, weights), expected)
        loss = crop_aware_box_loss(offsets, anchors, visible, torch.zeros_like(cut_off), weights=weights, beta=beta)
        assert torch.equal(loss, F.smooth_l1_loss(offsets, expected, reduction="sum", beta=beta))

    def test_it_is_never_smaller(self):
        offsets, anchors, visible, cut_off = problems(2000, seed=2)
        ordinary = encode_boxes(visible, anchors)
        targets = crop_aware_targets(offsets, ordinary, cut_off)
        losses = [F.smooth_l1_loss(offsets, t, reduction="none", beta=1 / 9).sum(1) for t in (targets, ordinary)]
        assert (losses[0] <= losses[1] + 1e-12).all()
        assert ((losses[0] < losses[1] - 1e-3) == cut_off.any(1)).float().mean() > 0.7

    def test_axes_without_a_cut_off_side_and_broken_predictions_keep_their_targets(self):
        offsets, anchors, visible, cut_off = problems(200, seed=3)
        offsets[5] = torch.nan
        offsets[6, 2] = torch.inf
        ordinary = encode_boxes(visible, anchors)
        targets = crop_aware_targets(offsets, ordinary, torch.ones_like(cut_off))
        assert torch.equal(targets[5], ordinary[5])
        assert torch.equal(targets[6, [0, 2]], ordinary[6, [0, 2]])
        targets = crop_aware_targets(offsets, ordinary, cut_off)
        is_free = (cut_off[:, :2] | cut_off[:, 2:]).repeat(1, 2)
        assert torch.equal(targets[~is_free], ordinary[~is_free])

    def test_no_box(self):
        nothing = torch.zeros(0, 4, requires_grad=True)
        loss = crop_aware_box_loss(nothing, nothing, nothing, torch.zeros(0, 4, dtype=torch.bool))
        loss.backward()
        assert loss == 0
        assert nothing.grad.shape == (0, 4)


class TestSymmetry:
    def test_mirrored_boxes_have_the_same_loss(self):
        offsets, anchors, visible, cut_off = problems(300, seed=4)
        mirrored = [(256 - boxes)[:, [2, 1, 0, 3]] for boxes in (anchors, visible)]
        flipped = offsets * torch.tensor([-1, 1, 1, 1])
        loss = crop_aware_box_loss(offsets, anchors, visible, cut_off)
        assert float(crop_aware_box_loss(flipped, *mirrored, cut_off[:, [2, 1, 0, 3]])) == pytest.approx(float(loss))

    def test_it_depends_on_neither_place_nor_unit(self):
        offsets, anchors, visible, cut_off = problems(300, seed=5)
        loss = float(crop_aware_box_loss(offsets, anchors, visible, cut_off))
        assert float(crop_aware_box_loss(offsets, anchors + 7, visible + 7, cut_off)) == pytest.approx(loss)
        assert float(crop_aware_box_loss(offsets, 3 * anchors, 3 * visible, cut_off)) == pytest.approx(loss)


@pytest.mark.parametrize("stage", [FIRST_STAGE, SECOND_STAGE])
def test_gradient_against_finite_differences(stage):
    weights, beta = stage
    offsets, anchors, visible, cut_off = problems(400, seed=6)
    scaled = torch.tensor(weights, dtype=torch.float64)
    offsets = (offsets * scaled).requires_grad_()
    options = {"weights": weights, "beta": beta}
    (gradient,) = torch.autograd.grad(crop_aware_box_loss(offsets, anchors, visible, cut_off, **options), offsets)
    ordinary = encode_boxes(visible, anchors, weights)

    def losses(at):
        targets = crop_aware_targets(at, ordinary, cut_off, **options)
        return F.smooth_l1_loss(at, targets, reduction="none", beta=beta).sum(1)

    step = 1e-5
    for column in range(4):
        shift = torch.zeros(4, dtype=torch.float64)
        shift[column] = step
        numeric = (losses(offsets.detach() + shift) - losses(offsets.detach() - shift)) / (2 * step)
        difference = (numeric - gradient[:, column]).abs()
        assert difference.quantile(0.995) < 1e-5
        assert (difference > 1e-3).sum() <= 1  # a tie of two minima within the step


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": torch.zeros(3, 5)}, r"offsets as float \[N, 4\], got torch.float32 \[3, 5\]"),
        ({"targets": torch.zeros(2, 4)}, r"of one length, got \[3, 4\], \[2, 4\]"),
        ({"cut_off": torch.zeros(3, 4)}, r"cut_off bool \[N, 4\] .* torch.float32"),
        ({"beta": 2.0}, r"beta from 0 to the weights of width and height, got \(1\.0, .*\) and 2"),
        ({"dtype": torch.float16}, "torch.float64 or torch.float32, got torch.float16"),
    ],
)
def test_bad_arguments(changes, message):
    arguments = {"offsets": torch.zeros(3, 4), "targets": torch.zeros(3, 4), "cut_off": torch.zeros(3, 4) > 0}
    with pytest.raises(InvalidArgumentError, match=message):
        crop_aware_targets(**(arguments | changes))
