"""The contract of all datasets. A new dataset is added by its line in the table."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import trees
from maps import SHAPES

from panscape import LabelSpace
from panscape.datasets import (
    Ade20k,
    Cityscapes,
    CocoPanoptic,
    IndiaDriving,
    PanopticDataset,
    Sample,
    SemanticMaskDataset,
    Town,
    aerial,
    bsb,
    camvid,
    from_folder,
    load_segment_index,
    segment_index,
    vistas,
)
from panscape.datasets.folder import LAYOUTS
from panscape.datasets.mask_folders import LAYOUT as MASKS_LAYOUT
from panscape.datasets.segment_index import segments_of_map
from panscape.errors import InvalidAnnotationError, UnreadableFileError


@dataclass(frozen=True)
class Case:
    """A dataset under test.

    Attributes:
        name: in the names of the tests.
        open: the dataset of a folder.
        write: writes the folder; None for a dataset that reads no disk.
        texts: what ``open(folder)[0]`` says after each damage of :data:`DAMAGES`.
    """

    name: str
    open: Callable[[Path], PanopticDataset]
    write: Callable[[Path], trees.Tree] | None = None
    texts: dict[str, str] = field(default_factory=dict)


CITY_LAYOUT = (
    "ROOT/leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png with ROOT/gtFine/SPLIT/CITY/NAME_gtFine_instanceIds.png, "
    "as unpacked from leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip"
)
IDD_LAYOUT = (
    "ROOT/leftImg8bit/SPLIT/DRIVE/NAME_leftImg8bit.png (or .jpg) with ROOT/gtFine/SPLIT/DRIVE/"
    "NAME_gtFine_polygons.json, as unpacked"
)
ADE_LAYOUT = (
    "ROOT/images/training/NAME.jpg with ROOT/annotations/training/NAME.png and, for objects, "
    "ROOT/annotations_instance/training/NAME.png, as unpacked from ADEChallengeData2016.zip and "
    "annotations_instance.tar, and validation likewise"
)
SIZES_DIFFER = (
    "{annotation}: expected labels of 5x7 pixels like {image}, got 48x72; "
    "do not resize them; find the labels of this image"
)
TURNED = (
    "{annotation}: expected labels of 72x48 pixels like {image}, got 48x72; the image has EXIF orientation 6: if the "
    "labels are right otherwise, use --data.no-apply-orientation"
)
IMAGE_MISSING = "{annotation}: expected the image '{name}' in {images}, found none; add it, or remove the labels"
LABELS_MISSING = "{image}: expected its labels at {annotation}, found none; add them, or remove the image"
MOST_LABELS_MISSING = LABELS_MISSING.replace(
    "none;", "none, nor for 1 more of the 3 images; unpack the archive again, or"
)
COCO_NAMES_IT = "no such file, but {root}/panoptic.json lists it; check the folder"
SEVERAL_MISSING = (
    "no such file, but {root}/panoptic.json lists it, nor 1 more of its 3 files; unpack the archive again, or give the "
    "right folder"
)
ALL_MISSING = SEVERAL_MISSING.replace("1 more", "2 more")
MASKS_TEXTS = {
    "image missing": IMAGE_MISSING,
    "labels missing": LABELS_MISSING,
    "all labels missing but one": MOST_LABELS_MISSING,
    "sizes differ": SIZES_DIFFER,
    "image turned": TURNED,
    "nothing in the folders": "{images}: expected images, found nothing; expected " + MASKS_LAYOUT,
    "another folder": "{root}/elsewhere/images/train: no such folder; expected " + MASKS_LAYOUT,
}


def coco_texts(json_path: str, elsewhere: str) -> dict[str, str]:
    names_it = f"no such file, but {{root}}/{json_path} lists it; check the folder"
    return {
        "image missing": "{image}: " + names_it,
        "labels missing": "{annotation}: " + names_it,
        "all labels missing but one": "{annotation}: " + SEVERAL_MISSING.replace("panoptic.json", json_path),
        "sizes differ": SIZES_DIFFER,
        "image turned": TURNED,
        "nothing in the folders": "{image}: " + ALL_MISSING.replace("panoptic.json", json_path),
        "another folder": "{root}/elsewhere" + elsewhere,
    }


CASES = [
    Case(
        "category_masks",
        lambda root: SemanticMaskDataset(root / "images/train", root / "labels/train", SHAPES),
        trees.category_masks,
        MASKS_TEXTS,
    ),
    Case(
        "camvid",
        lambda root: camvid(root, "train"),
        lambda root: trees.category_masks(root, LabelSpace.load("camvid"), void=11),
        MASKS_TEXTS,
    ),
    Case(
        "aerial",
        lambda root: aerial(root, "train"),
        lambda root: trees.category_masks(root, LabelSpace.load("aerial")),
        MASKS_TEXTS,
    ),
    Case(
        "cityscapes",
        lambda root: Cityscapes(root, "train"),
        trees.cityscapes,
        {
            "image missing": IMAGE_MISSING,
            "labels missing": LABELS_MISSING,
            "all labels missing but one": MOST_LABELS_MISSING,
            "sizes differ": SIZES_DIFFER,
            "image turned": TURNED,
            "nothing in the folders": "{images}: expected NAME_leftImg8bit (.png), found nothing; expected "
            + CITY_LAYOUT,
            "another folder": "{root}/elsewhere/leftImg8bit/train: no such folder; expected " + CITY_LAYOUT,
        },
    ),
    Case(
        "idd",
        lambda root: IndiaDriving(root, "train"),
        trees.idd,
        {
            "image missing": IMAGE_MISSING,
            "labels missing": LABELS_MISSING,
            "all labels missing but one": MOST_LABELS_MISSING,
            "sizes differ": SIZES_DIFFER,
            "image turned": TURNED,
            "nothing in the folders": "{images}: expected NAME_leftImg8bit, found nothing; expected " + IDD_LAYOUT,
            "another folder": "{root}/elsewhere/leftImg8bit/train: no such folder; expected " + IDD_LAYOUT,
        },
    ),
    *(
        Case(
            f"ade20k_{segments}",
            lambda root, segments=segments: Ade20k(root, "train", segments),
            lambda root, segments=segments: trees.ade20k(root, segments=segments),
            {
                "image missing": IMAGE_MISSING.replace("{images}", "{images}/training"),
                "labels missing": LABELS_MISSING,
                "all labels missing but one": MOST_LABELS_MISSING,
                "sizes differ": SIZES_DIFFER,
                "image turned": TURNED,
                "nothing in the folders": "{images}/training: expected images, found nothing; expected " + ADE_LAYOUT,
                "another folder": "{root}/elsewhere/images/training: no such folder; expected " + ADE_LAYOUT,
            },
        )
        for segments in ("panoptic", "semantic")
    ),
    Case(
        "coco_panoptic",
        lambda root: CocoPanoptic(root / "panoptic.json", root / "panoptic", root / "images", SHAPES),
        trees.coco_panoptic,
        {
            "image missing": "{image}: " + COCO_NAMES_IT,
            "labels missing": "{annotation}: " + COCO_NAMES_IT,
            "all labels missing but one": "{annotation}: " + SEVERAL_MISSING,
            "sizes differ": SIZES_DIFFER,
            "image turned": TURNED,
            "nothing in the folders": "{image}: " + ALL_MISSING,
            "another folder": "{root}/elsewhere/panoptic.json: no such file; check its name and folder",
        },
    ),
    Case(
        "coco_panoptic_own_categories",
        lambda root: CocoPanoptic(root / "panoptic.json", root / "panoptic", root / "images"),
        trees.coco_panoptic,
    ),
    Case(
        "vistas",
        lambda root: vistas(root, "train"),
        trees.vistas,
        coco_texts(
            "training/panoptic/panoptic_2018.json",
            "/training/panoptic/panoptic_2018.json: no such file; expected ROOT/training/images with "
            "ROOT/training/panoptic/panoptic_2018.json and its PNGs beside it (v1.2; in the release of v2.0 they are "
            "in ROOT/training/v1.2/panoptic), and ROOT/validation likewise",
        ),
    ),
    Case(
        "bsb",
        lambda root: bsb(root, "train"),
        trees.bsb,
        coco_texts(
            "annotations/panoptic_train.json",
            "/annotations/panoptic_train.json: no such file; expected ROOT/image_SPLIT, ROOT/panoptic_SPLIT and "
            "ROOT/annotations/panoptic_SPLIT.json; or ROOT/SPLIT, ROOT/annotations/panoptic_SPLIT and "
            "ROOT/annotations/panoptic_SPLIT.json; rename the folders accordingly",
        ),
    ),
    Case(
        "own_coco",
        lambda root: from_folder(root, "train"),
        trees.own_coco,
        coco_texts("annotations/panoptic_train.json", f": no such folder; expected one with {LAYOUTS}"),
    ),
    Case(
        "own_masks",
        lambda root: from_folder(root, "train"),
        trees.own_masks,
        MASKS_TEXTS | {"another folder": f"{{root}}/elsewhere: no such folder; expected one with {LAYOUTS}"},
    ),
    Case("town", lambda root: Town(4, (64, 64))),
]


def unlink(*paths: Path) -> None:
    for path in paths:
        path.unlink()


# Each changes the folder around the first image.
DAMAGES: dict[str, Callable[[trees.Tree, str], None]] = {
    "image missing": lambda tree, name: unlink(tree.images[name]),
    "labels missing": lambda tree, name: unlink(tree.annotations[name]),
    "all labels missing but one": lambda tree, name: unlink(*list(tree.annotations.values())[:2]),
    "sizes differ": lambda tree, name: trees.write_image(tree.images[name], (5, 7), (0, 0, 0)),
    "image turned": lambda tree, name: trees.write_image(tree.images[name], tree.truths[name].size, (0, 0, 0), 6),
    "nothing in the folders": lambda tree, name: unlink(*tree.images.values(), *tree.annotations.values()),
    "another folder": lambda tree, name: None,
}

cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def opened(case: Case, root: Path) -> tuple[PanopticDataset, trees.Tree | None]:
    tree = case.write(root) if case.write else None
    return case.open(root), tree


@cases
def test_it_is_a_dataset_of_samples(case, tmp_path):
    dataset, tree = opened(case, tmp_path)
    assert isinstance(dataset, PanopticDataset)
    assert isinstance(dataset.labels, LabelSpace)
    assert len(dataset) > 0
    if tree:
        assert len(dataset) == len(tree.truths)
        assert dataset.labels.categories == tree.labels.categories
    names = set()
    for i in range(min(len(dataset), 3)):
        sample = dataset[i]
        assert isinstance(sample, Sample)
        assert sample.image.dtype == torch.uint8
        assert sample.image.is_contiguous()
        assert sample.image.shape == (3, *sample.truth.size)
        assert sample.truth.score is None
        assert sample.truth.labels is dataset.labels, "so that it can be drawn and saved by itself"
        if hasattr(dataset, "truth_of"):
            assert dataset.truth_of(i) == sample.truth
        assert int(sample.truth.category.max()) < len(dataset.labels)
        stuff = [c for c in sample.truth.category.tolist() if not dataset.labels[c].is_thing]
        assert len(stuff) == len(set(stuff)), "a stuff category is one segment"
        assert Path(sample.name).name == sample.name, "predictions are written under this name"
        names.add(sample.name)
    assert len(names) == min(len(dataset), 3)


@cases
def test_images_and_truths_are_those_of_the_disk(case, tmp_path):
    dataset, tree = opened(case, tmp_path)
    if tree is None:
        pytest.skip("reads no disk")
    assert [dataset[i].name for i in range(len(dataset))] == list(tree.truths)
    for i in range(len(dataset)):
        sample = dataset[i]
        assert sample.truth.equals(tree.truths[sample.name])
        want = trees.image_of_color(tree.colors[sample.name], sample.truth.size)
        assert int((sample.image.int() - want.int()).abs().max()) <= 2, "JPEG rounds even a single colour"


@cases
def test_a_sample_is_always_the_same_also_in_a_worker(case, tmp_path):
    dataset, _ = opened(case, tmp_path)
    there = pickle.loads(pickle.dumps(dataset))
    for again in (dataset, there):
        assert again.labels == dataset.labels
        assert torch.equal(again[0].image, dataset[0].image)
        assert torch.equal(again[0].truth.ids, dataset[0].truth.ids)
        assert torch.equal(again[0].truth.category, dataset[0].truth.category)


@cases
def test_its_segments_are_those_of_the_maps_and_are_read_once(case, tmp_path, monkeypatch):
    dataset, tree = opened(case, tmp_path / "data")
    found = load_segment_index(dataset, folder=tmp_path / "cache")
    expected = [segments_of_map(dataset[index].truth) for index in range(len(dataset))]
    for index, segments in enumerate(expected):
        segments["image"] = index
    assert found.tolist() == np.concatenate(expected).tolist()
    with monkeypatch.context() as patch:
        patch.setattr(segment_index, "truth_of", None)
        assert load_segment_index(case.open(tmp_path / "data"), folder=tmp_path / "cache").tolist() == found.tolist()
    if tree:
        os.utime(next(iter(tree.annotations.values())), ns=(0, 1))
        load_segment_index(case.open(tmp_path / "data"), folder=tmp_path / "cache")
        assert len(list((tmp_path / "cache").iterdir())) == 2


@cases
def test_beyond_the_last_sample_is_an_index_error(case, tmp_path):
    dataset, _ = opened(case, tmp_path)
    with pytest.raises(IndexError):
        dataset[len(dataset)]


@pytest.mark.parametrize(
    ("case", "damage"),
    [pytest.param(case, damage, id=f"{case.name}-{damage}") for case in CASES for damage in case.texts],
)
def test_damage_is_named_with_the_remedy(case, damage, tmp_path):
    tree = case.write(tmp_path)
    name = next(iter(tree.truths))
    DAMAGES[damage](tree, name)
    with pytest.raises((InvalidAnnotationError, UnreadableFileError)) as caught:
        case.open(tmp_path / "elsewhere" if damage == "another folder" else tmp_path)[0]
    image, annotation = tree.images[name], tree.annotations[name]
    images = next(p for p in (image.parent, image.parent.parent) if p.name in ("train", "images"))
    assert str(caught.value) == case.texts[damage].format(
        root=tmp_path, name=name, image=image, annotation=annotation, images=images
    )


@cases
def test_a_damaged_image_is_named(case, tmp_path):
    if case.write is None:
        pytest.skip("reads no disk")
    dataset, tree = opened(case, tmp_path)
    for paths in (tree.images, tree.annotations):
        path = paths[dataset[0].name]
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UnreadableFileError) as caught:
            dataset[0]
        assert caught.value.path == path
        path.write_bytes(whole)


def test_every_damage_is_tried_on_every_dataset_that_reads_a_disk():
    # The categories of a JSON are read after the files were found, so its damages are those of the case above it.
    tried = {case.name: set(case.texts) for case in CASES if case.write and case.name != "coco_panoptic_own_categories"}
    assert len(tried) == 12
    assert tried == {name: set(DAMAGES) for name in tried}
