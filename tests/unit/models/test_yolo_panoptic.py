"""The YOLO-based network: its size, its parts on other categories, Darknet's weights, and the errors of its options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from maps import SHAPES

from panscape import LabelSpace, create_model, load_published
from panscape.errors import InvalidArgumentError
from panscape.models.yolo_panoptic import YoloPanoptic
from panscape.nn.yolov3 import YoloV3
from panscape.representations.masked_boxes import MaskedBoxRepresentation
from panscape.zoo.published.darknet import write_darknet

FROZEN = MaskedBoxRepresentation(train_detector=False)
SMALL: dict[str, Any] = {"backbone": "darknet_xs", "pyramid_width": 8, "mask_width": 8}


def small(labels: LabelSpace | str = SHAPES, **options: Any) -> YoloPanoptic:
    torch.manual_seed(0)
    model = create_model("yolo_panoptic", labels, **SMALL | options)
    assert isinstance(model, YoloPanoptic)
    return model


def test_parts_of_the_network_of_the_thesis_have_the_size_of_yolov3() -> None:
    with torch.device("meta"):
        model = create_model("yolo_panoptic_d53", "cityscapes", detector="coco_panoptic")
    parts = (model.backbone, model.detector, model.semantic, model.masks.head)
    assert [sum(p.numel() for p in part.parameters()) for part in parts] == [40_549_216, 21_347_325, 3_445_907, 444_033]
    assert sum(p.numel() for p in model.parameters()) == 66_048_881
    assert not any(p.requires_grad for part in parts[:2] for p in part.parameters())
    assert all(p.requires_grad for part in parts[2:] for p in part.parameters())


def test_detections_of_a_detector_for_coco_are_those_of_yolov3_with_the_same_weights(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = small("cityscapes", weights="darknet", detector="coco_panoptic", representation=FROZEN)
    detector = YoloV3(80, type(model.backbone)((16, 32, 48, 64, 96), (1, 1, 2, 2, 1), name="darknet_xs")).eval()
    for part in detector.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    for predictor in detector.head.predictors:
        torch.nn.init.normal_(predictor.weight, std=0.3)
        torch.nn.init.normal_(predictor.bias)
    write_darknet(tmp_path / "own.weights", detector.body, detector.head)
    load_published(model, tmp_path / "own.weights")
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        outputs = model(image)
        expected = detector(image)
    for level, of_stride in zip(expected, outputs.detector[0].split([8 * 12 * 3, 4 * 6 * 3, 2 * 3 * 3]), strict=True):
        rows, columns = level.shape[-2:]
        flat = level[0].view(3, 85, rows, columns).permute(2, 3, 0, 1).reshape(-1, 85)
        torch.testing.assert_close(of_stride, flat, atol=1e-4, rtol=1e-4)
    # Person, car, truck, bus, train, motorcycle, bicycle; COCO has no riders.
    things = [LabelSpace.load("cityscapes")[i].name for i in LabelSpace.load("cityscapes").thing_ids]
    (score,) = outputs.mask_score
    found = {things[i] for i in outputs.mask_category[0, score > 0].tolist()}
    assert found
    assert "rider" not in found


def test_masks_by_category_are_the_pixels_that_the_semantic_head_gives_to_the_category() -> None:
    model = small(semantic="stride_4", masks="category").eval()
    boxes = torch.tensor([[[8.0, 8.0, 48.0, 40.0]]])
    semantic = torch.randn(1, len(SHAPES), 64, 96)
    (found,) = model._mask(None, semantic, boxes, torch.zeros(1, 1, dtype=torch.int64))
    prob = semantic.softmax(dim=1)[0, SHAPES.thing_ids[0], 8:40, 8:48]
    # Cells of one pixel across have the probability of the pixels themselves.
    assert found.shape == (1, 40, 40)
    middle = torch.nn.functional.interpolate(prob[None, None], size=(40, 40), mode="bilinear")[0, 0]
    assert float((found[0].sigmoid() - middle).abs().mean()) < 0.1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"backbone": "residual_xs"}, r"expected a Darknet with activations of slope 0.01 for weights=\"timm\""),
        ({"semantic": "segnet"}, r'expected semantic "pyramid_pooling" for masks "deep", got "segnet"; use masks'),
        ({"layers": (12, 37, 38)}, r"expected layers \(12, 37, 62\) or \(6, 13, 38\), got \(12, 37, 38\)"),
        ({"weights": "darknet", "pretrained": True}, r'expected weights "timm" with pretrained=True, got "darknet"'),
        ({"detector": "coco_panoptic"}, r"expected representation.train_detector False for a detector of"),
        ({"detector": "vistas_v1.2", "representation": FROZEN}, r"expected a detector of things of"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidArgumentError, match=expected):
        small(**options)


def test_stuff_alone_is_an_error() -> None:
    stuff = LabelSpace("stuff", tuple(c for c in SHAPES if not c.is_thing))
    with pytest.raises(InvalidArgumentError, match="boxes"):
        small(stuff)
