"""ImageNet weights of backbones: their names, the mapping of tensors, and errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.cspnet import model_cfgs
from torch import Tensor, nn

from panscape.errors import CheckpointMismatchError, InvalidArgumentError
from panscape.nn.backbones import create_backbone
from panscape.nn.darknet import TIMM_SLOPE, Darknet
from panscape.nn.frozen_batch_norm import freeze_batch_norms
from panscape.nn.pretrained import BackboneWeights, fill_backbone, load_pretrained, weights_of

GLUON = [("resnet52", "resnet50s.gluon_in1k", 330), ("resnet103", "resnet101s.gluon_in1k", 636)]
FILE = Path("weights.safetensors")


def backbone(name: str, **options: Any) -> Any:
    return create_backbone(name, **options)


def random_state(net: nn.Module) -> dict[str, Tensor]:
    """Fill a network with numbers in which no two tensors agree, and return them."""
    generator = torch.Generator().manual_seed(0)
    state = net.state_dict()
    for name, tensor in state.items():
        if name.endswith(("weight", "running_var")) and tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0, 0.05, generator=generator)
        else:
            tensor.fill_(7)
    return state


@pytest.mark.parametrize(("name", "published", "num"), GLUON)
def test_resnets_with_deeplabs_stem_take_the_weights_of_gluon(name: str, published: str, num: int) -> None:
    with torch.device("meta"):
        ours, theirs = backbone(name).state_dict(), timm.create_model(published, num_classes=0).state_dict()
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}
    assert len(ours) == num
    with torch.device("meta"):
        weights = weights_of(backbone(name))
    assert weights.name == published
    assert weights.address == f"https://huggingface.co/timm/{published}/resolve/main/model.safetensors"
    assert "/gluon_resnet" in weights.url


@pytest.mark.parametrize(("name", "published"), [("resnet52", "resnet50s"), ("mobilenetv2_050", "mobilenetv2_050")])
def test_a_filled_backbone_computes_what_the_published_network_does(name: str, published: str) -> None:
    whole = timm.create_model(published)
    state = random_state(whole)
    ours = backbone(name, after_relu=True)
    fill_backbone(ours, state, FILE)
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features = ours.eval()(images)
        reference = whole.eval().forward_intermediates(images, intermediates_only=True)
    for mine, theirs in zip(features, reference[-4:], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    assert all(tensor == 7 for n, tensor in ours.state_dict().items() if n.endswith("num_batches_tracked"))


def test_timms_weights_of_darknet_need_timms_slope() -> None:
    published: Any = model_cfgs["darknet53"]
    stem, stages = replace(published.stem, out_chs=4), replace(published.stages, out_chs=(8, 8, 16, 16, 24))
    whole = timm.create_model("darknet53", stem=stem, stages=stages).eval()
    state = random_state(whole)
    ours = Darknet((8, 8, 16, 16, 24), negative_slope=TIMM_SLOPE).eval()
    fill_backbone(ours, state, FILE)
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        reference = whole.forward_intermediates(images, intermediates_only=True)
        for mine, theirs in zip(ours(images), reference[-4:], strict=True):
            assert torch.equal(mine, theirs)
    with pytest.raises(InvalidArgumentError, match=r"slope 0\.01 for timm's weights in .*, got 0\.1 for Darknet's"):
        fill_backbone(Darknet((8, 8, 16, 16, 24)), state, FILE)
    with torch.device("meta"):
        assert weights_of(backbone("darknet53")).name == "darknet53.c2ns_in1k"
    with pytest.raises(InvalidArgumentError, match="darknet_xs has no pretrained weights"):
        weights_of(backbone("darknet_xs"))


def test_copies_and_fixed_norms_take_weights_too(tmp_path: Path) -> None:
    state = random_state(timm.create_model("test_resnet"))
    state["layer1.0.bn1.weight"].zero_()  # would never grow again, were it fixed
    save_file(state, tmp_path / "model.safetensors")
    both = [backbone("test_resnet"), freeze_batch_norms(backbone("test_resnet"))]
    load_pretrained(both, tmp_path / "model.safetensors")
    for one in both:
        torch.testing.assert_close(one.layer2[0].bn1.running_mean, state["layer2.0.bn1.running_mean"], rtol=0, atol=0)
        torch.testing.assert_close(one.conv1[0].weight, state["conv1.0.weight"], rtol=0, atol=0)
    assert both[0].layer1[0].bn1.weight.sum() == 0
    assert (both[1].layer1[0].bn1.weight == 1).all()


def test_files_without_counters_or_classifier_fit() -> None:
    state = random_state(timm.create_model("test_resnet", num_classes=0))
    fill_backbone(
        backbone("test_resnet"), {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}, FILE
    )


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv2_050"])
def test_mismatches_are_listed_and_change_nothing(name: str) -> None:
    ours = backbone(name)
    before = {n: t.clone() for n, t in ours.state_dict().items()}
    state = random_state(timm.create_model(name))
    layers = [n for n, t in state.items() if t.ndim == 4]
    missing, misshapen = layers[1], layers[0]
    del state[missing]
    state[misshapen] = torch.zeros(1)
    state["something.else"] = torch.zeros(1)
    with pytest.raises(CheckpointMismatchError) as caught:
        fill_backbone(ours, state, FILE)
    message = str(caught.value)
    assert f"1 missing: {missing}" in message
    assert "1 unused: something.else" in message
    assert f"{misshapen} (expected [" in message
    assert f"pass a file of weights for {name}" in message
    assert all(torch.equal(before[n], t) for n, t in ours.state_dict().items())


def test_pretrained_backbones_fetch_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = random_state(timm.create_model("mobilenetv2_050"))
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    asked: list[str] = []
    monkeypatch.setattr(BackboneWeights, "fetch", lambda weights: asked.append(weights.name) or path)
    ours = backbone("mobilenetv2_050", pretrained=True)
    assert asked == ["mobilenetv2_050.lamb_in1k"]
    torch.testing.assert_close(ours.net.conv_stem.weight, state["conv_stem.weight"], rtol=0, atol=0)


def test_missing_weights_raise_an_error() -> None:
    with pytest.raises(InvalidArgumentError, match=r"residual_xs has no pretrained weights; use pretrained=False or"):
        backbone("residual_xs", pretrained=True)
    with pytest.raises(InvalidArgumentError, match="mobilenetv2_035 has no pretrained weights; use pretrained=False"):
        backbone("mobilenetv2_035", pretrained=True)
    with pytest.raises(InvalidArgumentError, match="expected a timm backbone for the weights in weights"):
        fill_backbone(backbone("residual_xs"), {}, FILE)
