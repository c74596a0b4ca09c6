"""Operators that are converted otherwise than torch converts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from panscape.export.onnx import to_onnx
from panscape.export.trace import trace_module
from panscape.nn.region_pooling import pool_regions


class Pooling(nn.Module):
    """Features of ten regions of an image, which is the only level."""

    def __init__(self) -> None:
        super().__init__()
        corners = torch.rand(10, 2, generator=torch.Generator().manual_seed(0)) * 20
        self.boxes = nn.Buffer(torch.cat([corners, corners + 12], dim=1))

    def forward(self, image: Tensor) -> Tensor:
        return pool_regions([image], [4], self.boxes, torch.zeros(10, dtype=torch.int64), 3, "seamseg")


def test_regions_are_not_pooled_one_by_one(tmp_path: Path) -> None:
    graph = to_onnx(trace_module(Pooling().eval(), ["regions"], (9, 11), "Pooling"))
    program: Any = graph.program
    assert "Loop" not in {node.op_type for node in program.model.graph}
    graph.save(tmp_path / "pooling.onnx", "{}")
    image = torch.rand(1, 3, 9, 11)
    session = onnxruntime.InferenceSession(tmp_path / "pooling.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), Pooling()(image))
