"""Mask heads against the published counts, hand-made features and torch's own RoIAlign."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import roi_align

from panscape.nn.mask_heads import CategoryMasks, MaskBranch, MaskHead
from panscape.nn.pyramid_pooling import Pyramid


@pytest.mark.parametrize(
    ("deep", "width", "parameters"),
    [
        (False, 256, 592_641),
        (False, 128, 148_865),
        (False, 64, 37_569),
        (True, 256, 1_772_801),
        (True, 128, 444_033),
        (True, 64, 111_425),
    ],
)
def test_parameters(deep: bool, width: int, parameters: int) -> None:
    with torch.device("meta"):
        head = MaskHead(width, deep=deep)
    assert sum(p.numel() for p in head.parameters()) == parameters


@pytest.mark.parametrize(
    ("deep", "cells", "width", "gmac"),
    [(False, 40, 256, 0.95), (True, 20, 256, 0.71), (False, 40, 128, 0.24), (True, 20, 128, 0.18)],
)
def test_cells_and_multiply_adds_of_one_box(deep: bool, cells: int, width: int, gmac: float) -> None:
    with torch.device("meta"):
        head = MaskHead(width, deep=deep)
    assert head.num_cells == cells
    with FlopCounterMode(display=False) as counter:
        masks = head(torch.zeros(1, width + 1, cells, cells, device="meta"))
    assert masks.shape == (1, cells, cells)
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmac, abs=0.005)


@pytest.mark.parametrize(
    ("deep", "literal", "activated"),
    [(False, False, [0]), (False, True, []), (True, False, [0, 1, 2]), (True, True, [1])],
)
def test_activations_follow_the_convolutions_that_the_option_names(
    deep: bool, literal: bool, activated: list[int]
) -> None:
    layers = list(MaskHead(4, deep=deep, literal=literal).layers)
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [c.kernel_size[0] for c in convs] == [3] * (len(convs) - 1) + [1]
    found = [convs.index(a) for a, b in pairwise(layers) if isinstance(a, nn.Conv2d) and isinstance(b, nn.ReLU6)]
    assert found == activated
    assert len(layers) == len(convs) + len(activated)


def a_pyramid(size: tuple[int, int], batch: int = 2) -> Pyramid:
    g = torch.Generator().manual_seed(0)
    return Pyramid(
        torch.randn(batch, 8, *size, generator=g), [torch.rand(batch, 2, b, b, generator=g) for b in (1, 2, 3, 6)]
    )


BOXES = torch.tensor([[0.0, 0, 64, 32], [3.5, 2.25, 17, 30], [10, 10, 10.5, 10.25], [50, 1, 64, 9]])
IMAGE = torch.tensor([0, 1, 1, 0])
CATEGORY = torch.tensor([2, 0, 3, 1])


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("stride", "finest"), [(4, 2), (8, 4), (16, 4)])
def test_boxes_are_pooled_from_the_features_and_from_the_plane_of_their_category(
    deep: bool, stride: int, finest: int
) -> None:
    size = (32 // stride, 64 // stride)
    branch = MaskBranch(16, stride, width=6, deep=deep, split=True).eval()
    pyramid, semantic = a_pyramid(size), torch.randn(2, 5, *size, generator=torch.Generator().manual_seed(1))
    seen: list[torch.Tensor] = []
    branch.head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.inference_mode():
        masks = branch(pyramid, semantic, BOXES, IMAGE, CATEGORY)
        assert branch.stride == finest
        assert masks.shape == (4, branch.head.num_cells, branch.head.num_cells)
        reduced = torch.relu(branch.norm(F.conv2d(pyramid.concatenated(), branch.reduce.conv.weight)))
        whole = torch.cat([reduced, semantic.softmax(1)], dim=1)
        whole = F.interpolate(whole, scale_factor=branch.factor, mode="bilinear", align_corners=False)
        rois = torch.cat([IMAGE[:, None].float(), BOXES], dim=1)
        expected = roi_align(whole, rois, branch.head.num_cells, 1 / finest, sampling_ratio=2, aligned=True)
    torch.testing.assert_close(seen[0][:, :6], expected[:, :6], atol=1e-5, rtol=1e-5)
    for row, category in enumerate(CATEGORY):
        torch.testing.assert_close(seen[0][row, 6], expected[row, 6 + category], atol=1e-5, rtol=1e-5)


def test_masks_train_the_semantic_logits() -> None:
    branch, pyramid = MaskBranch(16, 4, width=6, deep=True, split=False), a_pyramid((8, 16))
    semantic = torch.zeros(2, 5, 8, 16, requires_grad=True)
    pyramid.features.requires_grad_()
    branch(pyramid, semantic, BOXES, IMAGE, CATEGORY).sum().backward()
    assert semantic.grad is not None
    assert bool((semantic.grad[0, 2] != 0).any())
    assert pyramid.features.grad is not None
    assert bool((pyramid.features.grad != 0).any())
    assert all(p.grad is not None for p in branch.parameters())


def test_no_boxes_give_no_masks() -> None:
    branch = MaskBranch(16, 4, width=6, deep=False, split=True)
    masks = branch(a_pyramid((8, 16)), torch.zeros(2, 5, 8, 16), BOXES[:0], IMAGE[:0], CATEGORY[:0])
    assert masks.shape == (0, 40, 40)
    masks.sum().backward()
    assert all(p.grad is not None for p in branch.head.parameters())


def test_masks_by_category_are_the_pixels_where_the_category_is_the_most_probable_one() -> None:
    prob = torch.tensor([0.4, 0.35, 0.25]).view(1, 3, 1, 1).repeat(1, 1, 8, 16)
    prob[:, 0, :, 8:] += 0.55  # half of the image: 0.95, 0.04, 0.01
    prob[:, 1, :, 8:] = 0.04
    prob[:, 2, :, 8:] = 0.01
    semantic = (prob.log() + 3).requires_grad_()
    boxes = torch.tensor([[0.0, 0, 24, 32]] * 3 + [[40, 0, 64, 32]] * 3)
    category = torch.tensor([0, 1, 2] * 2)
    masks = CategoryMasks(4)(None, semantic, boxes, torch.zeros(6, dtype=torch.int64), category)
    ratios = torch.tensor([0.4 / 0.35, 0.35 / 0.4, 0.25 / 0.4, 0.95 / 0.04, 0.04 / 0.95, 0.01 / 0.95])
    torch.testing.assert_close(masks, ratios.log()[:, None, None].expand(6, 40, 40), atol=1e-5, rtol=0)
    masks[0].sum().backward()
    assert semantic.grad is not None
    torch.testing.assert_close(semantic.grad[0, 0], -semantic.grad[0, 1], atol=1e-4, rtol=0)
    assert float(semantic.grad[0, 0].sum()) == pytest.approx(1600, rel=1e-4)


def test_a_single_category_has_all_pixels_of_its_boxes() -> None:
    masks = CategoryMasks(4)(None, torch.randn(2, 1, 8, 16), BOXES, IMAGE, torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(masks, torch.full((4, 40, 40), 10.0), atol=1e-5, rtol=0)
