"""Rows, ratios and memory of benchmarks; clocks are moved by hand, as no test depends on the speed of a machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from color_model import ColorModel
from json_schemas import require_schema
from maps import SHAPES
from tiny_transformers import save_network

from panscape import create_model
from panscape.benchmark import cold, machine, run, runners
from panscape.benchmark.cold import FirstBatch, in_new_process, measure
from panscape.benchmark.images import ImageSet, image_set
from panscape.benchmark.machine import describe_machine
from panscape.benchmark.options import BenchmarkOptions
from panscape.benchmark.report import BenchmarkReport, stage_time
from panscape.benchmark.run import run_benchmark
from panscape.benchmark.runners import STAGES, Setting, TransformersPeer, create_runner
from panscape.cli import main
from panscape.errors import (
    InvalidArgumentError,
    MissingExtraError,
    PanscapeError,
    UnknownNameError,
    UnreadableFileError,
)
from panscape.geometry import Size
from panscape.images import load_image
from panscape.stopwatch import Stopwatch
from panscape.zoo import save

CPU = torch.device("cpu")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeRunner:
    """Takes a second for each stage of an image, ten times that for the first batches; "fast" takes half of it."""

    scope = "image to map"
    device = CPU
    runtime = "torch"

    def __init__(self, setting: Setting, clock: Clock, calls: list[tuple[str, tuple[str, ...]]]) -> None:
        self.name, self.clock, self.calls = setting.name, clock, calls
        self.precision = setting.precision

    def run(self, paths: Sequence[Path], watch: Stopwatch) -> None:
        seconds = len(paths) * (0.5 if self.name == "fast" else 1.0) * (1 if len(self.calls) >= 6 else 10)
        self.calls.append((self.name, tuple(path.stem for path in paths)))
        for stage in STAGES:
            self.clock.now += seconds
            watch.lap(stage)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """The batches that the fake models "slow" and "fast" have processed, in order."""
    clock, found = Clock(), []
    monkeypatch.setattr(run, "create_runner", lambda setting, out: FakeRunner(setting, clock, found))
    monkeypatch.setattr(run, "Stopwatch", lambda device: Stopwatch(device, clock, lambda: 2 * clock.now))
    return found


def first_batch(setting: Setting, paths: Sequence[Path], threads: int, out: Path) -> FirstBatch:
    return FirstBatch(
        {"import": 3.0, "network": 1.0}, {"import": 2.0, "network": 1.0}, "new process to map", 100.0, None
    )


def test_models_alternate_batch_by_batch_and_the_first_round_does_not_count(calls: list[Any]) -> None:
    done: list[tuple[int, int]] = []
    options = BenchmarkOptions(limit=5, size=("32x48",), batch_size=(2,), rounds=2, no_folder=True, device="cpu")
    report = run_benchmark(
        ["slow", "fast"], options, progress=lambda *counts: done.append(counts), first_batch=first_batch
    )
    one_round = [
        (name, batch)
        for batch in (("0000", "0001"), ("0002", "0003"), ("0004", "0000"))  # every image occurs, the last is filled
        for name in ("slow", "fast")
    ]
    assert calls == 3 * one_round
    assert done == [(i, 20) for i in range(1, 21)]
    slow, fast, *cold_rows = report.rows
    assert (slow.phase, slow.size, slow.batch_size, slow.images, slow.samples) == ("warm", "32x48", 2, 5, 6)
    assert {time.p50_ms for time in slow.stages.values()} == {1000.0}
    assert (slow.total.p50_ms, slow.total.p99_ms, slow.total.cpu_ms) == (6000.0, 6000.0, 12000.0)
    assert slow.predict is not None
    assert slow.predict.p50_ms == 3000.0  # preprocess, network, post-process
    assert (slow.ratio, slow.cpu_ratio, slow.images_per_second) == (1.0, 1.0, pytest.approx(1 / 3))
    assert (fast.ratio, fast.cpu_ratio, fast.images_per_second) == (2.0, 2.0, pytest.approx(2 / 3))
    assert [row.phase for row in cold_rows] == ["cold", "cold"]
    assert (cold_rows[0].total.p50_ms, cold_rows[0].total.cpu_ms, cold_rows[0].peak_rss_mb) == (4000.0, 3000.0, 100.0)
    assert all(row.scope for row in report.rows)


def test_options_are_combined_with_each_other(calls: list[Any]) -> None:
    before = torch.get_num_threads()
    options = BenchmarkOptions(
        limit=1, size=("32x32", "32x64"), batch_size=(1, 2), threads=(1, 2), precision=("fp32", "bf16"), rounds=1,
        memory_format=("contiguous", "channels-last"), no_cold=True, no_folder=True, device="cpu",
    )  # fmt: skip
    rows = run_benchmark(["slow"], options).rows
    found = {(r.size, r.batch_size, r.threads, r.precision, r.memory_format) for r in rows}
    assert len(rows) == len(found) == 2**5
    assert torch.get_num_threads() == before
    firsts = [r for r in rows if (r.precision, r.memory_format) == ("fp32", "contiguous")]
    assert [r.ratio for r in firsts] == [1.0] * 8  # one of each group


def test_memory_formats_are_those_of_torch() -> None:
    options = BenchmarkOptions(runtime=("torch", "openvino"), memory_format=("contiguous", "channels-last"))
    found = [(s.runtime, s.memory_format) for s in run._settings(["street"], options)]
    assert found == [("torch", "contiguous"), ("torch", "channels-last"), ("openvino", "contiguous")]


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [("torch", "bf16"), ("OpenVINO 2026.4.1, fp32", "fp32"), ("OpenVINO, a graph for each size", "bf16")],
)
def test_a_row_names_the_precision(runtime: str, precision: str) -> None:
    assert runners._precision_of(runtime, "bf16") == precision


def test_percentiles_are_of_nearest_rank() -> None:
    found = stage_time([float(i) for i in range(1, 201)], [3.0], count=2)
    assert (found.p50_ms, found.p99_ms, found.cpu_ms) == (50250.0, 99000.0, 1500.0)
    assert stage_time([1.0, 9.0], [1.0]).p99_ms == 9000.0


def test_a_saved_model_is_measured_from_files_to_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    save(create_model("swiftnet", SHAPES, backbone="residual_xs", levels=1, width=8), tmp_path / "tiny.safetensors")
    monkeypatch.setattr(run, "in_new_process", pytest.fail)
    options = BenchmarkOptions(limit=2, size=("32x64",), rounds=1, no_cold=True, device="cpu", runtime=("torch",))
    report = run_benchmark([str(tmp_path / "tiny.safetensors")], options)
    require_schema(report.to_dict(), "benchmark")
    warm, folder = report.rows
    assert tuple(warm.stages) == STAGES
    assert warm.scope == "image file to overlay and map on disk"
    assert (folder.phase, folder.samples, folder.stages) == ("folder", 1, {})
    assert folder.scope == "folder of 60 images to overlays and maps on disk"  # so many that starting it hardly counts
    assert folder.share_of_network_rate == pytest.approx(warm.stages["network"].p50_ms / folder.total.p50_ms)


def test_the_first_batch_of_a_process(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save(create_model("swiftnet", SHAPES, backbone="residual_xs", levels=1, width=8), tmp_path / "tiny.safetensors")
    images = image_set(None, 1, (32, 48), tmp_path / "images")
    setting = Setting(str(tmp_path / "tiny.safetensors"), "torch", "fp32", "contiguous", "cpu", None)

    def process(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[:3] == [sys.executable, "-m", "panscape.benchmark.cold"]
        found = measure(json.loads(command[3]), time.perf_counter())
        line = json.dumps({f: getattr(found, f) for f in found.__slots__})
        return subprocess.CompletedProcess(command, 0, f"noise\n{line}\n", "")

    found = in_new_process(setting, images.paths, torch.get_num_threads(), tmp_path / "out", process)
    assert tuple(found.elapsed) == tuple(found.cpu) == ("import", "load", *STAGES)
    assert found.scope == "new process to overlay and map on disk"
    assert found.peak_rss_mb is not None
    assert 50 < found.peak_rss_mb < 50_000
    assert found.peak_gpu_mb is None
    assert {path.name for path in (tmp_path / "out").rglob("*.*")} == {"0000.jpg", "0000.png"}


def test_peak_memory_is_that_of_the_new_process_alone() -> None:
    statement = "from panscape.benchmark.cold import _peak_rss_mb; print(_peak_rss_mb())"
    found = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, check=True)
    own = cold._peak_rss_mb()
    assert own is not None
    assert own > 200  # this process has imported torch
    assert 5 < float(found.stdout) < 100


def test_a_process_that_fails_is_one_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting("nothing", "torch", "fp32", "contiguous", "cpu", None)

    def process(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", command[2:])
        return subprocess.CompletedProcess(command, cold._main(time.perf_counter()), "", capsys.readouterr().err)

    with pytest.raises(
        PanscapeError, match=r"for nothing failed \(unknown model 'nothing'.*omit such rows with --no-cold"
    ):
        in_new_process(setting, [], 1, Path("out"), process)


PROCESSORS = {
    "EoMT": lambda: transformers.EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True),
    "Mask2Former": lambda: transformers.Mask2FormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}),
}


@pytest.mark.parametrize("family", PROCESSORS)
def test_a_peer_takes_the_same_files_with_its_own_processor(family: str, tmp_path: Path) -> None:
    folder = save_network(family, tmp_path / family)
    PROCESSORS[family]().save_pretrained(folder)
    images = image_set(None, 2, (48, 64), tmp_path / "images")
    peer = create_runner(
        Setting(f"transformers:{folder}", "torch", "bf16", "channels-last", "cpu", None), tmp_path / "out"
    )
    assert isinstance(peer, TransformersPeer)
    found = []
    post_process = peer._processor.post_process_panoptic_segmentation
    peer._processor.post_process_panoptic_segmentation = lambda *a, **k: found.extend(post_process(*a, **k))
    watch = Stopwatch(CPU)
    peer.run(images.paths, watch)
    assert tuple(watch.elapsed) == ("read", "preprocess", "network", "postprocess")
    assert [tuple(each["segmentation"].shape) for each in found] == [(48, 64), (48, 64)]
    assert not (tmp_path / "out").exists()


def test_peers_that_cannot_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    setting = Setting(f"transformers:{tmp_path / 'empty'}", "torch", "fp32", "contiguous", "cpu", None)
    with pytest.raises(
        UnreadableFileError, match="expected a panoptic network of transformers with its image processor"
    ):
        create_runner(setting, tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        MissingExtraError, match=r"--peer transformers:.* needs transformers; .*panscape\[transformers\]"
    ):
        create_runner(setting, tmp_path)


def test_a_network_without_weights_has_random_ones(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(runners, "create_model", lambda name, labels: ColorModel() if name == "swiftnet_r18" else None)
    with caplog.at_level("INFO", "panscape"):
        runner = create_runner(Setting("swiftnet-r18", "torch", "fp32", "contiguous", "cpu", None), tmp_path)
    assert runner.scope == "image file to overlay and map on disk, random weights"
    assert "swiftnet-r18 is a network without weights; random ones" in caplog.text
    with pytest.raises(UnknownNameError, match="unknown model 'strete'; did you mean street"):
        create_runner(Setting("strete", "torch", "fp32", "contiguous", "cpu", None), tmp_path)


def test_rows_state_the_runtime_and_what_cannot_run_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class OnRuntime(ColorModel):
        def __init__(self, runtime: str) -> None:
            super().__init__()
            self.runtime = runtime

    def on_runtime_of(model: Any, runtime: str, precision: str, device: str, *, channels_last: bool) -> tuple[Any, str]:
        assert not channels_last
        if (runtime, precision) == ("onnx", "bf16"):
            raise InvalidArgumentError("no bf16 in ONNX Runtime")
        if runtime == "torch":
            return model, precision
        return OnRuntime(f"{runtime} 1.0, {precision}"), "fp32"

    monkeypatch.setattr(runners, "load", lambda name: ColorModel())
    monkeypatch.setattr(runners, "on_runtime_of", on_runtime_of)
    options = BenchmarkOptions(
        limit=1, size=("32x32",), rounds=1, no_cold=True, device="cpu", runtime=("torch", "onnx"),
        precision=("fp32", "bf16"), no_folder=True,
    )  # fmt: skip
    rows = run_benchmark(["color"], options).rows
    assert [(r.runtime, r.precision) for r in rows] == [
        ("torch", "fp32"),
        ("torch", "bf16"),
        ("onnx 1.0, fp32", "fp32"),
    ]
    assert "color, runtime onnx, bf16 is omitted: no bf16 in ONNX Runtime" in caplog.text
    with pytest.raises(InvalidArgumentError, match="no bf16"):
        run_benchmark(["color"], replace(options, runtime=("onnx",), precision=("bf16",)))


def test_images_of_a_folder_keep_their_size_or_are_resized(tmp_path: Path) -> None:
    for number, size in enumerate([(32, 40), (40, 32), (32, 40)]):
        image_set(None, 1, size, tmp_path / "photos" / str(number))
    own = image_set(tmp_path / "photos", 8, None, tmp_path / "unused")
    assert (own.size, list(own.sizes)) == ("2 sizes", [Size(32, 40), Size(40, 32), Size(32, 40)])
    assert own.origin == f"3 images of {tmp_path / 'photos'}"
    assert [[path.parent.name for path in batch] for batch in own.batches(2)] == [["0", "2"], ["1", "1"]]
    resized = image_set(tmp_path / "photos", 2, (48, 64), tmp_path / "resized")
    assert (resized.size, len(resized.paths)) == ("48x64", 2)
    assert load_image(resized.paths[1]).shape == (3, 48, 64)
    with pytest.raises(PanscapeError, match="no such file or folder"):
        image_set(tmp_path / "nothing", 2, None, tmp_path / "unused")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected at least one MODEL: panscape benchmark MODEL..."),
        (["street", "--size", "512"], "expected --size as HEIGHTxWIDTH, each at least 32 pixels, such as 512x1024"),
        (["street", "--size", "512x31"], "got 512x31"),
        (["street", "--batch-size", "1", "0"], "expected --batch-size of at least 1, got 0"),
        (["street", "--batch-size"], "expected a value after --batch-size, got none"),
        (["street", "--max-size", "-3"], "expected --max-size of at least 1, got -3"),
        (["street", "--peer", "mask2former"], "expected --peer as transformers:ID"),
        (["street", "--threads", "two"], "expected valid values for --threads, got 'two'"),
        (["street", "--out", "x.txt"], "expected --out as FILE.json or FILE.md, got x.txt"),
        (["street", "--out", "nowhere/x.md"], "cannot write nowhere/x.md: no folder nowhere"),
    ],
)  # fmt: skip
def test_wrong_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert (out, err.count("\n")) == ("", 1)


def test_the_command_prints_markdown_or_json_and_writes_a_file(
    calls: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "in_new_process", first_batch)
    command = ["benchmark", "slow", "fast", "--limit", "1", "--size", "32x32", "--rounds", "1", "--device", "cpu"]
    assert main([*command, "--json", "--out", str(tmp_path / "x.md")]) == 0
    out, err = capsys.readouterr()
    found = require_schema(json.loads(out), "benchmark")
    assert err == ""
    assert [(row["phase"], row["model"]) for row in found["rows"]] == [
        ("warm", "slow"), ("warm", "fast"), ("cold", "slow"), ("cold", "fast")
    ]  # fmt: skip
    written = (tmp_path / "x.md").read_text()
    assert written.count("\n| slow") == written.count("\n| fast") == 2
    lines = written.splitlines()
    assert "threads" not in next(line for line in lines if line.startswith("| model"))  # equal in all rows
    heads = [i for i, line in enumerate(lines) if line.startswith("| model")]
    assert [lines[i].count("|") == lines[i + 1].count("|") for i in heads] == [True, True]
    assert main([*command, "--out", str(tmp_path / "x.json")]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("Warm, 1 synthetic scenes, JPEG, 1 round:")
    assert [row["scope"] for row in json.loads((tmp_path / "x.json").read_text())["rows"]] == [
        row["scope"] for row in found["rows"]
    ]


def test_the_machine_is_that_of_the_systems_own_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("model name\t: A: B\nflags\t: fpu avx2 amx_bf16 amx_int8\n\nmodel name: second\n")
    monkeypatch.setattr(machine, "_CPU_LIST", tmp_path / "cpuinfo")
    found = describe_machine()
    assert (found.processor, found.extensions) == ("A: B", ("AVX2", "AMX-BF16", "AMX-INT8"))
    assert found.versions["torch"] == torch.__version__.partition("+")[0]
    assert "transformers" in found.versions
    assert str(found).startswith("A: B (AVX2, AMX-BF16, AMX-INT8), ")


def test_an_empty_report_has_no_table() -> None:
    assert "|" not in str(BenchmarkReport(describe_machine(), (), 1, ()))
    assert ImageSet([Path("a")], [Size(2, 3)], "").size == "2x3"


def test_a_model_that_fails_at_its_first_image_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class OneSize(ColorModel):
        def forward(self, images: Any, targets: Any = None) -> Any:
            raise InvalidArgumentError("OpenVINO cannot read its graph")

    monkeypatch.setattr(runners, "load", lambda name: ColorModel())
    monkeypatch.setattr(
        runners,
        "on_runtime_of",
        lambda model, runtime, precision, *_, **__: (model if runtime == "torch" else OneSize(), precision),
    )
    options = BenchmarkOptions(
        limit=1, size=("32x32",), rounds=1, no_cold=True, device="cpu", runtime=("openvino", "torch"),
        precision=("fp32",), no_folder=True,
    )  # fmt: skip
    (row,) = run_benchmark(["color"], options).rows
    assert (row.runtime, row.ratio) == ("torch", 1.0)
    assert "color, runtime openvino, fp32 is omitted: OpenVINO cannot read its graph" in caplog.text
    with pytest.raises(InvalidArgumentError, match="OpenVINO cannot read its graph"):
        run_benchmark(["color"], replace(options, runtime=("openvino",)))
