"""`panscape evaluate --predictions ... --gt ...` as people and programs use it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from maps import SHAPES
from PIL import Image
from scored_files import (
    array_segments,
    one_stuff_each,
    several_maps,
    worse,
    write_array,
    write_coco,
    write_instance_ids,
)

from panscape.cli import main
from panscape.metrics import PanopticQuality


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same truth and predictions in every form."""
    truths = several_maps()
    predictions = worse(truths)
    write_coco(tmp_path / "truth.json", truths)
    write_coco(tmp_path / "predictions.json", predictions)
    for name, panoptic in predictions.items():
        write_array(tmp_path / "arrays" / f"{name}.npz", panoptic.ids.numpy(), array_segments(panoptic))
    cities = {f"ulm_00000{name}_000019": panoptic for name, panoptic in truths.items()}
    write_instance_ids(tmp_path / "gtFine", cities)
    (tmp_path / "shapes.json").write_text(json.dumps(SHAPES.to_dict()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


SCORE = ["evaluate", "--predictions", "predictions.json", "--gt", "truth.json"]


def test_tables_and_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SCORE, "--out", "scores.json"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "predictions.json against truth.json: 4 of 4 images, truth, protocol coco"
    assert lines[2].split() == ["PQ", "SQ", "RQ", "PQ†", "PC", "mIoU"]
    assert err == ""
    truths = several_maps()
    quality = PanopticQuality(SHAPES)
    for name, prediction in worse(truths).items():
        quality.update(prediction, truths[name])
    scores = json.loads(Path("scores.json").read_text())
    assert scores["panoptic"] == quality.compute().to_dict()
    assert lines[3].split()[2] == f"{100 * quality.compute().all.pq:.1f}"
    assert scores["issues"] == []


def test_every_form_gives_the_same(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    united = {name: one_stuff_each(panoptic) for name, panoptic in worse(several_maps()).items()}  # as arrays are read
    write_coco(here / "predictions.json", united)
    found = []
    for path in ("predictions.json", "arrays"):
        assert main(["evaluate", "--predictions", path, "--gt", "truth.json", "--json", "--threads", "2"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert len({json.dumps(one["panoptic"]) for one in found}) == 1
    assert found[0]["images"] == 4
    assert found[0]["protocol"] == "coco"
    cities = ["evaluate", "--predictions", "gtFine", "--gt", "gtFine", "--labels", "shapes.json", "--json"]
    assert main([*cities, "--protocol", "deeplab2", "--boundary"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["panoptic"]["all"]["pq"], report["boundary"]["all"]["pq"]) == (1, 1)
    assert report["protocol"] == "deeplab2"


def test_requested_metrics(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = ["evaluate", "--predictions", "arrays", "--gt", "truth.json", "--iiou", "--ap-sizes"]
    assert main([*arrays, "--report", "report.html"]) == 0
    out = capsys.readouterr().out
    assert {"iIoU", "AP", "small", "99-100%"} <= set(out.split())
    assert "in one row: AP of objects of the map, mIoU of the map\nPQ" in out
    assert "Objects by size" in Path("report.html").read_text(encoding="utf-8")
    assert main([*arrays, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["instance_iou"]["mean_iou"] < 1
    assert "75-99%" in found["instances"]["by_size"]
    assert main([*SCORE, "--ap-sizes"]) == 2
    assert "or omit --ap" in capsys.readouterr().err


def test_issues_are_listed_and_counted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("predictions/1.png").write_bytes(b"broken")
    Path("predictions/2.png").unlink()
    assert main(SCORE) == 1
    out, err = capsys.readouterr()
    assert "4 of 4 images" in out
    title, *lines = err.splitlines()
    assert title == "panscape: warning: 2 issues: unreadable file 2"
    assert lines == [
        "  predictions/1.png: expected a PNG, got something else; other formats do not preserve ids",
        "  predictions/2.png: no such file; check its name and folder",
    ]
    assert main([*SCORE, "--json"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["issue_counts"] == {"unreadable file": 2}
    assert main([*SCORE, "--strict"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("panscape: error: predictions/1.png: expected a PNG")


def test_a_page(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SCORE, "--report", "report.html"]) == 0
    assert capsys.readouterr().out.endswith("report: report.html\n")
    assert "<html" in Path("report.html").read_text(encoding="utf-8")


def test_names_that_cannot_be_written_are_spelt_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = json.loads(Path("truth.json").read_text())
    truth["categories"][0]["name"] = "\ud800\x1b[31m"  # half of a surrogate pair, and what colours a terminal
    Path("truth.json").write_text(json.dumps(truth))
    Path("arrays/1.npz").rename(os.fsdecode(b"arrays/\xff.npz"))
    arrays = ["evaluate", "--predictions", "arrays", "--gt", "truth.json"]
    assert main([*arrays, "--report", "report.html", "--out", "a.json"]) == 1
    out, err = capsys.readouterr()
    assert r"\ud800\x1b[31m" in out
    assert r"arrays/\udcff.npz: expected an image of the ground truth" in err
    page = Path("report.html").read_text(encoding="utf-8")
    assert r"arrays/\udcff.npz" in page
    assert r"\ud800\x1b[31m" in page
    assert main(["evaluate", "--compare", "a.json", "a.json", "--report", "report.html"]) == 0


def test_large_images_are_scored_without_a_warning(
    here: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    assert several_maps()["1"].size == (24, 32)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # Pillow warns from here on, and refuses twice as much
    assert main([*SCORE, "--report", "report.html"]) == 0
    assert [w for w in recwarn if issubclass(w.category, Image.DecompressionBombWarning)] == []
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    assert main([*SCORE, "--report", "report.html"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            [],
            "expected a MODEL with --data DIR or --recipe, to evaluate a model, or --predictions with --gt, to",
        ),
        (["--predictions", "predictions.json"], "--gt is missing"),
        (["--gt", "truth.json"], "--predictions is missing"),
        (["street"], "--data DIR or --recipe is missing"),
        (["--recipe", "street"], "MODEL is missing"),
        (["street", *SCORE[1:]], "got a MODEL together with --predictions"),
        (["street", "--recipe", "street", "--strict"], "got --strict together with a MODEL"),
        ([*SCORE[1:], "--device", "cpu", "--limit", "3"], "got --limit, --device together with --predictions"),
        ([*SCORE[1:], "--threads", "-1"], "expected threads of 0 or more, got -1; use 0"),
        ([*SCORE[1:], "--out", "no/a.json"], "cannot write no/a.json: no folder no; create it first"),
        ([*SCORE[1:], "--report", "no/a.html"], "cannot write no/a.html: no folder no; create it first"),
        ([*SCORE[1:], "--report", "truth"], "cannot write truth: it is a folder; use the name of a file in it"),
        ([*SCORE[1:], "--images", "truth"], "expected --images with --report, as the report shows them"),
        ([*SCORE[1:], "--report", "a.html", "--images", "no"], "expected a folder of images, but there is no no"),
        ([*SCORE[1:], "--labels", "cityscape"], "unknown label space 'cityscape'; did you mean cityscapes"),
        (
            ["--predictions", "nowhere", "--gt", "truth.json"],
            "nowhere: no such file or folder; expected the JSON of",
        ),
    ],
)
def test_errors_are_one_line(here: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    assert main(["evaluate", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("panscape: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_two_runs_are_compared(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SCORE, "--out", "worse.json"]) == 0
    assert main(["evaluate", "--predictions", "truth.json", "--gt", "truth.json", "--out", "perfect.json"]) == 0
    gained = 100 * (1 - json.loads(Path("worse.json").read_text())["panoptic"]["all"]["pq"])
    capsys.readouterr()
    assert main(["evaluate", "--compare", "worse.json", "perfect.json", "--report", "changes.html"]) == 0
    out = capsys.readouterr().out
    assert f"+{gained:.1f}" in out
    assert out.splitlines()[-1] == "report: changes.html"
    assert Path("changes.html").read_text().startswith("<!doctype html>")
    assert main(["evaluate", "--compare", "worse.json", "perfect.json", "--report", "changes.html", "--json"]) == 0
    change = json.loads(capsys.readouterr().out)["panoptic"]["all"]["pq"]["change"]
    assert 100 * change == pytest.approx(gained, abs=1e-9)
    itself = ["evaluate", "--predictions", "truth.json", "--gt", "predictions.json", "--out", "other.json"]
    assert main(itself) == 0
    assert main(["evaluate", "--compare", "worse.json", "other.json"]) == 2
    assert "segments differ in 4 of the 4 images in both runs: '1', '2'" in capsys.readouterr().err
    assert main([*SCORE, "--protocol", "seamseg", "--out", "other.json"]) == 0
    assert main(["evaluate", "--compare", "worse.json", "other.json"]) == 2
    assert "with the same protocol, got 'coco' and 'seamseg'" in capsys.readouterr().err
    assert main(["evaluate", "--compare", "other.json", "other.json", "--report", "changes.html"]) == 0
    note = "Means are over the categories that occur; the protocol seamseg counts others with 0."
    assert note in capsys.readouterr().out
    assert note in Path("changes.html").read_text()


def test_several_runs_are_rows_of_a_table_and_lines_of_a_chart(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = ["evaluate", "--predictions", "arrays", "--gt", "truth.json", "--ap-sizes"]
    assert main([*arrays, "--out", "a.json"]) == main([*arrays, "--out", "b.json"]) == 0
    assert main([*SCORE, "--out", "plain.json"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--compare", "a.json", "b.json", "a.json", "--report", "runs.html"]) == 0
    out = capsys.readouterr().out
    content = json.loads(Path("a.json").read_text())
    row = [f"{100 * content['covering'][group]['covering']:.1f}" for group in ("all", "things", "stuff")]
    assert out.splitlines()[1].split()[:2] == ["a.json", "(1)"]
    assert out.splitlines()[1].split()[7:10] == row
    assert "b.json (2) against a.json (1): PQ is the same." in out
    assert "first: a.json (1), second: a.json (3)" in out
    page = Path("runs.html").read_text(encoding="utf-8")
    assert page.count(f"0-25%: AP {100 * content['instances']['by_size']['0-25%']['ap']:.1f} %") == 3 + 1
    assert main(["evaluate", "--compare", "a.json", "b.json", "plain.json", "--report", "runs.html"]) == 0
    assert "not all runs have it; evaluate each with --ap-sizes" in Path("runs.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["evaluate", "--compare", "a.json", "b.json", "plain.json", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["first"], line["second"]) for line in lines] == [("a.json", "b.json"), ("a.json", "plain.json")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--compare", "a.json", "b.json", "--gt", "truth.json"],
            "--compare alone or with --report and --json, got it together",
        ),
        (["street", "--compare", "a.json", "b.json"], "got it together with a MODEL; it compares existing results"),
        (["--compare", "a.json", "b.json"], "a.json: no such file"),
        (["--compare", "a.json"], "expected two or more files after --compare, got 1; "),
        (["--compare", "truth.json", "shapes.json"], "truth.json: "),
    ],
)
def test_incomparable_results(
    arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_unknown_rules(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SCORE, "--protocol", "lvis"]) == 2
    assert (
        "expected --protocol as one of 'coco', 'deeplab2', 'torchmetrics', 'seamseg', 'yolo_panoptic', got 'lvis'"
        in (capsys.readouterr().err)
    )
