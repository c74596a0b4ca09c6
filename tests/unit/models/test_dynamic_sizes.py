"""Exported graphs of dynamic size compute the padded size as ONNX does, whose integer division truncates towards 0."""

from __future__ import annotations

import operator
from typing import Any

import torch
from maps import SHAPES
from torch import Tensor, nn
from torch.export import Dim
from torch.fx import Interpreter

from panscape import create_model
from panscape.models.pisr import valid_cells


class OnnxArithmetic(Interpreter):
    """Runs a graph with the division of ONNX in place of Python's, which rounds down."""

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is operator.floordiv:
            quotient = abs(args[0]) // abs(args[1])
            return quotient if (args[0] < 0) == (args[1] < 0) else -quotient
        return super().call_function(target, args, kwargs)


class Padding(nn.Module):
    """What a network does that depends on the size of the image: pad it, and note where it is."""

    def __init__(self) -> None:
        super().__init__()
        options = {"decoder_width": 8, "instance_width": 8, "pyramid_width": 8}
        self.model = create_model(
            "panoptic_deeplab", SHAPES, backbone="residual_xs", compat="standalone", output_stride=32, **options
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        prepared = self.model.preprocess(images)
        padded = self.model._padded(prepared, images.shape[-2:])
        shown = valid_cells(images.shape[-2:], prepared[:, :1, ::4, ::4], 4)
        assert shown is not None
        return padded, shown


def test_a_graph_for_any_size_pads_as_the_network_does() -> None:
    module, sizes = Padding(), {"images": {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}
    graph = torch.export.export(module, (torch.rand(1, 3, 70, 93),), dynamic_shapes=sizes).module()
    for size in ((70, 93), (360, 390), (101, 77)):
        images = torch.rand(1, 3, *size)
        for one, other in zip(module(images), OnnxArithmetic(graph).run(images), strict=True):
            assert torch.equal(one, other)
