"""YOLOv3 a second time: layer by layer as in yolov3.cfg, with weights read in the order of a ``.weights`` file."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# The three sets of layers from "route -4" on: route, 1x1, upsample, route to the body, five convolutions, 3x3, linear.
_ANCHORS = [10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326]


class Layers(NamedTuple):
    """Outputs of every layer, by their number from 0, and how many of the values were read."""

    outputs: list[Tensor]
    num_read: int

    @property
    def logits(self) -> list[Tensor]:
        return [self.outputs[i] for i in (105, 93, 81)]


def layers(values: Tensor, images: Tensor, num_categories: int, *, stem: int = 32, body_only: bool = False) -> Layers:
    """Run the network of yolov3.cfg, with ``stem`` channels in its first layer in place of 32."""
    outputs: list[Tensor] = []
    position = 0

    def take(*shape: int) -> Tensor:
        nonlocal position
        count = int(np.prod(shape))
        position += count
        return values[position - count : position].reshape(shape)

    def conv(x: Tensor, out: int, kernel: int, stride: int = 1, *, linear: bool = False) -> None:
        if linear:
            bias = take(out)
            outputs.append(F.conv2d(x, take(out, x.shape[1], kernel, kernel), bias, stride, kernel // 2))
            return
        shift, scale, mean, var = (take(out)[:, None, None] for _ in range(4))
        x = F.conv2d(x, take(out, x.shape[1], kernel, kernel), None, stride, kernel // 2)
        x = (x - mean) / (var + 1e-5).sqrt() * scale + shift
        outputs.append(torch.where(x > 0, x, 0.1 * x))

    conv(images, stem, 3)
    width = stem
    for depth in (1, 2, 8, 8, 4):
        width *= 2
        conv(outputs[-1], width, 3, 2)
        for _ in range(depth):
            shortcut = outputs[-1]
            conv(outputs[-1], width // 2, 1)
            conv(outputs[-1], width, 3)
            outputs.append(outputs[-1] + shortcut)
    assert len(outputs) == 75
    if body_only:
        return Layers(outputs, position)
    for route in (None, 61, 36):
        if route is not None:
            width //= 2
            outputs.append(outputs[-4])  # "route -4"
            conv(outputs[-1], width // 2, 1)
            outputs.append(outputs[-1].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
            outputs.append(torch.cat([outputs[-1], outputs[route]], dim=1))
        for i in range(6):
            conv(outputs[-1], width if i % 2 else width // 2, 3 if i % 2 else 1)
        conv(outputs[-1], 3 * (5 + num_categories), 1, linear=True)
        outputs.append(outputs[-1])  # the layer that decodes
    assert len(outputs) == 107
    return Layers(outputs, position)


def boxes(logits: Sequence[Tensor]) -> list[tuple[list[float], float, list[float]]]:
    """Return xyxy, objectness and probabilities of each box of one image, by stride, row, column and anchor."""
    found = []
    for i, level in enumerate(logits):
        stride, values = 8 << i, level[0].double().numpy()
        per_anchor = len(values) // 3
        for row, column, a in np.ndindex(values.shape[1], values.shape[2], 3):
            x, y, w, h, *rest = values[a * per_anchor : (a + 1) * per_anchor, row, column]
            sigmoid = [1 / (1 + np.exp(-v)) for v in (x, y, *rest)]
            width, height = (_ANCHORS[2 * (3 * i + a) + k] * np.exp(v) for k, v in enumerate((w, h)))
            cx, cy = (sigmoid[0] + column) * stride, (sigmoid[1] + row) * stride
            box = [cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2]
            found.append(([float(v) for v in box], float(sigmoid[2]), [float(v) for v in sigmoid[3:]]))
    return found


def fill(model: nn.Module, seed: int = 0) -> None:
    """Give a network random weights with which features keep their magnitude over its layers."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            if tensor.ndim == 4:
                tensor.normal_(0, (1 / tensor[0].numel()) ** 0.5, generator=generator)
            elif name.endswith(("bias", "running_mean")):
                tensor.normal_(0, 0.1, generator=generator)
            elif tensor.ndim == 1:
                tensor.uniform_(0.5, 1.5, generator=generator)


def weights_file(values: Tensor, *, header: bytes = struct.pack("<3iQ", 0, 2, 0, 32013312)) -> bytes:
    """Return the bytes of a ``.weights`` file; the default header is that of yolov3.weights."""
    return header + values.numpy().astype("<f4").tobytes()
