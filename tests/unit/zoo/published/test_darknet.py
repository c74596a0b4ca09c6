"""Files of Darknet's weights: their sizes, their order against a second reader, and what is wrong with them."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import torch
from color_model import ColorModel
from darknet_reference import fill, layers, weights_file
from torch import Tensor

import panscape
from panscape import zoo
from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.nn.darknet import Darknet
from panscape.nn.frozen_batch_norm import freeze_batch_norms
from panscape.nn.yolov3 import YoloV3
from panscape.zoo.published.darknet import (
    DarknetHeader,
    darknet_tensors,
    is_darknet_file,
    load_darknet,
    num_categories,
    read_darknet,
    write_darknet,
)

NARROW = (4, 8, 16, 32, 64)
OLD_HEADER = struct.pack("<3iI", 0, 1, 0, 4_000_000_000)


def a_detector(categories: int = 3, seed: int = 0, slope: float = 0.1) -> YoloV3:
    model = YoloV3(categories, Darknet(NARROW, (1, 1, 2, 1, 1), negative_slope=slope)).eval()
    fill(model, seed)
    return model


def values_of(*parts: torch.nn.Module) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in darknet_tensors(*parts)])


def test_positions_of_layers_in_published_files() -> None:
    with torch.device("meta"):
        model = YoloV3(80)
    sizes = [tensor.numel() for tensor in darknet_tensors(model)]
    assert sum(tensor.numel() for tensor in darknet_tensors(model.body)) == 40_620_640  # darknet53.conv.74
    assert sum(sizes) == 62_001_757
    starts = dict(zip(map(id, darknet_tensors(model)), torch.tensor([0, *sizes]).cumsum(0).tolist(), strict=False))
    coarse, middle, fine = model.head.strides
    # Layers 75, 81, 84, 87, 93, 96, 99 and 105: a norm's shift comes first, or the bias.
    first = [coarse.convs[0][1], coarse.predictor, middle.lateral[0 + 1], middle.convs[0][1], middle.predictor]
    first += [fine.lateral[1], fine.convs[0][1], fine.predictor]
    assert [starts[id(layer.bias)] for layer in first] == [
        40_620_640, 56_367_712, 56_629_087, 56_761_183, 60_768_095, 60_898_910, 60_932_190, 61_936_222
    ]  # fmt: skip
    for categories in (1, 8, 133):
        with torch.device("meta"):
            other = YoloV3(categories)
        assert sum(t.numel() for t in darknet_tensors(other)) == 61_570_957 + 5_385 * categories


def test_a_detector_alone_is_loaded_like_any_published_network(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, target = a_detector(seed=1), a_detector().train()
    write_darknet(tmp_path / "three.weights", source.body, source.head)
    assert panscape.load_published(target, str(tmp_path / "three.weights")) is target
    assert not target.training
    assert torch.equal(values_of(target), values_of(source))
    with pytest.raises(UnreadableFileError, match="it is of 3 categories; build the network with as many"):
        panscape.load_published(a_detector(4), tmp_path / "three.weights")
    with pytest.raises(
        InvalidArgumentError, match=r"named \*.weights, \*.backup or \*.conv.N, got three.pth; download"
    ):
        panscape.load_published(target, "three.pth")
    assert not caplog.messages
    write_darknet(tmp_path / "darknet53.conv.74", source.body)
    panscape.load_published(target, tmp_path / "darknet53.conv.74")
    assert "the body alone; the layers after it stay" in caplog.text


@pytest.mark.parametrize("header", [None, OLD_HEADER], ids=["20 bytes", "16 bytes"])
def test_a_file_is_read_by_a_second_reader_alike_and_written_bit_for_bit(tmp_path: Path, header: bytes | None) -> None:
    source, target = YoloV3(3, Darknet(NARROW)).eval(), YoloV3(3, Darknet(NARROW)).eval()
    fill(source)
    values = values_of(source)
    content = weights_file(values) if header is None else weights_file(values, header=header)
    path = tmp_path / "tiny.weights"
    path.write_bytes(content)

    weights = read_darknet(path)
    assert weights.header == (DarknetHeader(0, 2, 0, 32013312) if header is None else (0, 1, 0, 4_000_000_000))
    load_darknet(weights, target.body, target.head)
    image = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for ours, theirs in zip(target(image), layers(values, image, 3, stem=2).logits, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    write_darknet(tmp_path / "again.weights", target.body, target.head, weights.header)
    assert (tmp_path / "again.weights").read_bytes() == content


def test_the_body_alone_with_frozen_norms_and_a_network_for_other_categories(tmp_path: Path) -> None:
    source, target = a_detector(5), a_detector(2, seed=1)
    own = [t.clone() for layer in target.head.predictors for t in (layer.weight, layer.bias)]
    path = tmp_path / "tiny.conv.74"
    write_darknet(path, source.body)
    freeze_batch_norms(target.body)
    load_darknet(read_darknet(path), target.body)
    assert torch.equal(values_of(target.body), values_of(source.body))
    write_darknet(tmp_path / "again.conv.74", target.body)
    assert (tmp_path / "again.conv.74").read_bytes() == path.read_bytes()

    write_darknet(path, source.body, source.head)
    weights = read_darknet(path)
    assert num_categories(weights, target.body, target.head) == 5
    load_darknet(weights, target.body, target.head, with_predictors=False)
    assert torch.equal(
        values_of(*(s.convs for s in target.head.strides)), values_of(*(s.convs for s in source.head.strides))
    )
    assert all(
        torch.equal(a, b)
        for a, b in zip(own, (t for layer in target.head.predictors for t in (layer.weight, layer.bias)), strict=True)
    )


def test_files_that_do_not_fit_leave_the_network_unchanged(tmp_path: Path) -> None:
    model = a_detector()
    before, num = values_of(model), len(values_of(model))
    path = tmp_path / "tiny.weights"

    def message(content: bytes, **options: bool) -> str:
        path.write_bytes(content)
        with pytest.raises(UnreadableFileError) as error:
            load_darknet(read_darknet(path), model.body, model.head, **options)
        assert torch.equal(values_of(model), before)
        return str(error.value).removeprefix(f"{path}: ")

    again = "; download it again, or pass a file of this network"
    # The header of 16 bytes on a file with one of 20 leaves one value over.
    shifted = weights_file(before, header=struct.pack("<3iIi", 0, 1, 0, 7, 0))
    assert message(shifted) == f"expected {num:,} values for 3 categories, got {num + 1:,}, 4 bytes left over{again}"
    assert message(weights_file(before[:-5])) == (
        f"expected {num:,} values for 3 categories, got {num - 5:,}, 20 bytes missing{again}"
    )
    assert message(weights_file(before) + b"ab").endswith("the last 2 left over; download it again")
    other = values_of(a_detector(7))
    assert message(weights_file(other)).endswith(
        "bytes left over: it is of 7 categories; build the network with as many: YoloV3(7)"
    )
    assert message(weights_file(values_of(a_detector(80)))).endswith(
        "it is of 80 categories; build the network with as many: YoloV3(80), or "
        'detector="coco_panoptic" in a panoptic network'
    )
    assert message(weights_file(other[:-1]), with_predictors=False).endswith(f"bytes left over{again}")
    assert message(weights_file(values_of(model.body)), with_predictors=False).endswith(f"bytes missing{again}")
    assert message(weights_file(before.clone().fill_(torch.nan))).startswith("expected finite values")
    for content in (b"", b"\0" * 15, struct.pack("<3iI", 0, 2, 0, 7), struct.pack("<3iQ", 0, 2, 0, 7)[:-1]):
        assert message(content) == f"expected Darknet's weights, got {len(content)} bytes; download it again"
    for content in (b"<!DOCTYPE html><html></html>", gzip.compress(weights_file(before))):
        assert message(content).endswith("(a web page or an archive, perhaps); unpack it or download it again")


def test_darknets_weights_need_darknets_slope(tmp_path: Path) -> None:
    write_darknet(tmp_path / "a.weights", a_detector().body)
    with pytest.raises(InvalidArgumentError, match=r"activations of slope 0\.1 for .*a\.weights, got 0\.01; build it"):
        load_darknet(read_darknet(tmp_path / "a.weights"), a_detector(slope=0.01).body)
    with pytest.raises(InvalidArgumentError, match=r"activations of slope 0\.1 for .*b\.weights, got 0\.01; build it"):
        write_darknet(tmp_path / "b.weights", a_detector(slope=0.01).body)


def test_a_header_that_has_no_room_for_its_numbers_writes_nothing(tmp_path: Path) -> None:
    body = a_detector().body
    write_darknet(tmp_path / "a.weights", body, header=DarknetHeader(0, 1, 0, 2**32 - 1))
    assert read_darknet(tmp_path / "a.weights").header.seen == 2**32 - 1
    longer = r"0 \.\.\. 4294967295 for version 0\.1, got .*seen=4294967296\); from version 0\.2 on it has 8 bytes"
    with pytest.raises(InvalidArgumentError, match=longer):
        write_darknet(tmp_path / "b.weights", body, header=DarknetHeader(0, 1, 0, 2**32))
    with pytest.raises(InvalidArgumentError, match=r"0 \.\.\. 18446744073709551615 for version 0\.2, got .*=-1\)"):
        write_darknet(tmp_path / "b.weights", body, header=DarknetHeader(seen=-1))
    assert [path.name for path in tmp_path.iterdir()] == ["a.weights"]


def test_names_of_files() -> None:
    names = ["yolov3.weights", "yolov3.backup", "darknet53.conv.74", "conv.74", "model.pth", "weights"]
    assert [is_darknet_file(Path(name)) for name in names] == [True, True, True, False, False, False]


class Panoptic(ColorModel):
    """A model with the parts of YOLOv3 inside."""

    def __init__(self, detector: YoloV3, normalization: str = "unit") -> None:
        super().__init__()
        self.backbone, self.detector = detector.body, detector.head
        self.set_input_normalization(normalization)

    @property
    def backbones(self) -> tuple[str, ...]:
        return ("backbone",)


def test_a_model_takes_the_backbone_or_the_whole_detector(tmp_path: Path) -> None:
    source = a_detector()
    whole, body, classifier = (tmp_path / name for name in ("a.weights", "a.conv.74", "classifier.weights"))
    write_darknet(whole, source.body, source.head)
    write_darknet(body, source.body)
    classifier.write_bytes(body.read_bytes() + bytes(4 * 1000 * 65))
    for path in (body, classifier):
        model = Panoptic(a_detector(seed=1))
        before = values_of(model.detector)
        assert panscape.load_published(model, path) is model
        assert torch.equal(values_of(model.backbone), values_of(source.body))
        assert torch.equal(values_of(model.detector), before)
    panscape.load_published(model, whole)
    assert torch.equal(values_of(model), values_of(source))
    with pytest.raises(UnreadableFileError, match="it is of 3 categories; build the network with as many"):
        panscape.load_published(Panoptic(a_detector(4)), whole)
    with pytest.raises(InvalidArgumentError, match=r'normalization "unit" for .*, got one with .imagenet.; build'):
        panscape.load_published(Panoptic(a_detector(), "imagenet"), whole)
    with pytest.raises(InvalidArgumentError, match=r"expected a model on Darknet-53 .*got ColorModel on another"):
        panscape.load_published(ColorModel(), whole)
    with pytest.raises(InvalidArgumentError, match="expected a complete panoptic network, got Darknet's weights"):
        panscape.load(whole)


def test_a_training_for_other_categories_starts_from_all_other_layers(tmp_path: Path) -> None:
    source, model = a_detector(), Panoptic(a_detector(4, seed=1))
    write_darknet(tmp_path / "a.weights", source.body, source.head)
    report = zoo.load_partial(model, tmp_path / "a.weights")
    new = {f"detector.strides.{i}.predictor.{leaf}" for i in range(3) for leaf in ("weight", "bias")}
    names = set(zoo.unique_state_dict(model))  # with the norms' counters, which the file lacks
    assert {name for name in names - report.names if not name.startswith("head.")} == new
    assert torch.equal(values_of(model.backbone), values_of(source.body))
    same = zoo.load_partial(Panoptic(a_detector(seed=1)), tmp_path / "a.weights")
    assert names <= same.names


def test_timms_weights_fill_a_backbone_for_them_only(tmp_path: Path) -> None:
    source = a_detector(seed=2).body
    content = {**source.state_dict(), "head.fc.weight": torch.zeros(1000, 64), "head.fc.bias": torch.zeros(1000)}
    torch.save(content, tmp_path / "timm.pth")
    model = Panoptic(a_detector(slope=0.01), "imagenet")
    panscape.load_published(model, tmp_path / "timm.pth")
    assert torch.equal(values_of(model.backbone), values_of(source))
    for load in (panscape.load_published, zoo.load_partial):
        with pytest.raises(InvalidArgumentError, match=r'"imagenet" for .*timm\.pth, got one with .unit.; .* timm'):
            load(Panoptic(a_detector(slope=0.01)), tmp_path / "timm.pth")
    with pytest.raises(InvalidArgumentError, match=r"slope 0\.01 for timm's weights in .*timm\.pth, got 0\.1 for Dark"):
        panscape.load_published(Panoptic(a_detector(), "imagenet"), tmp_path / "timm.pth")
