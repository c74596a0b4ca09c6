"""BSB Aerial as its authors' generator writes it: other folders, commas that JSON forbids, undescribed segments."""

from __future__ import annotations

import json
import logging
import re

import numpy as np
import pytest
import trees
from PIL import Image

from panscape import LabelSpace
from panscape.datasets import bsb
from panscape.errors import InvalidAnnotationError, UnreadableFileError

BSB = LabelSpace.load("bsb")


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "annotations").mkdir()
    tree = trees.coco_panoptic(
        tmp_path,
        BSB,
        crowd="",
        json_path="annotations/panoptic_train.json",
        pngs="panoptic_train",
        images="image_train",
    )
    path = tmp_path / "annotations" / "panoptic_train.json"
    content = json.loads(path.read_text())
    del content["categories"]
    content["info"] = {"text": 'a "quoted,]" text,}'}
    path.write_text(re.sub(r'([}\]])(?=\s*[}\]])(?!")', r"\1,\n", json.dumps(content)))
    with pytest.raises(json.JSONDecodeError):
        json.loads(path.read_text())
    return tree


def paint(path, number_of_pixels):
    pixels = np.array(Image.open(path))
    pixels[-1, -number_of_pixels:] = (255, 255, 255)
    Image.fromarray(pixels).save(path)


def test_it_is_read_with_one_warning(tree, tmp_path, caplog):
    paint(tree.annotations["000002"], 10)
    with caplog.at_level(logging.WARNING):
        dataset = bsb(tmp_path, "train")
    path = tmp_path / "annotations" / "panoptic_train.json"
    assert [r.getMessage() for r in caplog.records] == [
        f"{path}: is not JSON, as commas follow the last entries of lists; they are ignored (logged once; other "
        "files may be alike)"
    ]
    assert dataset.labels == BSB
    assert dataset[0].truth == tree.truths["000001"]
    ids = tree.truths["000002"].ids.clone()
    ids[-1, -10:] = 0
    assert dataset[1].truth.ids.ne(0).equal(ids.ne(0))
    paint(tree.annotations["000002"], 11)
    with pytest.raises(InvalidAnnotationError, match="segments_info lacks 16777215; describe them"):
        dataset[1]


def test_other_faults_are_no_json(tree, tmp_path):
    path = tmp_path / "annotations" / "panoptic_train.json"
    path.write_text(path.read_text().replace("image_id", 'image_id"', 1))
    with pytest.raises(UnreadableFileError, match="expected JSON, but"):
        bsb(tmp_path, "train")
