from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from maps import SHAPES

from panscape import create_model, zoo
from panscape.errors import CheckpointMismatchError, UnreadableFileError
from panscape.models import PanopticModel
from panscape.training.checkpoints import Checkpoints
from panscape.training.starting import start_from


def a_model(seed: int, width: int = 8) -> PanopticModel:
    torch.manual_seed(seed)
    return create_model("swiftnet", SHAPES, backbone="residual_xs", levels=1, width=width)


def same(some: PanopticModel, other: PanopticModel) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that has three checkpoints and no model."""
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    for step in (1, 2, 3):
        average = a_model(10 + step).state_dict() if step == 3 else None
        checkpoints.save(step, {"model": a_model(step).state_dict(), "average": average})
    return tmp_path / "run"


def test_a_run_that_is_not_done_gives_its_newest_average(run: Path) -> None:
    (run / "checkpoints" / ".step_00000004.ckpt").write_bytes(b"in the making")
    before = {p.name: p.read_bytes() for p in (run / "checkpoints").iterdir()}
    model = a_model(0)
    num = len(zoo.unaliased_state(model))
    assert start_from(model, run) == f"started from run: {num} of {num} tensors, as of step 3"
    assert same(model, a_model(13))
    assert {p.name: p.read_bytes() for p in (run / "checkpoints").iterdir()} == before


def test_a_damaged_checkpoint_is_passed_over(run: Path) -> None:
    newest = run / "checkpoints" / "step_00000003.ckpt"
    newest.write_bytes(newest.read_bytes()[:-100])
    said: list[str] = []
    model = a_model(0)
    assert start_from(model, str(run), said.append).endswith("as of step 2")
    assert same(model, a_model(2))
    assert len(said) == 1
    assert said[0].endswith("; using step_00000002.ckpt")


def test_a_run_that_is_done_gives_its_model(run: Path) -> None:
    zoo.save(a_model(7), run / "model.safetensors")
    model = a_model(0)
    assert start_from(model, run).startswith("started from model.safetensors: ")
    assert same(model, a_model(7))


def test_what_cannot_be_started_from(run: Path) -> None:
    with pytest.raises(CheckpointMismatchError, match="start from a model of the same family"):
        start_from(torch.nn.Linear(2, 2), run)  # type: ignore[arg-type]
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UnreadableFileError, match=r"expected a file that ends in \.safetensors"):
        start_from(a_model(0), run)
