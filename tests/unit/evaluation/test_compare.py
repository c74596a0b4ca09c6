"""Comparisons of two runs, and the files they are made from."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from maps import SHAPES, generated_map

from panscape import LabelSpace
from panscape.cli import main
from panscape.errors import InvalidAnnotationError, InvalidArgumentError, UnreadableFileError
from panscape.evaluation.bootstrap import image_sums, small_sample_warning, statistics_of
from panscape.evaluation.compare import compare, summary_rows
from panscape.evaluation.records import record_of
from panscape.evaluation.results import SavedEvaluation, read_results, write_results
from panscape.formats.issues import Issue, IssueKind
from panscape.metrics import PanopticQuality, SemanticIoU
from panscape.metrics.semantic_iou import map_of_semantic

TRUTHS = [generated_map(seed, crowd=True) for seed in range(12)]


def results_of(name: str, seeds: list[int], shift: int) -> SavedEvaluation:
    """Return results of predictions that are the truth moved to the right by ``shift`` columns."""
    records = []
    for seed in seeds:
        truth = TRUTHS[seed]
        prediction = truth.select(~truth.crowd).pad(96, 128 + shift).crop(0, shift, 96, 128)
        records.append(record_of(f"{seed}.png", prediction, truth, SHAPES))
    issues = (Issue("a.png", IssueKind.SIZE, "too small"),)
    return SavedEvaluation(
        Path("runs") / name / "out", Path("truth"), SHAPES, tuple(records), issues, {"images": len(seeds)}
    )


@pytest.fixture(scope="module")
def good() -> SavedEvaluation:
    return results_of("good", list(range(12)), 2)


@pytest.fixture(scope="module")
def bad() -> SavedEvaluation:
    return results_of("bad", list(range(12)), 9)


def test_files_hold_everything(good: SavedEvaluation, tmp_path: Path) -> None:
    write_results(tmp_path / "a.json", good)
    assert read_results(tmp_path / "a.json") == replace(good, summary={"format": "panscape results 1", "images": 12})


def test_other_files_than_results_are_refused(good: SavedEvaluation, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(UnreadableFileError, match="expected results"):
        read_results(path)
    path.write_text("{")
    with pytest.raises(UnreadableFileError, match="expected results"):
        read_results(path)
    path.write_text('{"annotations": []}')
    with pytest.raises(InvalidAnnotationError, match=r"format 'panscape results 1'\), got None"):
        read_results(path)
    write_results(path, good)
    content = json.loads(path.read_text())
    for wrong in (
        {**content, "records": [{}]},
        {**content, "label_space": 3},
        {**content, "issues": [{"file": "a", "kind": "b", "what": "c"}]},
        {**content, "records": [{**content["records"][0], "quality": [[77, 1, 1, 1, 1.0]]}]},
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(InvalidAnnotationError, match=r"a\.json"):
            read_results(path)


def test_a_real_difference_is_more_than_noise(good: SavedEvaluation, bad: SavedEvaluation) -> None:
    comparison = compare(bad, good, samples=300)
    pq = comparison.groups["PQ"]
    for results, value in ((bad, pq.before), (good, pq.after)):
        quality = PanopticQuality(SHAPES)
        for record in results.records:
            for category, *counts in record.quality:
                quality.state[category] += quality.state.new_tensor(counts)
        assert value == pytest.approx(quality.compute().all.pq, abs=1e-12)
    assert pq.change > 0.05
    assert 0 < pq.low < pq.change < pq.high
    assert pq.is_more_than_noise
    assert "higher" in comparison.sentence
    assert "more than noise" in comparison.sentence
    assert (comparison.first, comparison.second) == ("bad/out", "good/out")
    assert comparison.changed[0].change == max(p.change for p in comparison.images)
    assert json.loads(json.dumps(comparison.to_dict()))["panoptic"]["all"]["pq"]["is_more_than_noise"] is True


def test_intervals_are_paired(good: SavedEvaluation, bad: SavedEvaluation) -> None:
    """The same draws of images by a plain loop."""
    comparison = compare(bad, good, samples=100, seed=5)
    generator = np.random.default_rng(5)
    sums = [image_sums(results.records, 4).toarray() for results in (bad, good)]
    changes = []
    for _ in range(100):
        picks = generator.integers(0, 12, 12)
        before, after = (statistics_of(each[picks].sum(0)[None], SHAPES).groups[0, 0, 0] for each in sums)
        changes.append(after - before)
    pq = comparison.groups["PQ"]
    assert (pq.low, pq.high) == pytest.approx(tuple(np.percentile(changes, (2.5, 97.5))), abs=1e-12)


def test_a_run_does_not_differ_from_itself(good: SavedEvaluation) -> None:
    comparison = compare(good, good, samples=50)
    assert not any(d.is_more_than_noise or d.change for d in comparison.groups.values())
    assert comparison.sentence == "PQ is the same."
    assert comparison.changed == []


def test_common_images_are_compared(good: SavedEvaluation) -> None:
    comparison = compare(results_of("few", [3, 4, 5, 6], 9), results_of("others", [5, 6, 7], 2), samples=50)
    assert (comparison.num_images, comparison.num_only_first, comparison.num_only_second) == (2, 2, 1)
    assert "left out: 2 only in the first, 1 only in the second" in comparison.table()


def test_incomparable_results_are_refused(good: SavedEvaluation) -> None:
    with pytest.raises(InvalidArgumentError, match="without a common name"):
        compare(results_of("a", [1], 2), results_of("b", [2], 2))
    others = LabelSpace("others", SHAPES.categories[:3])
    with pytest.raises(InvalidArgumentError, match=r"'shapes' \(4 categories\) and 'others' \(3 categories\)"):
        compare(good, replace(good, labels=others))
    moved = replace(good, records=(replace(good.records[0], name="1.png"), *good.records[2:]))
    with pytest.raises(
        InvalidArgumentError,
        match=r"the same ground truth, .* in 1 of the 11 images in both runs: '1\.png'; evaluate both",
    ):
        compare(good, moved)


def test_truths_with_equal_pixels_of_each_category_are_distinguished(good: SavedEvaluation) -> None:
    """One image has its two objects of a category as one."""
    changed = []
    for record, truth in zip(good.records, TRUTHS, strict=True):
        rows = (truth.category == 2).nonzero().flatten()
        table = torch.arange(truth.num_segments + 1, dtype=torch.int32)
        table[rows + 1] = rows[0].int() + 1
        other = replace(truth, ids=table[truth.ids.long()]) if len(rows) > 1 else truth
        changed.append(record_of(record.name, other, other, SHAPES))
    assert sum(len((truth.category == 2).nonzero()) > 1 for truth in TRUTHS) > 6
    with pytest.raises(InvalidArgumentError, match=r"images in both runs: '\d+\.png'(, '\d+\.png'){4} and \d+ more"):
        compare(good, replace(good, records=tuple(changed)))


@pytest.mark.parametrize(
    ("protocol", "note"),
    [
        ("coco", ""),
        ("seamseg", "Means are over the categories that occur; the protocol seamseg counts others with 0."),
        ("yolo_panoptic", "Means are over the categories that occur; the protocol yolo_panoptic pools their segments."),
    ],
)
def test_means_that_are_not_those_of_the_protocol_are_noted(good: SavedEvaluation, protocol: str, note: str) -> None:
    assert replace(compare(good, good), protocol=protocol).note == note


def test_few_images_are_reported(good: SavedEvaluation) -> None:
    comparison = compare(good, good, samples=10)
    assert comparison.table().splitlines()[-1].startswith("Caution: only 12 images.")
    assert small_sample_warning(1).startswith("Caution: only one image.")
    assert small_sample_warning(19)
    assert small_sample_warning(20) == ""


def test_command_prints_a_table(
    good: SavedEvaluation, bad: SavedEvaluation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path / "a.json", bad)
    write_results(tmp_path / "b.json", good)
    assert main(["evaluate", "--compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("12 images; first: a.json, second: b.json\n")
    assert "more than noise" in printed
    write_results(tmp_path / "a.json", replace(bad, records=bad.records[:1]))
    assert main(["evaluate", "--compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    assert capsys.readouterr().out.startswith("1 image; first: a.json, second: b.json; left out: 0 only in the first")


def test_semantic_heads_are_compared_where_both_runs_have_one(
    good: SavedEvaluation, bad: SavedEvaluation, tmp_path: Path
) -> None:
    assert list(compare(good, bad).groups)[-1] == "mIoU"

    def with_head(results: SavedEvaluation, shift: int) -> SavedEvaluation:
        records = []
        for record, truth in zip(results.records, TRUTHS, strict=True):
            semantic = truth.semantic(void=0).roll(shift, dims=1)
            of_head = record_of("x", truth, truth, SHAPES, semantic=semantic).head_confusion
            records.append(replace(record, head_confusion=of_head))
        return replace(results, records=tuple(records))

    first, second = with_head(good, 4), with_head(bad, 0)
    assert list(compare(good, second).groups)[-1] == "map mIoU"
    found = compare(first, second).groups
    metric = SemanticIoU(SHAPES)
    for truth in TRUTHS:
        metric.update(map_of_semantic(truth.semantic(void=0).roll(4, dims=1), SHAPES), truth)
    head = found["head mIoU"]
    assert head.before == pytest.approx(metric.compute().mean_iou)
    assert head.after == 1
    assert head.is_more_than_noise
    assert found["map mIoU"].change < 0
    write_results(tmp_path / "head.json", first)
    assert read_results(tmp_path / "head.json").records == first.records


def test_a_row_of_runs_names_the_output_of_each_miou(good: SavedEvaluation) -> None:
    def with_mious(**mious: float) -> SavedEvaluation:
        return replace(
            good, summary={"panoptic": {"all": {"pq": 0.5}}} | {k: {"mean_iou": v} for k, v in mious.items()}
        )

    maps, both = with_mious(semantic=0.25), with_mious(semantic=0.25, semantic_head=0.75)
    assert summary_rows({"a": maps, "b": maps}) == (["PQ", "mIoU"], {"a": [0.5, 0.25], "b": [0.5, 0.25]})
    columns, rows = summary_rows({"a": maps, "b": both})
    assert columns == ["PQ", "map mIoU", "head mIoU"]
    assert rows["a"] == pytest.approx([0.5, 0.25, math.nan], nan_ok=True)
    assert rows["b"] == [0.5, 0.25, 0.75]
