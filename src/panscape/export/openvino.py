"""ONNX graphs as OpenVINO's intermediate representation."""

from __future__ import annotations

from pathlib import Path

from panscape.zoo.graphs import METADATA_KEY


def write_ir(graph: Path, path: Path, description: str, *, half_weights: bool) -> None:
    """Convert an ONNX file.

    Args:
        graph: the ONNX file.
        path: of the new file, ``.xml``; weights are written to ``.bin`` beside it.
        description: stored in the file.
        half_weights: store weights in 16 bits; they are computed with in 32.
    """
    import openvino

    # Read by the core and not by openvino.convert_model, which reports its use to the vendor.
    model = openvino.Core().read_model(graph)
    model.set_rt_info(description, METADATA_KEY)
    openvino.save_model(model, path, compress_to_fp16=half_weights)
