from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from color_model import ColorModel
from maps import SHAPES
from torch import nn

from panscape import create_model, zoo
from panscape.errors import CheckpointMismatchError, UnreadableFileError
from panscape.models import PanopticModel
from panscape.nn.backbones import create_backbone
from panscape.nn.pisr import PISR, Relations
from panscape.nn.pisr_baselines import OCR, Concatenation
from panscape.zoo import load_partial
from panscape.zoo.checkpoints import Checkpoints


def a_model(seed: int, backbone: str = "residual_xs", levels: int = 1) -> PanopticModel:
    torch.manual_seed(seed)
    return create_model("swiftnet", SHAPES, backbone=backbone, levels=levels, width=8)


class OtherFamily(ColorModel):
    """A model whose backbone has another attribute name."""

    def __init__(self, seed: int, backbone: str = "residual_xs") -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.eyes = nn.Module()
        self.eyes.body = create_backbone(backbone)
        self.head = nn.Conv2d(8, 3, 1)

    @property
    def backbones(self) -> tuple[str, ...]:
        return ("eyes.body",)


def same(some: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with three checkpoints and no model."""
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    for step in (1, 2, 3):
        average = a_model(10 + step).state_dict() if step == 3 else None
        checkpoints.save(step, {"model": a_model(step).state_dict(), "average": average})
    return tmp_path / "run"


def test_a_run_that_is_not_done_gives_its_newest_average(run: Path) -> None:
    (run / "checkpoints" / ".step_00000004.ckpt").write_bytes(b"in the making")
    before = {p.name: p.read_bytes() for p in (run / "checkpoints").iterdir()}
    model = a_model(0)
    num = len(zoo.unique_state_dict(model))
    assert load_partial(model, run).line == f"started from run: {num} of {num} tensors, as of step 3"
    assert same(model, a_model(13))
    assert {p.name: p.read_bytes() for p in (run / "checkpoints").iterdir()} == before


def test_a_damaged_checkpoint_is_passed_over(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    newest = run / "checkpoints" / "step_00000003.ckpt"
    newest.write_bytes(newest.read_bytes()[:-100])
    model = a_model(0)
    assert load_partial(model, str(run)).line.endswith("as of step 2")
    assert same(model, a_model(2))
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith("; using step_00000002.ckpt")


def test_a_run_that_is_done_gives_its_model(run: Path) -> None:
    zoo.save(a_model(7), run / "model.safetensors")
    model = a_model(0)
    assert load_partial(model, run).line.startswith("started from model.safetensors: ")
    assert same(model, a_model(7))


def test_a_model_of_another_family_gives_its_backbone(run: Path) -> None:
    model, head = OtherFamily(0), OtherFamily(0).head
    body = dict(model.eyes.body.named_parameters()) | dict(model.eyes.body.named_buffers())
    line = load_partial(model, run).line
    num = len(body)
    assert line == (
        f"started from run: {num} of {num + 2} tensors, {num} of them from its backbone, pyramid.levels.0; "
        "2 new, as not in the file: head.bias, head.weight, as of step 3"
    )
    for name, tensor in a_model(13).pyramid.levels[0].state_dict().items():
        assert torch.equal(body[name], tensor), name
    assert torch.equal(model.head.weight, head.weight)


def test_every_level_of_a_pyramid_gets_the_backbone(tmp_path: Path) -> None:
    other = OtherFamily(5)
    for buffer in other.eyes.body.buffers():
        buffer.add_(3)
    # Norms that were frozen when they were saved have no counters.
    state = {name: tensor for name, tensor in other.state_dict().items() if tensor.is_floating_point()}
    model = a_model(0, levels=2)
    assert "of them from its backbone, eyes.body; " in zoo.load_matching(model, state, tmp_path / "file").line
    for level in model.pyramid.levels:
        for name, tensor in level.state_dict().items():
            if tensor.is_floating_point():
                assert torch.equal(tensor, other.eyes.body.state_dict()[name]), name
    assert torch.equal(model.start[1].weight, a_model(0, levels=2).start[1].weight)


def test_more_levels_than_there_were_begin_like_the_first(tmp_path: Path) -> None:
    one = a_model(5)
    for buffer in one.pyramid.buffers():
        buffer.add_(3)
    zoo.save(one, tmp_path / "one.safetensors")
    model = a_model(0, levels=2)
    load_partial(model, tmp_path / "one.safetensors")
    for mine, its in zip(model.pyramid.levels[1].buffers(), one.pyramid.levels[0].buffers(), strict=True):
        assert torch.equal(mine, its)


HEADS = ("semantic", "center", "offset")
SECOND_STAGES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "swiftnet": ({"width": 8, "levels": 1}, {f"refined_{head}": head for head in HEADS}),
    "panoptic_deeplab": (
        {"decoder_width": 8, "instance_width": 8, "pyramid_width": 8, "head_width": 8},
        {f"refined_{head}": head for head in HEADS},
    ),
    "maskformer": (
        {"width": 8, "num_queries": 5, "decoder_layers": 1, "hidden_width": 8, "encoder_layers": 0},
        {"refined_category": "query_decoder.category", "refined_mask": "query_decoder.mask"},
    ),
    "panoptic_fpn": (
        {"width": 8, "semantic_width": 8},
        {
            "refined_heads.boxes": "heads.boxes",
            "refined_heads.masks": "heads.masks",
            "refined_semantic": "semantic.predictor",
        },
    ),
}


def related(model: str, relations: Relations | None, seed: int) -> PanopticModel:
    torch.manual_seed(seed)
    widths, _ = SECOND_STAGES[model]
    return create_model(model, SHAPES, backbone="residual_xs", relations=relations, **widths).eval()


@pytest.mark.parametrize("name", SECOND_STAGES)
def test_a_second_stage_begins_as_the_heads_of_a_network_without_relations(name: str, tmp_path: Path) -> None:
    base, model = related(name, None, 1), related(name, PISR(4, key_width=8), 2)
    _, copies = SECOND_STAGES[name]
    for head in copies.values():
        for buffer in base.get_submodule(head).buffers():
            buffer.add_(1)
    num_heads = sum(len(base.get_submodule(head).state_dict()) for head in copies.values())
    num_base, num = len(base.state_dict()), len(model.state_dict())
    zoo.save(base, tmp_path / "base.safetensors")
    line = load_partial(model, tmp_path / "base.safetensors").line
    assert line.startswith(f"started from base.safetensors: {num_base + num_heads} of {num} tensors, {num_heads} of ")
    assert f" of them copies, in {', '.join(copies)}; " in line
    assert " new, as not in the file: relations." in line
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for mine, its in zip(model(image).tensors, base(image).tensors, strict=True):
            torch.testing.assert_close(mine, its, atol=1e-6, rtol=1e-6)


def test_a_second_stage_of_its_own_is_taken_as_it_is(tmp_path: Path) -> None:
    other, model = (related("swiftnet", PISR(k, key_width=8), k) for k in (4, 5))
    for parameter in other.refined_center.parameters():
        parameter.data.add_(1)  # heads begin as copies; training parts them
    zoo.save(other, tmp_path / "other.safetensors")
    assert "copies" not in load_partial(model, tmp_path / "other.safetensors").line
    for head in ("semantic", "center", "offset", "refined_semantic", "refined_center", "refined_offset"):
        assert same(getattr(model, head), getattr(other, head)), head


def test_a_second_stage_with_other_channels_begins_anew(tmp_path: Path) -> None:
    zoo.save(related("swiftnet", None, 1), tmp_path / "base.safetensors")
    model = related("swiftnet", OCR(key_width=8), 2)
    line = load_partial(model, tmp_path / "base.safetensors").line
    assert "copies, in refined_semantic, refined_center, refined_offset;" in line
    model = related("swiftnet", Concatenation(4), 2)
    before = copy.deepcopy(model)
    assert "copies" not in load_partial(model, tmp_path / "base.safetensors").line
    assert not same(model.semantic, before.semantic)
    assert same(model.refined_semantic, before.refined_semantic)


def test_half_a_backbone_is_none(run: Path) -> None:
    model = OtherFamily(0, "residual_s")
    with pytest.raises(CheckpointMismatchError, match="or with the same backbone"):
        load_partial(model, run)


def test_invalid_initial_weights(run: Path) -> None:
    with pytest.raises(CheckpointMismatchError, match="start from a model of the same family"):
        load_partial(ColorModel(), run)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UnreadableFileError, match=r"expected model\.safetensors in this folder, or"):
        load_partial(a_model(0), run)
