"""``panscape predict`` without torch makes the files that it makes with torch, and leaves all else to torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from processes import NOTHING, Process, run_code

from panscape import PanopticMap, PanopticModel, create_model, zoo
from panscape.cli import main, predict
from panscape.datasets.town import Town
from panscape.errors import InvalidArgumentError
from panscape.export import cached_graphs, export_model
from panscape.geometry import Size
from panscape.inference.familiarity import CONFIDENCE
from panscape.inference.graph_predictor import GraphPredictor
from panscape.inference.predictor import Predictor
from panscape.inference.sources import find_sources
from panscape.models.digest import network_digest
from panscape.notes import start_run
from panscape.runtime_options import graph_of
from panscape.zoo.graph_model import open_exported

pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("openvino", reason="needs the extra openvino")

SIZES = ((96, 128), (90, 130), (200, 71), (201, 333), (450, 221))  # the network sees at most 200 pixels

_WITHOUT_TORCH = """
import sys
class Refusal:
    @staticmethod
    def find_spec(name, *_):
        if name == "torch":
            raise ImportError(name)
sys.meta_path.insert(0, Refusal)
from panscape.cli import main
code = main({arguments!r})
slow = ("torch", "timm", "tyro", "rich", "scipy.linalg", "msgspec", "openvino.tools.ovc")
print(code, [name for name in slow if sys.modules.get(name)])
"""


@pytest.fixture(autouse=True)
def _usual_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PANSCAPE_RUNTIME")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with segments in random images, its exports, photos of several sizes, and a cache."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    model = create_model("swiftnet", "town", backbone="residual_xs", width=8, levels=2, longest_side=200)
    model.set_decoding(stuff_area=1, threshold=0.2, largest_part=True, leftover_area=4)
    model.save(folder / "model.safetensors", {"licence": "CC0", "data": "none", CONFIDENCE: 1.1})
    loaded = zoo.load(folder / "model.safetensors")
    for name, resize in (("any.onnx", "outputs"), ("any.xml", "map")):
        loaded.set_decoding(resize=resize)
        export_model(loaded, folder / name)
    export_model(loaded, folder / "fixed.onnx", size=(96, 128))
    (folder / "photos").mkdir()
    generator = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        pixels = generator.integers(0, 256, (*size, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")
    return folder


def command(folder: Path, model: str, out: Path, *others: str) -> list[str]:
    photos = [str(folder / "photos" / f"{number}.png") for number in range(len(SIZES))]
    return ["predict", *photos, "--model", str(folder / model), "--out", str(out), *others]


def contents(out: Path) -> dict[str, Any]:
    """Return the files of a prediction: bytes by path, and of the record its lines without times."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        if path.name == "predictions.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            for line in lines:
                line.get("result", {}).pop("times", None)
            found[path.name] = lines
        elif path.is_file():
            found[path.relative_to(out).as_posix()] = path.read_bytes()
    return found


def without_torch(arguments: list[str], folder: Path) -> str:
    """Run the command in a process that cannot import torch; return its last line."""
    folder.mkdir(exist_ok=True)
    script = _WITHOUT_TORCH.format(arguments=arguments)
    process = Process(folder / "out", run_code, script, err=folder / "err", imported=NOTHING)
    assert process.end() == 0, (folder / "err").read_text()
    return (folder / "out").read_text().splitlines()[-1]


def with_torch(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(predict, "graph_of", lambda *_, **__: None)
        assert main(arguments) == 0


@pytest.mark.parametrize("name", ["any.onnx", "any.xml"])
def test_an_exported_model_makes_the_same_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with_torch(command(folder, name, tmp_path / "expected"), monkeypatch)
    assert without_torch(command(folder, name, tmp_path / "found"), tmp_path / "log") == "0 []"
    expected, found = contents(tmp_path / "expected"), contents(tmp_path / "found")
    assert found == expected
    assert "the model is less sure of its categories here" in (tmp_path / "log" / "err").read_text()
    assert {"0.jpg", "panoptic/2.png", "panoptic.json", "predictions.jsonl"} <= found.keys()
    assert len(expected["predictions.jsonl"][1]["maps"][0][1]["segments_info"]) > 5
    options = ["--names", "segment", "--min-score", "0.3", "--image-format", "png", "--max-size", "250"]  # by tyro
    for out in ("expected", "found"):
        shutil.rmtree(tmp_path / out)
    with_torch(command(folder, name, tmp_path / "expected", *options), monkeypatch)
    assert without_torch(command(folder, name, tmp_path / "found", *options), tmp_path / "log") == "0 ['tyro']"
    assert contents(tmp_path / "found") == contents(tmp_path / "expected")


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_saved_weights_start_without_torch_once_they_are_converted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runtime: str
) -> None:
    monkeypatch.setenv("PANSCAPE_CACHE", str(tmp_path / "cache"))
    model = str(folder / "model.safetensors")
    assert graph_of(model, runtime, "auto", "cpu") is None  # type: ignore[arg-type]
    monkeypatch.setattr("panscape.export.runtime.compare", _EqualMaps)
    arguments = command(folder, "model.safetensors", tmp_path / "expected", "--runtime", runtime)
    assert main(arguments) == 0  # converts
    expected = contents(tmp_path / "expected")
    announced = [line for line in capsys.readouterr().err.splitlines() if line.startswith("running in")]
    thin = tmp_path / "thin.png"  # graphs take at least two pixels
    PIL.Image.new("RGB", (130, 1)).save(thin)
    assert main(["predict", str(thin), "--model", model, "--out", str(tmp_path / "thin"), "--runtime", runtime]) == 0
    assert capsys.readouterr().err.count("running in") == 1
    arguments = command(folder, "model.safetensors", tmp_path / "found", "--runtime", runtime)
    monkeypatch.setattr("panscape.load", lambda *_: pytest.fail("loads it in torch"))
    assert main(arguments) == 0
    assert contents(tmp_path / "found") == expected
    assert announced[0] in capsys.readouterr().err
    # Nothing else is known: another runtime, other weights, or a damaged graph.
    other = {"onnx": "openvino", "openvino": "onnx"}[runtime]
    assert graph_of(model, other, "auto", "cpu") is None  # type: ignore[arg-type]
    weights = tmp_path / "other.safetensors"
    changed = zoo.load(model)
    changed.set_decoding(threshold=0.3)
    changed.save(weights)
    assert graph_of(str(weights), runtime, "auto", "cpu") is None  # type: ignore[arg-type]
    (index,) = (tmp_path / "cache" / "graphs").glob("weights-*.json")
    kept = json.loads(index.read_text())
    for part in ("card", "inference", "labels", "network"):
        index.write_text(json.dumps(kept | {part: [1]}))
        assert graph_of(model, runtime, "auto", "cpu") is None, part  # type: ignore[arg-type]
    index.write_text(json.dumps(kept))
    (graph,) = (tmp_path / "cache" / "graphs").glob("*.onnx")
    graph.write_bytes(graph.read_bytes()[:1000])
    assert graph_of(model, runtime, "auto", "cpu") is None  # type: ignore[arg-type]


class _EqualMaps:
    """A comparison that finds no difference, without making maps."""

    equal_pixels = pq = 1.0

    def __init__(self, *_: object, **__: object) -> None:
        pass


def test_the_runtime_is_the_choice_of_on_runtime(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANSCAPE_CACHE", str(tmp_path))
    model = str(folder / "model.safetensors")
    monkeypatch.setattr("panscape.export.runtime.compare", _EqualMaps)
    monkeypatch.setattr(cached_graphs, "openvino_computes_in_bf16", lambda: True)
    assert main(command(folder, "model.safetensors", tmp_path / "out")) == 0
    found = graph_of(model, "auto", "auto", "cpu")
    assert found is not None
    assert found.runtime.startswith("OpenVINO ")
    assert found.runtime.endswith(", bf16")
    (facts,) = (tmp_path / "graphs").glob("swiftnet-*.json")
    content = json.loads(facts.read_text())
    for parity, expected in (([0.97, 1.0], None), ([0.98, 0.9], ", bf16"), ([0.98, 0.89], None)):
        content["parity"] = {found.runtime: parity}  # below the floor, fp32 is tried, of which nothing is known
        facts.write_text(json.dumps(content))
        again = graph_of(model, "auto", "auto", "cpu")
        assert (again is None) == (expected is None)
    monkeypatch.setenv("PANSCAPE_RUNTIME", "torch")
    assert graph_of(model, "auto", "auto", "cpu") is None
    assert graph_of(model, "openvino", "auto", "cpu") is None
    monkeypatch.setenv("PANSCAPE_RUNTIME", "onnx")
    assert graph_of(model, "auto", "auto", "cpu") is None


@pytest.mark.parametrize(
    "options",
    [
        ("--precision", "fp32"),
        ("--channels-last",),
        ("--runtime", "torch"),
        ("--save-outputs",),
        ("--decode.stuff-area", "3"),
    ],
)
def test_torch_does_what_graphs_cannot(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    loaded = []
    load = zoo.load
    monkeypatch.setattr("panscape.load", lambda name: loaded.append(name) or load(name))
    assert main(command(folder, "any.onnx", tmp_path / "out", *options)) == 0
    assert len(loaded) == 1


def test_devices_and_the_environment_decide(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = str(folder / "any.onnx")
    assert graph_of(exported, "auto", "auto", "auto") is not None
    assert graph_of(exported, "auto", "auto", "cuda") is None
    assert graph_of(exported, "onnx", "auto", "auto") is None  # an error, which names the reason
    monkeypatch.setenv("PANSCAPE_RUNTIME", "torch")
    assert graph_of(exported, "auto", "auto", "auto") is None
    monkeypatch.delenv("PANSCAPE_RUNTIME")
    monkeypatch.setattr("panscape.runtime_options._DRIVERS", (exported,))
    monkeypatch.setattr(cached_graphs, "open_cached", lambda *_: pytest.fail("the model may run on a GPU"))
    assert graph_of("street", "auto", "auto", "auto") is None


def test_a_graph_takes_images_by_the_size_at_which_they_enter_it(folder: Path, tmp_path: Path) -> None:
    exported, fixed = open_exported(folder / "any.onnx"), open_exported(folder / "fixed.onnx")
    assert exported is not None
    assert fixed is not None
    wide, thin, turned = tmp_path / "wide.png", tmp_path / "thin.png", tmp_path / "turned.jpg"
    PIL.Image.new("RGB", (256, 192)).save(wide)
    PIL.Image.new("RGB", (640, 1)).save(thin)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (96, 128)).save(turned, exif=exif)  # 96 pixels high when it is upright
    sources = find_sources([folder / "photos" / "0.png", folder / "photos" / "1.png", wide, turned, thin])
    assert [GraphPredictor(exported).takes(source) for source in sources] == [True, True, True, True, False]
    assert [GraphPredictor(fixed).takes(source) for source in sources] == [True, False, False, True, False]
    small = GraphPredictor(fixed, longest_side=128)
    assert [small.takes(source) for source in sources] == [True, False, True, True, False]
    expected = r"takes images 96 pixels high and 128 wide, and this one of 256x192 would enter it at 128x96"
    with pytest.raises(InvalidArgumentError, match=expected):
        small.predict_array(np.zeros((3, 256, 192), np.uint8))
    with pytest.raises(InvalidArgumentError, match="longest side of at least 1 pixel, got 0"):
        GraphPredictor(fixed, longest_side=0)


def test_what_no_graph_model_is(folder: Path, tmp_path: Path) -> None:
    assert open_exported(tmp_path / "missing.onnx") is None
    (tmp_path / "damaged.onnx").write_bytes(b"no graph")
    assert open_exported(tmp_path / "damaged.onnx") is None
    model: PanopticModel = zoo.load(folder / "model.safetensors")
    model.set_decoding(largest_part=False, leftover_area=0)
    export_model(model, tmp_path / "maps.onnx", size=(96, 128), postprocess="graph")
    assert open_exported(tmp_path / "maps.onnx") is None


@pytest.mark.parametrize("size", [(64, 64), (250, 170), (100, 300)])
def test_the_input_of_the_network_is_that_of_torch(folder: Path, size: tuple[int, int]) -> None:
    model = open_exported(folder / "any.onnx")
    assert model is not None
    seen = []
    run = model.graph.run
    model.graph.run = lambda images: seen.append(images) or run(images)  # type: ignore[method-assign]
    values = np.random.default_rng(1).integers(0, 256, (3, *size), np.uint8)
    start_run()
    GraphPredictor(model).warm_up(Size(*size))
    found = GraphPredictor(model).predict_array(values)
    original: PanopticModel = zoo.load(folder / "any.onnx")
    prediction = Predictor(original, device="cpu").predict(torch.from_numpy(values))
    assert np.array_equal(seen[-1], prediction.images.numpy())
    assert PanopticMap.from_arrays(found.arrays) == prediction.map
    assert GraphPredictor(model).options == Predictor(original, device="cpu").options
    assert GraphPredictor(model).provenance == original.provenance
    assert network_digest(original) == model.digest


def test_a_bundled_model_predicts_large_photos_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANSCAPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("panscape.export.runtime.compare", _EqualMaps)
    for number, size in enumerate([(641, 1001), (900, 700)]):
        scene = Town(1, size=(96, 128), view="street", seed=number)[0].image
        PIL.Image.fromarray(scene.permute(1, 2, 0).numpy()).resize(size[::-1]).save(tmp_path / f"{number}.png")
    photos = [str(tmp_path / f"{number}.png") for number in range(2)]
    main(["predict", *photos, "--model", "street", "--runtime", "onnx", "--out", str(tmp_path / "expected")])
    arguments = ["predict", *photos, "--model", "street", "--runtime", "onnx", "--out", str(tmp_path / "found")]
    assert without_torch(arguments, tmp_path / "log") == "0 ['tyro']"
    expected = contents(tmp_path / "expected")
    assert contents(tmp_path / "found") == expected
    assert all(line["maps"][0][1]["segments_info"] for line in expected["predictions.jsonl"][1:])
