"""The forward pass of a model as an ONNX graph."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from panscape.errors import InvalidArgumentError, in_one_line
from panscape.geometry import Size
from panscape.models import PanopticModel
from panscape.zoo.exported import SideRange

# A graph of any size is traced at this one: odd, so that it pads, and larger than the windows of all networks. Tracing
# computes nothing.
_TRACED = Size(1031, 2053)
_FLOAT = 1  # ONNX's number of float32


class OnnxGraph(NamedTuple):
    """A model as a graph.

    Attributes:
        program: of ``torch.onnx``.
        sides: range of the heights and widths for which the graph is valid.
    """

    program: Any
    sides: tuple[SideRange, SideRange]


class _Tensors(nn.Module):
    """A network whose outputs are a tuple of tensors in single precision, without those that it lacks."""

    def __init__(self, model: PanopticModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = self.model(images)
        return tuple(x.float() if x.is_floating_point() else x for x in outputs if isinstance(x, Tensor))


def to_onnx(model: PanopticModel, size: Size | None, *, half: bool = False) -> OnnxGraph:
    """Convert the forward pass of a model for a batch of one image; outputs have the names of the model's fields.

    Args:
        model: in eval mode, on the CPU.
        size: height and width of the images; None for any size.
        half: compute in half precision. Input and outputs are in single precision.

    Raises:
        InvalidArgumentError: the network cannot be exported, or not for any size.
    """
    if half:
        model = copy.deepcopy(model).half()
    module = _Tensors(model).eval()
    shapes = None if size is not None else {"images": {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}
    kind = type(model).__name__
    with torch.inference_mode():
        small = model(torch.zeros(1, 3, 64, 64))
    names = [name for name, part in zip(small._fields, small, strict=True) if isinstance(part, Tensor)]
    with torch.no_grad(), _quiet():
        try:
            exported = torch.export.export(
                module, (torch.zeros(1, 3, *(size or _TRACED)),), dynamic_shapes=shapes, strict=False
            )
            program = torch.onnx.export(
                exported, dynamo=True, verbose=False, output_names=names, custom_translation_table=_translations()
            )
        except (torch._dynamo.exc.UserError, torch.onnx.OnnxExporterError, ValueError) as error:
            if size is None:
                raise InvalidArgumentError(
                    f"{kind} cannot be exported for images of any size; give their size, for example --size 512x1024"
                ) from error
            raise InvalidArgumentError(f"{kind} cannot be exported to ONNX: {in_one_line(error)}") from error
    return OnnxGraph(program, _sides(exported) if size is None else (SideRange(1, size[0]), SideRange(1, size[1])))


def _translations() -> dict[Any, Any]:
    """Return the operators that torch does not translate, as functions."""
    from onnxscript import opset20

    op: Any = opset20  # its types are those of eager execution

    def sort(x: Any, dim: int = -1, descending: bool = False, stable: bool | None = None) -> Any:
        size = op.Reshape(op.Gather(op.Shape(x), op.Constant(value_int=dim)), op.Constant(value_ints=[1]))
        return op.TopK(x, size, axis=dim, largest=int(descending), sorted=1)  # stable: equal values keep their order

    def nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
        # torch translates it as well, but ONNX has it in single precision only.
        boxes, scores = op.Cast(boxes, to=_FLOAT), op.Cast(scores, to=_FLOAT)
        count, threshold = op.Shape(scores), op.Constant(value_floats=[iou_threshold])
        first, second = op.Constant(value_ints=[0]), op.Constant(value_ints=[1])
        scores = op.Unsqueeze(op.Unsqueeze(scores, first), first)
        chosen = op.NonMaxSuppression(op.Unsqueeze(boxes, first), scores, count, threshold)
        return op.Squeeze(op.Gather(chosen, op.Constant(value_ints=[2]), axis=1), second)

    import torchvision  # noqa: F401 - registers the operator

    return {torch.ops.aten.sort.stable: sort, torch.ops.torchvision.nms.default: nms}


def _sides(exported: ExportedProgram) -> tuple[SideRange, SideRange]:
    """Return the ranges of height and width on which the steps of a traced graph do not depend."""
    (name,) = exported.graph_signature.user_inputs
    image = next(node for node in exported.graph.nodes if node.name == name).meta["val"]
    height, width = (exported.range_constraints[image.shape[axis].node.expr] for axis in (2, 3))
    return _side(height), _side(width)


def _side(limits: Any) -> SideRange:
    most = int(limits.upper) if limits.upper.is_Integer else None
    return SideRange(max(1, int(limits.lower)), most)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what torch and onnxscript say about their own code."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
