"""Saved models that somebody changed: each one is refused with one error, before it costs memory, time or network."""

from __future__ import annotations

import copy
import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from maps import SHAPES
from safetensors.torch import save_file

from panscape import create_model, zoo
from panscape.errors import CheckpointMismatchError, PanscapeError, UnreadableFileError
from panscape.models import PanopticModel
from panscape.nn.pisr import PISR
from panscape.representations.centers import CenterRepresentation
from panscape.representations.dense_boxes import DenseBoxRepresentation
from panscape.zoo.description import build_described

SMALL = {
    "centers": lambda: create_model(
        "swiftnet", SHAPES, backbone="residual_xs", width=8,
        representation=CenterRepresentation(), relations=PISR(num_instances=3, key_width=4),
    ),
    "boxes": lambda: create_model(
        "dense_detections", SHAPES, backbone="residual_xs", towers=1, box_width=8, fpn_width=8, tower_depth=1,
        representation=DenseBoxRepresentation(),
    ),
}  # fmt: skip
VALUES = (
    *(None, True, "0", "", -1, 0, 0.5, 3, 10**9, 2**63, 10**400, float("nan"), float("inf"), [], [3], {}, [[[]]]),
    *({"part": 1}, {"part": "PISR"}, {"part": "os"}, {"part": "FusionConfig", "min_score": []}),
)


@pytest.fixture(scope="module", params=SMALL)
def model(request: pytest.FixtureRequest) -> PanopticModel:
    torch.manual_seed(0)
    model: PanopticModel = SMALL[request.param]()
    return model


def write(path: Path, model: PanopticModel, description: object, **changed: torch.Tensor) -> Path:
    tensors = {name: tensor.detach() for name, tensor in zoo.unique_state_dict(model).items()}
    save_file(
        tensors | changed, path, {"panscape": description if isinstance(description, str) else json.dumps(description)}
    )
    return path


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 3000}, r"of another shape: center\.0\.bias \(expected \[3000\], got \[8\]\)"),
        ({"width": 10**12}, "cannot build its model"),
        ({"width": "8"}, "expected width as an integer, got '8'; update panscape"),
        ({"relations": None}, "unused: refined_center"),
        ({"longest_side": True}, "expected longest_side as an integer, got True"),
        ({"representation": {"part": "PISR"}}, "expected representation as CenterRepresentation, got PISR"),
        ({"representation": {"part": "os.system"}}, "unknown part 'os.system'"),
        ({"representation": {}}, r"invalid \(no 'part'\)"),
        ({"labels": 3}, "invalid"),
    ],
)
def test_what_a_description_asks_for_is_not_built(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    model = SMALL["centers"]()
    description = zoo.describe_model(model)
    description["options"] |= change
    path = write(tmp_path / "m.safetensors", model, description)
    with pytest.raises((UnreadableFileError, CheckpointMismatchError), match=message):
        zoo.load(path)


def test_a_network_without_end_is_not_built(tmp_path: Path) -> None:
    model = SMALL["boxes"]()
    description = zoo.describe_model(model)
    description["options"]["tower_depth"] = 10**9
    with pytest.raises(UnreadableFileError, match=r"a network of more than \d{3} parameters, which the file lacks"):
        zoo.load(write(tmp_path / "m.safetensors", model, description))


@pytest.mark.usefixtures("no_network")
def test_a_description_never_downloads_weights(tmp_path: Path) -> None:
    model = SMALL["centers"]()
    description = zoo.describe_model(model)
    description["options"] |= {"pretrained": True}
    again = zoo.load(write(tmp_path / "m.safetensors", model, description))
    assert again.spec is not None
    assert "pretrained" not in again.spec.options


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000, '{"model": []}', '{"card": 3}'])
def test_texts_that_describe_no_model(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "m.safetensors", SMALL["centers"](), text)
    with pytest.raises(UnreadableFileError, match=r"m\.safetensors: "):
        zoo.load(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            torch.tensor([1.0, float("nan"), float("inf"), 0.0]),
            r"2 of 4 values of semantic\.2\.bias are nan or infinite",
        ),
        (torch.ones(4).to(torch.float8_e4m3fn), r"expected floats of 16, 32 or 64 bits, but semantic\.2\.bias is of"),
        (torch.ones(4, dtype=torch.int64), r"semantic\.2\.bias is of torch\.int64; convert it to float32"),
    ],
)
def test_weights_that_no_training_should_give_are_refused(tmp_path: Path, value: torch.Tensor, message: str) -> None:
    model = SMALL["centers"]()
    path = write(tmp_path / "m.safetensors", model, zoo.describe_model(model), **{"semantic.2.bias": value})
    before = copy.deepcopy(model.state_dict())
    for load in (zoo.load, lambda path: zoo.load_partial(model, path)):
        with pytest.raises(UnreadableFileError, match=message):
            load(path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container of a description with each of its keys."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("a description must not open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("no_network")
def test_a_changed_description_gives_the_model_or_one_error(tmp_path: Path, model: PanopticModel) -> None:
    description = zoo.describe_model(model)
    rng, refusals = random.Random(0), list[str]()
    shapes = {name: tuple(tensor.shape) for name, tensor in zoo.unique_state_dict(model).items()}
    for _ in range(100):
        changed = copy.deepcopy(description)
        for _ in range(rng.choice((1, 1, 2))):
            container, key = rng.choice(list(places(changed)))
            if rng.random() < 0.2:
                del container[key]
                continue
            value = rng.choice(VALUES)
            # Another name of a backbone would import timm.
            container[key] = "residual_s" if key == "backbone" and isinstance(value, str) else value
        try:
            build_described(json.loads(json.dumps(changed)), shapes, tmp_path / "m.safetensors", remedy="")
        except PanscapeError as error:
            refusals.append(str(error))
    assert len(refusals) > 40
    for refusal in refusals:
        assert refusal.startswith(str(tmp_path / "m.safetensors"))
        assert "\n" not in refusal
