"""ADE20K: the combination of semantic maps and objects, wrong files, and the splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trees
from maps import a_map
from PIL import Image

from panscape import LabelSpace
from panscape.datasets import Ade20k
from panscape.datasets.ade20k import ade20k_labels
from panscape.errors import InvalidAnnotationError, InvalidArgumentError, UnreadableFileError
from panscape.formats import decode_ade20k
from panscape.recipes.data_options import Ade20kData

LABELS = LabelSpace.load("ade20k_150")
# The published table: numbers of the semantic map for numbers 1, 2, ... of objects, with gaps where stuff is.
FIRST, LAST = [8, 9, 11, 13, 15, 16, 19, 20, 21, 23], [140, 143, 144, 145, 147, 148, 149, 150]


def test_objects_cover_stuff_and_things_without_object_are_void():
    semantic = np.array([[1, 1, 3, 3], [1, 21, 21, 0], [13, 13, 3, 3]], np.uint8)
    objects = np.zeros((3, 4, 3), np.uint8)
    objects[0, 0] = 9, 1, 0  # a car on a wall
    objects[1, 1] = 9, 2, 200  # blue has no meaning
    objects[2, 0] = 4, 3, 0
    objects[2, 2] = 4, 0, 0  # number 0: no object
    wall, sky, person, car = (LABELS.index(name) for name in ("wall", "sky", "person", "car"))
    want = a_map("CWSS\nWD..\nP.SS", {"W": wall, "S": sky, "P": person, "C": car, "D": car})
    assert decode_ade20k(semantic, objects, LABELS).equals(want)
    want = a_map("WWSS\nWCC.\nPPSS", {"W": wall, "S": sky, "P": person, "C": car})
    assert decode_ade20k(semantic, None, ade20k_labels("semantic")).equals(want)
    # Objects may hide all of a stuff category.
    objects[:] = 100, 1, 0
    flag = decode_ade20k(semantic, objects, LABELS)
    assert flag.category.tolist() == [LABELS.index("flag")]


def test_numbers_of_objects_are_those_of_the_published_table():
    for numbers, category in ((range(1, 11), FIRST), (range(93, 101), LAST)):
        objects = np.array([[[number, 1, 0] for number in numbers]], np.uint8)
        found = decode_ade20k(np.zeros(objects.shape[:2], np.uint8), objects, LABELS)
        assert found.semantic(void=-1).tolist() == [[c - 1 for c in category]]


@pytest.mark.parametrize(
    ("semantic", "objects", "message"),
    [
        ([[151, 0]], None, "got 151; give the files of ADEChallengeData2016, not the full ADE20K"),
        (
            [[1, 1]],
            [[[101, 1, 0], [0, 2, 0]]],
            "expected categories 1..150 in annotations, and 1..100 in annotations_instance, got 0, 101",
        ),
        ([[1]], [[[1, 1, 0], [0, 0, 0]]], "expected objects of 1x1 pixels like the semantic map, got 1x2"),
    ],
)
def test_wrong_files_are_named_with_the_remedy(tmp_path, semantic, objects, message):
    segments = "semantic" if objects is None else "panoptic"
    tree = trees.ade20k(tmp_path, segments=segments)
    path = next(iter(tree.annotations.values()))
    Image.fromarray(np.array(semantic, np.uint8)).save(path)
    if objects is not None:
        there = tmp_path / "annotations_instance/training" / path.name
        Image.fromarray(np.array(objects, np.uint8)).save(there)
    with pytest.raises(InvalidAnnotationError, match=message) as caught:
        Ade20k(tmp_path, "train", segments).truth_of(0)
    assert str(path) in str(caught.value)


def test_splits_and_the_folder_of_the_archive(tmp_path):
    tree = trees.ade20k(tmp_path / "ADEChallengeData2016", "val")
    dataset, images = Ade20kData().load(tmp_path, "validation"), Ade20kData().images(tmp_path, "val")
    assert [dataset[i].name for i in range(3)] == [image.name for image in images] == list(tree.truths)
    assert Ade20kData("semantic").load(tmp_path, "val").labels.thing_ids == ()
    with pytest.raises(InvalidArgumentError, match="expected split as one of train, val of ADE20K, got 'test'"):
        Ade20k(tmp_path, "test")


def test_missing_objects_are_named_before_training(tmp_path):
    tree = trees.ade20k(tmp_path)
    folder = Path(tmp_path) / "annotations_instance/training"
    first = folder / next(iter(tree.annotations.values())).name
    first.unlink()
    with pytest.raises(InvalidAnnotationError, match=f"expected its labels at {first}, found none"):
        Ade20k(tmp_path, "train")
    assert len(Ade20k(tmp_path, "train", "semantic")) == 3
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.raises(
        UnreadableFileError,
        match=f"{folder}: no such folder; expected .* annotations_instance.tar, .*--data.segments semantic",
    ):
        Ade20k(tmp_path, "train")
