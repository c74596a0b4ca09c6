"""Datasets in a user's folder: detection of the layout, and held-out images."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
import trees
from maps import SHAPES
from PIL import ExifTags, Image

from panscape import LabelSpace
from panscape.datasets import bsb, folder, from_folder, vistas
from panscape.datasets.folder import LAYOUTS, find_folder, folder_splits_of
from panscape.datasets.load import categories_of, load_sample
from panscape.datasets.statistics import count_pixels
from panscape.errors import BadSampleError, InvalidAnnotationError, InvalidArgumentError, UnreadableFileError
from panscape.formats import load_label_image


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
    (tmp_path / "categories.json").write_text('["road", "car"]')
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


@pytest.mark.parametrize("numbers", [(0, 255), (1, 255)])
def test_masks_of_one_number_and_255_ask_what_255_is(tmp_path, numbers):
    write_masks(tmp_path, 4, numbers=numbers)
    with pytest.raises(
        InvalidAnnotationError,
        match=rf"got only {numbers[0]} and 255, and 255 is void by default; .* use --data\.void -1 .* categories\.json",
    ):
        from_folder(tmp_path, "train")
    assert from_folder(tmp_path, "train", void=-1).labels.id_of_source == {numbers[0]: 0, 255: 1}
    categories = [{"id": numbers[0], "name": "ground", "isthing": 0}, {"id": 255, "name": "object", "isthing": 1}]
    (tmp_path / "categories.json").write_text(json.dumps(categories))
    train = from_folder(tmp_path, "train")
    assert [train.labels[c].name for c in (*train[0].truth.category, *train[1].truth.category)] == ["ground", "object"]
    with pytest.raises(InvalidArgumentError, match="got void=255, which is 'object'"):
        from_folder(tmp_path, "train", void=255)


def test_one_category_teaches_nothing(tmp_path):
    write_masks(tmp_path, 4, numbers=(1, 0))
    with pytest.raises(InvalidAnnotationError, match="got only 0 and 1, and 0 is void; nothing can be learnt from one"):
        from_folder(tmp_path, "train", void=0)


def of_a_disc(side=64):
    y, x = np.ogrid[:side, :side]
    return np.where((y - side // 2) ** 2 + (x - side // 2) ** 2 < (side // 3) ** 2, 200, 40).astype(np.uint8)


def as_jpeg(mask):
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "JPEG")
    return np.array(Image.open(file))


@pytest.mark.parametrize(
    "spoil", [as_jpeg, lambda mask: np.array(Image.fromarray(mask).resize((90, 90), Image.Resampling.BILINEAR))]
)
@pytest.mark.parametrize("is_named", [False, True])
def test_masks_that_went_through_jpeg_or_interpolation_are_refused(tmp_path, spoil, is_named):
    write_masks(tmp_path, 3)
    if is_named:
        (tmp_path / "categories.json").write_text('{"0": "road", "40": "grass", "200": "tree"}')
    path = tmp_path / "labels" / "000.png"
    Image.fromarray(spoil(of_a_disc())).save(path)
    with pytest.raises(InvalidAnnotationError, match=r"000\.png: .*saved as JPEG or resized with interpolation; make"):
        from_folder(tmp_path, "train").truth_of(0)


def test_a_jpeg_is_no_mask(tmp_path):
    write_masks(tmp_path, 3)
    path = tmp_path / "labels" / "000.png"
    Image.fromarray(of_a_disc()).save(path, "JPEG")
    with pytest.raises(UnreadableFileError, match=r"000\.png: expected a PNG, got something else; other formats do"):
        from_folder(tmp_path, "train").truth_of(0)
    for path in (tmp_path / "labels").iterdir():
        path.rename(path.with_suffix(".jpg"))
    (tmp_path / "categories.json").write_text('["road", "car"]')
    with pytest.raises(
        UnreadableFileError, match=r"labels: expected files \(.*\.png.*\), found 3 \.jpg; expected ROOT"
    ):
        from_folder(tmp_path, "train")


@pytest.mark.parametrize(
    ("image", "mask", "splits"),
    [
        ("images/SPLIT/NAME.jpg", "masks/SPLIT/NAME.png", {"train": "train", "valid": "val"}),
        ("images/SPLIT/NAME.jpg", "annotations/SPLIT/NAME.PNG", {"training": "train", "validation": "val"}),
        ("SPLIT/images/NAME.png", "SPLIT/labels/NAME.tif", {"Train": "train", "Val": "val", "extra": "extra"}),
        ("Images/SPLIT/a/NAME.jpg", "Labels/SPLIT/a/NAME.bmp", {"train": "train", "val": "val", "test": "test"}),
        ("images/SPLIT/NAME.jpg", "labels/SPLIT/NAME_mask.png", {"train": "train", "val": "val"}),
    ],
)
def test_usual_names_and_orders_of_folders(tmp_path, image, mask, splits):
    for n, split in enumerate(splits):
        for name, number in (("a", 0), ("b", 1))[: n + 1]:
            path, mask_path = (tmp_path / part.replace("SPLIT", split).replace("NAME", name) for part in (image, mask))
            trees.write_image(path, (8, 8), (0, 0, 0))
            mask_path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), number, np.uint8)).save(mask_path)
    assert find_folder(tmp_path) == ("masks", True, False)
    assert set(folder_splits_of(tmp_path).with_truth) == set(splits.values())
    assert names(from_folder(tmp_path, "train")) == ["a"]
    for split in list(splits)[1:]:
        dataset = from_folder(tmp_path, split.lower())
        assert names(dataset) == ["a", "b"]
        assert [dataset.labels.names[int(dataset[i].truth.category[0])] for i in (0, 1)] == ["category_0", "category_1"]


@pytest.mark.parametrize(("image", "mask"), [("images/val", "labels/val"), ("val/images", "val/labels")])
@pytest.mark.parametrize("is_image", [True, False])
def test_a_val_split_unpacked_in_part_is_not_replaced_by_training_images(tmp_path, image, mask, is_image):
    write_masks(tmp_path / "set", 3)
    for part in ("images", "labels"):
        folder = tmp_path / image.replace("images", part).replace("val", "train")
        shutil.copytree(tmp_path / "set" / part, folder)
    unpacked, missing = (image, mask) if is_image else (mask, image)
    shutil.copytree(tmp_path / "set" / unpacked.replace("val", "").strip("/"), tmp_path / unpacked)
    assert len(from_folder(tmp_path, "train")) == 3
    with pytest.raises(UnreadableFileError, match=f"{missing}: no such folder; expected ROOT/images/SPLIT"):
        from_folder(tmp_path, "val")


def test_a_folder_in_the_place_of_categories_is_not_ignored(tmp_path):
    write_masks(tmp_path, 3)
    (tmp_path / "categories.json").mkdir()
    with pytest.raises(UnreadableFileError, match=r"categories\.json: expected a file, got a folder"):
        from_folder(tmp_path, "train")


def test_images_in_subfolders_without_splits(tmp_path):
    for city in ("aachen", "bonn"):
        write_masks(tmp_path / "set", 2)
        for kind in ("images", "labels"):
            shutil.copytree(tmp_path / "set" / kind, tmp_path / "data" / kind / city)
    train, val = (from_folder(tmp_path / "data", split) for split in ("train", "val"))
    assert names(train) + names(val) == ["aachen_000", "aachen_001", "bonn_000", "bonn_001"]
    assert folder_splits_of(tmp_path / "data").with_truth == ("train", "val")


def test_a_test_split_beside_the_images_is_not_trained_on(tmp_path):
    write_masks(tmp_path, 3)
    write_masks(tmp_path, 5, "test")
    assert names(from_folder(tmp_path, "train")) + names(from_folder(tmp_path, "val")) == ["000", "001", "002"]
    assert names(from_folder(tmp_path, "test")) == [f"{i:03d}" for i in range(5)]


def test_masks_named_otherwise_are_told_from_a_set_unpacked_in_part(tmp_path):
    write_masks(tmp_path, 4)
    (tmp_path / "labels" / "000.png").unlink()
    (tmp_path / "labels" / "001.png").unlink()
    with pytest.raises(InvalidAnnotationError, match=r"000\.jpg: .*found none, nor for 1 more of the 4 images; unpack"):
        from_folder(tmp_path, "train")
    for path in (tmp_path / "labels").iterdir():
        path.rename(path.with_stem(f"m{path.stem}"))
    with pytest.raises(InvalidAnnotationError, match=r"found none, nor any of the 4 images; .* like these, not 'm002'"):
        from_folder(tmp_path, "train")


def write_turned(tmp_path):
    """An image and its mask with one corner that differs in both, and two images; the first is tagged upside down."""
    write_masks(tmp_path, 2)
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, :4] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    Image.fromarray(pixels).save(tmp_path / "images" / "000.jpg", exif=exif)
    numbers = np.zeros((8, 8), np.uint8)
    numbers[:4, :4] = 1
    Image.fromarray(numbers).save(tmp_path / "labels" / "000.png")


def test_labels_drawn_on_the_stored_pixels(tmp_path):
    write_turned(tmp_path)
    for apply_orientation, corner in ((True, slice(4, 8)), (False, slice(0, 4))):
        train = from_folder(tmp_path, "train", apply_orientation=apply_orientation)
        bright = (train[0].image[0] > 128).nonzero()
        assert bright.min(0).values.tolist() == [corner.start] * 2
        assert count_pixels(train).num_turned == int(apply_orientation)


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


def test_masks_without_names_are_read_once_for_all_splits(tmp_path, monkeypatch):
    write_masks(tmp_path, 4, numbers=(3, 0, 255, 17))
    read = []
    monkeypatch.setattr(folder, "load_label_image", lambda path: read.append(path.stem) or load_label_image(path))
    for split in ("train", "val", "train"):
        assert from_folder(tmp_path, split).labels.id_of_source.keys() == {0, 3, 17}
    assert read == ["000", "001", "002", "003"]
    Image.fromarray(np.full((8, 9), 5, np.uint8)).save(tmp_path / "labels" / "001.png")
    assert from_folder(tmp_path, "val").labels.id_of_source.keys() == {3, 5, 17}, "one mask has changed"


def test_no_mask_can_be_read(tmp_path):
    write_masks(tmp_path, 3)
    for path in (tmp_path / "labels").iterdir():
        path.write_bytes(b"\0nothing")
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
        ({"json_path": "annotations/panoptic_training.json", "pngs": "panoptic_training"}, "coco", False),
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


def test_a_json_of_val_alone_makes_no_folder_of_masks(tmp_path):
    trees.coco_panoptic(tmp_path, json_path="annotations/panoptic_val.json", pngs="annotations/panoptic_val")
    with pytest.raises(UnreadableFileError, match=r": expected \(a\) COCO panoptic .*; found annotations, images$"):
        from_folder(tmp_path, "train")


def test_numbers_of_objects_are_no_categories(tmp_path):
    write_masks(tmp_path, 2)
    Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30)).save(tmp_path / "labels" / "000.png")
    with pytest.raises(InvalidAnnotationError, match="expected one number for each category, got more than 250"):
        from_folder(tmp_path, "train")


def test_masks_without_any_category(tmp_path):
    write_masks(tmp_path, 2, numbers=(255,))
    with pytest.raises(UnreadableFileError, match="expected masks with category numbers, found only void;"):
        from_folder(tmp_path, "train")


def test_labels_of_another_tool_are_counted(tmp_path):
    write_masks(tmp_path, 2)
    for path in (tmp_path / "labels").iterdir():
        path.with_suffix(".txt").write_text("0 0.5 0.5 0.1 0.1")
        path.unlink()
    with pytest.raises(
        UnreadableFileError, match=r"expected masks with category numbers, found 2 \.txt; expected \(a\)"
    ):
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


def test_vistas_in_folders_of_converters_and_of_another_version(tmp_path):
    tree = trees.vistas(tmp_path, "val")
    (tmp_path / "validation").rename(tmp_path / "val")
    assert names(vistas(tmp_path, "val")) == list(tree.truths)
    (tmp_path / "val" / "v2.0").mkdir()
    (tmp_path / "val" / "panoptic").rename(tmp_path / "val" / "v2.0" / "panoptic")
    with pytest.raises(
        UnreadableFileError, match=r"v2\.0 has the annotations of v2\.0, which are not supported; expected"
    ):
        vistas(tmp_path, "val")


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


def test_images_of_12_bits_have_one_white_in_all_splits(tmp_path):
    trees.own_masks(tmp_path)
    for split, white in (("train", 4095), ("val", 1023)):  # the brightest value of val alone would be 10 bits
        for path in sorted((tmp_path / "images" / split).iterdir()):
            with Image.open(path) as image:
                deep = np.full(image.size[::-1], white, np.uint16)
            path.unlink()
            Image.fromarray(deep).save(path.with_suffix(".png"))
    brightest = {split: int(from_folder(tmp_path, split)[0].image.max()) for split in ("train", "val")}
    assert brightest == {"train": 255, "val": 64}
    assert int(from_folder(tmp_path, "val", bit_depth=10)[0].image.max()) == 255
    with pytest.raises(InvalidArgumentError, match="expected a bit depth of 8 to 16, got 20"):
        from_folder(tmp_path, "train", bit_depth=20)
