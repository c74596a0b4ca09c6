"""Ground truth in the label space of a model."""

from __future__ import annotations

import logging

import pytest
import torch
import trees
from maps import SHAPES

from panscape import LabelSpace
from panscape.datasets import SemanticMaskDataset
from panscape.datasets.relabeled import relabeled
from panscape.errors import InvalidArgumentError

MODEL = LabelSpace.from_names("model", things=["Sky", "disc"], stuff=["lake", "BOX"])  # 0, 1; 2, 3


@pytest.fixture
def dataset(tmp_path):
    trees.category_masks(tmp_path)
    return SemanticMaskDataset(tmp_path / "images/train", tmp_path / "labels/train", SHAPES)


def test_categories_correspond_by_name(dataset, caplog):
    with caplog.at_level(logging.INFO):
        found = relabeled(dataset, MODEL)
    assert [record.getMessage() for record in caplog.records] == [
        "3 of the 4 categories of 'shapes' are those of the model, 'model', by name: sky = Sky, disc = disc, box = "
        "BOX; void: ground; not in the data: lake; crowds, as they are things of the model only: sky; "
        "stuff of the model only: box"
    ]
    assert (found.labels, len(found)) == (MODEL, 3)
    old, new = dataset[0], found[0]  # "AAAAAA\nABADAC\nEEEDEC\nEEEE..", A is sky, B and D discs, C box, E ground
    assert (new.name, torch.equal(new.image, old.image)) == (old.name, True)
    was, now = (sample.truth.semantic(void=9) for sample in (old, new))
    for before, after in {0: 0, 1: 9, 2: 1, 3: 3, 9: 9}.items():
        assert now[was == before].unique().tolist() == [after]
    truth = new.truth
    assert sorted(zip(truth.category.tolist(), truth.crowd.tolist(), truth.areas().tolist(), strict=True)) == [
        (0, True, 9 * 144),
        (1, False, 144),
        (1, False, 2 * 144),
        (3, False, 2 * 144),
    ]


def test_objects_of_stuff_of_the_model_are_one_segment(dataset):
    stuff = LabelSpace.from_names("stuff", things=[], stuff=["disc"])
    truth = relabeled(dataset, stuff)[0].truth
    assert (truth.category.tolist(), truth.areas().tolist(), truth.crowd) == ([0], [3 * 144], None)


def test_the_same_label_space_changes_nothing(dataset):
    assert relabeled(dataset, SHAPES) is dataset


def test_no_common_name_is_refused(dataset):
    with pytest.raises(InvalidArgumentError) as caught:
        relabeled(dataset, LabelSpace.load("bsb"))
    assert str(caught.value) == (
        "expected data with categories of the model, 'bsb': street, permeable area, lake, swimming pool, harbor and 9 "
        "more; got those of 'shapes', of which none has the same name: sky, ground, disc, box; rename them, or use a "
        "model that was trained for this data"
    )
