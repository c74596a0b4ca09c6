"""Graphs of exported networks on the CPU: ONNX files in ONNX Runtime, OpenVINO's IR in OpenVINO.

Both packages are extras, imported when a graph is opened.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from panscape.errors import InvalidArgumentError, MissingExtraError, UnreadableFileError, in_one_line
from panscape.input_files import require_file

Array = NDArray[Any]
METADATA_KEY = "panscape"
"""Name of the description, a JSON object, in the metadata of a graph."""
_OPENVINO_PRECISIONS = {"fp32": "f32", "fp16": "f32", "bf16": "bf16"}
_TINY = 128 * 128  # pixels; images of fewer start a program, and others follow
_REMEDY = "export the model again, or copy the file again"


class Graph(Protocol):
    """A network that takes one image and returns its outputs."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Texts by name."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""

    def compile(self, precision: str) -> None:
        """Prepare the graph for :meth:`run`, with as many threads as torch uses now."""

    def run(self, images: Array) -> list[Array]:
        """Map images, float32 [1, 3, H, W] in 0..1, to the outputs, in their order; several threads may call it."""


def open_graph(path: Path, runtime: str | None = None) -> Graph:
    """Open a graph; it is compiled later.

    Args:
        path: ends in ``.onnx`` or ``.xml``.
        runtime: "onnx" or "openvino", which runs both formats but reads the metadata of its own only; None for that of
            the format.

    Raises:
        MissingExtraError: the runtime is not installed.
        UnreadableFileError: the file is missing or damaged.
    """
    require_file(path)
    return OnnxGraph(path) if path.suffix == ".onnx" and runtime != "openvino" else OpenVinoGraph(path)


class OnnxGraph:
    """An ONNX file in ONNX Runtime; see :class:`Graph`."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "onnx", f"running {path.name}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors, which are raised
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise UnreadableFileError(path, f"ONNX Runtime cannot read it ({in_one_line(error)}); {_REMEDY}") from error
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def compile(self, precision: str) -> None:
        """Do nothing: the session is ready, and the precision is that of the file."""

    def run(self, images: Array) -> list[Array]:
        """See :meth:`Graph.run`."""
        return list(self._session.run(None, {self._session.get_inputs()[0].name: images}))


class OpenVinoGraph:
    """A graph in OpenVINO: its IR, ``.xml`` with its weights in ``.bin``, or an ONNX file; see :class:`Graph`.

    A graph for images of any size is compiled for the size of the first one that is not tiny, for which it is faster,
    and once more for all sizes when another one comes.
    """

    def __init__(self, path: Path) -> None:
        try:
            import openvino
        except ImportError as error:
            raise MissingExtraError("openvino", "openvino", f"running {path.name}") from error
        if path.suffix == ".xml" and not path.with_suffix(".bin").is_file():
            raise UnreadableFileError(path, f"its weights {path.with_suffix('.bin').name} are not beside it; copy both")
        self._core = openvino.Core()
        try:
            self._model: Any = self._core.read_model(path)
        except RuntimeError as error:
            raise UnreadableFileError(path, f"OpenVINO cannot read it ({in_one_line(error)}); {_REMEDY}") from error
        info = self._model.get_rt_info()
        self.metadata: dict[str, str] = {METADATA_KEY: str(info[METADATA_KEY].value)} if METADATA_KEY in info else {}
        self.outputs = tuple(output.any_name for output in self._model.outputs)
        self._options: dict[str, Any] = {}
        self._fixed: tuple[tuple[int, ...], Any] | None = None  # size of the first image, and the graph for it
        self._any_size: Any = None
        self._lock = threading.Lock()
        self._requests = threading.local()  # an inference request is for one thread at a time

    def compile(self, precision: str) -> None:
        """See :meth:`Graph.compile`; without a precision, OpenVINO would choose one by the processor."""
        self._options = {
            "INFERENCE_PRECISION_HINT": _OPENVINO_PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }

    def run(self, images: Array) -> list[Array]:
        """See :meth:`Graph.run`."""
        compiled = self._compiled_for(images.shape)
        known: dict[int, Any] = self._requests.__dict__.setdefault("by_graph", {})
        request = known.get(id(compiled))
        if request is None:
            request = known[id(compiled)] = compiled.create_infer_request()
        request.infer([images], share_inputs=True)
        # Copies, as the next run writes into the same memory.
        return [np.array(request.get_output_tensor(i).data) for i in range(len(self.outputs))]

    def _compiled_for(self, shape: tuple[int, ...]) -> Any:
        with self._lock:
            if self._fixed is None and shape[-2] * shape[-1] >= _TINY:
                model = self._model.clone()
                if model.is_dynamic():
                    model.reshape(list(shape))
                self._fixed = shape, self._core.compile_model(model, "CPU", self._options)
            if self._fixed is not None and self._fixed[0] == shape:
                return self._fixed[1]
            if self._any_size is None:
                self._any_size = self._core.compile_model(self._model, "CPU", self._options)
            return self._any_size


def require_runtime(target: str) -> None:
    """Check that a runtime is installed.

    Raises:
        InvalidArgumentError: there is no such target.
        MissingExtraError: its package is not installed.
    """
    from importlib.util import find_spec

    packages = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}
    if target not in packages:
        raise InvalidArgumentError(f"expected onnx or openvino as the target of an export, got {target!r}")
    for package in packages[target]:
        if find_spec(package) is None:
            raise MissingExtraError(package, target, f"exporting to {target}")
