"""IDD: polygons painted as the published tools do, and the instance images that these write."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trees
from maps import a_map
from PIL import Image

from panscape import LabelSpace
from panscape.datasets import IndiaDriving
from panscape.errors import InvalidAnnotationError, InvalidArgumentError
from panscape.evaluation.evaluate_files import evaluate_files
from panscape.formats import decode_idd
from panscape.recipes.data_options import IddData

LABELS = LabelSpace.load("idd_26")


def rectangle(label: str, left: int, top: int, right: int, bottom: int, **others: object) -> dict[str, object]:
    return {"label": label, "polygon": [[left, top], [right, top], [right, bottom], [left, bottom]], **others}


def test_polygons_cover_earlier_ones_and_labels_of_one_id_are_united():
    objects = [
        rectangle("sky", 0, 0, 6, 1),
        rectangle("fallback background", 0, 1, 6, 1),  # the level-3 id of sky
        rectangle("road", 0, 2, 6, 5),
        rectangle("car", 5, 0, 6, 0),  # covered by the next one
        rectangle("train", 5.0, 0.0, 6.0, 1.0),  # the id of vehicle fallback
        rectangle("person", 0, 2, 1, 3),
        rectangle("animal", 1, 3, 2, 4),  # the id of person; covers a pixel of it
        rectangle("cargroup", 4, 4, 6, 5),
        rectangle("cargroup", 4, 2, 4, 2),  # with the one above one crowd
        rectangle("license plate", 3, 5, 3, 5),  # void
        rectangle("bus", 0, 0, 6, 5, deleted=1),
        {"label": "bus", "polygon": [[0, 0]]},
        {"label": "polegroup", "polygon": [[6, 2], [6, 3]]},  # known, so no group: stuff; two points are a line
    ]
    want = a_map(
        "SSSSSTT\nSSSSSTT\nPPRRCRL\nPAARRRL\nRAARCCC\nRRR.CCC",
        {
            letter: LABELS.index(name)
            for letter, name in zip(
                "SRTPACL", ["sky", "road", "vehicle fallback", "person", "person", "car", "pole"], strict=True
            )
        },
        "C",
    )
    found = decode_idd({"imgHeight": 6, "imgWidth": 7, "objects": objects}, LABELS)
    assert found.equals(want)
    assert int((found.category == LABELS.index("bus")).sum()) == 0


def write_instances(tree: trees.Tree) -> None:
    """Write beside the polygons what the published tools make of them: 16 bits, void 255, road 0."""
    for name, truth in tree.truths.items():
        numbers = np.full(truth.size, 255, np.uint16)
        for row, (category, mask) in enumerate(zip(truth.category.tolist(), truth.masks(), strict=True)):
            is_object = LABELS[category].is_thing and not truth.crowd[row]
            numbers[mask.numpy()] = LABELS[category].source_id * (1000 if is_object else 1) + row * is_object
        polygons = tree.annotations[name]
        Image.fromarray(numbers).save(Path(str(polygons).replace("polygons.json", "instancelevel3Ids.png")))


def test_instance_images_are_read_instead_of_polygons(tmp_path):
    tree = trees.idd(tmp_path, "val")
    drawn = IndiaDriving(tmp_path, "val")
    write_instances(tree)
    for path in tree.annotations.values():
        path.unlink()
    read = IndiaDriving(tmp_path, "val")
    assert [read[i].name for i in range(3)] == ["0_frame0000", "1_frame0000", "2_frame0001"]
    assert all(read.truth_of(i).equals(tree.truths[read[i].name]) for i in range(3))
    assert [replace(pair.truth, file="", content=None) for pair in read._pairs] == [
        replace(pair.truth, file="", content=None) for pair in drawn._pairs
    ]
    Image.fromarray(np.full((48, 72), 26, np.uint8)).save(read._pairs[0].truth.content)
    with pytest.raises(InvalidAnnotationError, match=r"expected level-3 instance ids of IDD, .*, got 26"):
        read.truth_of(0)


def test_files_are_evaluated_in_either_form(tmp_path):
    tree = trees.idd(tmp_path / "a", "val")
    write_instances(trees.idd(tmp_path / "b", "val"))
    scores = evaluate_files(tmp_path / "b/gtFine/val", tmp_path / "a/gtFine/val")
    assert (scores.labels.name, len(scores.records), scores.issues) == ("idd_26", len(tree.truths), ())
    assert scores.report.panoptic.all.pq == 1


def test_images_of_a_split_are_those_of_its_samples(tmp_path):
    for split in ("train", "val"):
        trees.idd(tmp_path, split)
        dataset, images = IddData().load(tmp_path, split), IddData().images(tmp_path, split)
        assert [image.name for image in images] == [dataset[i].name for i in range(len(dataset))]
    with pytest.raises(InvalidArgumentError, match="split 'test' of IDD has no ground truth"):
        IddData().load(tmp_path, "test")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"imgHeight": "tall"}, 'expected "imgHeight" and "imgWidth" as positive integers, got'),
        ({"imgHeight": 10**6, "imgWidth": 10**6}, "the image is larger than the limit"),
        ({"objects": None}, 'expected "objects" as a list of polygons with labels, got'),
        ({"objects": [rectangle("tram", 0, 0, 1, 1)]}, "expected labels of IDD, got .*tram"),
        ({"objects": [rectangle("tramgroup", 0, 0, 1, 1)]}, "expected labels of IDD, got .*tramgroup"),
        ({"objects": [{"label": "car", "polygon": [[0, float("inf")], [1, 1]]}]}, 'expected "polygon" as a list'),
        ({"objects": [rectangle("car", 0, 0, 1, 1, deleted="no")]}, '"deleted" as 0 or 1 of a car'),
    ],
    ids=["size", "huge", "no objects", "label", "group", "point", "deleted"],
)
def test_what_no_tool_writes_is_refused_with_its_file(change, text, tmp_path):
    tree = trees.idd(tmp_path)
    dataset = IndiaDriving(tmp_path, "train")
    path = next(iter(tree.annotations.values()))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises((InvalidAnnotationError, OSError), match=text) as caught:
        dataset.truth_of(0)
    assert str(caught.value).startswith(str(path))
