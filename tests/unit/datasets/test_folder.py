"""Datasets in a user's folder: detection of the layout, and held-out images."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import trees
from maps import SHAPES
from PIL import Image

from panscape import LabelSpace
from panscape.datasets import bsb, from_folder, vistas
from panscape.datasets.folder import LAYOUTS, find_folder
from panscape.datasets.load import categories_of, load_sample
from panscape.errors import BadSampleError, InvalidAnnotationError, InvalidArgumentError, UnreadableFileError


def names(dataset):
    return [dataset[i].name for i in range(len(dataset))]


def write_masks(root, count, split="", numbers=(0, 1)):
    for i in range(count):
        trees.write_image(root / "images" / split / f"{i:03d}.jpg", (8, 8), (0, 0, 0))
        path = root / "labels" / split / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), numbers[i % len(numbers)], np.uint8)).save(path)


def test_every_tenth_image_is_held_out_by_name(tmp_path):
    write_masks(tmp_path, 25)
    assert names(from_folder(tmp_path, "val")) == ["009", "019"]
    train = names(from_folder(tmp_path, "train"))
    assert len(train) == 23
    assert not {"009", "019"} & set(train)
    assert names(from_folder(tmp_path, "val", hold_out=2)) == [f"{i:03d}" for i in range(1, 25, 2)]


def test_of_few_images_the_last_is_held_out(tmp_path):
    write_masks(tmp_path, 3, "train")
    assert names(from_folder(tmp_path, "train")) == ["000", "001"]
    assert names(from_folder(tmp_path, "val")) == ["002"]


def test_one_image_is_not_enough(tmp_path):
    write_masks(tmp_path, 1)
    with pytest.raises(InvalidArgumentError, match="expected at least two images"):
        from_folder(tmp_path, "train")
    with pytest.raises(InvalidArgumentError, match="hold_out of at least 2, got 1"):
        from_folder(tmp_path, "train", hold_out=1)


def test_numbers_become_stuff_categories(tmp_path):
    write_masks(tmp_path, 4, numbers=(3, 0, 255, 17))
    train, val = (from_folder(tmp_path, split) for split in ("train", "val"))
    assert [(c.name, c.is_thing, c.source_id) for c in train.labels] == [
        ("category_0", False, 0),
        ("category_3", False, 3),
        ("category_17", False, 17),
    ]
    assert val.labels == train.labels, "also the category that only the held out image has"
    assert len(val[0].truth.category) == 1
    assert from_folder(tmp_path, "train", void=3).labels.id_of_source.keys() == {0, 17, 255}


def test_unreadable_masks_raise_on_access(tmp_path):
    write_masks(tmp_path, 4, numbers=(3, 0, 255, 17))
    damaged = tmp_path / "labels" / "001.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    train = from_folder(tmp_path, "train")
    assert train.labels.id_of_source.keys() == {3, 17}, "0 is in the damaged mask only"
    assert train[0].truth.category.tolist() == [0]
    with pytest.raises(BadSampleError, match="expected a whole image") as caught:
        load_sample(train, 1)
    assert str(caught.value).startswith(f"{damaged}: ")
    assert "repair or remove it, or skip invalid images with --on-error skip" in str(caught.value)
    assert categories_of(train, on_error="skip") == [{0}, set(), set()]


def test_no_mask_can_be_read(tmp_path):
    write_masks(tmp_path, 3)
    for path in (tmp_path / "labels").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(UnreadableFileError, match=r"000\.png: expected a whole image .*; replace the file"):
        from_folder(tmp_path, "train")


def test_a_part_knows_its_categories(tmp_path):
    write_masks(tmp_path, 4, numbers=(3, 0, 255, 17))
    train = from_folder(tmp_path, "train")
    assert [train.categories_of(i) for i in range(3)] == [{1}, {0}, set()]
    trees.coco_panoptic(tmp_path / "coco", json_path="panoptic.json")
    part = from_folder(tmp_path / "coco", "train")
    shutil.rmtree(tmp_path / "coco" / "panoptic")  # the JSON is enough
    assert [part.categories_of(i) for i in range(2)] == [{0, 1, 2, 3}, {0, 1, 2, 3}]


def test_categories_json_names_them(tmp_path):
    trees.own_masks(tmp_path)
    for split in ("train", "val"):
        assert from_folder(tmp_path, split).labels == SHAPES


@pytest.mark.parametrize(
    ("layout", "kind", "is_split"),
    [
        ({}, "coco", False),
        ({"json_path": "annotations/panoptic_train.json", "pngs": "panoptic_train"}, "coco", False),
        ({"json_path": "annotations/panoptic_train_1.json", "pngs": "panoptic_train_1"}, "coco", False),
        ({"json_path": "panoptic_train.json", "pngs": "panoptic_train", "images": "images/train"}, "coco", False),
    ],
)
def test_coco_form_is_found_under_several_names(tmp_path, layout, kind, is_split):
    (tmp_path / "annotations").mkdir()
    trees.coco_panoptic(tmp_path, **layout)
    assert find_folder(tmp_path) == (kind, is_split, True)
    train, val = (from_folder(tmp_path, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (2, 1)
    assert train.labels == val.labels == LabelSpace("from_folder", SHAPES.categories)


def test_coco_with_years_and_its_own_categories(tmp_path):
    labels = LabelSpace.load("coco_panoptic")
    for split in ("train", "val"):
        trees.coco_2017(tmp_path, split, labels)
    assert find_folder(tmp_path) == ("coco", True, True)
    assert from_folder(tmp_path, "val").labels == labels
    assert len(from_folder(tmp_path, "val")) == 3


def test_missing_files_are_named(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(UnreadableFileError) as caught:
        from_folder(tmp_path, "train")
    assert str(caught.value) == f"{tmp_path}: expected {LAYOUTS}; found images"
    trees.coco_panoptic(tmp_path, pngs="elsewhere")
    with pytest.raises(
        UnreadableFileError, match=r"expected its PNGs in .*panoptic or .*panoptic, found no such folder"
    ):
        from_folder(tmp_path, "train")


def test_numbers_of_objects_are_no_categories(tmp_path):
    write_masks(tmp_path, 2)
    Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30)).save(tmp_path / "labels" / "000.png")
    with pytest.raises(InvalidAnnotationError, match="expected one number for each category, got more than 250"):
        from_folder(tmp_path, "train")


def test_masks_without_any_category(tmp_path):
    write_masks(tmp_path, 2, numbers=(255,))
    with pytest.raises(UnreadableFileError, match="expected PNGs with category numbers, found none"):
        from_folder(tmp_path, "train")


def test_published_sets_in_coco_form(tmp_path):
    tree = trees.vistas(tmp_path / "vistas", "val", version="v1.2")
    dataset = vistas(tmp_path / "vistas", "val")
    assert dataset.labels == LabelSpace("vistas", SHAPES.categories)
    assert names(dataset) == list(tree.truths)
    trees.bsb(tmp_path / "bsb", "test")
    assert bsb(tmp_path / "bsb", "test").labels.name == "bsb"
    with pytest.raises(
        InvalidArgumentError,
        match=r"split 'test' of Mapillary Vistas has no ground truth: .* predict --recipe NAME --split test$",
    ):
        vistas(tmp_path / "vistas", "test")
    with pytest.raises(
        InvalidArgumentError, match="expected split as one of train, val, test of BSB Aerial, got 'all'"
    ):
        bsb(tmp_path / "bsb", "all")


def test_the_categories_of_vistas_are_the_bundled_ones_whatever_their_colors(tmp_path):
    bundled = LabelSpace.load("vistas_v1.2")
    trees.vistas(tmp_path, "val")
    path = tmp_path / "validation/panoptic/panoptic_2018.json"
    content = json.loads(path.read_text())
    content["categories"] = [
        {"id": c.source_id, "name": c.name, "isthing": int(c.is_thing), "color": [i, i, i]}
        for i, c in enumerate(bundled)
    ]
    path.write_text(json.dumps(content))
    assert vistas(tmp_path, "val").labels == bundled, "the released model is one of this label space"
    content["categories"][3]["isthing"] = 1
    path.write_text(json.dumps(content))
    assert vistas(tmp_path, "val").labels.name == "vistas"


def test_categories_are_read_from_the_json(tmp_path):
    tree = trees.bsb(tmp_path)
    dataset = bsb(tmp_path, "train")
    for i, truth in enumerate(tree.truths.values()):
        assert dataset.categories_of(i) == set(truth.category.tolist())
    path = tmp_path / "annotations" / "panoptic_train.json"
    content = json.loads(path.read_text())
    content["annotations"][-1]["segments_info"][0]["category_id"] = 99
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidAnnotationError, match=r"000001\.png: expected category_ids of .*, got 99 \(id"):
        bsb(tmp_path, "train").categories_of(0)
