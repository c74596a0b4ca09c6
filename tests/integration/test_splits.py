"""Splits by name: evaluated where there is ground truth, predicted and written for a server where there is none."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch
import trees
from json_schemas import require_schema
from maps import SHAPES
from PIL import Image

import panscape
from panscape import LabelSpace, zoo
from panscape.cli import main
from panscape.recipes import get_recipe

CITY, COCO, BSB = "swiftnet_r18_cityscapes_pyrx3", "swiftnet_r18_coco", "swiftnet_r18_bsb"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_model(labels: LabelSpace) -> None:
    torch.manual_seed(0)
    model = panscape.create_model("swiftnet", labels, backbone="residual_xs", width=8)
    with torch.no_grad():
        model.semantic[-1].bias[labels.thing_ids[0]] += 100  # things everywhere, and centres, so that there are objects
        model.center[-1].bias += 1
    zoo.save(model, "m.safetensors")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    return capsys.readouterr().err.removeprefix("panscape: error: ").strip()


def test_a_test_split_with_ground_truth_is_one_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees.bsb(here / "data", "test")
    save_model(LabelSpace("bsb", SHAPES.categories))
    evaluate = ["evaluate", "m.safetensors", "--recipe", BSB, "--data", "data", "--device", "cpu", "--workers", "0"]
    assert main([*evaluate, "--split", "test", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["split"], report["images"]) == ("test", 3)
    assert said(capsys, *evaluate, "--split", "tset") == (
        "expected split as one of train, val, test of BSB Aerial, got 'tset'"
    )


@pytest.mark.parametrize(
    ("recipe", "split", "reason"),
    [
        (CITY, "test", "its label files are placeholders that mark every pixel as ignored"),
        (CITY, "train_extra", "it has only coarse annotations"),
        (COCO, "test-dev2017", "its annotations are not public"),
        ("swiftnet_r18_vistas", "testing", "its annotations are not public"),
        ("street", "test", "there is no folder data/labels/test"),
    ],
)
def test_no_ground_truth_is_refused_with_the_reason(
    here: Path, capsys: pytest.CaptureFixture[str], recipe: str, split: str, reason: str
) -> None:
    trees.category_masks(here / "data", LabelSpace.load("camvid"), "val", void=11)
    (here / "data/images/test").mkdir()
    message = said(capsys, "evaluate", "street", "--recipe", recipe, "--data", "data", "--split", split)
    assert reason in message
    option = " --submission" if recipe in (CITY, COCO) else ""
    assert f"predict it with panscape predict --recipe NAME --split {split}{option}" in message


def test_splits_of_folders_are_those_that_lie_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = LabelSpace.load("camvid")
    for split in ("train", "val", "test", "night"):
        trees.category_masks(here / "data", labels, split, void=11)
        trees.bsb(here / "own", split)
    for recipe, data in (("street", "data"), ("from_folder", "own")):
        options = get_recipe(recipe).data
        assert options.splits(Path(data)).with_truth == ("train", "val", "test", "night")
        assert [len(options.load(Path(data), split)) for split in ("train", "test", "night")] == [3, 3, 3]
        message = said(capsys, "evaluate", "street", "--recipe", recipe, "--data", data, "--split", "day")
        assert f"expected split as one of train, val, test, night of {'CamVid' if data == 'data' else data}" in message
    town = get_recipe("town").data
    assert not torch.equal(town.load(None, "test")[0].image, town.load(None, "val")[0].image)


def test_a_submission_for_cityscapes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = trees.cityscapes(here / "data", "test")
    save_model(tree.labels)
    predict = ["predict", "--recipe", CITY, "--data", "data", "--split", "test", "--device", "cpu", "--out", "out"]
    assert main([*predict, "--submission", "--model", "m.safetensors", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ("panscape: warning: found 3 images, Cityscapes test has 1525; a submission needs all\n")
    described = require_schema(json.loads(out), "predict")
    assert described["archives"] == ["out/cityscapes_test_panoptic.zip", "out/cityscapes_test_instance.zip"]
    panoptic, instance = (set(zipfile.ZipFile(path).namelist()) for path in described["archives"])
    assert panoptic == {"cityscapes_panoptic_test.json"} | {
        f"cityscapes_panoptic_test/{name}_pred_panoptic.png" for name in tree.truths
    }
    content = json.loads(Path("out/panoptic/cityscapes_panoptic_test.json").read_text())
    assert [a["image_id"] for a in content["annotations"]] == list(tree.truths)
    assert {s["category_id"] for a in content["annotations"] for s in a["segments_info"]} == {24}, "person's label id"
    masks = 0
    for name, truth in tree.truths.items():
        for line in Path(f"out/instance/{name}_pred.txt").read_text().splitlines():
            mask, label, score = line.split(" ")
            assert mask in instance
            assert label == "24"
            assert 0 < float(score) <= 1
            with Image.open(f"out/instance/{mask}") as image:
                assert (image.mode, image.size) == ("L", truth.size[::-1])
                assert set(image.tobytes()) in ({0, 255}, {255})
            masks += 1
    assert masks == len(instance) - 3 > 0
    assert "out exists and is not empty" in said(capsys, *predict, "--submission", "--model", "m.safetensors")
    assert main([*predict, "--model", "m.safetensors", "--out", "maps"]) == 0
    assert len(list(Path("maps/panoptic").iterdir())) == 3


def test_a_submission_for_coco(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = trees.coco_test(here / "data")
    save_model(LabelSpace.load("coco_panoptic"))
    predict = ["predict", "--recipe", COCO, "--data", "data", "--split", "test-dev", "--device", "cpu", "--out", "out"]
    predict += ["--submission", "--model", "m.safetensors"]
    assert main(predict) == 0
    name = "panoptic_test-dev2017_swiftnet-r18-coco_results"
    assert f"upload out/{name}.zip" in capsys.readouterr().out
    ids = [1, 2, 10]
    assert set(zipfile.ZipFile(f"out/{name}.zip").namelist()) == {f"{name}.json"} | {
        f"{name}/{number:06d}.png" for number in ids
    }
    assert [a["image_id"] for a in json.loads(Path(f"out/{name}.json").read_text())["annotations"]] == ids

    # One image of another size than in the list, the last: nothing is left of the others.
    content = json.loads(listed.read_text())
    content["images"][-1]["height"] += 1
    listed.write_text(json.dumps(content))
    before = sorted(here.iterdir())
    message = said(capsys, *predict, "--out", "again")
    assert "000010.jpg: expected 25x60 pixels, as in the benchmark's list of images, got 24x60" in message
    assert sorted(here.iterdir()) == before


def test_invalid_submissions(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = trees.cityscapes(here / "data", "test")
    submission = ["predict", "--data", "data", "--split", "test", "--device", "cpu", "--submission", "--out", "out"]
    city = [*submission, "--recipe", CITY]
    assert "for label space 'camvid', whose 'sky' (stuff, number 0) is not in Cityscapes" in said(capsys, *city)
    assert "recipe for Cityscapes or COCO" in said(capsys, *submission, "--recipe", BSB)
    assert "need --recipe NAME" in said(capsys, *submission)
    assert "expected SOURCE or --recipe, got both: a.jpg" in said(capsys, *city, "a.jpg")
    assert "--submission cannot be combined with --save-outputs" in said(capsys, *city, "--save-outputs")
    assert "whose images are files, got one with TownData" in said(capsys, "predict", "--recipe", "town")
    assert not Path("out").exists()
    save_model(LabelSpace("few", tree.labels.categories[:12]))
    assert main([*city, "--model", "m.safetensors"]) == 0
    assert (
        "warning: the model has no rider, car, truck, bus, train, motorcycle, bicycle: it can predict 12 of the 19"
        in (capsys.readouterr().err)
    )
