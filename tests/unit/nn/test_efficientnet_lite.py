"""EfficientNet-Lite against timm's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from maps import SHAPES

from panscape import create_model
from panscape.errors import CheckpointMismatchError
from panscape.nn.backbones import create_backbone
from panscape.nn.efficientnet_lite import EFFICIENTNET_LITE
from panscape.nn.pretrained import fill_backbone

NAME = "tf_efficientnet_lite0"
FILE = Path("weights.pth")


def names_of_efficientnet_pytorch() -> list[str]:
    """Return the names of the weights of Lite0 in that package, in its order, which is timm's."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = ["_conv_stem.weight", *(f"_bn0.{leaf}" for leaf in norm)]
    for block in range(16):
        layers = ["_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
        for layer in layers if block == 0 else ["_expand_conv", "_bn0", *layers]:
            leaves = norm if layer.startswith("_bn") else ("weight",)
            names += [f"_blocks.{block}.{layer}.{leaf}" for leaf in leaves]
    return [*names, "_conv_head.weight", *(f"_bn1.{leaf}" for leaf in norm), "_fc.weight", "_fc.bias"]


@pytest.mark.parametrize("name", EFFICIENTNET_LITE)
def test_weights_have_the_names_and_shapes_of_timm(name: str) -> None:
    with torch.device("meta"):
        ours: Any = create_backbone(name)
        state = timm.create_model(name, num_classes=0).state_dict()
        channels = timm.create_model(name, features_only=True).feature_info.channels()
    needed = {n: t.shape for n, t in state.items() if not n.startswith(("conv_head.", "bn2."))}
    assert {n: t.shape for n, t in ours.state_dict().items()} == needed
    assert list(ours.channels) == channels[1:]


@pytest.mark.parametrize("is_timm", [True, False])
def test_features_are_those_of_timm(*, is_timm: bool) -> None:
    torch.manual_seed(0)
    whole = timm.create_model(NAME).eval()
    state = whole.state_dict()
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point() and tensor.ndim == 1:
            tensor.normal_(0.5, 0.2)
    ours = create_backbone(f"{NAME}.in1k")
    names = list(state) if is_timm else names_of_efficientnet_pytorch()
    line = fill_backbone(ours, dict(zip(names, state.values(), strict=True)), FILE)  # type: ignore[arg-type]
    assert (
        line
        == f"backbone {NAME}.in1k from {FILE}: all 288 tensors; 8 others of the file, of the classifier, are not used"
    )
    images = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        expected = whole.forward_intermediates(images, intermediates_only=True)
        features = ours.eval()(images)  # type: ignore[attr-defined]
    for one, other in zip(features, expected[-4:], strict=True):
        assert torch.equal(one, other)


def test_weights_of_more_blocks_are_refused() -> None:
    state = dict(timm.create_model(NAME).state_dict()) | {"_blocks.99._bn1.bias": torch.zeros(3)}
    with pytest.raises(CheckpointMismatchError, match=r"1 unused: _blocks\.99\._bn1\.bias"):
        fill_backbone(create_backbone(NAME), state, FILE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("backbone", "mean"), [(NAME, 0.5), ("tf_mobilenetv3_small_075", 0.5), ("mobilenetv3_small_050", 0.485)]
)
def test_the_input_normalization_is_that_of_timms_weights(backbone: str, mean: float) -> None:
    assert timm.get_pretrained_cfg(backbone).mean[0] == mean  # type: ignore[union-attr]
    model = create_model("swiftnet", SHAPES, backbone=backbone, levels=1, width=8)
    assert model.mean[0].item() == pytest.approx(mean)


def test_a_factory_takes_the_weights_of_a_backbone(tmp_path: Path) -> None:
    state = {n: torch.full_like(t, 2) for n, t in timm.create_model(NAME).state_dict().items()}
    torch.save(state, tmp_path / "weights.pth")
    options: dict[str, Any] = {"backbone": NAME, "levels": 2, "width": 8}
    model = create_model("swiftnet", SHAPES, **options, backbone_weights=tmp_path / "weights.pth")
    assert all((model.get_submodule(level).conv_stem.weight == 2).all() for level in model.backbones)  # type: ignore
    assert (model.start[1].weight != 2).all()  # type: ignore
    assert model.spec is not None
    assert model.spec.options == options
