"""Whatever is in the JSON of a dataset: samples, or one error of panscape that names the file, never a traceback."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trees
from spoilt import cut, double, flip, spoil_json

from panscape.datasets import CocoPanoptic, PanopticDataset, bsb, from_folder, vistas
from panscape.datasets.coco_panoptic import coco_images
from panscape.datasets.load import categories_of, load_sample
from panscape.errors import BadSampleError, PanscapeError

NUM_SPOILT = 100


class Case(NamedTuple):
    """A reader of a dataset with a JSON.

    Attributes:
        json: path of the JSON in the folder.
        write: writes the folder.
        open: opens it.
    """

    json: str
    write: Callable[[Path], Any]
    open: Callable[[Path], Any]


CASES = {
    "coco_panoptic": Case(
        "panoptic.json",
        trees.coco_panoptic,
        lambda root: CocoPanoptic(root / "panoptic.json", root / "panoptic", root / "images"),
    ),
    "vistas": Case("training/panoptic/panoptic_2018.json", trees.vistas, lambda root: vistas(root, "train")),
    "bsb": Case("annotations/panoptic_train.json", trees.bsb, lambda root: bsb(root, "train")),
    "own_coco": Case("annotations/panoptic_train.json", trees.own_coco, lambda root: from_folder(root, "train")),
    "own_masks": Case("categories.json", trees.own_masks, lambda root: from_folder(root, "train")),
    "images": Case(
        "annotations/image_info_test2017.json",
        lambda root: trees.coco_test(root, "test"),
        lambda root: coco_images(root, "test"),
    ),
}


def spoilt_texts(text: bytes, count: int) -> Iterator[bytes]:
    chance = random.Random(0)
    content = json.loads(text)
    for _ in range(count):
        if chance.randrange(4):
            yield spoil_json(chance, content).encode()
        else:
            yield chance.choice([flip, cut, double])(chance, text)


@pytest.mark.parametrize("name", CASES)
def test_a_spoilt_json_gives_samples_or_one_error(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    case.write(tmp_path)
    path = tmp_path / case.json
    errors: list[str] = []
    num_opened = 0
    for text in spoilt_texts(path.read_bytes(), NUM_SPOILT):
        path.write_bytes(text)
        try:
            dataset = case.open(tmp_path)
        except PanscapeError as error:
            errors.append(str(error))
            continue
        num_opened += 1
        if not isinstance(dataset, PanopticDataset):
            continue
        assert len(categories_of(dataset, on_error="skip")) == len(dataset)
        for index in range(len(dataset)):
            try:
                load_sample(dataset, index)
            except BadSampleError as error:
                errors.append(str(error))
    assert len(errors) > NUM_SPOILT / 10
    assert num_opened > 0
    assert all(str(tmp_path) in error and "\n" not in error for error in errors)
