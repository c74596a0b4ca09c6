"""Backbones alone: the layout of detectron2's R-52.pkl and R-103.pkl, and files that would load but compute wrongly."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from released_deeplab import DETECTRON2, released_shapes, without_values
from torch import Tensor

from panscape import create_model, load_published, zoo
from panscape.errors import CheckpointMismatchError, InvalidArgumentError, UnreadableFileError
from panscape.zoo.published.panoptic_deeplab import panoptic_deeplab_key

SMALL = {"decoder_width": 8, "instance_width": 8, "pyramid_width": 8}


def released(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """What R-52.pkl holds: arrays under the names that the whole network has below "backbone.", and a classifier.

    Counters of training steps are not among them. Each tensor is filled with a number of its own.
    """
    names = [n for n in shapes if n.startswith("backbone.") and not n.endswith("num_batches_tracked")]
    content = {n.removeprefix("backbone."): shapes[n] for n in names}
    content |= {"stem.fc.weight": (1000, 2048), "stem.fc.bias": (1000,)}
    arrays = {name: torch.full(shape, float(i + 1)).numpy() for i, (name, shape) in enumerate(content.items())}
    return {"model": arrays, "__author__": "x", "matching_heuristics": True}


def written(content: Any, path: Path) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize(("name", "num_blocks"), [("panoptic_deeplab_r52", 6), ("panoptic_deeplab_r101", 23)])
def test_backbones_of_detectron2_fill_the_backbone_alone(name: str, num_blocks: int, tmp_path: Path) -> None:
    shapes = released_shapes("detectron2_r52")
    later = [n for n in shapes if n.startswith("backbone.res4.5.")]
    for block in range(6, num_blocks):
        shapes |= {n.replace("res4.5.", f"res4.{block}."): shapes[n] for n in later}
    content = released(shapes)
    model = without_values(name, SMALL)
    for tensor in model.state_dict().values():
        tensor.zero_()
    assert load_published(model, written(content, tmp_path / "R.pkl")) is model
    key, filled = panoptic_deeplab_key(model), 0
    for ours, tensor in model.state_dict().items():
        theirs = key(ours).removeprefix("backbone.")
        if ours.startswith("backbone.") and not ours.endswith("num_batches_tracked"):
            filled += 1
            assert (tensor == content["model"][theirs].flat[0]).all(), ours
        else:
            assert not tensor.any(), ours
    assert filled == len(content["model"]) - 2


def test_a_training_starts_from_a_backbone(tmp_path: Path) -> None:
    content = released(released_shapes("detectron2_r52"))
    model = create_model("swiftnet", "cityscapes", backbone="resnet52", levels=2, width=8)
    taken = zoo.load_partial(model, written(content, tmp_path / "R-52.pkl"))
    assert "of them from its backbone" in taken.line
    assert all(n in taken.names for n in ("pyramid.levels.0.conv1.0.weight", "pyramid.levels.1.bn1.running_var"))
    assert (model.get_submodule("pyramid.levels.1").bn1.bias == content["model"]["stem.conv3.norm.bias"].flat[0]).all()


def test_the_stem_decides_which_backbone_fits(tmp_path: Path) -> None:
    path = written(released(released_shapes("detectron2_r52")), tmp_path / "R-52.pkl")
    with pytest.raises(CheckpointMismatchError, match=r"pass a file of weights for resnet50\.tv_in1k in timm"):
        load_published(create_model("panoptic_deeplab_r50", "cityscapes", **SMALL), path)


def test_backbones_of_caffe2_are_refused(tmp_path: Path) -> None:
    # detectron2://ImageNetPretrained/MSRA/R-50.pkl has the shapes of torchvision's, and strides in other layers.
    content: dict[str, Any] = {"conv1_w": torch.zeros(64, 3, 7, 7).numpy(), "res2_0_branch2a_w": torch.zeros(1).numpy()}
    with pytest.raises(
        UnreadableFileError, match=r"one of Caffe2's \(MSRA\), which has them in the 1x1 ones and expects BGR"
    ):
        load_published(
            create_model("panoptic_deeplab_r50", "cityscapes", **SMALL), written(content, tmp_path / "R.pkl")
        )


def test_pixels_must_be_those_of_the_weights(tmp_path: Path) -> None:
    shapes = {"backbone.stem.conv1.weight": (64, 3, 7, 7), "backbone.res2.0.conv1.weight": (64, 64, 1, 1)}
    model = create_model("dense_detections", "cityscapes", backbone="test_resnet", frozen_norm=True, compat="released")
    with pytest.raises(InvalidArgumentError, match=r'expected a model with normalization "imagenet" for .* got one'):
        load_published(model, written(released(shapes), tmp_path / "R-50.pkl"))


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_backbones_of_torchvision_and_timm(ending: str, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    state: dict[str, Tensor] = timm.create_model("test_resnet").state_dict()
    path = tmp_path / f"weights{ending}"
    save_file(state, path) if ending == ".safetensors" else torch.save(state, path)
    model = create_model("swiftnet", "cityscapes", backbone="test_resnet", levels=2, width=8)
    load_published(model, path)
    for name, tensor in state.items():
        if not name.startswith("fc."):
            assert torch.equal(model.state_dict()[f"pyramid.levels.1.{name}"], tensor), name


def test_a_whole_network_still_needs_all_of_its_tensors(tmp_path: Path) -> None:
    state = {n: torch.zeros(()).expand(s) for n, s in released_shapes("detectron2_r52").items() if "backbone" in n}
    torch.save(state, tmp_path / "model_final.pth")
    with pytest.raises(CheckpointMismatchError, match="missing: "):
        load_published(without_values(*DETECTRON2[:2]), tmp_path / "model_final.pth")
