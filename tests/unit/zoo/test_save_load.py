from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
import torch
from maps import SHAPES
from safetensors.torch import save_file

from panscape import create_model, zoo
from panscape.errors import InvalidArgumentError, PanscapeError, UnknownNameError, UnreadableFileError
from panscape.models.swiftnet import PanopticSwiftNet
from panscape.nn.backbones import create_backbone
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.zoo.checkpoints import Checkpoints


def test_options_with_parts_survive(tmp_path: Path) -> None:
    representation = CenterRepresentation(sigma=4, boundary_alphas=(8, 4, 1), decoding=CenterDecoding(stuff_area=64))
    model = create_model("swiftnet", SHAPES, backbone="residual_xs", width=8, levels=2, representation=representation)
    zoo.save(model, tmp_path / "m.safetensors", {"licence": "CC0"})
    (tmp_path / "other").touch()
    assert (tmp_path / "m.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    (tmp_path / "other").unlink()
    again = zoo.load(tmp_path / "m.safetensors")
    assert isinstance(again, PanopticSwiftNet)
    assert again.representation == representation
    assert not again.training
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_shared_parameters_are_stored_once_and_stay_shared(tmp_path: Path) -> None:
    model = create_model("swiftnet", SHAPES, backbone="residual_xs", width=8, levels=3)
    zoo.save(model, tmp_path / "m.safetensors")
    parameters = sum(p.numel() for p in model.parameters())
    assert (tmp_path / "m.safetensors").stat().st_size < parameters * 4 * 1.15 + 60_000
    again = zoo.load(tmp_path / "m.safetensors")
    first, second = again.pyramid.levels[0], again.pyramid.levels[1]  # type: ignore[attr-defined]
    assert first.stem[0].weight is second.stem[0].weight
    assert first.stem[1].weight is not second.stem[1].weight


def test_a_model_laid_out_channels_last_is_saved_too(tmp_path: Path) -> None:
    model = create_model("swiftnet", SHAPES, backbone="residual_xs", width=8).eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    zoo.save(model, tmp_path / "m.safetensors")
    images = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for a, b in zip(model(images), zoo.load(tmp_path / "m.safetensors")(images), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'swiftnt_r18'; did you mean swiftnet_r18"):
        create_model("swiftnt_r18", SHAPES)
    with pytest.raises(UnknownNameError, match="unknown label space 'cityscape'; did you mean cityscapes"):
        create_model("swiftnet_r18", "cityscape")
    with pytest.raises(UnknownNameError, match="unknown backbone 'resnet19'; did you mean resnet18"):
        create_model("swiftnet", SHAPES, backbone="resnet19")
    with pytest.raises(UnknownNameError, match="unknown model 'nowhere'"):
        zoo.load("nowhere")
    with pytest.raises(UnknownNameError, match="unknown model None; known: "):
        create_model(None, SHAPES)  # type: ignore[arg-type]
    for given, found in (("", "an empty one"), (None, "NoneType"), (["street"], "list")):
        with pytest.raises(InvalidArgumentError, match=f"expected a model's name or path, got {found}"):
            zoo.load(given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lvls": 3}, "swiftnet has no option 'lvls'; it has backbone, "),
        ({"levels": 0}, "expected 1 to 4 levels"),
        ({"levels": 2, "context": "spp"}, 'and 1 with context="spp", got levels=2'),
        ({"context": "aspp"}, "expected context"),
        ({"width": 2}, "expected a width of at least 4 channels, got 2"),
        ({"backbone": "vit_tiny_patch16_224"}, "expected a backbone with features at strides"),
        ({"backbone": "residual_s", "pretrained": True}, "residual_s has no pretrained weights"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        create_model("swiftnet", SHAPES, **options)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.safetensors", None, "no such file"),
        ("text.safetensors", "hello", "expected a complete safetensors file"),
        ("pointer.safetensors", POINTER, "pointer of git-lfs without the file's content; run: git lfs pull"),
        ("pointer.pth", POINTER, "pointer of git-lfs"),
        ("step_00000010.ckpt", "", "expected a file that ends in .safetensors.*, or the run directory of a checkpoint"),
    ],
)
def test_files_that_are_not_models(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UnreadableFileError, match=message):
        zoo.load(tmp_path / name)


def test_places_that_hold_no_model(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UnreadableFileError, match="not saved by panscape"):
        zoo.load(tmp_path / "other.safetensors")
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(UnreadableFileError, match="got a pipe"):
        zoo.load(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(UnreadableFileError, match="got a folder"):
        zoo.load(tmp_path / "folder.safetensors")
    with pytest.raises(UnreadableFileError, match=r"expected model\.safetensors in this folder, or the checkpoints"):
        zoo.load(tmp_path)


def test_an_unfinished_run_is_the_model_of_its_newest_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = create_model("swiftnet", SHAPES, backbone="residual_xs", width=8, levels=2)
    average = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.add_(1)
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    state = {"description": zoo.describe_model(model), "model": model.state_dict(), "average": None}
    checkpoints.save(10, state)
    checkpoints.save(20, state | {"average": average.state_dict()})
    again = zoo.load(tmp_path / "run")
    assert caplog.messages == [f"{tmp_path / 'run'} contains an unfinished training; using its checkpoint of step 20"]
    for name, tensor in average.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    checkpoints.path(20).write_bytes(b"")
    assert torch.equal(next(zoo.load(tmp_path / "run").parameters()), next(model.parameters()))
    zoo.save(average, tmp_path / "run" / "model.safetensors", {"licence": "CC0"})
    assert zoo.load(tmp_path / "run").card == {"licence": "CC0"}


def test_a_failed_save_leaves_no_file(tmp_path: Path) -> None:
    backbone = create_backbone("residual_xs")
    model = create_model("swiftnet", SHAPES, backbone=backbone, width=8)
    with pytest.raises(InvalidArgumentError, match=r"ResidualBackbone as options\.backbone; give its name"):
        zoo.save(model, tmp_path / "m.safetensors")
    with pytest.raises(InvalidArgumentError, match=r"ends in \.safetensors"):
        zoo.save(model, tmp_path / "m.pth")
    with pytest.raises(PanscapeError, match=r"the folder .* does not exist"):
        zoo.save(create_model("swiftnet", SHAPES, backbone="residual_xs", width=8), tmp_path / "no" / "m.safetensors")
    assert list(tmp_path.iterdir()) == []
