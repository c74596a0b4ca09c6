"""Published models on the command line: the list, the cache, and a prediction with a fetched model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer
from json_schemas import require_schema
from published_models import BY_HAND, HUB, MODEL, PART, RESTRICTED, checkpoint, darknet_file, digest, published

from panscape import PanopticMap
from panscape.cli import main
from panscape.images import save_png
from panscape.zoo import list_weights

CONTENT = darknet_file()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.chdir(tmp_path)
    with published(tmp_path, monkeypatch, CONTENT) as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weights"


def test_the_list(server: FileServer, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-q", "weights", "fetch", PART]) == 0
    assert capsys.readouterr().out == f"{cache / PART}.weights  (0.0 MB)\n"
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:7]] == [
        ["model", "system", "data", "licence", "PQ", "MB", "here"],
        ["street", "Tiny", "CamVid", "Apache-2.0", "65.0", "7", "bundled"],
        [MODEL, "Tiny", "Cityscapes", "MIT", "55.1", "-", "-"],
        [PART, "Tiny", "(backbone)", "ImageNet", "MIT", "-", "0", "cached"],
        [HUB, "Tiny", "COCO", "MIT", "-", "-", "hub"],
        [RESTRICTED, "Tiny", "(backbone)", "COCO", "CC-BY-NC-4.0", "-", "-", "-"],
        [],
    ]
    assert lines[7:] == [
        "1 more of these systems: panscape models --all, or panscape models coco",
        "PQ of bundled models is measured, others as published. Licences are those of the weights.",
        f"In {cache}: 1 model, 0.0 MB",
    ]
    assert main(["models", "--all"]) == 0
    assert f"\n{BY_HAND}  " in capsys.readouterr().out
    assert main(["models", "COCO"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:3]] == [HUB, RESTRICTED]
    assert main(["models", "nothing"]) == 2
    assert capsys.readouterr().err == (
        "panscape: error: unknown model 'nothing'; panscape models --all lists the 6 known\n"
    )


def test_one_model(server: FileServer, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", RESTRICTED]) == 0
    assert capsys.readouterr().out.splitlines() == [
        RESTRICTED,
        "  system: Tiny (backbone)",
        "  data: COCO",
        "  licence: CC-BY-NC-4.0",
        "  licence of the authors' code: MIT",
        "  repository: https://others",
        f"  published file: {server.address}/{PART}",
        f"  how to get it: panscape weights fetch {RESTRICTED} --accept-licence {RESTRICTED}; or it is fetched when it "
        "is first used with that option",
    ]
    assert main(["models", "street"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("street  (6.8 MB)\n  data: CamVid as published")
    assert out.endswith(f"  file: {next(w.path for w in list_weights() if w.name == 'street')}\n")
    capsys.readouterr()
    assert main(["models", "--json"]) == 0
    rows = [require_schema(json.loads(line), "models") for line in capsys.readouterr().out.splitlines()]
    assert [row["model"] for row in rows] == ["street", MODEL, PART, HUB, BY_HAND, RESTRICTED]
    assert rows[0]["metrics"]["PQ"] == 65.0
    assert (rows[1]["metrics"], rows[1]["path"], rows[1]["card"]["system"]) == ({"PQ": 55.1}, None, "Tiny")


def test_the_cache(server: FileServer, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch = ["weights", "fetch", RESTRICTED, "--json"]
    assert main(fetch) == 2
    assert f"add --accept-licence {RESTRICTED}" in capsys.readouterr().err
    assert main([*fetch, "--accept-licence"]) == 2
    assert "expected the name of a model after --accept-licence, got none" in capsys.readouterr().err
    assert main([*fetch, "--accept-licence="]) == 2
    assert "expected the name of a model after --accept-licence, got" in capsys.readouterr().err
    assert main([f"--accept-license={RESTRICTED}", *fetch]) == 0
    said = capsys.readouterr()
    path = f"{cache / RESTRICTED}.weights"
    assert require_schema(json.loads(said.out), "weights") == {"model": RESTRICTED, "path": path, "megabytes": 0.0}
    assert said.err.splitlines()[0] == f"accepted CC-BY-NC-4.0 for {RESTRICTED}"
    Path("other-00000000.pth").write_bytes(CONTENT)
    assert main(["weights", "verify", RESTRICTED, "other-00000000.pth", "--json"]) == 1
    found = [require_schema(json.loads(line), "weights") for line in capsys.readouterr().out.splitlines()]
    assert found[0] == {"model": RESTRICTED, "sha256": digest(CONTENT), "error": None}
    assert "expected a file whose sha256 begins with 00000000" in found[1]["error"]
    assert main(["weights", "verify"]) == 0
    assert capsys.readouterr().out == f"{RESTRICTED}: sha256 {digest(CONTENT)}\n"
    assert main(["weights", "remove"]) == 2
    assert "expected the names of models or --all" in capsys.readouterr().err
    for name in (f"{PART}.fetched.weights.part", f".{MODEL}.01234567.safetensors"):
        (cache / name).write_bytes(CONTENT)
    assert main(["weights", "remove", "--all", "--json"]) == 0
    removed = {"removed": [MODEL, PART, RESTRICTED], "megabytes": 0.0}
    assert require_schema(json.loads(capsys.readouterr().out), "weights") == removed
    assert main(["weights", "remove", PART]) == 0
    assert capsys.readouterr().out == "removed nothing, 0.0 MB\n"
    assert sorted(one.suffixes[-2] for one in cache.iterdir()) == [".licence", ".source"]


def test_a_prediction_states_its_weights(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    server.content = checkpoint(tmp_path / "net.pth")
    save_png(Path("a.png"), torch.zeros(3, 32, 64, dtype=torch.uint8))
    assert main(["predict", "a.png", "--model", MODEL, "--out", "out", "--max-size", "64"]) == 0
    assert capsys.readouterr().err.splitlines()[0].startswith(f"fetching {MODEL} from {server.address}/net.pth, ")
    info = json.loads(Path("out/panoptic.json").read_text())["info"]
    (weights,) = info["weights"]
    assert (weights["weights"], weights["licence"]) == (MODEL, "MIT")
    assert weights["source_sha256"] == digest(server.content)
    result = PanopticMap.load("out/panoptic/a.png")
    assert result.provenance == weights
    assert result.crop(0, 0, 8, 8).select([False] * len(result)).provenance == weights
    # Another image by other weights: the JSON states both, as it contains maps of both.
    save_png(Path("b.png"), torch.zeros(3, 32, 64, dtype=torch.uint8))
    checkpoint(Path("again.pth"), 0.02)
    assert main(["predict", "b.png", "--model", "again.pth", "--out", "out", "--max-size", "64"]) == 0
    info = json.loads(Path("out/panoptic.json").read_text())["info"]
    assert [one["weights"] for one in info["weights"]] == [MODEL, "again.pth"]
    assert PanopticMap.load("out/panoptic/a.png").provenance is None
