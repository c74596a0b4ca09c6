"""`panscape evaluate` as people and programs use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import trees
from maps import SHAPES

import panscape
from panscape import LabelSpace, zoo
from panscape.cli import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three pictures as CamVid has them, the folder of a training, and a model for something else."""
    labels = LabelSpace.load("camvid")
    trees.category_masks(tmp_path / "data", labels, split="val", void=11)
    torch.manual_seed(0)
    for path, space in (("run/model.safetensors", labels), ("other.safetensors", SHAPES)):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        zoo.save(panscape.create_model("swiftnet", space, backbone="test_resnet", levels=1, width=8), tmp_path / path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


EVALUATE = ["evaluate", "run", "--recipe", "street", "--data", "data", "--device", "cpu", "--workers", "0"]


def test_tables_and_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EVALUATE, "--out", "report.json"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "run on 3 pictures of street val"
    assert lines[2].split() == ["PQ", "SQ", "RQ", "PQ†", "PC", "mIoU"]
    assert any(line.startswith("all (") for line in lines)
    assert err == ""
    report = json.loads(Path("report.json").read_text())
    assert (report["model"], report["recipe"], report["split"], report["oracle"]) == ("run", "street", "val", [])
    assert (report["pictures"], report["skipped"]) == (3, [])
    assert set(report["panoptic"]["per_category"]) == {c.name for c in LabelSpace.load("camvid")}


def test_json_with_parts_of_the_truth(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = []
    for options in ([], ["--oracle", "semantic, centers,offsets", "--precision", "bf16"], ["--limit", "2"]):
        assert main([*EVALUATE, "--json", *options]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    plain, perfect, _ = reports
    assert perfect["oracle"] == ["semantic", "centers", "offsets"]
    assert perfect["panoptic"]["things"]["pq"] == 1  # stuff of so small pictures is void
    assert plain["panoptic"]["things"]["pq"] < 0.5
    assert [r["pictures"] for r in reports] == [3, 3, 2]


def test_average_precision_when_asked_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EVALUATE, "--ap"]) == 0
    assert "by coco rules" in capsys.readouterr().out
    assert main([*EVALUATE, "--ap", "--json"]) == 0
    instances = json.loads(capsys.readouterr().out)["instances"]
    assert instances["rules"] == "coco"
    assert list(instances["by_size"]) == ["small", "medium", "large"]
    assert 0 <= instances["ap"] <= instances["ap50"] <= 1


def test_a_broken_picture_stops_or_is_listed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = Path("data/images/val/000002.jpg")
    broken.write_bytes(b"broken")
    assert main(EVALUATE) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"panscape: error: {broken}: expected a whole picture")
    assert "--on-bad-sample skip" in err
    assert main([*EVALUATE, "--on-bad-sample", "skip"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("run on 2 pictures of street val\n")
    title, line = err.splitlines()
    assert title == "panscape: 1 of 3 pictures could not be used:"
    assert line.startswith(f"  {broken}: expected a whole picture")
    assert main([*EVALUATE, "--on-bad-sample", "skip", "--json"]) == 1
    out, err = capsys.readouterr()
    assert [one["picture"] for one in json.loads(out)["skipped"]] == [str(broken)]
    assert err == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "stret"], "unknown recipe 'stret'; did you mean street"),
        (["--oracle", "semantics"], "unknown oracle 'semantics'; did you mean semantic?"),
        (["--data", "nowhere"], "nowhere/images/val: no such folder"),
        (["--device", "gpu"], "expected a device such as"),
        (["--out", "no/report.json"], "cannot write no/report.json: no folder no; create it first"),
        (["--limit", "-1"], "expected limit and workers of 0 or more, got limit=-1, workers=0"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main([*EVALUATE, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"panscape: error: {message}")
    assert err.count("\n") == 1


def test_a_model_for_something_else_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "other.safetensors", *EVALUATE[2:]]) == 2
    err = capsys.readouterr().err
    assert "a model for 'shapes' (4 categories) and data of 'camvid' (11 categories)" in err
