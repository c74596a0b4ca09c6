"""`panscape evaluate` as people and programs use it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import trees

import panscape
from panscape import LabelSpace, zoo
from panscape.cli import main
from panscape.evaluation.evaluate_model import predict_sample
from panscape.evaluation.report.html import figure
from panscape.metrics import BoundaryPanopticQuality
from panscape.recipes import get_recipe
from panscape.visualize import draw_segments


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three images as CamVid has them, and the folder of a training."""
    trees.category_masks(tmp_path / "data", CAMVID, split="val", void=11)
    (tmp_path / "run").mkdir()
    save_model(tmp_path / "run" / "model.safetensors", CAMVID)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_model(path: Path, labels: LabelSpace) -> None:
    torch.manual_seed(0)
    zoo.save(panscape.create_model("swiftnet", labels, backbone="test_resnet", levels=1, width=8), path)


CAMVID = LabelSpace.load("camvid")
EVALUATE = ["evaluate", "run", "--recipe", "street", "--data", "data", "--device", "cpu", "--workers", "0"]


def test_tables_and_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EVALUATE, "--speed", "--out", "report.json", "--report", "report.html"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "run on 3 images of street val, protocol coco"
    assert lines[2].split() == ["PQ", "SQ", "RQ", "PQ†", "PC", "map", "mIoU", "head", "mIoU"]
    assert any(line.startswith("post-processing  ") for line in lines)
    assert any(line.startswith("all (") for line in lines)
    assert err == ""
    report = json.loads(Path("report.json").read_text())
    assert (report["model"], report["recipe"], report["split"], report["oracle"]) == ("run", "street", "val", [])
    assert (report["images"], report["skipped"]) == (3, [])
    speed = report["speed"]
    assert (speed["images"], speed["device"], speed["precision"]) == (3, "cpu", "fp32")
    assert speed["images_per_second"] < min(speed[part]["images_per_second"] for part in ("network", "post_processing"))
    page = Path("report.html").read_text(encoding="utf-8")
    assert f"{speed['images_per_second']:.1f}" in page
    assert speed["conditions"] in page
    assert "map mIoU" in page
    assert "head mIoU" in page
    assert set(report["panoptic"]["per_category"]) == {c.name for c in LabelSpace.load("camvid")}


def test_json_with_parts_of_the_truth(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = []
    for options in ([], ["--oracle", "semantic, centers,offsets", "--precision", "bf16"], ["--limit", "2"]):
        assert main([*EVALUATE, "--json", *options]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    plain, perfect, _ = reports
    assert perfect["oracle"] == ["semantic", "centers", "offsets"]
    assert perfect["panoptic"]["things"]["pq"] == 1  # stuff of so small images is void
    assert plain["panoptic"]["things"]["pq"] < 0.5
    assert [r["images"] for r in reports] == [3, 3, 2]


def test_average_precision_on_request(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EVALUATE, "--ap"]) == 0
    assert "coco protocol" in capsys.readouterr().out
    assert main([*EVALUATE, "--ap", "--json"]) == 0
    instances = json.loads(capsys.readouterr().out)["instances"]
    assert instances["protocol"] == "coco"
    assert list(instances["by_size"]) == ["small", "medium", "large"]
    assert 0 <= instances["ap"] <= instances["ap50"] <= 1


def test_iiou_and_percentiles_of_sizes_on_request(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EVALUATE, "--ap-sizes", "--iiou"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["iIoU"] in lines
    first = next(line for line in lines if line[:1] == ["0-25%"])
    assert first[-3:-1] == ["0", "to"]
    assert main([*EVALUATE, "--ap", "--ap-sizes", "--iiou", "--json", "--out", "all.json"]) == 0
    found = json.loads(capsys.readouterr().out)
    sizes = found["instances"]["by_size"]
    assert [*sizes][:4] == ["small", "medium", "large", "0-25%"]
    percentiles = [size["num_objects"] for name, size in sizes.items() if name.endswith("%")]
    assert sum(percentiles) == sum(c["num_objects"] for c in found["instances"]["per_category"].values()) > 0
    assert 0 <= found["instance_iou"]["mean_iou"] <= 1
    assert json.loads(Path("all.json").read_text())["instance_iou"] == found["instance_iou"]


def test_other_rules_and_boundaries(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for protocol in ("coco", "seamseg"):
        outputs = ["--json", "--out", f"{protocol}.json", "--report", f"{protocol}.html"]
        assert main([*EVALUATE, "--protocol", protocol, "--boundary", *outputs]) == 0
        found[protocol] = json.loads(capsys.readouterr().out)
        assert found[protocol]["protocol"] == protocol
        assert f"protocol {protocol}" in Path(f"{protocol}.html").read_text(encoding="utf-8")
    assert (
        found["seamseg"]["panoptic"]["all"]["num_categories"] == 11 > found["coco"]["panoptic"]["all"]["num_categories"]
    )
    assert found["seamseg"]["standard"] == found["coco"]["panoptic"]
    assert "standard" not in found["coco"]
    model, dataset = panscape.load("run"), get_recipe("street").data.load(Path("data"), "val")
    for protocol, summary in found.items():
        boundary = BoundaryPanopticQuality(model.labels, protocol=protocol)
        for number in range(3):
            boundary.update(predict_sample(model, dataset[number]), dataset[number].truth)
        assert summary["boundary"] == boundary.compute().to_dict()
    assert main(["evaluate", "--compare", "coco.json", "seamseg.json"]) == 2
    assert "with the same protocol, got 'coco' and 'seamseg'" in capsys.readouterr().err


def test_a_page_shows_photos_and_what_was_predicted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EVALUATE, "--oracle", "semantic", "--report", "report.html", "--out", "scores.json"]) == 0
    assert capsys.readouterr().out.endswith("\n\nreport: report.html\n")
    page = Path("report.html").read_text(encoding="utf-8")
    scores = json.loads(Path("scores.json").read_text())
    names = [record["name"] for record in scores["records"]]
    assert names == ["000001", "000002", "000010"]
    assert f"{100 * scores['panoptic']['all']['pq']:.1f}</" in page
    assert "predictions: run · ground truth: street val" in page
    drawn = re.findall(r'<img src="([^"]+)" alt="([\w ]+) of (\w+)"', page)
    assert sorted((name, caption) for _, caption, name in drawn) == sorted(
        (name, caption) for name in names for caption in ("errors", "ground truth", "image", "prediction")
    )
    predictions = {name: uri for uri, caption, name in drawn if caption == "prediction"}
    model, dataset = panscape.load("run"), get_recipe("street").data.load(Path("data"), "val")
    for number, name in enumerate(names):
        expected = predict_sample(model, dataset[number], oracle=["semantic"])
        assert predictions[name] == figure("prediction", draw_segments(expected, model.labels), is_photo=False).uri
    assert len(set(predictions.values())) == 3


def test_two_models_are_compared(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pqs = []
    for name, options in (("plain", []), ("perfect", ["--oracle", "semantic,centers,offsets"])):
        assert main([*EVALUATE, *options, "--out", f"{name}.json", "--json"]) == 0
        pqs.append(json.loads(capsys.readouterr().out)["panoptic"]["all"]["pq"])
    assert main(["evaluate", "--compare", "plain.json", "perfect.json", "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert comparison["images"] == 3
    assert [comparison["panoptic"]["all"]["pq"][when] for when in ("before", "after")] == pytest.approx(pqs, abs=1e-12)
    assert comparison["panoptic"]["all"]["pq"]["change"] > 0.1


def test_images_left_out_are_in_the_page(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/images/val/000001.jpg").write_bytes(b"broken")
    assert main([*EVALUATE, "--on-error", "skip", "--report", "report.html", "--out", "scores.json"]) == 1
    scores = json.loads(Path("scores.json").read_text())
    assert [record["name"] for record in scores["records"]] == ["000002", "000010"]
    assert [issue["file"] for issue in scores["issues"]] == ["data/images/val/000001.jpg"]
    assert "data/images/val/000001.jpg" in Path("report.html").read_text(encoding="utf-8")


def test_a_broken_image_stops_or_is_listed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = Path("data/images/val/000002.jpg")
    broken.write_bytes(b"\0broken")
    assert main(EVALUATE) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"panscape: error: {broken}: expected a whole image")
    assert "--on-error skip" in err
    assert main([*EVALUATE, "--on-error", "skip"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("run on 2 images of street val, protocol coco\n")
    title, line = err.splitlines()
    assert title == "panscape: warning: 1 of 3 images could not be used:"
    assert line.startswith(f"  {broken}: expected a whole image")
    assert main([*EVALUATE, "--on-error", "skip", "--json"]) == 1
    out, err = capsys.readouterr()
    assert [one["image"] for one in json.loads(out)["skipped"]] == [str(broken)]
    assert err == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "stret"], "unknown recipe 'stret'; did you mean street"),
        (["--oracle", "semantics"], "unknown oracle 'semantics'; did you mean semantic?"),
        (["--data", "nowhere"], "nowhere/images/val: no such folder"),
        (["--device", "gpu"], "expected a device such as"),
        (["--out", "no/report.json"], "cannot write no/report.json: no folder no; create it first"),
        (["--report", "no/report.html"], "cannot write no/report.html: no folder no; create it first"),
        (["--report", "run"], "cannot write run: it is a folder"),
        (
            ["--report", "a.html", "--images", "data"],
            "expected a MODEL with --data DIR or --recipe, to evaluate a model, or",
        ),
        (["--limit", "-1"], "expected limit and workers of 0 or more, got limit=-1, workers=0"),
    ],
)
def test_errors_are_one_line(here: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    assert main([*EVALUATE, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"panscape: error: {message}")
    assert err.count("\n") == 1


def test_categories_of_other_data_correspond_by_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The ground truth as the prediction is perfect in the label space of the model too."""
    categories = [replace(c, name=c.name.upper(), source_id=100 + i) for i, c in enumerate(CAMVID) if c.name != "sky"]
    save_model(here / "other.safetensors", LabelSpace("other", tuple(reversed(categories))))
    oracle = ["--oracle", "semantic,centers,offsets", "--json"]
    found = []
    for model in ("run", "other.safetensors"):
        assert main(["evaluate", model, *EVALUATE[2:], *oracle]) == 0
        out, err = capsys.readouterr()
        found.append(json.loads(out)["panoptic"]["per_category"])
    assert "10 of the 11 categories of 'camvid' are those of the model, 'other', by name" in err
    assert "; void: sky\n" in err
    things = {c.name for c in CAMVID.things}
    assert {name: found[1][name.upper()]["tp"] for name in things} == {name: found[0][name]["tp"] for name in things}
    assert sum(found[1][name.upper()]["tp"] for name in things) > 5


def test_a_model_for_something_else_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(here / "other.safetensors", LabelSpace.from_names("fruit", things=["apple"], stuff=["table"]))
    assert main(["evaluate", "other.safetensors", *EVALUATE[2:]]) == 2
    err = capsys.readouterr().err
    assert "expected data with categories of the model, 'fruit': apple, table; got those of 'camvid', of which" in err
