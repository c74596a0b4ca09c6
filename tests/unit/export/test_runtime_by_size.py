"""Networks that convert for one size only run in OpenVINO once a size has taken long enough in torch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from panscape import PanopticModel, create_model
from panscape.errors import InvalidArgumentError
from panscape.export import on_runtime, runtime
from panscape.export.trace import needs_size
from panscape.inference.predictor import Predictor
from panscape.representations.masked_boxes import MaskedBoxRepresentation, MaskSampling

pytest.importorskip("openvino", reason="needs the extra openvino")
pytest.importorskip("onnxscript", reason="needs the extra openvino")


@pytest.fixture(scope="module")
def model() -> PanopticModel:
    torch.manual_seed(0)
    return create_model(
        "yolo_panoptic_light",
        "town",
        backbone="residual_xs",
        width=8,
        fine_width=8,
        num_prototypes=4,
        mask_cells=7,
        representation=MaskedBoxRepresentation(
            anchors=(((16, 16),), ((32, 32),), ((64, 64),)), assignment="aligned", mask_sampling=MaskSampling(8)
        ),
    ).eval()


@pytest.fixture(autouse=True)
def _in_openvino(model: PanopticModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that knows that the network cannot be traced for any size, which takes long to find out."""
    monkeypatch.delenv("PANSCAPE_RUNTIME")
    runtime._Converted(model, tmp_path).network.remember({"reason": "it needs a size", "needs_size": True})


def test_the_refusal_of_any_size_is_kept(model: PanopticModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise needs_size("Model")

    monkeypatch.setattr(runtime, "trace", refuse)
    for _ in range(2):
        with pytest.raises(runtime.NeedsSizeError, match="cannot be exported for images of any size"):
            runtime._Converted(model, tmp_path / "new").model_on("openvino", "fp32")
        monkeypatch.setattr(runtime, "trace", lambda *_: pytest.fail("tried again"))


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return (torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 255).to(torch.uint8)


def graphs(cache: Path) -> list[str]:
    return sorted(path.stem.rpartition("-")[2] for path in cache.glob("*.onnx"))


def test_a_repeated_size_is_converted_once_it_has_taken_long_and_found_in_the_cache_later(
    model: PanopticModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    found = on_runtime(model, precision="fp32", cache=tmp_path)
    forward: Any = found.forward
    expected = [model.predict(image(64, 96, seed)) for seed in range(3)]
    assert found.predict(image(64, 96)).equals(expected[0])
    assert found.predict(image(64, 96)).equals(expected[0])
    assert graphs(tmp_path) == []
    forward._seconds[64, 96] = runtime._SECONDS_BEFORE_CONVERSION
    assert found.predict(image(64, 96, 1)).equals(expected[1])
    assert graphs(tmp_path) == ["64x96"]
    assert "running images of 64x96 in OpenVINO" in caplog.text
    assert found.predict(image(96, 64)).equals(model.predict(image(96, 64)))  # in torch
    assert list(forward._forwards) == [(64, 96)]
    # Another process has its graph from the first image on, and converts nothing.
    monkeypatch.setattr(runtime, "to_onnx", lambda *_: pytest.fail("converted again"))
    later = on_runtime(model, precision="fp32", cache=tmp_path)
    assert later.predict([image(64, 96, 2), image(64, 96, 1)], batch_size=2)[0].equals(expected[2])
    later_forward: Any = later.forward
    assert list(later_forward._forwards) == [(64, 96)]


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_chosen_runtime_converts_at_once_and_has_its_errors(
    model: PanopticModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any
) -> None:
    found = on_runtime(model, name, precision="fp32", cache=tmp_path)
    assert found.runtime == {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}[name] + ", a graph for each size"
    assert found.predict(image(64, 96)).equals(model.predict(image(64, 96)))
    forward: Any = found.forward
    assert (graphs(tmp_path), list(forward._forwards)) == (["64x96"], [(64, 96)])
    monkeypatch.setattr(runtime._Converted, "_parity", lambda *_: (0.5, 0.5))
    with pytest.raises(InvalidArgumentError, match=r"50\.00 % of the pixels .* agree with torch"):
        on_runtime(model, name, precision="fp32", cache=tmp_path).predict(image(64, 96))


def test_the_cache_keeps_a_few_sizes(model: PanopticModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        def __init__(self, *_: Any, **__: Any) -> None:
            self.sides = ((1, 1), (1, 1))
            self.program = self

        def save(self, path: Path, **_: Any) -> None:
            path.write_bytes(b"graph")

    monkeypatch.setattr(runtime, "trace", Fake)
    monkeypatch.setattr(runtime, "to_onnx", lambda _: Fake())
    monkeypatch.setattr(runtime._Converted, "model_on", lambda self, *_: self._convert() or model)
    forward: Any = runtime._ForwardBySize(runtime._Converted(model, tmp_path), "openvino", "fp32")
    for width in range(64, 64 + 6):
        forward._seconds[64, width] = runtime._SECONDS_BEFORE_CONVERSION
        forward(torch.zeros(1, 3, 64, width))
    assert len(forward._forwards) == len(graphs(tmp_path)) == len(list(tmp_path.glob("*x*.json"))) == 4
    assert "64x69" in graphs(tmp_path)


def test_a_network_that_openvino_cannot_run_stays_in_torch(
    model: PanopticModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    found = on_runtime(model, cache=tmp_path)

    def refuse(*_: Any) -> None:
        raise runtime.InvalidArgumentError("it has a sort")

    monkeypatch.setattr(runtime._Converted, "model_on", refuse)
    forward: Any = found.forward
    for _ in range(2):
        forward._seconds[64, 96] = runtime._SECONDS_BEFORE_CONVERSION
        assert found.predict(image(64, 96)).equals(model.predict(image(64, 96)))
    assert caplog.text.count("not running in openvino: it has a sort") == 1
    monkeypatch.undo()
    monkeypatch.delenv("PANSCAPE_RUNTIME")
    assert on_runtime(model, cache=tmp_path) is model
    assert caplog.text.count("not running in openvino: it has a sort") == 2


def test_a_warm_up_does_not_run_a_large_image_in_torch(
    model: PanopticModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(on_runtime(model, cache=tmp_path))
    seen: list[Any] = []
    monkeypatch.setattr(predictor, "_predict", lambda image, geometry: seen.append(geometry.size))
    predictor.warm_up(runtime.Size(1000, 2000))
    assert seen == [model.warm_up_size]
    assert on_runtime(model, precision="bf16", cache=tmp_path) is model
