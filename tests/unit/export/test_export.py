"""Exported models are models like any other, and what they cannot do is refused."""

from __future__ import annotations

import copy
import json
import logging
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from json_schemas import require_schema
from maps import a_map

from panscape import PanopticModel, create_model, zoo
from panscape.cli import main
from panscape.errors import InvalidArgumentError, MissingExtraError, UnreadableFileError, UnwritableFileError
from panscape.export import export, int8, trace
from panscape.export.export import _move
from panscape.export.floors import FLOORS, ParityFloor
from panscape.export.parity import OutputDifference, ParityReport, compare, count_equal_pixels
from panscape.inference.predictor import Predictor
from panscape.models.swiftnet import PanopticSwiftNet
from panscape.notes import start_run
from panscape.zoo.graphs import openvino_core

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")


def saved(folder: Path, *, levels: int, seed: int) -> PanopticModel:
    """Save a tiny model and return it as loaded."""
    torch.manual_seed(seed)
    model = create_model("swiftnet", "town", backbone="residual_xs", width=8, levels=levels)
    model.set_decoding(stuff_area=1, threshold=0.2)
    model.save(folder / "model.safetensors", {"licence": "CC0", "data": "none"})
    return zoo.load(folder / "model.safetensors")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> PanopticModel:
    """A tiny saved model whose maps have segments."""
    return saved(tmp_path_factory.mktemp("original"), levels=1, seed=3)


@pytest.fixture(scope="module")
def folder(original: PanopticModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``any.onnx`` for any size, written by the command, and the object that the command prints."""
    folder = tmp_path_factory.mktemp("exported")
    original.save(folder / "model.safetensors")
    arguments = ["export", str(folder / "model.safetensors"), "--to", "onnx", "--out", str(folder / "any.onnx")]
    assert main([*arguments, "--dynamic", "--decode.stuff-area", "3"]) == 0
    return folder


@pytest.fixture(scope="module")
def exported(folder: Path) -> PanopticModel:
    return zoo.load(folder / "any.onnx")


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return (torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 255).to(torch.uint8)


def test_an_exported_model_has_all_but_the_weights(exported: PanopticModel, original: PanopticModel) -> None:
    assert isinstance(exported, PanopticSwiftNet)
    assert exported.labels == original.labels
    assert exported.decoding.stuff_area == 3  # as the command says
    assert exported.decoding.threshold == original.decoding.threshold == 0.2
    assert exported.card == original.card
    assert exported.provenance is not None
    assert exported.provenance["licence"] == "CC0"
    assert sum(p.numel() for p in exported.parameters()) == 0
    assert exported.output_names == ("semantic", "center", "offset")  # type: ignore[attr-defined]
    assert zoo.read_card(exported.exported_file or "") == original.card


def test_it_predicts_images_of_any_size_alone_and_in_batches(exported: PanopticModel, original: PanopticModel) -> None:
    same = copy.deepcopy(original)
    same.set_decoding(stuff_area=3)
    sources = [image(100, 157), image(33, 200), image(33, 200, seed=1)]
    found = exported.predict(sources, batch_size=2)
    assert [m.num_segments for m in found] != [0, 0, 0]
    for ours, theirs in zip(found, same.predict(sources), strict=True):
        assert ours.equals(theirs)
    assert Predictor(exported, channels_last=True).predict(sources[0]).map.equals(found[0])


def test_the_report_beside_it_follows_the_schema(folder: Path) -> None:
    report = json.loads((folder / "any.onnx.parity.json").read_text())
    require_schema(report, "export")
    assert (report["equal_pixels"], report["pq"], report["images"], report["size"]) == (1, 1, 8, None)
    assert set(report["outputs"]) == {"semantic", "center", "offset"}
    assert all(d["largest_difference"] < 1e-5 < d["largest_value"] for d in report["outputs"].values())
    assert all(ms > 0 for times in report["times"].values() for ms in times.values())


def test_the_description_is_readable_without_panscape(folder: Path) -> None:
    graph = onnx.load(folder / "any.onnx")
    (entry,) = [p for p in graph.metadata_props if p.key == "panscape"]
    description = json.loads(entry.value)
    assert description["model"] == "swiftnet"
    assert description["export"]["precision"] == "fp32"
    assert description["export"]["sides"][0][1] is None
    assert [output.name for output in graph.graph.output] == ["semantic", "center", "offset"]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda m: m.to("cuda"), "takes the device cpu, got cuda; load the model that it was exported from"),
        (lambda m: m.cuda(), "takes the device cpu, got cuda"),
        (lambda m: m.half(), "takes no other precision, got torch.float16; export again with --precision"),
        (lambda m: m.to(torch.bfloat16), "takes no other precision, got torch.bfloat16"),
        (lambda m: m.train(), "takes no training, as it has no weights"),
        (lambda m: m.save("x.safetensors"), "expected a model with weights, got the exported model"),
        (lambda m: Predictor(m, device="cpu", precision="bf16").predict(image(64, 64)), "takes precision fp32"),
        (lambda m: m("photo.jpg"), "expected the input of a network"),
    ],
)
def test_what_needs_weights_is_refused(exported: PanopticModel, use: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        use(exported)
    assert not exported.training
    assert exported.to("cpu") is exported.float().eval()


def test_auto_is_the_cpu_and_predictors_tell_files_apart(exported: PanopticModel, original: PanopticModel) -> None:
    predictor = Predictor(exported)
    assert predictor.device.type == "cpu"
    assert predictor.options["model"] != Predictor(original, device="cpu").options["model"]


class _NoQuantizer(SimpleNamespace):
    """What panscape calls of nncf; it quantises nothing, and records what it is asked for."""

    QuantizationPreset = SimpleNamespace(PERFORMANCE="performance")
    AdvancedAccuracyRestorerParameters = dict

    def Dataset(self, items: Any, transform: Any = None) -> list[Any]:  # noqa: N802 - its name
        return [transform(item) if transform else item for item in items]

    def quantize_with_accuracy_control(
        self, model: Any, inputs: Any, numbers: Any, validate: Any, **options: Any
    ) -> Any:
        import openvino

        self.inputs, self.options = inputs, options
        assert openvino.Core() is openvino_core()
        logging.getLogger("torch.utils.cpp_extension").warning("No CUDA runtime is found")
        precise = {"INFERENCE_PRECISION_HINT": "f32"}
        self.shares = validate(openvino.compile_model(model, "CPU", precise), numbers)
        return model


def test_a_fixed_size_in_int8(
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    # Of one level, the conversion would merge convolutions with their norms, and name them after these.
    original = saved(tmp_path_factory.mktemp("original"), levels=2, seed=0)
    size, nncf = (64, 128), _NoQuantizer()
    monkeypatch.setattr(int8, "import_nncf", lambda: nncf)
    monkeypatch.setattr(export, "require_runtime", lambda *_: None)
    files = [image(*size, seed=seed) for seed in range(12)]
    result = export.export_model(original, tmp_path / "m.xml", size=size, precision="int8", calibration=files)
    assert "CUDA" not in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.bin", "m.xml", "m.xml.parity.json"]
    require_schema(json.loads(result.report.read_text()), "export")
    assert (result.parity.images, result.parity.source) == (2, "held-out images of the calibration set")
    kept = [files[i] for i in range(12) if i not in (0, 6)]
    assert all(np.array_equal(x[0], y / 255) for x, y in zip(nncf.inputs, kept, strict=True))
    assert nncf.shares == (1.0, [1.0] * 8)
    assert nncf.options["max_drop"] == pytest.approx(0.04)  # four fifths of what the floor allows
    assert result.quantization is not None
    assert result.quantization.images == 10
    heads = {name for name, part in original.named_modules() if isinstance(part, torch.nn.Conv2d)}
    assert set(result.quantization.float_layers) == heads
    exported = zoo.load(tmp_path / "m.xml")
    assert re.fullmatch(r"OpenVINO [\d.]+, int8", exported.runtime)
    other = tmp_path / "other"  # the same weights in another graph, as files of two precisions are
    other.mkdir()
    (other / "m.bin").write_bytes((tmp_path / "m.bin").read_bytes())
    (other / "m.xml").write_text((tmp_path / "m.xml").read_text() + "<!-- -->")
    assert Predictor(zoo.load(other / "m.xml")).options["model"] != Predictor(exported).options["model"]
    padded = torch.zeros(1, 3, *size) + exported.mean
    padded[..., :40, :100] = image(40, 100) / 255
    with torch.inference_mode():
        for ours, theirs in zip(exported(image(40, 100)[None] / 255).tensors, exported(padded).tensors, strict=True):
            assert torch.equal(ours, theirs)
    caplog.clear()
    start_run()
    Predictor(exported).warm_up()
    assert caplog.messages == []
    start_run()
    assert [exported.predict(image(40, 100)).size for _ in range(2)] == [(40, 100)] * 2
    assert len(caplog.messages) == 1
    assert "images smaller than 64x128 are padded" in caplog.messages[0]
    expected = r"takes images 1 to 64 pixels high, got 90x128; give another maximum size \(--max-size of panscape"
    with pytest.raises(InvalidArgumentError, match=expected):
        exported.predict(image(90, 128))
    assert Predictor(exported, longest_side=91).predict(image(90, 128)).map.size == (90, 128)
    (tmp_path / "m.bin").unlink()
    with pytest.raises(UnreadableFileError, match=r"m\.xml: its weights m\.bin are not beside it; copy both"):
        zoo.load(tmp_path / "m.xml")


def test_files_that_are_none(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"absent\.onnx"):
        zoo.load(tmp_path / "absent.onnx")
    (tmp_path / "broken.onnx").write_bytes((folder / "any.onnx").read_bytes()[:1000])
    with pytest.raises(UnreadableFileError, match=r"broken\.onnx: ONNX Runtime cannot read it \("):
        zoo.load(tmp_path / "broken.onnx")
    graph = onnx.load(folder / "any.onnx")
    graph.metadata_props[0].value = json.dumps({"model": "swiftnet", "options": {"width": "a"}})
    onnx.save(graph, tmp_path / "invalid.onnx")
    with pytest.raises(UnreadableFileError, match="its description of the model is invalid"):
        zoo.load(tmp_path / "invalid.onnx")
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "foreign.onnx")
    with pytest.raises(UnreadableFileError, match=r"it was not exported by panscape; export a model with panscape exp"):
        zoo.load(tmp_path / "foreign.onnx")
    with pytest.raises(UnreadableFileError, match="an exported model has no weights to start from"):
        zoo.load_partial(create_model("swiftnet", "town", backbone="residual_xs", width=8), folder / "any.onnx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "m.onnx"], "expected either --size HxW, for images of one size, or --dynamic, .* got neither"),
        (["--out", "m.onnx", "--dynamic", "--size", "64x64"], "got both"),
        (["--out", "m.onnx", "--size", "64"], "expected --size as HEIGHTxWIDTH in pixels, such as 512x1024, got 64"),
        (["--out", "m.onnx", "--size", "8x64"], "expected a size of 32 to 16384 pixels on each side, got 8x64"),
        (["--out", "m.xml", "--dynamic"], "expected --out to end in .onnx with --to onnx, got m.xml"),
        (["--out", "no/m.onnx", "--dynamic"], "the folder no does not exist"),
        (
            ["--out", "m.onnx", "--dynamic", "--precision", "bf16"],
            "expected fp32 or fp16 for onnx, got 'bf16'",
        ),
        (["--out", "m.xml", "--to", "openvino", "--dynamic", "--precision", "int8"], "expected images for calibration"),
        (["--out", "m.onnx", "--dynamic", "--postprocess", "graph"], "one size of images with post-processing in the"),
        (["--dynamic"], "expected a MODEL and the file to write: panscape export MODEL --to onnx --dynamic --out"),
        (["--out", "m.onnx", "--dynamic", "--images", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_wrong_arguments(
    folder: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    assert main(["export", "model.safetensors", *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_size_that_no_image_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "street", "--to", "onnx", "--size", "720x960", "--out", str(tmp_path / "m.onnx")]) == 2
    expected = "640 pixels on the longer side, .* got 720x960, which no image would fill; give --size 480x640"
    assert re.search(expected, capsys.readouterr().err)


def test_an_exported_model_is_not_exported_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(folder / "any.onnx"), "--dynamic", "--out", str(folder / "again.onnx")]) == 2
    assert "expected a model with weights, got the exported model" in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from panscape.zoo import graphs

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(
        MissingExtraError, match=r"exporting to onnx needs onnxscript; .*pip install 'panscape\[onnx\]'"
    ):
        graphs.require_runtime("onnx")


def test_equal_pixels_do_not_depend_on_ids() -> None:
    truth = a_map("AABB\nAABB\n..CC")
    assert count_equal_pixels(truth, truth) == 12
    assert count_equal_pixels(a_map("AABB\nAABB\n...."), truth) == 10  # the third segment is not found
    assert count_equal_pixels(a_map("AAAB\nAABB\n..CC"), truth) == 11


class _Shifted(torch.nn.Module):
    """A model whose second output differs by a number from that of another model."""

    def __init__(self, model: PanopticModel, shift: float) -> None:
        super().__init__()
        self.model, self.shift = model, shift
        self.postprocess = model.postprocess

    def forward(self, images: torch.Tensor) -> Any:
        outputs = self.model(images)
        return outputs._replace(center=outputs.center + self.shift)


def test_a_departure_is_measured_and_named(original: PanopticModel) -> None:
    found: Any = _Shifted(original, 0.25)
    report = compare(found, original, [image(64, 64)], floor=FLOORS["fp32"], source="given images")
    assert report.outputs["center"].largest_difference == pytest.approx(0.25, abs=1e-6)
    assert report.outputs["semantic"].largest_difference == 0
    assert report.first_departure == "center"
    assert report.is_met == (report.equal_pixels >= 0.999 and report.pq >= 0.99)
    worse = ParityReport(1, "", {"a": OutputDifference(np.nan, 1.0)}, 0.998, 1.0, ParityFloor(0.999, 0.99), {})
    assert not worse.is_met
    assert worse.first_departure == "a"


def test_an_export_below_the_floor_names_the_layer_and_writes_nothing(
    original: PanopticModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = copy.deepcopy(original)
    with torch.no_grad():
        wrong.get_submodule("path.2.blend.2").weight.mul_(-3)  # type: ignore[operator, union-attr]
    monkeypatch.setattr(export, "trace", lambda _, *args, **options: trace.trace(wrong, *args, **options))
    (tmp_path / "m.pt2").write_bytes(b"earlier")
    with pytest.raises(InvalidArgumentError, match=r"first in the layer 'path\.2\.blend\.2', whose"):
        export.export_model(original, tmp_path / "m.pt2", size=(64, 64))
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt2"]
    assert (tmp_path / "m.pt2").read_bytes() == b"earlier"


def test_programs_of_torch_are_loaded_without_pickles(original: PanopticModel, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    result = export.export_model(original, path, size=(64, 128), images=[image(64, 128)])
    assert all(d.largest_difference == 0 for d in result.parity.outputs.values())
    assert zoo.load(path).predict(image(64, 128)).equals(original.predict(image(64, 128)))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("m/data/sample_inputs/more.pt", b"anything")
    with pytest.raises(UnreadableFileError, match=r"more\.pt may be a pickle, which can run any code"):
        zoo.load(path)


def test_held_out_images_are_spread_and_few() -> None:
    assert int8.held_out(12) == [0, 6]
    assert int8.held_out(100) == [i * 100 // 16 for i in range(16)]
    with pytest.raises(InvalidArgumentError, match=r"expected at least 5 images for calibration, .* got 4"):
        int8.held_out(4)


def test_a_folder_with_the_name_of_the_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    for name in ("new/m.xml", "new/m.bin", "m.xml"):
        (tmp_path / name).write_text(name)
    (tmp_path / "m.bin").mkdir()
    with pytest.raises(UnwritableFileError, match=r"m\.bin: a folder has this name"):
        _move(tmp_path / "new" / "m.xml", tmp_path / "m.xml")
    assert (tmp_path / "m.xml").read_text() == "m.xml"
    assert list((tmp_path / "m.bin").iterdir()) == []
