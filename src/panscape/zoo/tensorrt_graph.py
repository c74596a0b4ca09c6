"""Engines of TensorRT: the format of the file, and how it runs on the CUDA device that it was built for.

The file has the length of the description in bytes (four bytes, the lowest first), the description (JSON in UTF-8), and
the engine as TensorRT serialises it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.atomic_io import atomic_write
from panscape.errors import MissingExtraError, UnreadableFileError
from panscape.zoo.graphs import METADATA_KEY

Array = NDArray[Any]
DEVICE = torch.device("cuda")
_LENGTH = 4  # bytes
_TYPES = {"FLOAT": torch.float32, "HALF": torch.float16, "INT32": torch.int32, "INT64": torch.int64, "BOOL": torch.bool}


def import_tensorrt(purpose: str) -> Any:
    """Import TensorRT 10 or 11.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import tensorrt
    except ImportError as error:
        raise MissingExtraError("tensorrt", "tensorrt", purpose) from error
    return tensorrt


def save_engine(path: Path, description: str, engine: bytes) -> None:
    """Write an engine with its description."""
    text = description.encode()
    with atomic_write(path) as temporary:
        temporary.write_bytes(len(text).to_bytes(_LENGTH, "little") + text + engine)


class TensorRtGraph:
    """An engine of TensorRT; see :class:`panscape.zoo.graphs.Graph`. Images and outputs are copied to and from the CPU.

    Raises:
        MissingExtraError: TensorRT is not installed.
        UnreadableFileError: the file is no engine, or one for another device or version.
    """

    def __init__(self, path: Path) -> None:
        trt = import_tensorrt(f"running {path.name}")
        data = path.read_bytes()
        end = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
        try:
            self.metadata: Mapping[str, str] = {METADATA_KEY: data[_LENGTH:end].decode()}
        except UnicodeDecodeError as error:
            raise UnreadableFileError(path, "it was not exported by panscape; export a model again") from error
        self.runtime = f"TensorRT {trt.__version__}"
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(data[end:])
        if self._engine is None:
            raise UnreadableFileError(
                path,
                f"TensorRT {trt.__version__} cannot read it on this device; an engine is for the version and the kind "
                "of device that it was built with; export the model again",
            )
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        is_input = {name: self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        (self._input,) = (name for name in names if is_input[name])
        self.outputs = tuple(name for name in names if not is_input[name])
        self._contexts = threading.local()  # an execution context is for one thread at a time

    def compile(self, precision: str) -> None:
        """Do nothing: an engine is compiled."""

    def prepare(self, size: tuple[int, int]) -> None:
        """Do nothing: an engine is for one size."""

    def run(self, images: Array) -> list[Array]:
        """See :meth:`panscape.zoo.graphs.Graph.run`."""
        return [np.asarray(output.cpu()) for output in self.run_on_device(torch.from_numpy(images))]

    def run_on_device(self, images: Tensor) -> list[Tensor]:
        """Map images, float32 [1, 3, H, W] in 0..1, to the outputs, which stay on the device of the engine."""
        context = getattr(self._contexts, "context", None)
        if context is None:
            context = self._contexts.context = self._engine.create_execution_context()
        buffers = {self._input: images.to(DEVICE).contiguous()}
        for name in self.outputs:
            kind = _TYPES[str(self._engine.get_tensor_dtype(name)).rsplit(".", 1)[-1]]
            buffers[name] = torch.empty(tuple(self._engine.get_tensor_shape(name)), dtype=kind, device=DEVICE)
        for name, buffer in buffers.items():
            context.set_tensor_address(name, buffer.data_ptr())
        context.execute_async_v3(torch.cuda.current_stream(DEVICE).cuda_stream)
        return [buffers[name] for name in self.outputs]
