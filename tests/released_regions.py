"""The released networks of two stages: names and shapes of their tensors, and small networks in their layouts."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from panscape.labels import Category, LabelSpace
from panscape.nn.backbones import ResNetFeatures

_KEYS = Path(__file__).parent / "parity"
BLOCKS = (2, 1, 2, 1)  # of the small networks

# Things and stuff alternate, so that an order that was not converted gives other numbers.
MIXED = LabelSpace(
    "mixed", tuple(Category(name, name.isupper(), i, (i, i, i)) for i, name in enumerate(("A", "b", "C", "d", "e")))
)
BOXES = torch.tensor([[3.0, 5, 60, 70], [10, 0, 150, 120], [0, 0, 250, 260], [100.5, 80.25, 130, 200]])


def released_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Return name and shape of each tensor of a released network, as its own code lists them."""
    lines = (_KEYS / f"{name}_keys.txt").read_text().splitlines()
    split = (re.fullmatch(r"(\S+) \((.*)\) \w+", line) for line in lines)
    return {m[1]: tuple(int(n) for n in re.findall(r"\d+", m[2])) for m in split if m}


def small_resnet(slope: float) -> ResNetFeatures:
    from timm.models.resnet import Bottleneck, ResNet

    activation: Any = partial(nn.LeakyReLU, slope) if slope else nn.ReLU
    net = ResNet(Bottleneck, BLOCKS, channels=(4, 8, 8, 16), act_layer=activation)
    return ResNetFeatures(net, name="small", weights_name="small", after_relu=True, negative_slope=slope)


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Draw weights; scales of norms have both signs."""
    g = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        if name.endswith("running_var"):
            state[name] = torch.rand(shape, generator=g) * 0.5 + 0.75
        elif name.endswith("weight") and len(shape) == 1:
            state[name] = (torch.rand(shape, generator=g) * 0.5 + 0.75) * (torch.rand(shape, generator=g) - 0.3).sign()
        else:
            fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 25
            state[name] = torch.randn(shape, generator=g) * (1.2 / fan_in**0.5)
    return state


def require_equal(ours: Tensor, theirs: Tensor) -> None:
    """Check that two tensors are equal up to 1e-4 of their spread, and that they vary."""
    assert ours.shape == theirs.shape
    assert float(theirs.std()) > 0
    assert float((ours - theirs).abs().max()) <= 1e-4 * float(theirs.std()) + 1e-6
