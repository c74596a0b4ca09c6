"""Traced networks as ONNX graphs."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, NamedTuple

import torch

from panscape.errors import InvalidArgumentError, in_one_line
from panscape.export.trace import Traced, needs_size, quiet
from panscape.zoo.graph_model import SideRange
from panscape.zoo.graphs import METADATA_KEY

_FLOAT = 1  # ONNX's number of float32


class OnnxGraph(NamedTuple):
    """A network as a graph.

    Attributes:
        program: of ``torch.onnx``.
        sides: range of the heights and widths for which the graph is valid.
    """

    program: Any
    sides: tuple[SideRange, SideRange]

    def save(self, path: Path, description: str) -> None:
        """Write one file, with a description of the model in it."""
        self.program.model.metadata_props[METADATA_KEY] = description
        self.program.save(path, external_data=False)

    def modules(self) -> dict[str, str]:
        """Return the module of the model of each node and each value of the graph, by name."""
        nodes = list(self.program.model.graph)
        values = {value.name: _module(node) for node in nodes for value in node.outputs}
        return values | {node.name: _module(node) for node in nodes}


def to_onnx(traced: Traced) -> OnnxGraph:
    """Convert a traced network; outputs have their names.

    Raises:
        InvalidArgumentError: the network has steps that ONNX lacks.
    """
    with torch.no_grad(), quiet():
        try:
            program: Any = torch.onnx.export(
                traced.program,
                dynamo=True,
                verbose=False,
                output_names=list(traced.names),
                custom_translation_table=_translations(),
                optimize=False,
            )
            _simplify(program.model)
        except (torch.onnx.OnnxExporterError, ValueError) as error:
            if traced.size is None:
                raise needs_size(traced.kind) from error
            raise InvalidArgumentError(f"{traced.kind} cannot be exported to ONNX: {_reason(error)}") from error
    return OnnxGraph(program, traced.sides)


def _simplify(graph: Any) -> None:
    """Compute what is constant, once, and leave out what nothing needs.

    The exporter's own optimisation also looks for patterns to rewrite, which takes up to 40 % of a conversion; runtimes
    do the same when they load a graph.
    """
    from onnx_ir import passes
    from onnx_ir.passes import common as common_passes
    from onnxscript.optimizer import fold_constants, inline

    common: Any = common_passes  # not all of it has types
    inline(graph)
    fold_constants(graph)
    passes.Sequential(
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )(graph)


def _reason(error: BaseException) -> str:
    """Return what an error of the exporter goes back to; its own message is a list of steps with colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    return in_one_line(error)


def _module(node: Any) -> str:
    """Return the name of the module of the model that a node belongs to; its own name for others."""
    scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
    named = [scope for scope in scopes[:-1] if scope.startswith("model.")]
    return named[-1].removeprefix("model.") if named else str(node.name)


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

    def embedding_bag(
        weight: Any,
        indices: Any,
        offsets: Any,
        scale_grad_by_freq: bool = False,
        mode: int = 0,
        sparse: bool = False,
        per_sample_weights: Any = None,
        include_last_offset: bool = False,
        padding_idx: int = -1,
    ) -> Any:
        # Weighted sums of bags of one size, all that this package uses; torch's translation is a loop over bags whose
        # time grows with the square of their number.
        last = op.Constant(value_ints=[-1])
        rows = op.Mul(op.Gather(weight, indices), op.Unsqueeze(per_sample_weights, last))
        shape = op.Concat(op.Shape(offsets), last, op.Shape(weight, start=1), axis=0)
        sums = op.ReduceSum(op.Reshape(rows, shape), op.Constant(value_ints=[1]), keepdims=0)
        return sums, offsets, offsets, offsets

    import torchvision  # noqa: F401 - registers the operator

    return {
        torch.ops.aten.embedding_bag.padding_idx: embedding_bag,
        torch.ops.aten.sort.stable: sort,
        torch.ops.torchvision.nms.default: nms,
    }
