"""ONNX graphs as OpenVINO's intermediate representation."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from panscape.zoo.graphs import METADATA_KEY, openvino_core


def write_ir(graph: Path, path: Path, description: str, *, half_weights: bool) -> None:
    """Convert an ONNX file.

    Args:
        graph: the ONNX file.
        path: of the new file, ``.xml``; weights are written to ``.bin`` beside it.
        description: stored in the file.
        half_weights: store weights in 16 bits; they are computed with in 32.
    """
    import openvino

    model = read_ir(graph)
    model.set_rt_info(description, METADATA_KEY)
    openvino.save_model(model, path, compress_to_fp16=half_weights)


def read_ir(path: Path) -> Any:
    """Read a graph of OpenVINO or ONNX."""
    # Not by openvino.convert_model, which reports its use to the vendor.
    return openvino_core().read_model(path)


def save_ir(model: Any, path: Path) -> None:
    """Save a graph over the file that it was read from, whose weights may still be mapped; keep the description."""
    import openvino

    description = str(read_ir(path).get_rt_info()[METADATA_KEY].value)
    model.set_rt_info(description, METADATA_KEY)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / path.name
        openvino.save_model(model, written, compress_to_fp16=False)
        for ending in (".bin", ".xml"):
            os.replace(written.with_suffix(ending), path.with_suffix(ending))  # noqa: PTH105 - like the module export
