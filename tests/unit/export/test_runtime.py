"""Models on other runtimes give torch's maps, are converted once, and run in torch where the graph cannot."""

from __future__ import annotations

import copy
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from tiny_models import created

from panscape import PanopticModel, create_model
from panscape.cli import main
from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.export import cached_graphs, export_model, on_runtime, runtime
from panscape.export.floors import AGREEMENT, FLOORS, floor_on_scenes
from panscape.inference.predictor import Predictor
from panscape.zoo.graphs import open_graph

pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("openvino", reason="needs the extra openvino")


@pytest.fixture(scope="module")
def model() -> PanopticModel:
    torch.manual_seed(0)
    model = create_model("swiftnet", "town", backbone="residual_xs", width=8, levels=2).eval()
    model.set_decoding(stuff_area=1, threshold=0.2)
    return model


@pytest.fixture(scope="module")
def cache(model: PanopticModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the network of the model, converted and compared in ONNX Runtime."""
    cache = tmp_path_factory.mktemp("cache") / "graphs"
    on_runtime(model, "onnx", cache=cache)
    return cache


@pytest.fixture(autouse=True)
def _converted_already(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it is converted a second time")

    monkeypatch.setattr(runtime, "trace", refuse)
    monkeypatch.delenv("PANSCAPE_RUNTIME")


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return (torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 255).to(torch.uint8)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_maps_of_all_sizes_equal_those_of_torch(model: PanopticModel, cache: Path, name: Any) -> None:
    found = on_runtime(model, name, precision="fp32", cache=cache)
    assert found.runtime.endswith(", fp32")
    assert model.runtime == "torch"
    # In OpenVINO the first large one has a graph of its own, the others share one.
    for number, size in enumerate([(64, 64), (128, 150), (130, 128), (128, 150), (70, 90)]):
        one = image(*size, seed=number)
        assert found.predict(one).equals(model.predict(one)), size
    assert copy.deepcopy(found).predict(image(70, 90)).equals(model.predict(image(70, 90)))


def test_post_processing_is_that_of_the_given_model(model: PanopticModel, cache: Path) -> None:
    other = copy.deepcopy(model)
    other.set_decoding(stuff_area=10**6)
    found = on_runtime(other, "onnx", cache=cache)  # of the same network
    assert all(found.labels[c].is_thing for c in found.predict(image(70, 90)).category.tolist())


@pytest.mark.parametrize(
    ("measured", "floor"), [({"bf16": [0.98, 0.9]}, "int8"), ({"bf16": [0.979, 0.99]}, "bf16"), ({}, "bf16")]
)
def test_a_model_whose_val_maps_agree_needs_less_on_scenes(measured: dict[str, Any], floor: str) -> None:
    assert floor_on_scenes("bf16", {AGREEMENT: measured}) == FLOORS[floor]
    assert floor_on_scenes("fp32", {AGREEMENT: measured}) == FLOORS["fp32"]


def test_the_card_decides_on_bf16_where_scenes_are_unlike_its_images(
    model: PanopticModel, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_graphs, "openvino_computes_in_bf16", lambda: True)
    monkeypatch.setattr(runtime._Converted, "_parity", lambda _, __, precision: (0.97 if precision == "bf16" else 1, 1))
    assert on_runtime(model, cache=cache).runtime.endswith(", fp32")
    measured = copy.deepcopy(model)
    measured.card = {AGREEMENT: {"bf16": [0.995, 0.97]}}
    assert on_runtime(measured, cache=cache).runtime.endswith(", bf16")


def test_bf16_is_chosen_where_the_processor_has_it_and_maps_agree(
    model: PanopticModel, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    agree = {"pixels": 1.0}
    monkeypatch.setattr(runtime._Converted, "_parity", lambda *_: (agree["pixels"], 1.0))
    for has_bf16, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(cached_graphs, "openvino_computes_in_bf16", lambda has=has_bf16: has)
        assert on_runtime(model, cache=cache).runtime.endswith(f", {expected}")
    assert "running in OpenVINO" in caplog.text
    agree["pixels"] = 0.9985  # enough in bf16, too few in fp32
    assert on_runtime(model, cache=cache) is model
    assert "99.85 % of the pixels" in caplog.text
    with pytest.raises(InvalidArgumentError, match=r"99\.85 % of the pixels and .* 99\.9 % and 99 are needed"):
        on_runtime(model, "openvino", precision="fp32", cache=cache)


def test_the_comparison_is_kept(model: PanopticModel, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (facts,) = cache.glob("*.json")
    assert [value for key, value in json.loads(facts.read_text())["parity"].items() if "ONNX" in key] == [[1.0, 1.0]]
    monkeypatch.setattr(runtime, "compare", lambda *_, **__: pytest.fail("compared again"))
    assert on_runtime(model, "onnx", cache=cache) is not model


@pytest.mark.parametrize(
    "damage",
    [
        "graph",
        "{",
        '{"size": 7}',
        '{"reason": 5}',
        '{"sides": [[2, null]], "parity": {}}',
        '{"sides": [["a", null], [2, null]], "parity": {}}',
        '{"sides": [[2, null], [2, null]], "parity": []}',
        '{"sides": [[2, null], [2, null]], "parity": {"x": 3}}',
        '{"sides": [[2, null], [2, null]], "parity": {"x": ["a", 1]}}',
    ],
)
def test_a_damaged_file_in_the_cache_is_converted_again(
    model: PanopticModel, cache: Path, tmp_path: Path, damage: str
) -> None:
    copied = tmp_path / "graphs"
    shutil.copytree(cache, copied)
    (graph,), (facts,) = copied.glob("*.onnx"), copied.glob("*.json")
    if damage == "graph":
        graph.write_bytes(graph.read_bytes()[:1000])
    else:
        facts.write_text(damage)
    for name in ("onnx", "openvino"):
        with pytest.raises(AssertionError, match="converted a second time"):
            on_runtime(model, name, cache=copied)  # type: ignore[arg-type]


def test_a_graph_that_a_runtime_cannot_read(
    model: PanopticModel, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def refuse(path: Path, name: str) -> None:
        raise UnreadableFileError(path, "OpenVINO cannot read it; copy it again") from RuntimeError("no ReduceSum")

    monkeypatch.setattr(runtime._Converted, "_convert", lambda _: None)
    monkeypatch.setattr(runtime, "open_graph", refuse)
    with pytest.raises(InvalidArgumentError, match=r"^OpenVINO cannot read the graph of this network: no ReduceSum$"):
        on_runtime(model, "openvino", cache=cache)
    assert on_runtime(model, cache=cache) is model
    assert "not running in openvino: OpenVINO cannot read the graph" in caplog.text


def test_torch_runs_what_the_graph_does_not_take(model: PanopticModel, cache: Path) -> None:
    found = on_runtime(model, "onnx", cache=cache)
    forward: Any = found.forward
    forward._sides = (runtime.SideRange(100, None), runtime.SideRange(1, 200))
    forward._graph.run = None  # not called
    with torch.inference_mode():
        for size in ((99, 150), (100, 201)):
            batch = torch.rand(2, 3, *size)
            assert all(torch.equal(a, b) for a, b in zip(found(batch), model(batch), strict=True) if a is not None)
    assert found(torch.rand(2, 3, 128, 128).requires_grad_()).semantic.requires_grad


def test_auto_without_a_runtime_or_a_way_to_convert_is_torch(
    model: PanopticModel, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(cached_graphs, "find_spec", lambda name: None if name == "onnxscript" else object())
    assert on_runtime(model, cache=cache) is model
    monkeypatch.undo()
    monkeypatch.setenv("PANSCAPE_RUNTIME", "torch")
    assert on_runtime(model, cache=cache) is model
    monkeypatch.delenv("PANSCAPE_RUNTIME")

    def refuse(*_: object) -> None:
        raise InvalidArgumentError("it has a sort")

    monkeypatch.setattr(runtime, "trace", refuse)
    assert on_runtime(model, cache=tmp_path / "new") is model
    monkeypatch.setattr(runtime, "trace", lambda *_: pytest.fail("tried again"))
    assert on_runtime(model, cache=tmp_path / "new") is model
    assert caplog.text.count("not running in openvino: it has a sort") == 2
    assert caplog.text.count("not running in onnx: it has a sort") == 2
    (tmp_path / "file").touch()
    assert on_runtime(model, cache=tmp_path / "file") is model  # a cache that cannot be written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runtime": "tflite"}, "expected auto or torch or openvino or onnx as the runtime, got 'tflite'"),
        ({"precision": "fp16"}, "expected auto or fp32 or bf16 as the precision, got 'fp16'"),
        ({"runtime": "onnx", "precision": "bf16"}, "expected fp32 for ONNX Runtime, got bf16"),
    ],
)
def test_wrong_arguments(model: PanopticModel, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        on_runtime(model, **arguments)


def test_predict_takes_a_runtime_and_says_so(
    model: PanopticModel,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cached_graphs, "user_cache", lambda: cache.parent)
    model.save(tmp_path / "model.safetensors")
    PIL.Image.fromarray(image(90, 120).permute(1, 2, 0).numpy()).save(tmp_path / "photo.png")
    maps = []
    for name in ("onnx", "torch"):
        command = ["predict", str(tmp_path / "photo.png"), "--model", str(tmp_path / "model.safetensors")]
        assert main([*command, "--runtime", name, "--out", str(tmp_path / name)]) == 0
        maps.append(np.asarray(PIL.Image.open(tmp_path / name / "panoptic" / "photo.png")))
        assert ("running in ONNX Runtime" in capsys.readouterr().err) == (name == "onnx")
    assert np.array_equal(*maps)
    assert main([*command, "--runtime", "onnx", "--precision", "fp16"]) == 2
    assert "--runtime onnx is for CPUs, and --precision fp16 is not" in capsys.readouterr().err


def test_options_of_a_prediction_name_the_runtime(model: PanopticModel, cache: Path) -> None:
    found = Predictor(on_runtime(model, "onnx", cache=cache)).options
    assert found["runtime"].startswith("ONNX Runtime ")
    assert found["model"] == Predictor(model).options["model"]


def test_attention_in_bf16_keeps_the_sizes_of_masks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    export_model(created("maskformer"), tmp_path / "m.onnx")
    graph = open_graph(tmp_path / "m.onnx", "openvino")
    graph.compile("bf16")
    for size in ((128, 160), (64, 96), (160, 128)):  # the first has a graph of its own
        _, masks = graph.run(image(*size)[None].numpy() / np.float32(255))
        assert masks.shape[2:] == (size[0] // 4, size[1] // 4)
