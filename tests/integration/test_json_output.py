"""The output of --json of every command follows the documented schemas."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import trees
from color_model import ColorModel
from json_schemas import SCHEMAS, require_schema
from scored_files import several_maps, worse, write_coco
from training_runs import recipe_file

import panscape
from panscape import LabelSpace, zoo
from panscape.cli import demo, main
from panscape.datasets.town import Town
from panscape.geometry import Size

DATA = ["--recipe", "street", "--data", "data", "--device", "cpu"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images as CamVid has them in each split, a tiny model for them, and files of predictions."""
    labels = LabelSpace.load("camvid")
    for split in ("train", "val"):
        trees.category_masks(tmp_path / "data", labels, split=split, void=11)
    torch.manual_seed(0)
    model = panscape.create_model("swiftnet", labels, backbone="test_resnet", levels=1, width=8)
    zoo.save(model, tmp_path / "model.safetensors", {"licence": "CC0", "val": {"PQ": 1.5}})
    truths = several_maps()
    write_coco(tmp_path / "truth.json", truths)
    write_coco(tmp_path / "predictions.json", worse(truths))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], schema: str, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    """Run a command with --json, check every line of its output, and return the objects."""
    capsys.readouterr()
    assert main([*arguments, "--json"]) == code
    lines = [json.loads(line, parse_constant=pytest.fail) for line in capsys.readouterr().out.splitlines()]
    return [require_schema(line, schema) for line in lines]


def test_evaluation_of_a_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate = ["evaluate", "model.safetensors", *DATA, "--workers", "0"]
    everything = ["--ap-sizes", "--iiou", "--boundary", "--speed", "--out", "m.json", "--report", "m.html"]
    (found,) = printed(capsys, "evaluate", *evaluate, *everything)
    assert (found["model"], found["images"], found["skipped"]) == ("model.safetensors", 3, [])
    assert (found["out"], found["report"]) == ("m.json", "m.html")
    assert {"instances", "instance_iou", "instance_iou_head", "boundary", "semantic_head", "speed"} <= set(found)
    Path("data/images/val/000002.jpg").write_bytes(b"broken")
    (found,) = printed(capsys, "evaluate", *evaluate, "--on-error", "skip", code=1)
    assert (found["images"], len(found["skipped"]), found["report"]) == (2, 1, None)
    assert main([*evaluate, "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("panscape: error: ")
    assert err.count("\n") == 1


def test_evaluation_of_files_and_comparison(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate = ["evaluate", "--predictions", "predictions.json", "--gt", "truth.json"]
    (first,) = printed(capsys, "evaluate", *evaluate, "--out", "first.json")
    assert (first["images"], first["out"], first["report"]) == (4, "first.json", None)
    Path("truth/2.png").write_bytes(b"")
    (second,) = printed(capsys, "evaluate", *evaluate, "--boundary", "--out", "second.json", code=1)
    assert (second["images"], [one["image"] for one in second["skipped"]]) == (3, ["2"])
    assert second["skipped"][0]["error"].startswith("truth/2.png: ")
    assert second["issue_counts"] == {"unreadable file": 1}
    compare = ["evaluate", "--compare", "first.json", "second.json", "--report", "changes.html"]
    (change,) = printed(capsys, "evaluate", *compare)
    assert (change["images"], change["only_first"], change["report"]) == (3, 1, "changes.html")
    assert change["panoptic"]["all"]["pq"]["after"] == pytest.approx(second["panoptic"]["all"]["pq"], abs=1e-12)
    itself = ["evaluate", "--predictions", "truth.json", "--gt", "truth.json", "--out", "perfect.json"]
    assert main(itself) == 1
    (change,) = printed(capsys, "evaluate", "evaluate", "--compare", "second.json", "perfect.json")
    assert change["changed"]
    category = next(iter(change["panoptic"]["per_category"].values()))
    assert category["pq"]["after"] == 1


def test_tuning(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tune = ["tune", "model.safetensors", *DATA, "--decode.stuff-area", "1", "8000", "--out", "tuned.safetensors"]
    (found,) = printed(capsys, "tune", *tune)
    assert (found["images"], found["out"]) == (3, "tuned.safetensors")
    for option, change in found["changes"].items():
        last = [sweep for sweep in found["sweeps"] if sweep["option"] == option][-1]
        assert change["after"] == last["after"]


def test_training(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(recipe_file(here / "recipe.py", "replace(TINY, steps=2, eval_every=0)"))
    train = ["train", recipe, "--out", "run", "--device", "cpu", "--workers", "0", "--threads", "1"]
    (found,) = printed(capsys, "train", *train)
    assert (found["steps"], found["out"], found["model"]) == (2, "run", "run/model.safetensors")
    times = [json.loads(line).get("time", 0) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert found["hours"] == pytest.approx(max(times) / 3600, abs=1e-4)
    assert found["panoptic"] == json.loads(Path("run/evaluation.json").read_text())["panoptic"]
    assert main([*train, "--resume", "-q"]) == 0  # the run is complete; only the result is printed
    quality, iou = (f"{100 * value:.1f}" for value in (found["panoptic"]["all"]["pq"], found["semantic"]["mean_iou"]))
    assert capsys.readouterr() == (f"val PQ {quality}, mIoU {iou}; model in run/model.safetensors\n", "")


def test_models_recipes_and_cards(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = printed(capsys, "models", "models")
    bundled = {model["model"]: model["card"] for model in models if model["access"] == "bundled"}
    assert bundled == {weights.name: weights.card for weights in panscape.list_weights()}
    assert len(models) == len(bundled) + len(zoo.list_published())
    assert {recipe["recipe"] for recipe in printed(capsys, "recipes", "recipes")} == set(panscape.list_recipes())
    (shown,) = printed(capsys, "weights", "weights", "show", "model.safetensors")
    assert (shown["model"], shown["card"]["val"]) == ("model.safetensors", {"PQ": 1.5})


def test_the_demo(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "load", lambda name: ColorModel(Town(1).labels))
    monkeypatch.setattr(demo, "SCENES", (demo.DemoScene("street", Size(64, 64), 0),))
    (found,) = printed(capsys, "demo", "demo", "--device", "cpu")
    assert (found["images"], found["report"]) == (1, "panscape_demo/index.html")
    assert found["scenes"][0]["pq"] == found["panoptic"]["all"]["pq"]
    assert Path(found["report"]).is_file()


def objects(schema: Any) -> list[dict[str, Any]]:
    """Return all parts of a schema that have properties."""
    if isinstance(schema, list):
        return [part for item in schema for part in objects(item)]
    if not isinstance(schema, dict):
        return []
    inner = [part for value in schema.values() for part in objects(value)]
    return [schema, *inner] if isinstance(schema.get("properties"), dict) else inner


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_page_has_every_key_with_its_description(name: str) -> None:
    spec = importlib.util.spec_from_file_location("schema_hook", ROOT / "docs/plugins/schemas.py")
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    page = hook.on_page_markdown((ROOT / "docs/json.md").read_text(encoding="utf-8"))
    assert "<!-- schema" not in page
    assert set(re.findall(r"\(#([\w-]+)\)", page)) <= set(re.findall(r"\{ #([\w-]+) \}", page))
    parts = objects(SCHEMAS[name])
    assert parts
    for part in parts:
        assert part["additionalProperties"] is False
        for key, value in part["properties"].items():
            assert f"| `{key}`" in page
            assert f"| {value['description']} |" in page, key
