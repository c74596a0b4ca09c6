"""ONNX graphs as engines of TensorRT 10 and 11, built for the CUDA device of this machine.

Networks are strongly typed, which TensorRT 11 always does: every operator has the precision of the ONNX file. Graphs
are checked against the limits of its documentation first, whose errors name nodes instead of reasons.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from panscape.errors import InvalidArgumentError
from panscape.zoo.tensorrt_graph import import_tensorrt, save_engine

_MOST_OF_TOP_K = 3840  # exclusive
_ABSENT = ("BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Unique")
_FLOATS = (1, 10, 16)  # ONNX's numbers of float32, float16 and bfloat16


def write_engine(graph: Path, path: Path, description: str) -> None:
    """Build an engine.

    Args:
        graph: an ONNX file for one size.
        path: of the new file, ``.engine``.
        description: stored in the file.

    Raises:
        MissingExtraError: TensorRT is not installed.
        InvalidArgumentError: this machine has no CUDA device, or TensorRT does not take the graph.
    """
    trt = import_tensorrt("exporting to tensorrt")
    if not torch.cuda.is_available():
        raise InvalidArgumentError("expected a CUDA device to build an engine of TensorRT for, got none; export there")
    require_supported(graph)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    # Version 11 has no other networks, and no flag.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph.read_bytes()):
        reasons = "; ".join(str(parser.get_error(i).desc()) for i in range(parser.num_errors))
        raise InvalidArgumentError(f"TensorRT {trt.__version__} does not take this network: {reasons}; export to onnx")
    engine = builder.build_serialized_network(network, builder.create_builder_config())
    if engine is None:
        raise InvalidArgumentError(
            f"TensorRT {trt.__version__} cannot build this network on this device; its messages above have the reason"
        )
    save_engine(path, description, bytes(engine))


def require_supported(graph: Path) -> None:
    """Check an ONNX file against the documented limits of TensorRT 10.

    Raises:
        InvalidArgumentError: a node is not supported; all kinds are listed.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(graph)).graph
    constants = {tensor.name: tensor for tensor in model.initializer}
    for node in model.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    types = {value.name: value.type.tensor_type.elem_type for value in (*model.value_info, *model.input)}
    types |= {name: tensor.data_type for name, tensor in constants.items()}
    reasons = dict.fromkeys(reason for node in model.node if (reason := _limit(node, constants, types)))
    if reasons:
        raise InvalidArgumentError(f"TensorRT lacks {', '.join(reasons)}, which this network uses; export to onnx")


def _limit(node: Any, constants: dict[str, Any], types: dict[str, int]) -> str | None:
    """Return what TensorRT lacks for a node; None if it takes it."""
    import onnx

    options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type in _ABSENT:
        return str(node.op_type)
    if node.op_type == "TopK" and (
        node.input[1] in constants and int(onnx.numpy_helper.to_array(constants[node.input[1]]).max()) >= _MOST_OF_TOP_K
    ):
        return f"TopK of {_MOST_OF_TOP_K} and more values"
    if node.op_type == "TopK" and options.get("sorted", 1) != 1:
        return "TopK without order"
    if node.op_type == "ScatterND" and options.get("reduction", b"none") != b"none":
        return "ScatterND with a reduction"
    if node.op_type == "CumSum" and types.get(node.input[0], 1) not in _FLOATS:
        return "CumSum of integers"
    return None
