"""The files of panscape-runtime predict alone, without torch; its version is that of panscape."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import panscape
from panscape import create_model
from panscape.cli import main
from panscape.export import export_model

pytest.importorskip("onnxruntime", reason="needs the extra onnx")

ROOT = Path(__file__).parents[2]
_ALONE = """
import sys
import importlib.util
installed = ("torch", "tyro", "rich", "scipy", "msgspec", "safetensors", "timm", "huggingface_hub")
class Refusal:
    @staticmethod
    def find_spec(name, *_):
        if name.partition(".")[0] in installed:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refusal)
find = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in installed else find(name)
import panscape
from panscape.cli import main
sys.exit(main(sys.argv[1:]) if panscape.__file__.startswith({folder!r}) else 99)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the distribution."""
    folder = tmp_path_factory.mktemp("runtime")
    for name in (ROOT / "packaging/runtime/files.txt").read_text().split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "src" / name, folder / name)
    return folder


def alone(files: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(files)!r})\n{_ALONE.format(folder=str(files))}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def test_exported_networks_predict_as_with_panscape(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PANSCAPE_RUNTIME")
    torch.manual_seed(0)
    model = create_model("swiftnet", "town", backbone="residual_xs", width=8, levels=2, longest_side=130)
    model.set_decoding(stuff_area=1, threshold=0.2, leftover_area=3, resize="outputs")
    export_model(model, tmp_path / "model.onnx")
    photos = []
    for name, size in (("photo", (90, 130)), ("large", (150, 260))):
        photos.append(str(tmp_path / f"{name}.png"))
        PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)).save(photos[-1])
    command = ["predict", *photos, "--model", str(tmp_path / "model.onnx")]
    found = alone(files, *command, "--out", str(tmp_path / "found"), "--json")
    assert found.returncode == 0, found.stderr
    assert all(json.loads(line)["num_segments"] > 5 for line in found.stdout.splitlines())
    assert main([*command, "--out", str(tmp_path / "expected")]) == 0
    for name in ("photo.jpg", "panoptic/photo.png", "large.jpg", "panoptic/large.png", "panoptic.json"):
        assert (tmp_path / "found" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()
    for others in (["--precision", "fp32"], ["--max-size", "64"]):
        refused = alone(files, *command, *others)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "install panscape for all else" in refused.stderr


def test_the_version_and_the_requirements_are_those_of_panscape() -> None:
    runtime, whole = (tomllib.loads((ROOT / f"{p}pyproject.toml").read_text()) for p in ("packaging/runtime/", ""))
    assert runtime["project"]["version"] == whole["project"]["version"] == panscape.__version__
    assert set(runtime["project"]["dependencies"]) <= set(whole["project"]["dependencies"])
    for extra, packages in runtime["project"]["optional-dependencies"].items():
        assert set(packages) <= set(whole["project"]["optional-dependencies"][extra])
