"""The runnable examples."""

import contextlib
import importlib.util
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from darknet_reference import boxes as reference_boxes
from darknet_reference import fill, layers
from PIL import Image
from pycocotools.coco import COCO
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

from panscape import LabelSpace, load_image
from panscape.nn.darknet import Darknet
from panscape.nn.yolov3 import YoloV3
from panscape.ops.boxes import cut_off_sides
from panscape.ops.letterbox import Letterbox
from panscape.zoo.published.darknet import darknet_tensors, write_darknet

EXAMPLES = Path(__file__).parents[2] / "examples"
SAMPLE = Path("../shared/data/coco_panoptic_sample")


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


class TestYoloV3Boxes:
    @staticmethod
    def narrow(num_categories):
        return YoloV3(num_categories, Darknet((4, 8, 16, 32, 64)))

    def detector(self, num_categories):
        """Return a detector with random weights that is sure of few boxes."""
        model = self.narrow(num_categories).eval()
        fill(model)
        for layer in model.head.predictors:
            layer.bias.data.unflatten(0, (3, -1))[:, 4] -= 6
        return model

    def test_files_have_the_category_ids_of_the_labels(self, tmp_path, monkeypatch, capsys):
        example = load_example("yolov3_boxes")
        monkeypatch.setattr(example, "YoloV3", self.narrow)
        model = self.detector(2)
        write_darknet(tmp_path / "two.weights", model.body, model.head)
        categories = [{"id": 7, "name": "cup", "isthing": 1}, {"id": 3, "name": "plate", "isthing": 1}]
        (tmp_path / "labels.json").write_text(json.dumps(categories))
        images = [{"id": i, "file_name": f"{i}.png", "height": 30, "width": 40} for i in (5, 11)]
        truth = {"info": {}, "images": images, "categories": categories, "annotations": []}
        (tmp_path / "truth.json").write_text(json.dumps(truth))
        for i in (5, 11):
            pixels = np.random.default_rng(i).integers(0, 256, (30, 40, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        files = [str(tmp_path / name) for name in ("two.weights", "truth.json", ".", "boxes.json", "labels.json")]
        monkeypatch.setattr(sys, "argv", ["yolov3_boxes.py", *files[:4], "--labels", files[4], "--size", "64"])
        example.main()
        printed = capsys.readouterr().out

        results = json.loads((tmp_path / "boxes.json").read_text())
        expected = []
        for i in (5, 11):
            image = load_image(tmp_path / f"{i}.png") / 255
            found = model.detect(image, size=(64, 64), min_score=0.005)
            expected += [(i, (7, 3)[c], s) for c, s in zip(found.category.tolist(), found.score.tolist(), strict=True)]
        assert [(one["image_id"], one["category_id"], one["score"]) for one in results] == expected
        assert {(i, c) for i, c, _ in expected} == {(5, 7), (5, 3), (11, 7), (11, 3)}
        assert f"boxes.json: {len(results)} boxes in 2 images; with a score above 0.5: {{" in printed
        with contextlib.redirect_stdout(io.StringIO()):
            loaded = COCO(files[1]).loadRes(files[3])
        assert len(loaded.anns) == len(results)

    @pytest.mark.real_data
    @pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"{SAMPLE} is not here")
    def test_the_best_box_of_a_photo_is_that_of_a_second_implementation(self):
        labels, size = LabelSpace.load("coco_panoptic"), (96, 128)
        things = [labels[thing] for thing in labels.thing_ids]
        model = self.detector(80)
        values = torch.cat([tensor.detach().flatten() for tensor in darknet_tensors(model)])
        files = {int(file.stem): file for file in sorted((SAMPLE / "images").glob("*.jpg"))}
        results = load_example("yolov3_boxes").detect_files(model, files, labels, size)
        for image_id, file in files.items():
            image = load_image(file) / 255
            letterbox = Letterbox.of(tuple(image.shape[-2:]), size)
            logits = layers(values, letterbox.apply(image)[None], 80, stem=2).logits
            score, box, category = max(
                (objectness * p, box, c)
                for box, objectness, prob in reference_boxes(logits)
                for c, p in enumerate(prob)
            )
            found = next(one for one in results if one["image_id"] == image_id)
            assert found["category_id"] == things[category].source_id
            assert found["score"] == pytest.approx(score, rel=1e-4)
            x, y, width, height = found["bbox"]
            corners = torch.tensor([x, y, x + width, y + height])
            torch.testing.assert_close(corners, letterbox.undo(torch.tensor(box)), rtol=1e-3, atol=0.05)
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": image_id} for image_id in files],
            "categories": [{"id": thing.source_id, "name": thing.name} for thing in things],
        }
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
            loaded = truth.loadRes(results)
        assert len(things) == 80
        assert {one["category_id"] for one in loaded.anns.values()} <= set(truth.cats)
        assert max(truth.cats) == 90
