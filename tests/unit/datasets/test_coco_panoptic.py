"""Invalid JSON files of datasets in COCO panoptic format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trees
from maps import SHAPES

from panscape import LabelSpace
from panscape.datasets import CocoPanoptic
from panscape.errors import InvalidAnnotationError, UnreadableFileError
from panscape.formats import CocoPanopticWriter


@pytest.fixture
def root(tmp_path):
    trees.coco_panoptic(tmp_path)
    return tmp_path


def opened(root, **options):
    return CocoPanoptic(root / "panoptic.json", root / "panoptic", root / "images", **options)


CHANGES = {
    "no annotation": (
        lambda c: c["annotations"].pop(),
        "expected an annotation of image 1 (000001.jpg), found none; add it, or remove the image",
    ),
    "no image": (
        lambda c: c["images"].pop(),
        "expected image 10 in 'images', since it has an annotation; add it, or remove the annotation",
    ),
    "image twice": (
        lambda c: c["images"].append(c["images"][0]),
        "expected one image for each id, got two for 1; remove one",
    ),
    "annotation twice": (
        lambda c: c["annotations"].append(c["annotations"][0]),
        "expected one annotation for each image, got two for 10; remove one",
    ),
    "no file name": (
        lambda c: c["images"][0].pop("file_name"),
        "expected id and file_name of every image, got {'id': 1}",
    ),
    "no categories": (lambda c: c.pop("categories"), "expected 'categories', found none; give labels="),
    "no isthing": (
        lambda c: c["categories"][0].pop("isthing"),
        "expected id, name and isthing of every category, but {'id': 11, 'name': 'sky', 'color': [70, 130, 180]} lacks "
        "isthing; add it (isthing: 1 for countable objects, else 0)",
    ),
    "instances": (
        lambda c: c["annotations"][0].pop("segments_info"),
        "expected COCO panoptic JSON, 'annotations' with image_id, file_name, segments_info each; "
        "COCO instance or detection files have no segments_info",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_json_that_contradicts_itself(root, change):
    path = root / "panoptic.json"
    content = json.loads(path.read_text())
    apply, text = CHANGES[change]
    apply(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidAnnotationError) as caught:
        opened(root)
    assert str(caught.value) == f"{path}: {text}"


def test_an_empty_set(root):
    path = root / "panoptic.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "images": [], "annotations": []}))
    with pytest.raises(UnreadableFileError, match=r"expected annotated images, found none; give another JSON"):
        opened(root)


def test_a_contradiction_between_png_and_description_names_the_png(root):
    path = root / "panoptic.json"
    content = json.loads(path.read_text())
    content["annotations"][-1]["segments_info"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidAnnotationError, match=r"000001\.png: expected a description of every id in the PNG"):
        opened(root)[0]


def test_string_ids_and_folders_in_names_as_cityscapes_has_them(root):
    path = root / "panoptic.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["id"] = f"aachen_{image['id']}"
        image["file_name"] = "aachen/" + image["file_name"]
    for annotation in content["annotations"]:
        annotation["image_id"] = f"aachen_{annotation['image_id']}"
    path.write_text(json.dumps(content))
    (root / "images").rename(root / "aachen")
    (root / "images").mkdir()
    (root / "aachen").rename(root / "images" / "aachen")
    assert [opened(root)[i].name for i in range(3)] == list(trees.DRAWINGS)


def test_what_the_writer_writes_is_a_dataset(root):
    tree = opened(root, labels=SHAPES)
    with CocoPanopticWriter(root / "again.json", root / "again", SHAPES) as writer:
        for i in range(len(tree)):
            writer.write(tree[i].name, tree[i].truth, image=f"{tree[i].name}.jpg")
    again = CocoPanoptic(root / "again.json", root / "again", root / "images")
    assert again.labels.categories == SHAPES.categories
    for i in range(len(tree)):
        assert again[i].truth.equals(tree[i].truth)


def test_images_of_one_name_in_two_folders_are_told_apart(root):
    path = root / "panoptic.json"
    content = json.loads(path.read_text())
    for i, image in enumerate(content["images"][:2]):
        (root / "images" / f"f{i}").mkdir()
        (root / "images" / image["file_name"]).rename(root / "images" / f"f{i}" / "x.jpg")
        image["file_name"] = f"f{i}/x.jpg"
    path.write_text(json.dumps(content))
    dataset = opened(root)
    names = [dataset[i].name for i in range(len(dataset))]
    assert set(names) == {Path(a["file_name"]).stem for a in content["annotations"]}
    assert len(set(names)) == len(names)


def test_the_categories_of_coco_are_known_by_their_numbers_and_names(root):
    path = root / "panoptic.json"
    content = json.loads(path.read_text())
    coco = LabelSpace.load("coco_panoptic")
    content["categories"] = [{"id": c.source_id, "name": c.name, "isthing": int(c.is_thing)} for c in coco]
    path.write_text(json.dumps(content))
    assert opened(root).labels == coco
    content["categories"][5]["isthing"] = 0
    path.write_text(json.dumps(content))
    assert opened(root).labels.name == "panoptic"
    del content["categories"][5]
    path.write_text(json.dumps(content))
    assert opened(root).labels.name == "panoptic"
    assert len(opened(root).labels) == 132
