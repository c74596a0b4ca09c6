"""Options of post-processing on the command line, and `panscape tune`, as people and programs use them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import trees

import panscape
from panscape import LabelSpace, zoo
from panscape.cli import main
from panscape.evaluation.evaluate_model import evaluate
from panscape.evaluation.options import InferenceOptions
from panscape.recipes import get_recipe

DATA = ["--recipe", "street", "--data", "data", "--device", "cpu"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three images as CamVid has them in each split, and a model for them that sees nothing but sky."""
    labels = LabelSpace.load("camvid")
    for split in ("train", "val"):
        trees.category_masks(tmp_path / "data", labels, split=split, void=11)
    torch.manual_seed(0)
    model = panscape.create_model("swiftnet", labels, backbone="test_resnet", levels=1, width=8)
    with torch.no_grad():
        model.get_parameter("semantic.2.bias")[0] = 9  # sky
    model.set_decoding(stuff_area=4000)
    zoo.save(model, tmp_path / "model.safetensors", {"licence": "CC0"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def segments(folder: str) -> int:
    return sum(len(a["segments_info"]) for a in json.loads(Path(folder, "panoptic.json").read_text())["annotations"])


def test_predict_and_evaluate_take_them(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict = ["predict", "data/images/val", "--model", "model.safetensors", "--device", "cpu"]
    assert main([*predict, "--out", "before"]) == 0
    # The option stands before the photos: it takes one value.
    assert main(["predict", "--decode.stuff-area", "1", *predict[1:], "--decode.threshold=9", "--out", "after"]) == 0
    assert (segments("before"), segments("after")) == (0, 3)
    capsys.readouterr()
    reports = []
    for options in ([], ["--decode.stuff-area", "1", "--decode.resize", "outputs"]):
        assert main(["evaluate", "model.safetensors", *DATA, "--workers", "0", "--json", *options]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    before, after = reports
    assert before["decoding"]["stuff_area"] == 4000
    assert after["decoding"] == before["decoding"] | {"stuff_area": 1, "resize": "outputs"}
    assert before["semantic"]["mean_iou"] == 0 < after["semantic"]["mean_iou"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["predict", "data/images/val", "--model", "model.safetensors"],
            "unknown decoding option 'stuf-area'; did you",
        ),
        (
            ["evaluate", "model.safetensors", *DATA],
            "mean stuff-area or stuff-share or thing-area? known: align-corners, compat,",
        ),
        (["tune", "model.safetensors", *DATA], "unknown decoding option 'stuf-area'"),
        (["evaluate", "--predictions", "x.json", "--gt", "y.json"], "got --decode together with --predictions"),
        (["tune", "model.safetensors"], "expected a MODEL and the recipe of its dataset: panscape tune"),
    ],
)
def test_complaints(arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--decode.stuf-area", "1"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["predict", "evaluate", "tune"])
def test_the_options_of_a_model_are_listed(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", "model.safetensors"] if command == "predict" else ["model.safetensors"]
    assert main([command, *model, "--decode.help"]) == 0
    out = capsys.readouterr().out
    assert "\n--decode.stuff-area 4000\n    Minimum number of pixels of a stuff category in the map;" in out
    assert ("    tried by default: 1000 2000 4000 8000 16000\n" in out) == (command == "tune")
    if command != "predict":
        assert main([command, "--decode.help"]) == 2
        assert f"panscape {command} MODEL --decode.help" in capsys.readouterr().err


def test_the_tuned_model_has_the_best_values_and_a_note(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*DATA, "--limit", "2", "--out", "tuned.safetensors", "--for", "miou"]
    assert main(["tune", "model.safetensors", *options, "--decode.top-k", "1", "--decode.stuff-area", "1", "8000"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "model.safetensors on 2 images of street train (of 3), protocol coco"
    assert lines[2].split() == ["top_k", "1", "200*"]
    assert lines[5].split() == ["stuff_area", "1*", "4000", "8000"]
    tuned = zoo.load("tuned.safetensors")
    assert tuned.decoding.stuff_area == 1
    found = evaluate(
        tuned, get_recipe("street").data.load(Path("data"), "train"), inference=InferenceOptions(2), workers=0
    )
    iou = 100 * found.semantic.mean_iou
    assert f"mIoU 0.0 with the model's own values, {iou:.1f} with the chosen values (+{iou:.1f}); measured on" in out
    assert f"  --decode.stuff-area 1  (was 4000; +{iou:.2f} on its own)" in lines
    assert "  stuff-area 1 is at the edge of the tried values; try lower ones: --decode.stuff-area" in lines
    card = zoo.read_card("tuned.safetensors")
    assert card["licence"] == "CC0"
    assert card["decoding"].startswith("stuff_area 1 (was 4000)")
    note = f"chosen by panscape tune for mIoU on 2 images of street train, where mIoU went from 0.0 to {iou:.1f}"
    assert note in card["decoding"]


def test_other_splits_are_used_only_when_named_and_with_a_warning(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune = ["tune", "model.safetensors", *DATA, "--decode.stuff-area", "100", "--for", "miou", "--json"]
    assert main([*tune, "--split", "val"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("panscape: warning: options are chosen on val; scores of the tuned model on val are biased")
    report = json.loads(out)
    assert (report["split"], report["metric"], report["images"], report["skipped"]) == ("val", "miou", 3, [])
    (sweep,) = report["sweeps"][-1:]
    assert sweep["values"] == [100, 4000]
    assert report["after"] == pytest.approx(max(sweep["scores"]), abs=1e-6)
    assert main([*tune, "--out", "tuned.bin"]) == 2
    assert "expected --out to end in .safetensors, got tuned.bin" in capsys.readouterr().err
