"""The command line as people and programs use it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import numpy as np
import pytest
import torch
from color_model import ColorModel, painted
from maps import SHAPES, generated_map
from PIL import Image
from processes import Process

import panscape
from panscape import zoo
from panscape.cli import main
from panscape.images import load_image, save_png


def run_with_color_model(arguments: list[str]) -> int:
    """Run the command line with a model that needs no weights."""
    panscape.load = lambda name: ColorModel()
    return main(arguments)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("photos/a.png", 0), ("photos/b.png", 1), ("photos/night/a.png", 2)):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        save_png(name, painted(generated_map(seed, (48, 64))))
    return Path("photos")


@pytest.fixture
def color_model(monkeypatch):
    """The name of the last model that was requested."""
    asked = []

    def load(name):
        asked.append(name)
        return ColorModel()

    monkeypatch.setattr(panscape, "load", load)
    return asked


def started(folder: Path, *arguments: str) -> tuple[Process, TextIO]:
    """Start the command line in a process of its own, and open the pipe to which it prints."""
    os.mkfifo(folder / "pipe")
    process = Process(folder / "pipe", run_with_color_model, arguments, err=folder / "err")
    return process, (folder / "pipe").open()


def test_a_saved_network_predicts_a_folder_in_a_process_of_its_own(photos, tmp_path):
    torch.manual_seed(0)
    model = panscape.create_model("swiftnet", SHAPES, backbone="residual_xs", levels=1, width=8)
    zoo.save(model, tmp_path / "tiny.safetensors")
    command = [
        sys.executable,
        "-m",
        "panscape",
        "predict",
        "photos",
        "--model",
        "tiny.safetensors",
        "--save-outputs",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    said = [
        line for line in done.stderr.splitlines() if not line.startswith("compiling kernels")
    ]  # in a fresh checkout
    assert (done.returncode, said) == (0, [])
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("photos/a.png ")
    assert all("48x64" in line and line.endswith(" segments") for line in lines[:3])
    assert lines[3] == "3 of 3 predicted; results in panscape_out"
    assert re.fullmatch(r"mean ms: read \d+, network \d+, post-process \d+, write \d+", lines[4])
    names = ["a", "b", "night_a"]
    overlays = [*(f"{n}.jpg" for n in names), *(f"{n}_panels.jpg" for n in names)]
    assert sorted(p.name for p in Path("panscape_out").iterdir()) == sorted(
        [*overlays, "panoptic", "panoptic.json", "predictions.jsonl"]
    )
    assert sorted(p.stem for p in Path("panscape_out/panoptic").iterdir()) == names
    described = json.loads(Path("panscape_out/panoptic.json").read_text())
    expected = zoo.load(tmp_path / "tiny.safetensors").predict("photos/b.png")
    (annotation,) = [a for a in described["annotations"] if a["file_name"] == "b.png"]
    assert [s["area"] for s in annotation["segments_info"]] == expected.compact().areas().tolist()


class TestPredict:
    def test_options_reach_their_places(self, photos, color_model, capsys):
        arguments = ["predict", "photos/a.png", "--model", "mine", "--out", "deep/er", "--max-size", "32"]
        arguments += [
            "--opacity",
            "0",
            "--names",
            "none",
            "--no-legend",
            "--device",
            "cpu",
            "--precision",
            "bf16",
            "--channels-last",
        ]
        assert main(arguments) == 0
        assert color_model == ["mine"]
        assert load_image("deep/er/a.jpg").shape == (3, 48, 64)
        assert capsys.readouterr().err == ""

    def test_each_option_changes_the_overlay(self, photos, color_model):
        def overlay(*options: str) -> torch.Tensor:
            assert main(["predict", "photos/a.png", "--out", "out", "--image-format", "png", *options]) == 0
            return load_image("out/a.png")

        save_png("photos/a.png", painted(generated_map(0, (240, 320))))
        plain = overlay("--names", "none", "--no-legend")
        assert plain.shape == (3, 240, 320)
        changed = (["--names", "segment"], ["--opacity", "1"], ["--palette", "published"])
        for options in changed:
            assert not torch.equal(overlay("--names", "none", "--no-legend", *options), plain), options
        assert overlay("--names", "none").shape[1] > 240

    @pytest.mark.parametrize(("options", "suffix"), [([], "jpg"), (["--image-format", "png"], "png")])
    def test_overlays_are_jpeg_or_png(self, options, suffix, photos, color_model):
        assert main(["predict", "photos/a.png", *options, "--save-outputs"]) == 0
        found = {p.name for p in Path("panscape_out").iterdir() if p.is_file()}
        assert found == {f"a.{suffix}", f"a_panels.{suffix}", "panoptic.json", "predictions.jsonl"}
        with Image.open(f"panscape_out/a.{suffix}") as overlay:
            assert overlay.format == ("JPEG" if suffix == "jpg" else "PNG")
            assert overlay.width == 64

    def test_help_lists_the_results_of_videos(self, capsys):
        with pytest.raises(SystemExit):
            main(["predict", "--help"])
        text = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "the maps of images (of videos with --frame-maps) in COCO panoptic format" in text
        assert "NAME_panels.jpg; not written for videos" in text

    def test_a_broken_photo_is_named_once_and_the_exit_code_is_one(self, photos, color_model, capsys):
        (photos / "b.png").write_bytes(b"\x81broken")
        assert main(["predict", "photos"]) == 1
        out, err = capsys.readouterr()
        assert out.splitlines()[-2] == "2 of 3 predicted; results in panscape_out"
        assert err.startswith("panscape: error: photos/b.png: expected a whole image")
        assert err.count("\n") == 1

    def test_images_above_max_pixels_are_refused(self, photos, color_model, capsys):
        assert main(["predict", "photos", "--max-pixels", "3000"]) == 1  # of 48 x 64 = 3072
        assert "photos/a.png: the image is larger than the limit of 3000 pixels" in capsys.readouterr().err
        assert main(["predict", "photos", "--max-pixels", "6144"]) == 0  # below, Pillow warns, an error here

    @pytest.mark.parametrize(("options", "brightness"), [([], 240), (["--bit-depth", "16"], 120)])
    def test_the_bit_depth_of_images_is_found_or_given(self, photos, color_model, capsys, options, brightness):
        Image.fromarray(np.full((48, 64), 4095, np.uint16)).save("deep.png")
        assert main(["predict", "deep.png", "--names", "none", "--no-legend", "--image-format", "png", *options]) == 0
        assert load_image("panscape_out/deep.png").max() == brightness  # stripes of void over white or black
        noted = "deep.png: a file of 16 bits, of which the images use 12" in capsys.readouterr().err
        assert noted == (not options)

    def test_json_lines(self, photos, color_model, capsys):
        (photos / "b.png").write_bytes(b"broken")
        assert main(["predict", "photos", "--json"]) == 1
        out, err = capsys.readouterr()
        lines = [json.loads(line) for line in out.splitlines()]
        assert [line["source"] for line in lines] == ["photos/a.png", "photos/b.png", "photos/night/a.png"]
        assert ["error" in line for line in lines] == [False, True, False]
        assert lines[0]["height"] == 48
        assert lines[0]["overlay"] == "panscape_out/a.jpg"
        assert err == ""

    def test_running_twice_does_not_predict_the_first_results(self, photos, color_model, capsys):
        for _ in range(2):
            assert main(["predict", "."]) == 0
        assert capsys.readouterr().out.count("3 of 3 predicted") == 2

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["predict"], "expected an image, folder, pattern or video, got nothing"),
            (["predict", "photo"], "photo: no such file or folder; did you mean photos?"),
            (["predict", "photos/*.bmp"], "photos/*.bmp: no image or video matches this pattern"),
            (
                ["predict", "photos", "--out", "photos/a.png"],
                "expected a folder for results, but photos/a.png is a file",
            ),
            (
                ["predict", "photos/a.png", "--out", "photos/a.png"],
                "expected a folder for results, but photos/a.png is a",
            ),
            (["predict", "photos", "--out", "photos"], "photos is in the output folder"),
            (["predict", "photos", "--device", "gpu"], "expected a device such as"),
            (["predict", "photos", "--device", "vulkan"], "device vulkan is not available: torch "),
            (["predict", "photos", "--opacity", "2"], "expected an opacity from 0 to 1, got 2.0"),
            (["predict", "photos", "--min-score", "-1"], "expected a min_score from 0 to 1, got -1.0"),
            (["predict", "photos", "--max-size", "0"], "expected a longest side of at least 1 pixel, got 0"),
            (["predict", "photos", "--bit-depth", "20"], "expected a bit depth of 8 to 16, got 20"),
            (["predict", "photos", "--max-pixels", "0"], "expected a largest number of pixels of at least 1, got 0"),
            (["predct", "photos"], "unknown command 'predct'; did you mean predict?"),
        ],
    )
    def test_errors_are_one_line_and_exit_code_two(self, photos, color_model, capsys, arguments, message):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"panscape: error: {message}")
        assert err.count("\n") == 1

    def test_an_unknown_model_is_one_line(self, photos, capsys):
        assert main(["predict", "photos", "--model", "no_such_model"]) == 2
        assert capsys.readouterr().err.startswith("panscape: error: unknown model 'no_such_model'; ")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["predict", "a.jpg", "--max-siz", "5"], "unknown option --max-siz; did you mean --max-size?"),
            (
                ["predict", "a.jpg", "--max-size", "wide"],
                "expected a whole number for --max-size, got 'wide'; see panscape ",
            ),
            (
                ["predict", "a.jpg", "--precision", "half"],
                "expected --precision as one of 'auto', 'fp32', 'bf16', 'fp16', got",
            ),
            (["models", "--jsn"], "unknown option --jsn; did you mean --json?"),
            (["weights", "convrt"], "unexpected argument convrt; expected one of fetch, verify, remove, convert, show"),
            (["--jsn"], "unknown option --jsn; expected one of predict, demo, evaluate, tune, benchmark, train, "),
            (
                ["--frobnicate"],
                "unknown option --frobnicate; expected one of predict, demo, evaluate, tune, benchmark, train, ",
            ),
        ],
    )
    def test_wrong_options_say_what_was_meant(self, capsys, arguments, said):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"panscape: error: {said}")
        assert err.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_leaves_whole_files_only(number, photos, tmp_path):
    for i in range(5):
        save_png(photos / f"more_{i}.png", painted(generated_map(i, (48, 64))))
    for i in range(5, 1000):  # so many that some are left whenever the signal comes
        os.link(photos / f"more_{i % 5}.png", photos / f"more_{i}.png")
    process, out = started(tmp_path, "predict", "photos", "--json")
    with out:
        for _ in range(3):
            assert json.loads(out.readline())["num_segments"] > 0
        os.kill(process.pid, number)
        out.read()
    assert process.end() == 130
    said = (tmp_path / "err").read_text()
    count, warning = said.removeprefix("panscape: warning: ").split(" ", 1)
    assert warning == "of 1003 done; repeat the command to continue with the others\npanscape: interrupted\n"
    files = [p for p in Path("panscape_out").rglob("*") if p.is_file()]
    assert 6 <= len(files) < 2000
    assert not [p for p in files if p.name.startswith(".")]
    for path in files:
        assert path.suffix in (".json", ".jsonl") or load_image(path).shape == (3, 48, 64)
    described = json.loads(Path("panscape_out/panoptic.json").read_text())["annotations"]
    assert {a["file_name"] for a in described} == {p.name for p in files if p.suffix == ".png"}
    assert int(count) == len(described)  # also those that were being written when the signal came


@pytest.mark.skipif(os.name == "nt", reason="pipes break otherwise there")
def test_a_reader_that_goes_away_is_no_accident(photos, tmp_path):
    for i in range(60):
        save_png(photos / f"more_{i}.png", painted(generated_map(i % 5, (48, 64))))
    process, out = started(tmp_path, "predict", "photos", "--json")
    with out:
        out.readline()
    assert (process.end(), (tmp_path / "err").read_text()) == (1, "")


def test_a_card_is_printed_with_its_tables(tmp_path, capsys):
    model = panscape.create_model("swiftnet", SHAPES, backbone="test_resnet", levels=1, width=8)
    table = {"circle": {"PQ": 50.0, "IoU": None}, "sky": {"PQ": 7.5, "IoU": 80.0}}
    card = {"licence": "Apache-2.0", "commands": ["a", "b"], "quality": {"pq": 0.5}, "per category": table}
    path = str(tmp_path / "tiny.safetensors")
    zoo.save(model, path, card)
    assert main(["weights", "show", path]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == path
    assert [line.strip() for line in lines[:3]] == ["licence: Apache-2.0", "commands: a; then b", "quality: pq 0.5"]
    assert [line.split() for line in lines[4:]] == [["PQ", "IoU"], ["circle", "50.0", "-"], ["sky", "7.5", "80.0"]]
    assert main(["weights", "show", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"model": path, "card": card}


def test_the_demonstration_writes_its_page(tmp_path, monkeypatch, capsys):
    from panscape.cli import demo
    from panscape.datasets.town import Town
    from panscape.geometry import Size

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "load", lambda name: ColorModel(Town(1).labels))
    monkeypatch.setattr(demo, "SCENES", (demo.DemoScene("street", Size(64, 64), 0),))
    assert main(["demo", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"open {tmp_path / 'panscape_demo/index.html'} in a browser"
    assert "street 1" in out
    assert "all (" in out
    assert (tmp_path / "panscape_demo/index.html").read_text().startswith("<!doctype html>")


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"panscape {panscape.__version__}\n"
