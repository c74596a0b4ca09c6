"""Engines of TensorRT: which builder calls are made, what is checked before, and the format of the file.

TensorRT is a fake that records calls: it needs a GPU.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from panscape.errors import InvalidArgumentError, MissingExtraError, UnreadableFileError
from panscape.export.tensorrt import require_supported, write_engine
from panscape.zoo.tensorrt_graph import TensorRtGraph, import_tensorrt

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
VALUES = np.arange(6, dtype=np.float32).reshape(1, 6)


class FakeTensorRt(SimpleNamespace):
    """TensorRT of a version: a network doubles its input, and an engine is text."""

    def __init__(self, version: str, failure: str = "") -> None:
        self.__version__ = version
        self.calls: list[Any] = []
        self.failure = failure
        flags = {"STRONGLY_TYPED": 1} if version.startswith("10") else {}
        self.NetworkDefinitionCreationFlag = SimpleNamespace(**flags)
        self.Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda *_: None})
        self.TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")

    def Builder(self, logger: Any) -> Any:  # noqa: N802
        def network(flags: int) -> str:
            self.calls.append(("network", flags))
            return "network"

        def build(network: str, config: str) -> bytes | None:
            self.calls.append(("build", config))
            return None if self.failure == "build" else b"engine"

        return SimpleNamespace(
            create_network=network, create_builder_config=lambda: "config", build_serialized_network=build
        )

    def OnnxParser(self, network: str, logger: Any) -> Any:  # noqa: N802
        def parse(data: bytes) -> bool:
            self.calls.append(("parse", onnx.load_from_string(data).graph.node[0].op_type))
            return self.failure != "parse"

        error = SimpleNamespace(desc=lambda: "no plugin")
        return SimpleNamespace(parse=parse, num_errors=1, get_error=lambda _: error)

    def Runtime(self, logger: Any) -> Any:  # noqa: N802
        names, addresses = ["images", "double"], {}

        def execute(stream: int) -> None:
            self.calls.append(("execute", stream))
            doubled = 2 * np.ctypeslib.as_array((ctypes.c_float * 6).from_address(addresses["images"]))
            ctypes.memmove(addresses["double"], doubled.ctypes.data, 24)

        context = SimpleNamespace(set_tensor_address=addresses.__setitem__, execute_async_v3=execute)
        engine = SimpleNamespace(
            num_io_tensors=2,
            get_tensor_name=names.__getitem__,
            get_tensor_mode=lambda name: "input" if name == "images" else "output",
            get_tensor_dtype=lambda name: "DataType.FLOAT",
            get_tensor_shape=lambda name: (1, 6),
            create_execution_context=lambda: context,
        )
        return SimpleNamespace(deserialize_cuda_engine=lambda data: engine if data == b"engine" else None)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return save(tmp_path, [onnx.helper.make_node("Add", ["images", "images"], ["double"])])


def save(folder: Path, nodes: list[Any], kind: int = 1, **constants: np.ndarray[Any, Any]) -> Path:
    values = [onnx.helper.make_tensor_value_info(name, kind, None) for name in ("images", "double")]
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = onnx.helper.make_graph(nodes, "graph", values[:1], values[1:], tensors)
    onnx.save(onnx.helper.make_model(graph), folder / "graph.onnx")
    return folder / "graph.onnx"


def install(monkeypatch: pytest.MonkeyPatch, fake: FakeTensorRt | None) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_stream", lambda _: SimpleNamespace(cuda_stream=7))


@pytest.mark.parametrize(("version", "flags"), [("10.15.1", 2), ("11.4.1", 0)])
def test_an_engine_is_built_strongly_typed_and_runs(
    graph: Path, monkeypatch: pytest.MonkeyPatch, version: str, flags: int
) -> None:
    fake = FakeTensorRt(version)
    install(monkeypatch, fake)
    path = graph.with_name("m.engine")
    write_engine(graph, path, '{"model": "swiftnet é"}')
    assert fake.calls == [("network", flags), ("parse", "Add"), ("build", "config")]
    assert path.read_bytes()[:4] == (24).to_bytes(4, "little")
    assert path.read_bytes()[28:] == b"engine"
    monkeypatch.setattr("panscape.zoo.tensorrt_graph.DEVICE", torch.device("cpu"))
    loaded = TensorRtGraph(path)
    assert loaded.metadata == {"panscape": '{"model": "swiftnet é"}'}
    assert loaded.outputs == ("double",)
    for _ in range(2):
        (found,) = loaded.run(VALUES)
        assert np.array_equal(found, 2 * VALUES)
    assert fake.calls[3:] == [("execute", 7)] * 2
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(UnreadableFileError, match=f"TensorRT {version} cannot read it on this device"):
        TensorRtGraph(path)


@pytest.mark.parametrize(("failure", "message"), [("parse", "take this network: no plugin"), ("build", "cannot build")])
def test_failures_of_tensorrt(graph: Path, monkeypatch: pytest.MonkeyPatch, failure: str, message: str) -> None:
    install(monkeypatch, FakeTensorRt("10.15.1", failure))
    with pytest.raises(InvalidArgumentError, match=message):
        write_engine(graph, graph.with_name("m.engine"), "{}")
    assert not graph.with_name("m.engine").exists()


def test_no_device_and_no_package(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeTensorRt("10.15.1"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InvalidArgumentError, match="expected a CUDA device to build an engine of"):
        write_engine(graph, graph.with_name("m.engine"), "{}")
    install(monkeypatch, None)  # which makes the import fail
    expected = r"pip install 'panscape\[tensorrt\]' --extra-index-url https://pypi\.nvidia\.com"
    with pytest.raises(MissingExtraError, match=expected):
        import_tensorrt("exporting to tensorrt")


@pytest.mark.parametrize(
    ("op", "kind", "options", "constants", "message"),
    [
        ("TopK", 1, {}, {"k": np.array([3840])}, "TopK of 3840 and more values"),
        ("TopK", 1, {}, {"k": np.array([3839])}, None),
        ("CumSum", 7, {}, {"axis": np.array(0)}, "CumSum of integers"),
        ("CumSum", 1, {}, {"axis": np.array(0)}, None),
        (
            "ScatterND",
            1,
            {"reduction": "add"},
            {"i": np.zeros((1, 1), np.int64), "u": np.ones(1, np.float32)},
            "ScatterND",
        ),
        ("Unique", 1, {}, {}, "Unique"),
    ],
)
def test_limits_are_checked_before(
    tmp_path: Path, op: str, kind: int, options: dict[str, Any], constants: dict[str, Any], message: str | None
) -> None:
    outputs = ["double", "indices"] if op == "TopK" else ["double"]
    path = save(tmp_path, [onnx.helper.make_node(op, ["images", *constants], outputs, **options)], kind, **constants)
    if message is None:
        require_supported(path)
    else:
        with pytest.raises(InvalidArgumentError, match=f"TensorRT lacks {message}"):
            require_supported(path)
