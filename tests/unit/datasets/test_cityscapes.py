"""Cityscapes: what its reader accepts and refuses, for training as for evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import trees
from PIL import Image

from panscape.datasets import Cityscapes
from panscape.errors import InvalidAnnotationError
from panscape.evaluation.evaluate_files import evaluate_files
from panscape.formats.issues import IssueKind


def test_suffixes_in_another_case_and_deeper_folders(tmp_path):
    tree = trees.cityscapes(tmp_path)
    name = next(iter(tree.truths))
    for paths in (tree.images, tree.annotations):
        path = paths[name]
        (path.parent / "part").mkdir()
        path.rename(path.parent / "part" / path.with_suffix(".PNG").name)
    dataset = Cityscapes(tmp_path, "train")
    assert dataset[0].name == name
    assert dataset[0].truth.equals(tree.truths[name])
    scores = evaluate_files(tmp_path / "gtFine" / "train", tmp_path / "gtFine" / "train")
    assert (len(scores.records), scores.issues) == (3, ())


def test_numbers_of_another_format_are_refused(tmp_path):
    tree = trees.cityscapes(tmp_path)
    path = next(iter(tree.annotations.values()))
    Image.fromarray(np.full((48, 72), 255, np.uint16)).save(path)
    with pytest.raises(InvalidAnnotationError, match=r"_instanceIds\.png: expected instance ids .*, got 255"):
        Cityscapes(tmp_path, "train")[0]
    scores = evaluate_files(tmp_path / "gtFine" / "train", tmp_path / "gtFine" / "train")
    assert {issue.kind for issue in scores.issues} == {IssueKind.CATEGORY}
