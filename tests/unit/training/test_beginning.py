"""When backbone weights are needed, and where they come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from maps import SHAPES
from safetensors.torch import save_file
from torch import Tensor

from panscape import LabelSpace, create_model, zoo
from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.nn.pretrained import BackboneWeights
from panscape.recipes.model_options import DenseDetectionsOptions, SwiftNetOptions, YoloPanopticOptions
from panscape.representations.masked_boxes import MaskedBoxRepresentation
from panscape.training.config import ModelOptions
from panscape.training.init_weights import WeightInitializer
from panscape.zoo.checkpoints import Checkpoints
from panscape.zoo.published.darknet import write_darknet
from panscape.zoo.transfer import unique_state_dict

NET = SwiftNetOptions(backbone="test_resnet", levels=2, width=8, pretrained=True)
NORM = "pyramid.levels.{}.layer2.0.bn1.running_mean"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("INFO", "panscape")
    return caplog


def begin(options: ModelOptions = NET, **changes: Any) -> WeightInitializer:
    torch.manual_seed(0)
    given: dict[str, Any] = {"labels": SHAPES, "start": None, "backbone_weights": None, "resumes": False} | changes
    return WeightInitializer(options, **given)


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {n: torch.full_like(t, 0.5) for n, t in timm.create_model("test_resnet").state_dict().items()}


@pytest.fixture
def fetched(state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requested weights, in a folder that replaces the hub's cache."""
    save_file(state, tmp_path / "model.safetensors")
    names: list[str] = []
    monkeypatch.setattr(
        BackboneWeights, "fetch", lambda weights: names.append(weights.name) or tmp_path / "model.safetensors"
    )
    return names


def test_a_network_is_built_before_its_weights_are_fetched(fetched: list[str]) -> None:
    beginning = begin()
    assert fetched == []
    weights = beginning.weights
    assert weights is not None
    assert weights.name == "test_resnet.r160_in1k"
    beginning.complete()
    assert len(fetched) == 1
    found = beginning.model.state_dict()
    for level in (0, 1):
        assert (found[NORM.format(level)] == 0.5).all()
    # Everything else has the random weights that it has without.
    plain = begin(SwiftNetOptions(backbone="test_resnet", levels=2, width=8)).model.state_dict()
    for name, tensor in found.items():
        assert name.startswith("pyramid") or torch.equal(tensor, plain[name]), name


def test_a_run_that_goes_on_needs_no_weights_and_nothing_to_start_from(fetched: list[str]) -> None:
    beginning = begin(resumes=True, start="/nowhere/model.safetensors", backbone_weights=Path("/nowhere/weights.pth"))
    assert beginning.weights is None
    beginning.complete()
    assert fetched == []


def test_a_whole_model_to_start_from_needs_no_weights(
    fetched: list[str], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    model = begin(SwiftNetOptions(backbone="test_resnet", levels=2, width=8)).model
    zoo.save(model, tmp_path / "whole.safetensors")
    beginning = begin(start=str(tmp_path / "whole.safetensors"))
    assert beginning.weights is None
    beginning.complete()
    assert fetched == []
    num = len(unique_state_dict(model))
    assert log.messages == [f"started from whole.safetensors: {num} of {num} tensors"]
    with pytest.raises(InvalidArgumentError, match=r"expected --init-from or --backbone-weights, got both, and"):
        begin(start=str(tmp_path / "whole.safetensors"), backbone_weights=Path("x.pth"))


def test_a_part_to_start_from_comes_after_the_weights(
    fetched: list[str], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    other = SwiftNetOptions(backbone="test_resnet", levels=1, width=8).create(SHAPES)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.fill_(3)
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    part = {n: t for n, t in other.state_dict().items() if "layer2.0.bn1" not in n}
    checkpoints.save(1, {"model": part, "average": None})
    beginning = begin(replace(NET, levels=1), start=str(tmp_path / "run"))
    assert beginning.weights is not None
    beginning.complete()
    assert len(fetched) == 1
    assert len(log.messages) == 2
    found = beginning.model.state_dict()
    assert (found[NORM.format(0)] == 0.5).all()
    assert (found["pyramid.levels.0.layer3.0.bn1.running_mean"] == 3).all()


def test_files_take_the_place_of_the_hub(
    fetched: list[str], state: dict[str, Tensor], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    torch.save(state, tmp_path / "weights.pth")
    for options in (NET, SwiftNetOptions(backbone="test_resnet", levels=2, width=8)):
        beginning = begin(options, backbone_weights=tmp_path / "weights.pth")
        assert beginning.weights is None
        beginning.complete()
        assert (beginning.model.state_dict()[NORM.format(1)] == 0.5).all()
    num = len([name for name in state if not name.startswith("fc.")])
    line = f"backbone test_resnet from {tmp_path / 'weights.pth'}: all {num} tensors"
    assert [message.partition(";")[0] for message in log.messages] == [line] * 2
    assert fetched == []
    with pytest.raises(UnreadableFileError, match="no such file"):
        begin(backbone_weights=tmp_path / "none.pth").complete()
    with pytest.raises(InvalidArgumentError, match="got a ResidualBackbone, for which there are no published weights"):
        begin(
            SwiftNetOptions(backbone="residual_xs", levels=1, width=8), backbone_weights=tmp_path / "weights.pth"
        ).complete()


def test_without_the_hub_the_error_names_weights_option_and_the_way_without(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    weights = begin().weights
    assert weights is not None
    with pytest.raises(UnreadableFileError) as caught:
        weights.fetch()
    message = str(caught.value)
    assert "https://huggingface.co/timm/test_resnet.r160_in1k/resolve/main/model.safetensors" in message
    assert "test_resnet.r160_in1k are the backbone's ImageNet weights" in message
    assert "--backbone-weights FILE" in message
    assert "--model.no-pretrained" in message


# The thesis' network in small: backbone and detector are frozen.
FROZEN = YoloPanopticOptions(
    weights="darknet",
    pyramid_width=8,
    mask_width=8,
    detector="coco_panoptic",
    representation=MaskedBoxRepresentation(train_detector=False),
)
STREET = LabelSpace.of("cityscapes")


@pytest.fixture
def darknet(tmp_path: Path) -> Path:
    """A folder with the files of a random YOLOv3 for COCO and of its body."""
    torch.manual_seed(2)
    model: Any = FROZEN.create(STREET)
    write_darknet(tmp_path / "yolov3.weights", model.backbone, model.detector)
    write_darknet(tmp_path / "darknet53.conv.74", model.backbone)
    return tmp_path


def test_weights_for_other_pixels_are_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = {"backbone": "darknet_xs", "pyramid_width": 8, "mask_width": 8}
    zoo.save(create_model("yolo_panoptic", SHAPES, **network), tmp_path / "timm.safetensors")
    for weights, noted in (("timm", []), ("darknet", ["input normalization 'imagenet', expected 'unit' as in this"])):
        options = YoloPanopticOptions(weights=weights, pyramid_width=8, mask_width=8)
        begin(options, start=str(tmp_path / "timm.safetensors"))
        assert [text in message for text, message in zip(noted, caplog.messages, strict=True)] == [True] * len(noted)
    with pytest.raises(InvalidArgumentError, match=r'"unit", since layers are frozen, got .* for "imagenet"; build'):
        begin(replace(options, frozen_backbone=True), start=str(tmp_path / "timm.safetensors"))


def test_frozen_layers_need_weights(darknet: Path, fetched: list[str]) -> None:
    yolov3, body = str(darknet / "yolov3.weights"), darknet / "darknet53.conv.74"
    none = "^expected weights for all frozen layers, as they would stay random, got none"
    give = r"give a model that has them \(--init-from MODEL, yolov3\.weights for darknet53, or --backbone-weights "
    give += r"FILE\), or do not freeze them"
    with pytest.raises(InvalidArgumentError, match=rf"{none} for 46 tensors of backbone, detector, .*; {give}"):
        begin(FROZEN, labels=STREET)
    for given in ({"start": str(body)}, {"backbone_weights": body}):
        with pytest.raises(InvalidArgumentError, match=rf"{none} in .*conv\.74 for 26 tensors of detector, .*; {give}"):
            begin(FROZEN, labels=STREET, **given).complete()
    own = replace(FROZEN, detector=None)
    for given in ({"start": yolov3}, {"backbone_weights": Path(yolov3)}):
        begin(FROZEN, labels=STREET, **given).complete()
        with pytest.raises(InvalidArgumentError, match=r"got none in .* for 6 tensors of detector.*--model\.detector"):
            begin(own, labels=STREET, **given).complete()
    begin(FROZEN, labels=STREET, resumes=True).complete()
    begin(own, labels=STREET, start=str(body), resumes=True).complete()
    trained = replace(own, frozen_backbone=True, representation=MaskedBoxRepresentation())
    begin(trained, backbone_weights=body).complete()
    with pytest.raises(InvalidArgumentError, match=r"for 20 tensors of backbone, "):
        begin(trained)
    stem = DenseDetectionsOptions(backbone="test_resnet", frozen_norm=True)
    with pytest.raises(InvalidArgumentError, match=rf"{none} for . tensors of backbone, .*--init-from MODEL"):
        begin(stem)
    with pytest.raises(InvalidArgumentError, match=rf"{none} for 75 tensors of pyramid, .*--backbone-weights FILE"):
        begin(replace(NET, pretrained=False), freezes_backbone=True)
    begin(replace(stem, pretrained=True)).complete()
    assert len(fetched) == 1
