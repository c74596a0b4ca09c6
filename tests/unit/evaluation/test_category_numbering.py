"""Predictions that equal the ground truth, but number their categories otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from maps import SHAPES
from scored_files import array_segments, coco_content, several_maps, write_array, write_coco, write_instance_ids

from panscape import LabelSpace, PanopticMap
from panscape.errors import InvalidAnnotationError, InvalidArgumentError, UnknownNameError
from panscape.evaluation.evaluate_files import evaluate_files
from panscape.evaluation.options import ReadingOptions
from panscape.formats.issues import IssueKind

CITYSCAPES = LabelSpace.load("cityscapes")


def numbered(labels: LabelSpace, ids: Any) -> LabelSpace:
    return LabelSpace(labels.name, tuple(replace(c, source_id=n) for c, n in zip(labels, ids, strict=False)))


def written(path: Path, maps: dict[str, PanopticMap], labels: LabelSpace, *, lists_names: bool = True) -> Path:
    content = coco_content(maps, labels)
    if not lists_names:
        content = content["annotations"]
    return write_coco(path, maps, labels, content=content)


CASES = {
    # name: label space, ids of the ground truth and of the predictions, whether these list names, value of --label-ids
    "train ids against label ids": (CITYSCAPES, [c.source_id for c in CITYSCAPES], range(19), False, "index"),
    "label ids against train ids": (CITYSCAPES, range(19), [c.source_id for c in CITYSCAPES], False, "cityscapes"),
    "from 0 against from 1": (SHAPES, range(1, 5), range(4), False, "index"),
    "from 1 against from 0": (SHAPES, range(4), range(1, 5), False, "index1"),
    "positions against dataset ids": (SHAPES, [11, 26, 50, 99], range(4), False, "index"),
    "renumbered, with names": (SHAPES, [1, 2, 3, 4], [1, 4, 2, 3], True, "names"),
}


@pytest.mark.parametrize("case", CASES)
def test_another_numbering_is_named_with_its_option(tmp_path: Path, case: str) -> None:
    labels, of_truth, of_predictions, lists_names, option = CASES[case]
    maps = several_maps(12)
    truth = written(tmp_path / "truth.json", maps, numbered(labels, of_truth))
    path = written(tmp_path / "predictions.json", maps, numbered(labels, of_predictions), lists_names=lists_names)
    scores = evaluate_files(path, truth)
    assert scores.report.panoptic.all.pq < 0.5
    assert scores.num_issues
    assert scores.issues[0].kind is IssueKind.NUMBERING
    assert f"with --label-ids {option} " in scores.issues[0].what
    scores = evaluate_files(path, truth, reading=ReadingOptions(label_ids=option))
    assert (scores.report.panoptic.all.pq, scores.num_issues) == (1, 0)
    with pytest.raises(InvalidAnnotationError):
        evaluate_files(path, truth, reading=ReadingOptions(strict=True))


def test_instance_ids_against_train_ids(tmp_path: Path) -> None:
    maps = {f"ulm_00000{name}_000019": m for name, m in several_maps().items()}
    maps = {name: PanopticMap(m.ids, m.category + 11).compact() for name, m in maps.items()}  # person to bus, things
    truth = written(tmp_path / "truth.json", maps, numbered(CITYSCAPES, range(19)))
    folder = write_instance_ids(tmp_path / "gtFine", maps, CITYSCAPES)
    assert "with --label-ids names 20 agree" in evaluate_files(folder, truth).issues[0].what
    assert evaluate_files(folder, truth, reading=ReadingOptions(label_ids="names")).report.panoptic.all.pq == 1


def test_an_option_that_is_not_needed(tmp_path: Path) -> None:
    labels = numbered(CITYSCAPES, range(50, 69))
    truth = written(tmp_path / "truth.json", several_maps(), labels)
    issues = evaluate_files(truth, truth, reading=ReadingOptions(label_ids="coco_panoptic")).issues
    assert "0 of 20 overlapping segments of 4 images agree; without --label-ids 20 agree; omit it" in issues[0].what
    assert all("'truth' (-" not in issue.what for issue in issues)
    assert any("of label space 'truth' (" in issue.what for issue in issues)


def test_arrays_with_dataset_ids(tmp_path: Path) -> None:
    maps = several_maps()
    truth = written(tmp_path / "truth.json", maps, SHAPES)
    for name, panoptic in maps.items():
        segments = [{**s, "label_id": SHAPES[s["label_id"]].source_id} for s in array_segments(panoptic)]
        write_array(tmp_path / "arrays" / f"{name}.npz", panoptic.ids.numpy(), segments)
    what = evaluate_files(tmp_path / "arrays", truth).issues[0].what
    assert "0 of 20 overlapping segments of 4 images agree; with --label-ids dataset 20 agree; use it" in what


def test_a_truth_of_positions_without_categories(tmp_path: Path) -> None:
    path = written(tmp_path / "truth.json", several_maps(), numbered(CITYSCAPES, range(19)), lists_names=False)
    with pytest.raises(InvalidAnnotationError, match="for train ids or other positions use --label-ids index"):
        evaluate_files(path, path, reading=ReadingOptions("cityscapes"))
    scores = evaluate_files(path, path, reading=ReadingOptions("cityscapes", label_ids="index"))
    assert (scores.report.panoptic.all.pq, scores.num_issues) == (1, 0)


def test_an_unknown_renumbering_is_listed(tmp_path: Path) -> None:
    maps = several_maps(12)
    truth = written(tmp_path / "truth.json", maps, SHAPES)
    other = numbered(SHAPES, [40, 30, 20, 10])
    path = written(tmp_path / "predictions.json", maps, other, lists_names=False)
    issue = evaluate_files(path, truth).issues[0]
    listed = ", ".join(f"{c.source_id} ({c.name})" for c in reversed(other.categories))
    assert f"seem to have others: {listed}; renumber them, or give their label space as JSON" in issue.what
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps(other.to_dict()))
    assert evaluate_files(path, truth, reading=ReadingOptions(label_ids=str(labels))).report.panoptic.all.pq == 1


def test_poor_predictions_are_not_taken_for_renumbered_ones(tmp_path: Path) -> None:
    maps = several_maps(12)
    generator = np.random.default_rng(0)
    poor = {
        name: PanopticMap(m.ids, torch.from_numpy(generator.integers(0, 4, len(m)))).compact()
        for name, m in maps.items()
    }
    truth = written(tmp_path / "truth.json", maps, SHAPES)
    scores = evaluate_files(written(tmp_path / "p.json", poor, SHAPES), truth)
    assert scores.report.panoptic.all.pq < 0.5
    assert scores.num_issues == 0


def test_a_truth_without_segments(tmp_path: Path) -> None:
    truth = written(tmp_path / "truth.json", {"1": PanopticMap.empty((24, 32))}, SHAPES)
    scores = evaluate_files(written(tmp_path / "predictions.json", several_maps(1), SHAPES), truth)
    assert [issue.kind for issue in scores.issues] == [IssueKind.NO_SEGMENTS]
    assert "got only void and crowds in all 1 images" in scores.issues[0].what
    assert scores.num_issues == 1


def test_values_of_the_option(tmp_path: Path) -> None:
    maps = several_maps()
    truth = written(tmp_path / "truth.json", maps, SHAPES)
    results = written(tmp_path / "results.json", maps, SHAPES, lists_names=False)
    with pytest.raises(UnknownNameError, match=r"value of --label-ids 'position'; known: .*, index, index1, names, "):
        evaluate_files(truth, truth, reading=ReadingOptions(label_ids="position"))
    with pytest.raises(InvalidArgumentError, match="expected predictions that list 'categories'"):
        evaluate_files(results, truth, reading=ReadingOptions(label_ids="names"))
    with pytest.raises(InvalidArgumentError, match="of which none has the same name: street, permeable area"):
        evaluate_files(truth, truth, reading=ReadingOptions(label_ids="bsb"))
