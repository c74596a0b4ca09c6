from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import panscape
from panscape.errors import InvalidArgumentError, UnreadableFileError, UnwritableFileError
from panscape.training.config import DataOptions, ModelOptions, Optimizer, Recipe
from panscape.training.run_folder import RunFolder, differences, recipe_to_dict
from panscape.training.schedule import Schedule


@dataclass(frozen=True)
class Net(ModelOptions):
    widths: tuple[int, ...] = (8, 16)
    pretrained: Path | None = None

    def create(self, labels):
        raise NotImplementedError


@dataclass(frozen=True)
class OtherNet(ModelOptions):
    depth: int = 3

    def create(self, labels):
        raise NotImplementedError


@dataclass(frozen=True)
class Folder(DataOptions):
    part: str = "all"

    def load(self, root, split):
        raise NotImplementedError


@dataclass(frozen=True)
class Mix(DataOptions):
    parts: tuple[DataOptions, ...] = (Folder(), Folder("half"))

    def load(self, root, split):
        raise NotImplementedError


RECIPE = Recipe("tiny", Net(), Folder(), steps=100)


def opened(path, recipe=RECIPE, *, seed=0, data=None, resume=False):
    return RunFolder.open(path, recipe, seed=seed, data=data, resume=resume)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def run(tmp_path):
    run = opened(tmp_path / "run", data=tmp_path / "data")
    run.begin(0, device="cpu", processes=1)
    (run.checkpoints / "step_00000040.ckpt").write_bytes(b"")
    (run.checkpoints / "step_00000020.ckpt").write_bytes(b"")
    return run


class TestRecipes:
    def test_as_json_would_give_it_back(self):
        recipe = Recipe("tiny", Net(pretrained=Path("a/b")), Mix(), optimizer=Optimizer(betas=(0.8, 0.9)))
        written = recipe_to_dict(recipe)
        assert json.loads(json.dumps(written)) == written
        assert written["model"] == {"type": "Net", "widths": [8, 16], "pretrained": "a/b"}
        assert written["data"] == {
            "type": "Mix",
            "parts": [{"type": "Folder", "part": "all"}, {"type": "Folder", "part": "half"}],
        }
        assert written["optimizer"]["betas"] == [0.8, 0.9]
        assert list(written) == [f.name for f in dataclasses.fields(Recipe)]

    def test_maps_that_cannot_be_written(self):
        with pytest.raises(InvalidArgumentError, match=r"got a Tensor as recipe\.model\.widths\.1"):
            recipe_to_dict(dataclasses.replace(RECIPE, model=Net(widths=(1, torch.ones(1)))))

    def test_differences(self):
        old = recipe_to_dict(RECIPE)
        assert differences(old, recipe_to_dict(RECIPE)) == []
        other = dataclasses.replace(
            RECIPE, model=Net((8,)), optimizer=Optimizer(learning_rate=2e-4), schedule=Schedule("cosine"), steps=200
        )
        assert differences(old, recipe_to_dict(other)) == [
            "model.widths: [8, 16] -> [8]",
            "optimizer.learning_rate: 0.0001 -> 0.0002",
            'schedule.kind: "poly" -> "cosine"',
            "steps: 100 -> 200",
        ]
        assert differences(old, recipe_to_dict(dataclasses.replace(RECIPE, model=OtherNet()))) == [
            'model.type: "Net" -> "OtherNet"'
        ]
        assert differences({"a": {"b": 1}, "c": None}, {"a": {"d": 2}, "c": None}) == [
            "a.b: 1 -> absent",
            "a.d: absent -> 2",
        ]


class TestNewRuns:
    @pytest.mark.parametrize("resume", [False, True])
    @pytest.mark.parametrize("exists", [False, True])
    def test_in_no_folder_or_an_empty_one(self, tmp_path, monkeypatch, exists, resume):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["/somewhere/bin/panscape", "train", "tiny", "--out", "my run"])
        path = tmp_path / "a" / "run"
        if exists:
            path.mkdir(parents=True)
            (path / ".run.0a1b2c3d.json").write_text("{")  # of a process that was killed at its start
        run = opened(path, seed=3, data=Path("data"), resume=resume)
        run.begin(0, device="cpu", processes=2)
        record = json.loads((path / "run.json").read_text())
        (start,) = record.pop("starts")
        assert record == {"recipe": recipe_to_dict(RECIPE), "seed": 3, "data": str(tmp_path / "data")}
        assert start.pop("time")[:2] == "20"
        assert start == {
            "step": 0,
            "command": "panscape train tiny --out 'my run'",
            "panscape": panscape.__version__,
            "git": None,
            "torch": torch.__version__,
            "python": ".".join(map(str, sys.version_info[:3])),
            "device": "cpu",
            "processes": 2,
        }
        assert all(f.is_dir() for f in (run.checkpoints, run.tensorboard, run.images))
        assert run.metrics.parent == path

    def test_the_revision_of_the_code_is_noted(self, tmp_path, monkeypatch):
        def git(*arguments):
            identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
            command = ["git", *identity, *arguments]
            return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

        def noted(name):
            run = opened(tmp_path / name)
            run.begin(0, device="cpu", processes=1)
            return json.loads((run.path / "run.json").read_text())["starts"][0]["git"]

        monkeypatch.chdir(tmp_path)
        git("init", "-q")
        (tmp_path / "code").write_text("1")
        git("add", "code")
        git("commit", "-q", "-m", "first", "--no-gpg-sign")
        git("tag", "-a", "v1", "-m", "v1")
        assert noted("one") == git("rev-parse", "HEAD")
        (tmp_path / "code").write_text("2")
        assert noted("two") == git("rev-parse", "HEAD") + "-dirty"

    def test_a_folder_of_something_else(self, tmp_path):
        for name in ("d", "b", "a", "c"):
            (tmp_path / name).write_text(name)
        before = contents(tmp_path)
        for resume in (False, True):
            with pytest.raises(InvalidArgumentError) as caught:
                opened(tmp_path, resume=resume)
            assert str(caught.value) == (
                f"expected an empty folder or a run directory, but {tmp_path} contains a, b, c and 1 more; "
                "give another --out"
            )
        assert contents(tmp_path) == before

    def test_a_file(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("x")
        with pytest.raises(UnwritableFileError, match=r"cannot write .*/file/run: Not a directory; free space or give"):
            opened(path / "run")
        assert path.read_text() == "x"

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder in which nobody can write")
    def test_a_folder_that_cannot_be_written(self):
        with pytest.raises(UnwritableFileError, match=r"cannot write /proc/run: .*; free space or give another --out"):
            opened(Path("/proc/run"))


class TestGoingOn:
    def test_only_on_request(self, run, tmp_path):
        before = contents(run.path)
        with pytest.raises(InvalidArgumentError) as caught:
            opened(run.path, data=tmp_path / "data")
        assert str(caught.value) == (
            f"{run.path} contains a run of tiny at step 40 of 100; add --resume to continue it, or give another --out"
        )
        assert contents(run.path) == before

    def test_with_the_same_run(self, run, tmp_path):
        (run.path / "notes.txt").write_text("mine")
        changed = dataclasses.replace(RECIPE, eval_every=7, eval_limit=9)
        again = opened(run.path, changed, data=tmp_path / "x" / ".." / "data", resume=True)
        again.begin(40, device="cuda", processes=4)
        record = json.loads((run.path / "run.json").read_text())
        assert [(s["step"], s["device"], s["processes"]) for s in record["starts"]] == [(0, "cpu", 1), (40, "cuda", 4)]
        assert record["recipe"] == recipe_to_dict(changed)
        assert (run.path / "notes.txt").read_text() == "mine"

    def test_not_with_another(self, run, tmp_path):
        before = contents(run.path)
        other = dataclasses.replace(RECIPE, model=OtherNet(), batch_size=4, eval_every=1)
        with pytest.raises(InvalidArgumentError) as caught:
            opened(run.path, other, seed=1, data=None, resume=True)
        assert str(caught.value) == (
            f'{run.path} contains a different run: model.type: "Net" -> "OtherNet"; batch_size: 8 -> 4; seed: 0 -> 1; '
            f'data folder: "{tmp_path}/data" -> null (there -> here); '
            "resume it with its original settings, or give another --out"
        )
        assert contents(run.path) == before

    def test_not_with_more_steps(self, run):
        with pytest.raises(
            InvalidArgumentError, match=f"to train longer, start another run with --init-from {run.path}$"
        ):
            opened(run.path, dataclasses.replace(RECIPE, steps=RECIPE.steps + 1), resume=True)

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"recipe": 3, "seed": 0, "starts": []}'])
    def test_not_with_a_record_of_something_else(self, tmp_path, text):
        (tmp_path / "run.json").write_text(text)
        for resume in (False, True):
            with pytest.raises(UnreadableFileError, match=r"run\.json: it .*; give another --out"):
                opened(tmp_path, resume=resume)
        assert contents(tmp_path) == {Path("run.json"): text.encode()}
