from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
import torch
import trees
from maps import SHAPES
from PIL import Image

from panscape import Category, LabelSpace
from panscape.datasets.semantic_masks import open_split
from panscape.errors import InvalidAnnotationError, InvalidArgumentError, UnreadableFileError
from panscape.formats import from_semantic_mask

SKY, GROUND, DISC, BOX = 11, 7, 24, 26


def objects_by_flooding(mask, min_area):
    """Connected components over edges or corners, found pixel by pixel."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    parts = []
    while left:
        part, front = set(), [min(left)]
        left.remove(front[0])
        while front:
            y, x = front.pop()
            part.add((y, x))
            for neighbour in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if neighbour in left:
                    left.remove(neighbour)
                    front.append(neighbour)
        if len(part) >= min_area:
            parts.append(frozenset(part))
    return parts


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("min_area", [1, 3, 8])
def test_objects_are_the_connected_parts(seed, min_area):
    rng = np.random.default_rng(seed)
    numbers = rng.choice([SKY, GROUND, DISC, BOX, 255], size=(17, 23), p=[0.15, 0.15, 0.3, 0.3, 0.1]).astype(np.uint8)
    panoptic = from_semantic_mask(numbers, SHAPES, min_area=min_area, void=255)
    want = {(c, part) for c in (DISC, BOX) for part in objects_by_flooding(numbers == c, min_area)}
    want |= {(c, frozenset((int(y), int(x)) for y, x in np.argwhere(numbers == c))) for c in (SKY, GROUND)}
    got = {
        (SHAPES[c].source_id, frozenset(tuple(p) for p in mask.nonzero().tolist()))
        for c, mask in zip(panoptic.category.tolist(), panoptic.masks(), strict=True)
    }
    assert got == want


def test_stuff_comes_first_and_small_parts_are_void():
    numbers = np.array([[DISC, DISC, SKY, BOX], [SKY, SKY, SKY, SKY], [DISC, GROUND, 255, 255]], np.uint16)
    panoptic = from_semantic_mask(numbers, SHAPES, min_area=2, void=255)
    assert [SHAPES[c].name for c in panoptic.category] == ["ground", "sky", "disc"]
    assert panoptic.ids.tolist() == [[3, 3, 2, 0], [2, 2, 2, 2], [0, 1, 0, 0]]


def test_void_everywhere():
    panoptic = from_semantic_mask(np.full((2, 3), 255, np.uint8), SHAPES, min_area=1, void=255)
    assert panoptic.num_segments == 0
    assert not panoptic.ids.any()


def test_foreign_numbers_are_named():
    numbers = np.array([[SKY, 3, 255, 200]], np.uint8)
    with pytest.raises(InvalidAnnotationError) as caught:
        from_semantic_mask(numbers, SHAPES, min_area=1, void=255)
    assert str(caught.value) == (
        "expected numbers of label space 'shapes' (7, 11, 24, 26; void 255), got 3, 200 in 2 of 4 pixels; "
        "use their label space, and their void value (--data.void in training, --void in evaluation)"
    )


def test_a_dataset_names_the_file_of_foreign_numbers(tmp_path):
    tree = trees.category_masks(tmp_path, void=254)
    with pytest.raises(
        InvalidAnnotationError, match=r"000001\.png: expected numbers of label space 'shapes'.*got 254 in "
    ):
        open_split(tmp_path, "train", SHAPES)[0]
    dataset = open_split(tmp_path, "train", SHAPES, void=254)
    assert dataset[0].truth.equals(tree.truths["000001"])


def test_the_smallest_area_is_respected(tmp_path):
    tree = trees.category_masks(tmp_path)  # an object is 144 pixels or more
    truth = tree.truths["000002"]
    is_stuff = torch.tensor([not SHAPES[c].is_thing for c in truth.category.tolist()])
    for min_area, want in ((144, truth), (145, truth.select(is_stuff))):
        dataset = open_split(tmp_path, "train", SHAPES, min_area=min_area)
        assert dataset[1].truth.equals(want)


def test_arguments_are_checked(tmp_path):
    with pytest.raises(InvalidArgumentError, match="min_area of at least 1 pixel, got 0"):
        open_split(tmp_path, "train", SHAPES, min_area=0)
    with pytest.raises(InvalidArgumentError, match="got void=11, which is 'sky'"):
        open_split(tmp_path, "train", SHAPES, void=11)


def test_hidden_and_foreign_files_do_not_count_and_twins_are_named(tmp_path):
    tree = trees.category_masks(tmp_path)
    images = tmp_path / "images" / "train"
    for name in (".hidden.jpg", "notes.txt", "Thumbs.db"):
        (images / name).write_text("")
    assert len(open_split(tmp_path, "train", SHAPES)) == len(tree.truths)
    tree.images["000001"].rename(images / "000001.JPG")
    assert len(open_split(tmp_path, "train", SHAPES)) == len(tree.truths)
    trees.write_image(images / "000001.png", (4, 4), (0, 0, 0))
    with pytest.raises(InvalidAnnotationError, match=r"expected one file called '000001', got 000001\.JPG too; rename"):
        open_split(tmp_path, "train", SHAPES)


def test_a_category_of_number_zero_is_not_void(tmp_path):
    labels = LabelSpace("x", (Category("building", True, 0, (0, 0, 0)), Category("land", False, 1, (1, 1, 1))))
    panoptic = from_semantic_mask(np.array([[0, 0, 1, 255]], np.uint8), labels, min_area=1, void=255)
    assert panoptic.semantic(void=9).tolist() == [[0, 0, 1, 9]]


def test_the_case_of_file_names_does_not_matter(tmp_path):
    tree = trees.category_masks(tmp_path)
    tree.images["000001"].rename(tmp_path / "images/train/Photo.JPG")
    tree.annotations["000001"].rename(tmp_path / "labels/train/photo.PNG")
    dataset = open_split(tmp_path, "train", SHAPES)
    assert [dataset[i].name for i in range(3)] == ["000002", "000010", "Photo"]
    assert dataset[2].truth.equals(tree.truths["000001"])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_a_spoilt_mask_is_one_error_that_names_it(tmp_path, ending):
    chance = random.Random(0)
    tree = trees.category_masks(tmp_path)
    dataset_of = partial(open_split, tmp_path, "train", SHAPES)
    for path in tree.annotations.values():
        numbers = np.array(Image.open(path)).astype(np.uint8 if ending == ".png" else np.int32)
        path.unlink()
        Image.fromarray(numbers).save(path.with_suffix(ending))
    path = tree.annotations["000001"].with_suffix(ending)
    whole = path.read_bytes()
    errors: list[str] = []
    for _ in range(150):
        spoilt = bytearray(whole)
        for _ in range(chance.choice([1, 2, 8, 50])):
            spoilt[chance.randrange(min(len(whole), 300))] = chance.randrange(256)
        path.write_bytes(spoilt[: chance.choice([len(whole), chance.randrange(len(whole))])])
        try:
            dataset_of()[0]
        except (UnreadableFileError, InvalidAnnotationError) as error:
            errors.append(str(error))
    assert len(errors) > 50
    assert all(error.startswith(f"{path}: ") and "\n" not in error for error in errors)
