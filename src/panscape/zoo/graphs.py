"""Graphs of exported networks: ONNX files in ONNX Runtime, OpenVINO's IR, programs of torch, engines of TensorRT.

What runs a graph is imported when it is opened, also torch.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from panscape.errors import InvalidArgumentError, MissingExtraError, UnreadableFileError, in_one_line
from panscape.input_files import require_file

Array = NDArray[Any]
METADATA_KEY = "panscape"
"""Name of the description, a JSON object, in the metadata of a graph."""
REMEDY = "export the model again, or copy the file again"
_OPENVINO_PRECISIONS = {"fp32": "f32", "fp16": "f32", "bf16": "bf16"}
# For images of any size and in bf16, the code that OpenVINO 2026.4 generates for attention takes sizes as 0, so that
# masks of MaskFormer are empty. Without this code, SwiftNet and MaskFormer took as long.
_FOR_ANY_SIZE: dict[str, Any] = {"SNIPPETS_MODE": "DISABLE"}
_TINY = 128 * 128  # pixels; images of fewer start a program, and others follow


class Graph(Protocol):
    """A network that takes one image and returns its outputs."""

    @property
    def runtime(self) -> str:
        """Name and version of what runs it."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Texts by name."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""

    def compile(self, precision: str) -> None:
        """Prepare the graph for :meth:`run`, with as many threads as torch uses now."""

    def prepare(self, size: tuple[int, int]) -> None:
        """Do what is needed once for images of this height and width, which :meth:`run` would do otherwise."""

    def run(self, images: Array) -> list[Array]:
        """Map images, float32 [1, 3, H, W] in 0..1, to the outputs, in their order; several threads may call it."""


def open_graph(path: Path, runtime: str | None = None) -> Graph:
    """Open a graph; it is compiled later.

    Args:
        path: has an ending of :data:`GRAPHS`.
        runtime: "openvino" to run an ONNX file in it, whose metadata it does not read; None for that of the format.

    Raises:
        MissingExtraError: the runtime is not installed.
        UnreadableFileError: the file is missing or damaged.
    """
    require_file(path)
    return OpenVinoGraph(path) if runtime == "openvino" else GRAPHS[path.suffix](path)


def num_threads() -> int:
    """Return how many threads a graph is to use: those of torch where it is imported, else as it would choose.

    0 lets the runtime choose; like torch it then takes as many as there are cores.
    """
    torch = sys.modules.get("torch")
    return int(os.environ.get("OMP_NUM_THREADS") or 0) if torch is None else torch.get_num_threads()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of an exported model, 64 hexadecimal digits; of OpenVINO's two files together."""
    digest = hashlib.sha256(path.read_bytes())
    if path.suffix == ".xml":
        digest.update(path.with_suffix(".bin").read_bytes())
    return digest.hexdigest()


class OnnxGraph:
    """An ONNX file in ONNX Runtime; see :class:`Graph`."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "onnx", f"running {path.name}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads()
        options.log_severity_level = 3  # errors, which are raised
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise UnreadableFileError(path, f"ONNX Runtime cannot read it ({in_one_line(error)}); {REMEDY}") from error
        self.runtime = f"ONNX Runtime {onnxruntime.__version__}"
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def compile(self, precision: str) -> None:
        """Do nothing: the session is ready, and the precision is that of the file."""

    def prepare(self, size: tuple[int, int]) -> None:
        """Do nothing: the session takes images of any size."""

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
            self._core = openvino_core()
        except ImportError as error:
            raise MissingExtraError("openvino", "openvino", f"running {path.name}") from error
        if path.suffix == ".xml" and not path.with_suffix(".bin").is_file():
            raise UnreadableFileError(path, f"its weights {path.with_suffix('.bin').name} are not beside it; copy both")
        try:
            self._model: Any = self._core.read_model(path)
        except RuntimeError as error:
            raise UnreadableFileError(path, f"OpenVINO cannot read it ({in_one_line(error)}); {REMEDY}") from error
        self.runtime = _openvino()
        info = self._model.get_rt_info()
        self.metadata: dict[str, str] = {METADATA_KEY: str(info[METADATA_KEY].value)} if METADATA_KEY in info else {}
        self.outputs = tuple(output.any_name for output in self._model.outputs)
        self._options: dict[str, Any] = {}
        self._fixed: tuple[tuple[int, ...], Graph] | None = None  # size of the first image, and the graph for it
        self._any_size: Graph | None = None
        self._lock = threading.Lock()

    def compile(self, precision: str) -> None:
        """See :meth:`Graph.compile`; without a precision, OpenVINO would choose one by the processor.

        Layers of int8 graphs in floating point are computed in bf16 where the processor has it.
        """
        if precision == "int8":
            precision = "bf16" if openvino_computes_in_bf16() else "fp32"
        self._options = {
            "INFERENCE_PRECISION_HINT": _OPENVINO_PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": num_threads(),
            "NUM_STREAMS": 1,
        }

    def prepare(self, size: tuple[int, int]) -> None:
        """See :meth:`Graph.prepare`."""
        self._compiled_for((1, 3, *size))

    def run(self, images: Array) -> list[Array]:
        """See :meth:`Graph.run`."""
        return self._compiled_for(images.shape).run(images)

    def _compiled_for(self, shape: tuple[int, ...]) -> Graph:
        with self._lock:
            if self._fixed is None and shape[-2] * shape[-1] >= _TINY:
                model = self._model.clone()
                if model.is_dynamic():
                    model.reshape(list(shape))
                self._fixed = shape, self._compiled(model)
            if self._fixed is not None and self._fixed[0] == shape:
                return self._fixed[1]
            if self._any_size is None:
                self._any_size = self._compiled(self._model, _FOR_ANY_SIZE)
            return self._any_size

    def _compiled(self, model: Any, more: dict[str, Any] | None = None) -> Graph:
        return OpenVinoRequests(self._core.compile_model(model, "CPU", self._options | (more or {})), self.outputs)


class OpenVinoRequests:
    """A compiled model of OpenVINO as a graph; see :class:`Graph`."""

    metadata: Mapping[str, str] = {}

    def __init__(self, compiled: Any, outputs: tuple[str, ...]) -> None:
        self.runtime = _openvino()
        self.outputs = outputs
        self._compiled = compiled
        self._requests = threading.local()  # an inference request is for one thread at a time

    def compile(self, precision: str) -> None:
        """Do nothing: it is compiled."""

    def prepare(self, size: tuple[int, int]) -> None:
        """Do nothing: it is compiled."""

    def run(self, images: Array) -> list[Array]:
        """See :meth:`Graph.run`."""
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        request.infer([images], share_inputs=True)
        # Copies, as the next run writes into the same memory.
        return [np.array(request.get_output_tensor(i).data) for i in range(len(self.outputs))]


@functools.cache
def openvino_core() -> Any:
    """Return OpenVINO's core, which the whole process shares and never frees.

    A core that prepares a network gives its thread a stack for signal handlers, and frees it at its own end. If cores
    do not end in reverse order, a freed stack stays in use, and the next signal (the end of a child process, Ctrl-C)
    kills the process without a message.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    import openvino

    return openvino.Core()


def openvino_computes_in_bf16() -> bool:
    """Return whether OpenVINO computes in bf16 on this processor."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _openvino() -> str:
    import openvino

    return f"OpenVINO {openvino.__version__.partition('-')[0]}"


def require_runtime(target: str, precision: str = "fp32") -> None:
    """Check that the packages of an export are installed.

    Raises:
        InvalidArgumentError: there is no such target.
        MissingExtraError: a package is not installed.
    """
    from importlib.util import find_spec

    written_with = ("onnx", "onnxscript")  # all but programs of torch
    packages: Mapping[str, tuple[str, ...]] = {
        "onnx": (*written_with, "onnxruntime"),
        "openvino": (*written_with, "openvino"),
        "tensorrt": (*written_with, "tensorrt"),
        "torch": (),
    }
    if target not in packages:
        raise InvalidArgumentError(f"expected one of {', '.join(packages)} as the target of an export, got {target!r}")
    for package in packages[target]:
        if find_spec(package) is None:
            raise MissingExtraError(package, target, f"exporting to {target}")
    if target == "openvino" and precision == "int8" and find_spec("nncf") is None:
        raise MissingExtraError("nncf", "int8", "quantising to int8")


def _torch_graph(path: Path) -> Graph:
    from panscape.zoo.torch_graph import TorchGraph

    return TorchGraph(path)


def _tensorrt_graph(path: Path) -> Graph:
    from panscape.zoo.tensorrt_graph import TensorRtGraph

    return TensorRtGraph(path)


GRAPHS: Mapping[str, Callable[[Path], Graph]] = {
    ".onnx": OnnxGraph,
    ".xml": OpenVinoGraph,
    ".pt2": _torch_graph,
    ".engine": _tensorrt_graph,
}
"""What runs a graph, by the ending of its file."""
