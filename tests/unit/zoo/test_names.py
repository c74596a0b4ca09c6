"""How `zoo.load` interprets a name: as a bundled model, a path, or a repository on the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from maps import SHAPES
from safetensors.torch import save_file

from panscape import zoo
from panscape.errors import PanscapeError, UnknownNameError, UnreadableFileError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The addresses requested from the hub, which does not answer; the working folder is empty."""
    import huggingface_hub as hub

    addresses: list[str] = []

    def without_network(url: str, timeout: float) -> None:
        addresses.append(url)
        raise ConnectionRefusedError("connection refused.\nMore lines")

    monkeypatch.setattr(hub, "get_hf_file_metadata", without_network)
    monkeypatch.chdir(tmp_path)
    return addresses


@pytest.mark.parametrize("name", ["./tiny", "../tiny", "~/tiny", "a/b/c", "/nowhere/tiny", "owner/.tiny", "out/m.ckpt"])
def test_paths_do_not_ask_the_hub(name: str, asked: list[str]) -> None:
    with pytest.raises(
        UnreadableFileError, match="no such file; expected the name of a bundled or published model, the path of"
    ):
        zoo.load(name)
    assert asked == []


def test_a_name_within_a_folder_that_exists_does_not_ask_the_hub(asked: list[str]) -> None:
    Path("models").mkdir()
    with pytest.raises(UnreadableFileError, match="models/mine: no such file"):
        zoo.load("models/mine")
    assert asked == []


@pytest.mark.parametrize("name", ["owner/name", "an-owner/name_v1.5", "0x/Tiny.Model"])
def test_errors_of_the_hub_get_a_remedy(name: str, asked: list[str]) -> None:
    with pytest.raises(UnreadableFileError) as caught:
        zoo.load(name)
    address = f"https://huggingface.co/{name}/resolve/main/model.safetensors"
    assert asked == [address]
    assert str(caught.value) == (
        f"{name}: expected {address} in the cache of the Hugging Face hub or from there, but connection refused; "
        "check the id and the network, or give the path of a .safetensors file"
    )


def test_an_id_that_the_hub_refuses_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnreadableFileError, match=r"expected the id of a repository, .*; check the id"):
        zoo.load("owner/na--me")


@pytest.mark.parametrize("name", ["x.pth", "../x.pkl", "owner/x.pt"])
def test_checkpoints_of_authors_are_files(name: str, asked: list[str]) -> None:
    with pytest.raises(UnreadableFileError, match="no such file; check its name and folder"):
        zoo.load(name)
    assert asked == []


def test_existing_files_of_another_format_are_refused(asked: list[str]) -> None:
    Path("owner").mkdir()
    Path("owner/tiny").write_text("x")
    Path("plain").write_text("x")
    for name in ("owner", "owner/tiny", "plain", "./plain"):
        expected = (
            r"model\.safetensors in this folder" if name == "owner" else r"a file that ends in \.safetensors, saved"
        )
        with pytest.raises(UnreadableFileError, match=f"expected {expected}"):
            zoo.load(name)
    assert asked == []


def test_a_bundled_name_is_no_path(asked: list[str]) -> None:
    bundled = zoo.list_weights()
    assert bundled
    Path(bundled[0].name).mkdir()  # a folder of the same name does not hide the model
    assert zoo.load(bundled[0].name).labels.name
    with pytest.raises(UnreadableFileError):
        zoo.load(f"./{bundled[0].name}")
    with pytest.raises(UnknownNameError):
        zoo.load(bundled[0].name + "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": {"attention": True}}, "swiftnet has no option 'attention'"),
        ({"options": {"backbone": "residual_xxl"}}, "unknown backbone 'residual_xxl'"),
        (
            {"options": {"representation": {"part": "CenterDecoding", "thresold": 0.3, "top_k": 9}}},
            "unknown option of CenterDecoding 'thresold'; did you mean threshold? known: align_corners, compat, ",
        ),
        (
            {"options": {"representation": {"part": "Centres"}}},
            "unknown part 'Centres'; known: Anchors, CenterDecoding, ",
        ),
        ({"model": "swiftnet_next"}, "unknown model 'swiftnet_next'"),
        ({"labels": {"name": "x", "categories": []}}, "label space 'x' has no category"),
    ],
)
def test_a_file_of_another_version_is_named(change: dict[str, object], message: str, tmp_path: Path) -> None:
    description = {"model": "swiftnet", "options": {}, "labels": SHAPES.to_dict(), "card": {}} | change
    path = tmp_path / "new.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"panscape": json.dumps(description)})
    with pytest.raises(UnreadableFileError) as caught:
        zoo.load(path)
    assert str(caught.value).startswith(f"{path}: this version of panscape cannot build its model: {message}")
    assert str(caught.value).endswith("; update panscape, or save the model again")
    assert isinstance(caught.value, PanscapeError)


def test_hyphens_and_underscores_in_bundled_names_are_equivalent(asked: list[str]) -> None:
    assert "street_boxes" in [weights.name for weights in zoo.list_weights()]
    assert zoo.read_card("street_boxes") == zoo.read_card("street_boxes")
    assert asked == []
