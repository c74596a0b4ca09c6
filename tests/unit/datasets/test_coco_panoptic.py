"""Invalid JSON files of datasets in COCO panoptic format."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trees
from maps import SHAPES
from PIL import Image

from panscape import LabelSpace, notes
from panscape.datasets import Cityscapes, CocoPanoptic
from panscape.datasets.export import export_cityscapes, export_coco
from panscape.datasets.folder import Subset
from panscape.errors import InvalidAnnotationError, InvalidArgumentError, UnreadableFileError
from panscape.evaluation.evaluate_files import evaluate_files
from panscape.evaluation.options import ReadingOptions
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
        "expected an annotation of image '000001.jpg', found none; add it, or remove the image",
    ),
    "no image": (
        lambda c: c["images"].pop(),
        "expected image '10' in 'images', since it has an annotation; add it, or remove the annotation",
    ),
    "image twice": (
        lambda c: c["images"].append(c["images"][0]),
        "expected one image for each id, got two for 1; remove one",
    ),
    "annotation twice": (
        lambda c: c["annotations"].append(c["annotations"][0]),
        "expected one annotation of image 10, got 2; keep one",
    ),
    "no file name": (
        lambda c: c["images"][0].pop("file_name"),
        "expected id and file_name of every image, got {'id': 1, 'file_name': None}",
    ),
    "no categories": (lambda c: c.pop("categories"), "expected 'categories', found none; give labels="),
    "no isthing": (
        lambda c: c["categories"][0].pop("isthing"),
        "expected 'isthing' of every category as 1 for countable objects, else 0, but it is missing in {'id': 11, "
        "'name': 'sky', 'color': [70, 130, 180]}; fix it, or set a label space",
    ),
    "no segments": (
        lambda c: c["annotations"][0].pop("segments_info"),
        "image 10: expected a list as segments_info, got none",
    ),
    "null as segments": (
        lambda c: c["annotations"][0].update(segments_info=None),
        "image 10: expected a list as segments_info, got None",
    ),
    "two without segments": (
        lambda c: [a.pop("segments_info") for a in c["annotations"][:2]],
        "image 2: expected a list as segments_info, got none (and 1 more such errors)",
    ),
    "instances": (
        lambda c: [a.pop("segments_info") for a in c["annotations"]],
        "expected COCO panoptic JSON, 'annotations' with image_id, file_name and segments_info each, or a list of "
        "them; COCO instance or detection files have no segments_info",
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
    with pytest.raises(InvalidAnnotationError, match=r"expected COCO panoptic JSON, 'annotations' with"):
        opened(root)


def test_a_contradiction_between_png_and_description_names_the_png(root):
    path = root / "panoptic.json"
    content = json.loads(path.read_text())
    content["annotations"][-1]["segments_info"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidAnnotationError, match=r"000001\.png: expected a description of every id in the PNG"):
        opened(root)[0]


def ids_as_text(content):
    for annotation in content["annotations"]:
        annotation["image_id"] = f"{annotation['image_id']:012d}"


def ids_as_floats(content):
    for annotation in content["annotations"]:
        annotation["image_id"] = float(annotation["image_id"])
        for segment in annotation["segments_info"]:
            segment.update(id=float(segment["id"]), category_id=float(segment["category_id"]))


def flags_as_booleans(content):
    for category in content["categories"]:
        category["isthing"] = bool(category["isthing"])
    for segment in content["annotations"][0]["segments_info"]:
        segment["iscrowd"] = bool(segment["iscrowd"])


def names_in_another_case(content):
    for entry in content["images"] + content["annotations"]:
        entry["file_name"] = entry["file_name"].upper()


def names_of_windows(content):
    for entry in content["images"] + content["annotations"]:
        entry["file_name"] = ".\\" + entry["file_name"]


def values_that_only_python_reads(content):
    content["annotations"][0]["segments_info"][0]["area"] = float("nan")


VARIANTS = [
    ids_as_text,
    ids_as_floats,
    flags_as_booleans,
    names_in_another_case,
    names_of_windows,
    values_that_only_python_reads,
]


@pytest.mark.parametrize("change", VARIANTS, ids=lambda change: change.__name__)
def test_variants_of_the_json_train_and_evaluate_alike(root, change):
    tree = opened(root)
    truths = [tree[i].truth for i in range(len(tree))]
    path = root / "panoptic.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    dataset = opened(root)
    assert all(dataset[i].truth.equals(truth) for i, truth in enumerate(truths))
    scores = evaluate_files(path, path)
    assert (scores.issues, scores.report.panoptic.all.pq) == ((), 1)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings_train_and_evaluate_alike(root, encoding):
    path = root / "panoptic.json"
    path.write_bytes(path.read_text().encode(encoding))
    assert opened(root)[0].truth.num_segments == 5
    assert evaluate_files(path, path).report.panoptic.all.pq == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("id", value) for value in ("11", 7.9, True, None, [11])),
        *(("name", value) for value in (5, None, "", ["sky"])),
        *(("isthing", value) for value in ("0", "false", 2, 0.5, None, [0])),
    ],
)
def test_categories_of_another_type_are_refused_alike(root, field, value):
    path = root / "panoptic.json"
    content = json.loads(path.read_text())
    content["categories"][0][field] = value
    path.write_text(json.dumps(content))
    text = rf"panoptic\.json: expected '{field}' of every category as .*, got {re.escape(repr(value))} in "
    for read in (opened, lambda _: evaluate_files(path, path)):
        with pytest.raises(InvalidAnnotationError, match=text):
            read(root)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("id", value) for value in ("7", 7.9, True, None, 0, 256**3)),
        *(("category_id", value) for value in ("7", 7.9, True, None)),
        *(("iscrowd", value) for value in ("0", "1", [0], 2, 0.5, None)),
    ],
)
def test_segments_of_another_type_are_refused_alike(root, field, value):
    path = root / "panoptic.json"
    content = json.loads(path.read_text())
    content["annotations"][-1]["segments_info"][0][field] = value
    path.write_text(json.dumps(content))
    text = (
        "000001.png: expected integers 'id' in 1..16777215 (0 is void) and 'category_id', and 'iscrowd' 0 or 1, for "
        f"every segment, got {field!r} {value!r} in "
    )
    with pytest.raises(InvalidAnnotationError, match=re.escape(text)):
        opened(root)[0]
    scores = evaluate_files(path, path)
    assert text in str(scores.issues[0])
    assert len(scores.records) == 2, "an image with ambiguous ground truth is skipped"


def another_first_size(content):
    for image in content["images"]:
        image["height"], image["width"] = 48, 72
    content["images"][1]["height"] = 36


def no_thing(content):
    for category in content["categories"]:
        category["isthing"] = 0


def split_stuff(content):
    """Two segments of the first image become one category: A is sky, E is ground."""
    for segment in content["annotations"][-1]["segments_info"]:
        if segment["category_id"] == 7:
            segment["category_id"] = 11


NOTES = {
    another_first_size: (
        "000002.png: expected 36x72 pixels as height and width in the JSON, got 36x48; the pixels are used; "
        "fix the JSON"
    ),
    no_thing: (
        "{path}: expected 'isthing' 1 for countable categories, got 0 for all 4, but an image has several segments of "
        "disc; tools such as Datumaro lose these flags; set the label space with --labels, or fix 'categories'"
    ),
    split_stuff: "000001.png: expected one segment of each stuff category, got several of sky; each counts; merge them",
}


@pytest.mark.parametrize("change", NOTES, ids=lambda change: change.__name__)
def test_doubtful_files_are_noted_once_in_training_and_in_evaluation(root, caplog, change):
    path = root / "panoptic.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    note = NOTES[change].format(path=path)
    assert len(opened(root)) == len(opened(root)) == 3
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().endswith(f"{note} (logged once; other files may be alike)")
    issues = evaluate_files(path, path).issues
    assert any(str(issue).endswith(note) and issue.is_note for issue in issues)


def test_an_empty_png_of_described_segments_is_refused_alike(root):
    Image.new("RGB", (72, 48)).save(root / "panoptic" / "000001.png")
    path = root / "panoptic.json"
    text = (
        "000001.png: expected the pixels of 5 described segments, got only 0 (void); write each id as red + 256 green"
    )
    with pytest.raises(InvalidAnnotationError, match=re.escape(text)):
        opened(root)[0]
    scores = evaluate_files(path, path)
    assert [str(issue).partition(" + 65536")[0].endswith(text) for issue in scores.issues] == [True]
    assert len(scores.records) == 2


def in_the_order_of_opencv(image):
    return Image.fromarray(np.ascontiguousarray(np.asarray(image)[..., ::-1]))


def interpolated(image):
    return image.resize((36, 24), Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BILINEAR)


CAUSES = {
    in_the_order_of_opencv: "got blue + 256 green + 65536 red for 5 ids; write the PNG in the order RGB (OpenCV writes",
    interpolated: "got 98 others of few pixels each, as after interpolation or JPEG; resize ids with nearest neighbor",
}


@pytest.mark.parametrize("change", CAUSES, ids=lambda change: change.__name__)
def test_the_cause_of_undescribed_ids_is_named(root, change):
    path = root / "panoptic" / "000001.png"
    change(Image.open(path)).save(path)
    with pytest.raises(InvalidAnnotationError, match=re.escape(CAUSES[change])):
        opened(root)[0]


@pytest.mark.parametrize("kind", ["images", "annotations"])
@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../secret.png", "C:\\secret.png"])
def test_names_do_not_leave_their_folder(root, kind, name):
    shutil.copy(root / "panoptic" / "000001.png", root / "secret.png")
    path = root / "panoptic.json"
    content = json.loads(path.read_text())
    content[kind][0]["file_name"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(UnreadableFileError, match=r"panoptic\.json: expected a file in .*, which is outside"):
        opened(root)


@pytest.mark.parametrize("is_folder", [False, True])
def test_files_and_folders_that_are_links_open(root, tmp_path_factory, is_folder):
    """Caches such as Hugging Face's and data versioning tools keep files elsewhere and link to them."""
    expected = [opened(root)[i] for i in range(len(opened(root)))]
    blobs = tmp_path_factory.mktemp("blobs")
    for folder in ("images", "panoptic"):
        for path in [root / folder] if is_folder else list((root / folder).iterdir()):
            blob = blobs / f"{folder}_{path.stem}"
            path.rename(blob)
            path.symlink_to(blob)
    dataset = opened(root)
    assert len(dataset) == 3
    for sample, same in zip((dataset[i] for i in range(3)), expected, strict=True):
        assert sample.name == same.name
        assert torch.equal(sample.image, same.image)
        assert sample.truth == same.truth


@pytest.mark.skipif(os.name == "nt", reason="has no named pipes in folders")
def test_a_pipe_in_place_of_a_file_does_not_block(root):
    (root / "images" / "000001.jpg").unlink()
    os.mkfifo(root / "images" / "000001.jpg")
    with pytest.raises(UnreadableFileError, match=r"000001\.jpg: no such file, but"):
        opened(root)


def test_the_form_of_cityscapes_own_preparation(root):
    """Its JSON lists images by a name that does not exist; they are in a folder for each city."""
    path = root / "panoptic.json"
    content = json.loads(path.read_text())
    for image, annotation in zip(content["images"], content["annotations"][::-1], strict=True):
        name = f"aachen_{image['id']:06d}_000019"
        (root / "images" / "aachen").mkdir(exist_ok=True)
        (root / "images" / image["file_name"]).rename(root / "images" / "aachen" / f"{name}_leftImg8bit.jpg")
        (root / "panoptic" / annotation["file_name"]).rename(root / "panoptic" / f"{name}_gtFine_panoptic.png")
        image.update(id=name, file_name=f"{name}_gtFine_leftImg8bit.png")
        annotation.update(image_id=name, file_name=f"{name}_gtFine_panoptic.png")
    path.write_text(json.dumps(content))
    dataset = opened(root)
    assert [dataset[i].name for i in range(3)] == [f"aachen_{n:06d}_000019_gtFine_panoptic" for n in (1, 2, 10)]
    assert dataset.image_files[2].path.name == "aachen_000010_000019_leftImg8bit.jpg"
    next((root / "images" / "aachen").iterdir()).unlink()
    with pytest.raises(UnreadableFileError, match=r"_leftImg8bit\.png: no such file, but .*, nor 2 more of its 3"):
        opened(root)


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


def test_the_output_of_the_writer_is_a_dataset(root):
    tree = opened(root, labels=SHAPES)
    with CocoPanopticWriter(root / "again.json", root / "again", SHAPES) as writer:
        for i in range(len(tree)):
            writer.write(tree[i].name, tree[i].truth, image=f"{tree[i].name}.jpg")
    again = CocoPanoptic(root / "again.json", root / "again", root / "images")
    assert again.labels.categories == SHAPES.categories
    for i in range(len(tree)):
        assert again[i].truth.equals(tree[i].truth)


def test_invalid_categories_do_not_matter_if_others_are_given(root):
    path = root / "panoptic.json"
    content = json.loads(path.read_text())
    content["categories"][0]["isthing"] = "0"
    path.write_text(json.dumps(content))
    (root / "labels.json").write_text(json.dumps(SHAPES.to_dict()))
    assert opened(root, labels=SHAPES)[0].truth.num_segments == 5
    reading = ReadingOptions(labels=str(root / "labels.json"))
    assert evaluate_files(path, path, reading=reading).report.panoptic.all.pq == 1


@pytest.mark.parametrize("export", [export_coco, export_cityscapes])
@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "C:\\a", "a\\b", "", ".", "a//b", "a\0"])
def test_an_export_does_not_leave_its_folder(root, export, name):
    class Renamed(Subset):
        def __getitem__(self, index):
            return replace(super().__getitem__(index), name=name)

    dataset = Renamed(opened(root, labels=SHAPES), [0])
    with pytest.raises(InvalidArgumentError, match="expected the name of an image inside the folder to write, got "):
        export(dataset, root / "out")
    assert not [p for p in (root / "out").rglob("*") if p.is_file()]


def test_names_with_folders_are_exported(root):
    (root / "images" / "sub").mkdir()
    (root / "panoptic" / "sub").mkdir()
    for folder, suffix in (("images", "jpg"), ("panoptic", "png")):
        (root / folder / f"000001.{suffix}").rename(root / folder / "sub" / f"1.{suffix}")
    path = root / "panoptic.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"], content["annotations"][-1]["file_name"] = "sub/1.jpg", "sub/1.png"
    path.write_text(json.dumps(content))
    dataset = opened(root, labels=SHAPES)
    json_path = export_coco(dataset, root / "out")
    exported = CocoPanoptic(json_path, json_path.with_suffix(""), root / "out" / "train", SHAPES)
    export_cityscapes(dataset, root / "city")
    cities = Cityscapes(root / "city", "train", SHAPES)
    assert [exported[i].name for i in range(3)] == ["sub/1", "000002", "000010"]
    assert [cities[i].name for i in range(3)] == ["000002", "000010", "sub_1"]
    for i in range(3):
        assert exported[i].truth.equals(dataset[i].truth)
        assert torch.equal(cities[(i - 1) % 3].image, dataset[i].image)


@pytest.mark.parametrize("export", [export_coco, export_cityscapes])
def test_an_export_with_a_name_twice_is_refused(root, export):
    dataset = Subset(opened(root), (0, 1, 0))
    with pytest.raises(InvalidArgumentError, match="expected unique sample names, got '000001' twice"):
        export(dataset, root / "out")


def test_images_of_one_name_in_two_folders_are_distinguished(root):
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


@pytest.mark.parametrize("name", ["coco_panoptic", "cityscapes"])
def test_published_categories_are_known_by_their_numbers_and_names(root, name):
    path = root / "panoptic.json"
    content = json.loads(path.read_text())
    known = LabelSpace.load(name)
    content["categories"] = [{"id": c.source_id, "name": c.name, "isthing": int(c.is_thing)} for c in known]
    path.write_text(json.dumps(content))
    assert opened(root).labels == known
    content["categories"][5]["isthing"] ^= 1
    path.write_text(json.dumps(content))
    assert opened(root).labels.name == "panoptic"
    del content["categories"][5]
    path.write_text(json.dumps(content))
    assert opened(root).labels.name == "panoptic"
    assert len(opened(root).labels) == len(known) - 1


def test_the_listed_categories_give_the_ids_to_training_and_evaluation_alike(root, caplog):
    """As if one split was exported by another tool than the label space comes from."""
    path = root / "panoptic.json"
    truths = [opened(root)[i].truth for i in range(3)]
    content = json.loads(path.read_text())
    new = {11: 1, 7: 2, 24: 3, 26: 7}
    for category in content["categories"]:
        category["id"] = new[category["id"]]
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["category_id"] = new[segment["category_id"]]
    path.write_text(json.dumps(content))
    notes.start_run()
    dataset = opened(root, labels=SHAPES)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: its categories have other ids than label space 'shapes' (sky 1 instead of 11, ground 2 instead of 7, "
        "disc 3 instead of 24, box 7 instead of 26); they are read by name (logged once; other files may be alike)"
    ]
    for i, truth in enumerate(truths):
        assert dataset[i].truth.equals(truth)
        assert dataset.categories_of(i) == set(truth.category.tolist())
    (root / "labels.json").write_text(json.dumps(SHAPES.to_dict()))
    scores = evaluate_files(path, path, reading=ReadingOptions(labels=str(root / "labels.json"), label_ids="names"))
    assert (scores.report.panoptic.all.pq, scores.issues, scores.labels) == (1, (), SHAPES)
