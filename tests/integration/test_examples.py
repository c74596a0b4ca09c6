"""The runnable examples."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

from panscape.ops.boxes import cut_off_sides

EXAMPLES = Path(__file__).parents[2] / "examples"


def load_example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def detector():
    torch.manual_seed(0)
    return fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=3, min_size=160)


@pytest.fixture(scope="module")
def losses():
    """Return losses of torchvision's detector by example, for whole and for cut-off objects."""
    model = detector()
    images = [torch.rand(3, 160, 160), torch.rand(3, 160, 128)]
    boxes = [torch.tensor([[20.0, 30, 660, 120], [5, 5, 60, 40]]), torch.tensor([[-300.0, -200, 70, 90]])]
    found = {}
    for is_aware in (False, True):
        if is_aware:
            load_example("crop_aware_faster_rcnn").make_crop_aware(model)
        for is_cut in (False, True):
            targets = []
            for image, box in zip(images, boxes, strict=True):
                height, width = image.shape[1:]
                visible = box.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
                whole = box if is_cut else visible
                cut_off = cut_off_sides(whole, visible, (height, width))
                targets.append({"boxes": visible, "labels": torch.arange(len(box)) + 1, "cut_off": cut_off})
            torch.manual_seed(1)  # the same anchors and proposals are sampled
            found[is_aware, is_cut] = model(images, targets)
    return found


class TestCropAwareFasterRCNN:
    def test_whole_objects_have_torchvisions_losses(self, losses):
        assert losses[True, False] == losses[False, False]

    def test_cut_off_objects_have_smaller_box_losses_only(self, losses):
        ordinary, aware = losses[False, True], losses[True, True]
        for name in ("loss_objectness", "loss_classifier"):
            assert aware[name] == ordinary[name]
        for name in ("loss_rpn_box_reg", "loss_box_reg"):
            assert 0 < aware[name] < ordinary[name] - 1e-3

    @pytest.mark.parametrize("counts", [(0, 0), (0, 1), (1, 0)])
    def test_images_without_objects_have_torchvisions_losses(self, counts):
        model = detector()
        images = torch.rand(2, 3, 96, 96)
        targets = [
            {
                "boxes": torch.tensor([[10.0, 10, 70, 60]])[:count],
                "labels": torch.ones(count, dtype=torch.int64),
                "cut_off": torch.zeros(count, 4, dtype=torch.bool),
            }
            for count in counts
        ]
        found = []
        for change in (lambda model: None, load_example("crop_aware_faster_rcnn").make_crop_aware):
            change(model)
            torch.manual_seed(1)
            found.append(model(list(images), targets))
        assert found[1] == found[0]
