"""A detector's own categories against the table for COCO and Cityscapes."""

from __future__ import annotations

import pytest
import torch

from panscape import LabelSpace
from panscape.errors import InvalidArgumentError
from panscape.representations.masked_boxes import categories, match_categories, thing_prob

COCO = [category.name for category in LabelSpace.load("coco_panoptic") if category.is_thing]


def test_a_detector_of_coco_finds_all_things_of_cityscapes_but_riders() -> None:
    labels = LabelSpace.load("cityscapes")
    assert len(COCO) == 80
    found = dict(zip((labels[i].name for i in labels.thing_ids), match_categories(COCO, labels), strict=True))
    expected = {"person": 0, "bicycle": 1, "car": 2, "motorcycle": 3, "bus": 5, "train": 6, "truck": 7, "rider": -1}
    assert found == expected


def test_a_detector_of_the_same_things_is_used_as_it_is() -> None:
    assert match_categories(COCO, LabelSpace.load("coco_panoptic")) == tuple(range(80))


def test_names_of_darknets_file_are_those_of_coco() -> None:
    darknet = list(COCO)
    renamed = {3: "motorbike", 4: "aeroplane", 57: "sofa", 58: "pottedplant", 60: "diningtable", 62: "tvmonitor"}
    for place, name in renamed.items():
        darknet[place] = name
    for labels in (LabelSpace.load("coco_panoptic"), LabelSpace.load("cityscapes")):
        assert match_categories(darknet, labels) == match_categories(COCO, labels)


def test_things_without_a_category_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    categories._note_missing.cache_clear()
    for _ in range(2):
        match_categories(["car", "Sign", "bus"], LabelSpace.load("camvid"))
        match_categories(COCO, LabelSpace.load("coco_panoptic"))
    expected = "the detector has no category for things of camvid and never detects them: sign, pedestrian, bicyclist"
    assert caplog.messages == [expected]


def test_probabilities_follow_their_category_and_are_0_without_one() -> None:
    prob = torch.arange(1.0, 7).view(2, 3) / 10
    assert thing_prob(prob, (2, -1, 0, 2)).tolist() == torch.tensor([[3.0, 0, 1, 3], [6, 0, 4, 6]]).div(10).tolist()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", "dog"], r"expected a detector of things of cityscapes \(person, .*\), got one of cat, dog; use"),
        ([], r"expected a detector of things of cityscapes"),
        (["car", "car"], r"expected distinct names of the detector's categories, got \['car', 'car'\]"),
    ],
)
def test_detectors_that_do_not_fit_are_an_error(names: list[str], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        match_categories(names, LabelSpace.load("cityscapes"))
