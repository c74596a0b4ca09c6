from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from panscape.errors import InvalidArgumentError
from panscape.nn.fpn import FPN

CHANNELS, WIDTH = (12, 20, 28), 16


def features(height: int, width: int, seed: int = 0) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(2, c, height >> i, width >> i, generator=g) for i, c in enumerate(CHANNELS)]


@pytest.mark.parametrize("size", [(16, 32), (12, 20), (4, 4)])
def test_the_same_weights_give_the_features_of_torchvision(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    theirs = FeaturePyramidNetwork(list(CHANNELS), WIDTH, extra_blocks=LastLevelP6P7(WIDTH, WIDTH))
    ours = FPN(CHANNELS, WIDTH, 5)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    # Both hold laterals, outputs and coarser levels in this order, weight before bias.
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)), strict=True)
    maps = features(*size)
    with torch.no_grad():
        expected = theirs(OrderedDict((str(i), x) for i, x in enumerate(maps)))
        found = ours(maps)
    assert list(expected) == ["0", "1", "2", "p6", "p7"]
    for a, b in zip(found, expected.values(), strict=True):
        assert torch.equal(a, b)


def test_it_starts_like_that_of_torchvision() -> None:
    torch.manual_seed(0)
    theirs = FeaturePyramidNetwork(list(CHANNELS), WIDTH, extra_blocks=LastLevelP6P7(WIDTH, WIDTH))
    ours = FPN(CHANNELS, WIDTH, 5)
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert a.shape == b.shape
        assert (a == 0).all() == (b == 0).all()
        # Uniform on both sides of zero up to the same bound, of which thousands of draws come close.
        torch.testing.assert_close(a.abs().max(), b.abs().max(), atol=1e-6, rtol=0.05)


@pytest.mark.parametrize("num_levels", [3, 4, 6])
def test_levels_beyond_the_features_halve_and_round_up(num_levels: int) -> None:
    pyramid = FPN(CHANNELS, WIDTH, num_levels)
    expected = [(20, 12), (10, 6), (5, 3), (3, 2), (2, 1), (1, 1)][:num_levels]
    assert [tuple(x.shape[-2:]) for x in pyramid(features(20, 12))] == expected


def test_fewer_levels_than_features_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="expected at least 3 levels"):
        FPN(CHANNELS, WIDTH, 2)
