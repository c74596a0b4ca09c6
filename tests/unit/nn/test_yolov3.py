"""YOLOv3 against its published sizes, and against a second network that reads Darknet's layers one by one."""

from __future__ import annotations

import re

import pytest
import torch
from darknet_reference import boxes as reference_boxes
from darknet_reference import fill, layers
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from panscape.errors import InvalidArgumentError
from panscape.nn.darknet import Darknet
from panscape.nn.yolov3 import YoloV3
from panscape.ops.yolo_boxes import ANCHORS
from panscape.zoo.published.darknet import darknet_tensors

NARROW = (4, 8, 16, 32, 64)


def an_image(height: int = 64, width: int = 96) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_every_layer_and_the_logits_equal_those_of_a_second_network() -> None:
    model = YoloV3(4, Darknet(NARROW)).eval()
    fill(model)
    values = torch.cat([tensor.detach().flatten() for tensor in darknet_tensors(model)])
    expected = layers(values, an_image(), 4, stem=2)
    assert expected.num_read == len(values)
    with torch.no_grad():
        found = model.body.layers(an_image(), list(model.body.layer_channels))
        logits = model(an_image())
    assert list(found) == [2, 5, 6, 12, 13, 37, 38, 62, 63, 75]
    assert all((feature < 0).any() for feature in found.values())
    for number, feature in found.items():
        assert feature.shape[1:] == (
            model.body.layer_channels[number],
            64 // model.body.layer_strides[number],
            96 // model.body.layer_strides[number],
        )
        torch.testing.assert_close(feature, expected.outputs[number - 1], rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(logits, expected.logits, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_layers_of_the_thesis_have_its_shapes() -> None:
    with torch.device("meta"):
        found = Darknet().layers(torch.zeros(1, 3, 512, 640), (12, 37, 62, 6, 13, 38, 5))
    assert {number: tuple(f.shape[1:]) for number, f in found.items()} == {
        5: (64, 256, 320),
        6: (128, 128, 160),
        12: (128, 128, 160),
        13: (256, 64, 80),
        37: (256, 64, 80),
        38: (512, 32, 40),
        62: (512, 32, 40),
    }
    with pytest.raises(InvalidArgumentError, match=r"expected layers among \[2, 5, .* 75\], got \[36, 61\]"):
        Darknet(NARROW).layers(an_image(), (36, 12, 61))


def test_parameters_of_the_published_network() -> None:
    with torch.device("meta"):
        model, other = YoloV3(80), YoloV3(8)
    count = {part: sum(p.numel() for p in part.parameters()) for part in (model.body, model.head, model, other)}
    assert list(count.values())[:3] == [40_584_928, 21_364_221, 61_949_149]
    statistics = [b.numel() for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var"))]
    assert sum(statistics) == 52_608
    assert count[model] - count[other] == 72 * 5_385


def test_multiply_adds_of_the_published_network() -> None:
    with torch.device("meta"):
        model = YoloV3(80)
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 640, 640))
    gmac = {name: sum(counts.values()) / 2e9 for name, counts in counter.get_flop_counts().items()}
    last = gmac["YoloV3.body.stages.4.conv_down"] + gmac["YoloV3.body.stages.4.blocks"]
    found = torch.tensor([gmac["YoloV3"], gmac["YoloV3.body"], gmac["YoloV3.body"] - last])
    # Billions of the whole, of Darknet-53, and up to layer 62; at 640 x 640, 1024 x 1024 and 1024 x 2048.
    published = torch.tensor([[77.9, 58.0, 47.8], [199.5, 148.6, 122.2], [399.1, 297.1, 244.5]])
    areas = torch.tensor([640 * 640, 1024 * 1024, 1024 * 2048])[:, None]
    torch.testing.assert_close(found * areas / 640**2, published, rtol=0, atol=0.06)


def test_other_images_input_sizes_and_modes_are_refused() -> None:
    model = YoloV3(2, Darknet(NARROW, (1,) * 5)).eval()
    with pytest.raises(InvalidArgumentError, match=r"as float \[3, H, W\], got torch.uint8 \[3, 9, 9\]"):
        model.detect(torch.zeros(3, 9, 9, dtype=torch.uint8))
    for size in ((64, 100), (0, 32), 416, (32, 32, 32)):
        with pytest.raises(InvalidArgumentError, match=rf"multiples of 32 pixels, got {re.escape(str(size))}"):
            model.detect(torch.zeros(3, 9, 9), size=size)
    for name, value, text in (("min_score", 50, "0..1"), ("max_overlap", -1, "0..1"), ("max_detections", 0, "1 or")):
        with pytest.raises(InvalidArgumentError, match=rf"expected {name} (in|of) {text}.*, got {value}"):
            model.detect(torch.zeros(3, 9, 9), **{name: value})
    with pytest.raises(InvalidArgumentError, match="num_categories of 1 or more, got 0"):
        YoloV3(0)
    with pytest.raises(InvalidArgumentError, match=r"expected an image in 0\.\.1, got 0\.\.255; divide"):
        model.detect(torch.tensor([0.0, 1, 255]).view(3, 1, 1))
    with pytest.raises(InvalidArgumentError, match=r"expected a network in eval mode, .*; call eval\(\) first"):
        model.train().detect(torch.zeros(3, 9, 9))


def test_detections_equal_those_of_a_second_implementation() -> None:
    model = YoloV3(4, Darknet(NARROW)).eval()
    fill(model)
    values = torch.cat([tensor.detach().flatten() for tensor in darknet_tensors(model)])
    image = an_image(30, 40)[0]  # 64 x 96 receives it at 64 x 85 with 5 columns of grey on the left
    resized = nn.functional.interpolate(image[None], size=(64, 85), mode="bilinear", align_corners=True)
    boxed = torch.full((1, 3, 64, 96), 0.5)
    boxed[..., 5:90] = resized
    logits = layers(values, boxed, 4, stem=2).logits
    best = max(
        (objectness * p, tuple(box), c) for box, objectness, prob in reference_boxes(logits) for c, p in enumerate(prob)
    )
    score, (x1, y1, x2, y2), category = best
    assert 0.5 < score < 0.999
    found = model.detect(image, size=(64, 96), min_score=0.9 * score)
    assert found.score[0].item() == pytest.approx(score, rel=1e-4)
    corners = torch.tensor([(x1 - 5) * 40 / 85, y1 * 30 / 64, (x2 - 5) * 40 / 85, y2 * 30 / 64])
    expected = torch.minimum(corners.clamp(min=0), torch.tensor([40.0, 30, 40, 30]))
    torch.testing.assert_close(found.boxes[0], expected, rtol=1e-3, atol=1e-2)
    assert found.category[0].item() == category


def test_detections_are_clipped_after_nms_and_those_in_the_grey_left_out() -> None:
    model = YoloV3(1, Darknet(NARROW, (1,) * 5)).eval()
    logits = [torch.full((1, 18, 64 // s, 64 // s), -20.0) for s in (8, 16, 32)]
    # An image of 32 rows in the middle of 64: one box in the grey above, and two whose parts in the image are similar.
    for anchor, row, height in ((0, 0, 8.0), (1, 3, 30.0), (2, 4, 100.0)):
        sizes = torch.tensor(ANCHORS[0][anchor])
        exponents = (torch.tensor([30.0, height]) / sizes).log()
        logits[0][0, 6 * anchor : 6 * anchor + 6, row, 4] = torch.tensor([0, 0, *exponents, 5 - anchor, 20])
    model.forward = lambda _: logits  # type: ignore[method-assign]
    found = model.detect(torch.zeros(3, 32, 64), size=(64, 64))
    torch.testing.assert_close(found.boxes, torch.tensor([[21.0, 0, 51, 27], [21, 0, 51, 32]]))
