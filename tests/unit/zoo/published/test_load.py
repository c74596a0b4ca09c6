"""Identification of published checkpoints by their tensors."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from json_schemas import require_schema
from released_deeplab import MOBILENETV2, released_shapes
from torch import Tensor

from panscape import LabelSpace, create_model, load, zoo
from panscape.cli import main
from panscape.datasets.ade20k import ade20k_labels
from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.zoo.published.identify import identify
from panscape.zoo.published.load import create_published
from panscape.zoo.published.maskformer import maskformer_key
from panscape.zoo.published.panoptic_deeplab import panoptic_deeplab_key
from panscape.zoo.published.swiftnet import swiftnet_key
from panscape.zoo.published.upernet import CLASSIFIERS, upernet_key

KEYS = Path(__file__).parents[3] / "parity"


def shapes_of(file: str) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a released network."""
    split = (re.fullmatch(r"(\S+) \((.*?)\).*", line) for line in (KEYS / file).read_text().splitlines())
    return {m[1]: tuple(int(n) for n in re.findall(r"\d+", m[2])) for m in split if m}


def numbered(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.tensor(float(i)).expand(shape) for i, (name, shape) in enumerate(shapes.items())}


def swiftnet(num_categories: int) -> dict[str, Tensor]:
    shapes = shapes_of("psn_r18_pyrx3_keys.txt")
    for leaf, rest in (("weight", shapes["sem_seg_head.classifier.sem_seg.2.weight"][1:]), ("bias", ())):
        shapes[f"sem_seg_head.classifier.sem_seg.2.{leaf}"] = (num_categories, *rest)
    return numbered(shapes)


def named_by(key: Any, name: str, **options: Any) -> dict[str, Tensor]:
    with torch.device("meta"):
        model = create_model(name, "cityscapes", **options)
    return {key(model)(n): t for n, t in model.state_dict().items()}


# What makes the tensors, and what they are; test_catalogue.py has those of published models.
NETWORKS: list[tuple[Callable[[], dict[str, Tensor]], str, dict[str, Any]]] = [
    (lambda: swiftnet(19), "swiftnet_r18", {}),
    (lambda: numbered(shapes_of("rtps_r50_keys.txt")), "dense_detections_r50", {}),
    (lambda: numbered(released_shapes("detectron2_r52")), "panoptic_deeplab_r52", {}),
    (lambda: numbered(released_shapes("standalone_r50")), "panoptic_deeplab_r50", {"compat": "standalone"}),
    (lambda: numbered(released_shapes("standalone_mobilenetv2")), "panoptic_deeplab_mobilenetv2", {}),
    *(
        (partial(named_by, key, name, **options), name, options)
        for key, name, options in (
            (swiftnet_key, "swiftnet_r18", {"levels": 2}),
            (swiftnet_key, "swiftnet_r18", {"levels": 1}),
            (swiftnet_key, "swiftnet_r18", {"context": "spp"}),
            (panoptic_deeplab_key, "panoptic_deeplab_r101", {}),
            (panoptic_deeplab_key, "panoptic_deeplab_r50", {}),
        )
    ),
]


@pytest.mark.parametrize(("make", "model", "options"), NETWORKS)
def test_names_and_shapes_say_which_network_it_is(
    make: Callable[[], dict[str, Tensor]], model: str, options: dict[str, Any]
) -> None:
    assert identify(make(), Path("x.pth")) == (model, options, 19, False)


@pytest.mark.parametrize(
    ("num", "labels", "side"), [(19, "cityscapes", 2048), (133, "coco_panoptic", 640), (65, "vistas_v1.2", 2048)]
)
def test_released_models_load_without_their_data(
    num: int, labels: str, side: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "panscape")
    path = tmp_path / "model_final.pth"
    torch.save({"model": swiftnet(num)}, path)
    model = load(path)
    assert model.labels == LabelSpace.load(labels)
    assert (model.longest_side, model.training) == (side, False)
    assert model.spec is not None
    assert model.spec.name == "swiftnet_r18"
    assert caplog.messages == [f"model_final.pth: swiftnet_r18 (longest_side={side}), {num} categories of {labels}"]
    # The published settings of the dataset depend on the name.
    representation: Any = model.representation
    assert representation.decoding.stuff_area == (2048 if num == 19 else 4096)


def test_other_categories_must_be_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "model_final.pth"
    torch.save(swiftnet(26), path)
    with pytest.raises(InvalidArgumentError, match=r"has 26 categories without names; pass their label space"):
        load(path)
    with pytest.raises(InvalidArgumentError, match=r"of 26 categories, as in .*, got 'cityscapes' with 19; use"):
        load(path, "cityscapes")
    model = load(path, labels="idd_26")
    assert (model.labels.name, model.longest_side) == ("idd_26", None)
    # To start from it, what the categories are does not matter.
    other = create_model("swiftnet_r18", "cityscapes")
    taken = zoo.load_partial(other, path)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert "2 new, as of another shape: semantic.2.bias ([26] there, [19] here), semantic.2.weight" in taken.line
    for name in taken.names:
        assert torch.equal(other.state_dict()[name], model.state_dict()[name]), name


def test_a_start_from_weights_for_other_inputs_is_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "realtime.pth"
    torch.save(numbered(shapes_of("rtps_r50_keys.txt")), path)
    model = create_model("dense_detections", "town", backbone="residual_xs")
    zoo.load_partial(model, path)
    (note,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert note.startswith(
        "realtime.pth: its network was trained with input normalization 'caffe', expected 'imagenet'"
    )


def test_networks_that_were_not_published(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"net.a": torch.zeros(1)}, path)
    with pytest.raises(UnreadableFileError, match=r"not those of a published network \(net\.a, \.\.\.\); publ"):
        load(path)
    # DeepLabV3+: detectron2 gives its semantic head the name that Panoptic-DeepLab's has.
    semantic = {"sem_seg_head.predictor.weight": torch.zeros(54, 128, 1, 1)}
    torch.save(semantic, path)
    with pytest.raises(UnreadableFileError, match="of detectron2 but no head of centres or masks; published"):
        load(path)
    # Its Panoptic FPN with a cascade of heads.
    heads = ("mask_head.predictor.weight", "box_predictor.0.cls_score.weight")
    torch.save(semantic | {f"roi_heads.{head}": torch.zeros(80, 1) for head in heads}, path)
    with pytest.raises(UnreadableFileError, match="Panoptic FPN on a backbone or with heads that are not known here"):
        load(path)
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(UnreadableFileError, match="expected a complete network, got a backbone alone; train with"):
        load(path)


def test_the_command_converts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "panoptic_deeplab.pth", tmp_path / "model.safetensors"
    torch.save(numbered(released_shapes(MOBILENETV2[2])), path)
    assert main(["weights", "convert", str(path), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == f"wrote {out}\n"
    assert said.err == (
        "panoptic_deeplab.pth: panoptic_deeplab_mobilenetv2 (longest_side=2048), 19 categories of cityscapes\n"
    )
    assert main(["-q", "weights", "convert", str(path), "--out", str(out), "--json"]) == 0
    line = require_schema(json.loads(capsys.readouterr().out), "weights")
    assert (line["source"], line["model"], line["labels"]) == (str(path), str(out), "cityscapes")
    assert line["card"]["converted from"] == path.name
    converted, read = load(out), create_published(path)
    assert all(torch.equal(t, read.state_dict()[n]) for n, t in converted.state_dict().items())
    assert converted.longest_side == 2048
    assert zoo.read_card(out) == {
        "converted from": path.name,
        "sha256 of that file": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def test_the_command_reports_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "panoptic_deeplab.pth"
    torch.save(numbered(released_shapes(MOBILENETV2[2])), path)
    out = ["--out", str(tmp_path / "model.safetensors")]
    assert main(["weights", "convert", str(path), *out, "--model", "swiftnet_r18"]) == 2
    assert "missing" in capsys.readouterr().err
    assert main(["weights", "convert", str(path), "--out", "model.pth"]) == 2
    assert "expected --out to end in .safetensors, got model.pth" in capsys.readouterr().err
    assert not (tmp_path / "model.safetensors").exists()


def test_a_file_that_is_not_what_its_name_promises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = b"<!DOCTYPE html>"
    for name, kind in (("model_final_000000.pkl", "md5"), ("weights-00000000.pth", "sha256")):
        (tmp_path / name).write_bytes(content)
        assert main(["weights", "convert", str(tmp_path / name), "--out", str(tmp_path / "m.safetensors")]) == 2
        digest = hashlib.new(kind, content).hexdigest()
        error = capsys.readouterr().err
        assert f"expected a file whose {kind} begins with {'0' * (6 if kind == 'md5' else 8)}" in error
        assert f"got {digest}; download it again" in error


def test_evaluate_takes_the_categories_of_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, num = tmp_path / "panoptic_deeplab.pth", len(LabelSpace.load("town"))
    shapes = released_shapes(MOBILENETV2[2])
    head = "decoder.semantic_head.classifier.semantic.1"
    shapes |= {f"{head}.weight": (num, *shapes[f"{head}.weight"][1:]), f"{head}.bias": (num,)}
    torch.save({name: torch.full((), 0.01).expand(shape) for name, shape in shapes.items()}, path)
    options = ["--recipe", "town", "--limit", "1", "--device", "cpu", "--workers", "0", "--json"]
    assert main(["evaluate", str(path), *options]) == 0
    said = capsys.readouterr()
    assert f"panoptic_deeplab_mobilenetv2, {num} categories of town" in said.err
    assert '"images": 1' in said.out
    torch.save(numbered(released_shapes(MOBILENETV2[2])), path)
    assert main(["evaluate", str(path), *options]) == 2
    assert f"got 'town' with {num}; use the data or the label space" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options", "labels", "sizes"),
    [
        ("maskformer", {"encoder_layers": 1}, "ade20k_150", (2560, 1.25)),
        ("maskformer", {"encoder_layers": 0}, "ade20k_150_semantic", (2560, 1.25)),
        ("upernet_semantic", {}, "ade20k_150_semantic", (2560, 1.25)),
    ],
)
def test_networks_with_150_categories_are_of_ade20k(
    name: str, options: dict[str, Any], labels: str, sizes: tuple[int, float], tmp_path: Path
) -> None:
    with torch.device("meta"):
        model: Any = create_model(name, ade20k_labels(), backbone="swin_xs", **options)
    key = maskformer_key(model, {}) if name == "maskformer" else upernet_key(model.backbone, {CLASSIFIERS[0]: 0})
    zero = torch.zeros(())
    torch.save({key(n): zero.to(t.dtype).expand(t.shape) for n, t in model.state_dict().items()}, tmp_path / "x.pth")
    with torch.device("meta"):
        found: Any = load(tmp_path / "x.pth")
    assert (found.spec.name, found.labels.name, found.labels[0].name) == (name, labels, "wall")
    assert bool(found.labels.thing_ids) == (labels == "ade20k_150")
    assert (found.longest_side, found.test_scale) == sizes
    if labels == "ade20k_150":
        assert found.decoding.score_threshold == 0.7
