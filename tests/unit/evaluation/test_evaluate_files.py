"""Scores of files: numbers equal to those of maps in memory, whatever the form, and a line for all that is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trees
from maps import SHAPES
from PIL import Image
from scored_files import (
    array_segments,
    coco_annotation,
    coco_content,
    one_stuff_each,
    several_maps,
    worse,
    write_array,
    write_coco,
    write_instance_ids,
)

from panscape import LabelSpace, PanopticMap
from panscape.errors import InvalidAnnotationError, InvalidArgumentError, UnknownNameError, UnreadableFileError
from panscape.evaluation.evaluate_files import FileEvaluation, evaluate_files
from panscape.evaluation.options import EvaluationOptions, ReadingOptions
from panscape.evaluation.records import record_of
from panscape.formats.issues import IssueKind
from panscape.formats.reading.pairing import find_source
from panscape.metrics import (
    CITYSCAPES_AVERAGE_SIZES,
    PROTOCOLS,
    BoundaryPanopticQuality,
    InstanceAP,
    InstanceIoU,
    PanopticQuality,
    SemanticIoU,
    average_sizes,
    size_percentiles,
)
from panscape.metrics.evaluator import Evaluator


def in_memory(
    predictions: dict[str, PanopticMap], truths: dict[str, PanopticMap], protocol: str = "coco"
) -> tuple[dict[str, Any], dict[str, Any]]:
    quality, semantic = PanopticQuality(SHAPES, protocol), SemanticIoU(SHAPES)
    for name, truth in truths.items():
        prediction = predictions.get(name, PanopticMap.empty(truth.size))
        quality.update(prediction, truth)
        semantic.update(prediction, truth)
    return quality.compute().to_dict(), semantic.compute().to_dict()


def in_arrays(predictions: dict[str, PanopticMap], truths: dict[str, PanopticMap]) -> tuple[dict[str, Any], Any]:
    return in_memory({name: one_stuff_each(panoptic) for name, panoptic in predictions.items()}, truths)


def reports(scores: FileEvaluation) -> tuple[dict[str, Any], dict[str, Any]]:
    content = scores.to_dict()
    return content["panoptic"], content["semantic"]


def kinds(scores: FileEvaluation) -> list[IssueKind]:
    return [issue.kind for issue in scores.issues]


@pytest.fixture
def truths() -> dict[str, PanopticMap]:
    return several_maps(crowd=True)


@pytest.fixture
def predictions(truths: dict[str, PanopticMap]) -> dict[str, PanopticMap]:
    return worse({name: PanopticMap(m.ids, m.category) for name, m in truths.items()})


@pytest.fixture
def truth(tmp_path: Path, truths: dict[str, PanopticMap]) -> Path:
    return write_coco(tmp_path / "truth.json", truths)


class TestForms:
    def test_coco_of_coco(self, tmp_path: Path, truth: Path, truths: Any, predictions: Any) -> None:
        path = write_coco(tmp_path / "predictions.json", predictions, factor=3)
        scores = evaluate_files(path, truth)
        assert reports(scores) == in_memory(predictions, truths)
        assert 0 < scores.report.panoptic.all.pq < 1
        assert scores.issues == ()
        assert [record.name for record in scores.records] == ["1", "2", "3", "4"]
        assert scores.labels.categories[0].source_id == SHAPES[0].source_id
        for name, (prediction, true) in ((n, scores.maps_of(n)) for n in truths):
            assert prediction.equals(predictions[name])
            assert true.equals(truths[name])

    @pytest.mark.parametrize("protocol", ["deeplab2", "torchmetrics", "seamseg"])
    def test_other_rules(self, tmp_path: Path, truth: Path, truths: Any, predictions: Any, protocol: str) -> None:
        path = write_coco(tmp_path / "predictions.json", predictions)
        scores = evaluate_files(path, truth, options=EvaluationOptions(protocol=protocol, boundary=True))
        assert reports(scores) == in_memory(predictions, truths, protocol)
        boundary = BoundaryPanopticQuality(SHAPES, protocol=protocol)
        for name, true in truths.items():
            boundary.update(predictions[name], true)
            assert scores.protocol_of(name) == PROTOCOLS[protocol]
            assert scores.records[int(name) - 1] == record_of(name, predictions[name], true, SHAPES, protocol=protocol)
        assert scores.to_dict()["boundary"] == boundary.compute().to_dict()

    def test_a_bare_list_with_pngs_elsewhere(self, tmp_path: Path, truth: Path, truths: Any, predictions: Any) -> None:
        content = coco_content(predictions, SHAPES)["annotations"]
        for annotation in content:
            for segment in annotation["segments_info"]:
                del segment["area"], segment["iscrowd"]
                segment["isthing"] = True  # as detectron2 writes it; the truth's categories decide
        path = write_coco(tmp_path / "results.json", predictions, content=content, pngs=tmp_path / "elsewhere")
        scores = evaluate_files(path, truth, reading=ReadingOptions(pred_dir=tmp_path / "elsewhere"))
        assert reports(scores) == in_memory(predictions, truths)
        assert scores.issues == ()

    def test_a_folder_with_json_and_pngs_in_it(
        self, tmp_path: Path, truth: Path, truths: Any, predictions: Any
    ) -> None:
        write_coco(tmp_path / "out" / "predictions.json", predictions, pngs=tmp_path / "out")
        assert reports(evaluate_files(tmp_path / "out", truth)) == in_memory(predictions, truths)

    def test_image_ids_as_text(self, tmp_path: Path, truth: Path, truths: Any, predictions: Any) -> None:
        content = coco_content(predictions, SHAPES)
        for annotation in content["annotations"]:
            annotation["image_id"] = f"00000{annotation['image_id']}"
        path = write_coco(tmp_path / "predictions.json", predictions, content=content)
        assert reports(evaluate_files(path, truth)) == in_memory(predictions, truths)

    def test_other_image_ids_are_noted(self, tmp_path: Path, truth: Path, truths: Any, predictions: Any) -> None:
        content = coco_content(predictions, SHAPES)
        for annotation in content["annotations"]:
            annotation["image_id"] += 1000
        path = write_coco(tmp_path / "predictions.json", predictions, content=content)
        scores = evaluate_files(path, truth)
        assert reports(scores) == in_memory(predictions, truths)
        assert [issue.what for issue in scores.issues] == [
            f"expected the image ids of {truth}, got '1001' instead of '1', '1002' instead of '2', '1003' instead of "
            "'3', '1004' instead of '4'; images are paired by file name"
        ]
        assert scores.num_issues == 0

    @pytest.mark.parametrize("ending", [".npz", ".npy"])
    def test_arrays(self, tmp_path: Path, truth: Path, truths: Any, predictions: Any, ending: str) -> None:
        predictions["1"].category[:2] = 0  # two segments of one stuff category
        for name, panoptic in predictions.items():
            write_array(tmp_path / "arrays" / f"0000{name}{ending}", panoptic.ids.numpy(), array_segments(panoptic))
        scores = evaluate_files(tmp_path / "arrays", truth)
        assert reports(scores) == in_arrays(predictions, truths)
        assert set(kinds(scores)) == {IssueKind.PIECES}
        assert scores.num_issues == 0
        assert "several segments of" in scores.issues[0].what

    def test_arrays_with_source_ids(self, tmp_path: Path, truth: Path, truths: Any, predictions: Any) -> None:
        for name, panoptic in predictions.items():
            segments = [{**s, "label_id": SHAPES[s["label_id"]].source_id} for s in array_segments(panoptic)]
            write_array(tmp_path / "arrays" / f"{name}.npz", panoptic.ids.numpy(), segments)
        assert reports(
            evaluate_files(tmp_path / "arrays", truth, reading=ReadingOptions(label_ids="dataset"))
        ) == in_arrays(predictions, truths)

    def test_cityscapes(self, tmp_path: Path, truths: Any, predictions: Any) -> None:
        def city(maps: dict[str, PanopticMap]) -> dict[str, PanopticMap]:
            names = ["bad-honnef_000001_000019", "aachen_000000_000019", "aachen_000000_000020", "ulm_000002_000019"]
            one_stuff_each = {}
            for name, panoptic in zip(names, maps.values(), strict=True):
                plain = PanopticMap(panoptic.ids, panoptic.category)
                one_stuff_each[name] = plain.select(~torch.isin(plain.category, torch.tensor(SHAPES.stuff_ids[1:])))
            return one_stuff_each

        labels = tmp_path / "labels.json"
        labels.write_text(json.dumps(SHAPES.to_dict()))
        truths, predictions = city(truths), city(predictions)
        for maps in (truths, predictions):  # in the files, stuff of one category is one segment
            for name, panoptic in maps.items():
                first = {c: int((panoptic.category == c).nonzero()[0]) for c in set(panoptic.category.tolist()) & {0}}
                table = torch.arange(panoptic.num_segments + 1, dtype=torch.int32)
                for row, c in enumerate(panoptic.category.tolist()):
                    table[row + 1] = first.get(c, row) + 1
                maps[name] = PanopticMap(table[panoptic.ids.long()], panoptic.category).compact()
        write_instance_ids(tmp_path / "gtFine", truths)
        expected = in_memory(predictions, truths)
        of_ids = write_instance_ids(tmp_path / "ids", predictions, ending="_leftImg8bit_instanceIds")
        scores = evaluate_files(of_ids, tmp_path / "gtFine", reading=ReadingOptions(str(labels)))
        assert reports(scores) == in_memory(predictions, dict(sorted(truths.items())))
        assert scores.issues == ()
        assert [record.name for record in scores.records] == sorted(truths)
        # cityscapesScripts' panoptic format: image_id is city_sequence_frame, the PNG has an ending.
        content = coco_content({f"{name}_gtFine_panoptic": m for name, m in predictions.items()}, SHAPES)
        for annotation in content["annotations"]:
            annotation["image_id"] = annotation["image_id"].removesuffix("_gtFine_panoptic")
        renamed = {f"{name}_gtFine_panoptic": m for name, m in predictions.items()}
        path = write_coco(tmp_path / "panoptic.json", renamed, content=content)
        assert reports(evaluate_files(path, tmp_path / "gtFine", reading=ReadingOptions(str(labels)))) == reports(
            scores
        )
        assert {name: v["tp"] for name, v in reports(evaluate_files(of_ids, path))[0]["per_category"].items()} == {
            name: v["tp"] for name, v in in_memory(predictions, predictions)[0]["per_category"].items()
        }
        assert expected[0]["all"]["num_categories"] == reports(scores)[0]["all"]["num_categories"]
        # Numbers of the JSON that say nothing, as of tools that count images: names decide.
        for number, annotation in enumerate(content["annotations"]):
            annotation["image_id"] = number
        path = write_coco(tmp_path / "counted.json", renamed, content=content)
        assert reports(evaluate_files(path, tmp_path / "gtFine", reading=ReadingOptions(str(labels)))) == reports(
            scores
        )

    def test_semantic_masks(self, tmp_path: Path) -> None:
        tree = trees.category_masks(tmp_path / "data", split="val")
        (tmp_path / "data" / "categories.json").write_text(json.dumps(SHAPES.to_dict()))
        reading = ReadingOptions(str(tmp_path / "data" / "categories.json"))
        truth, predictions = tmp_path / "data" / "labels" / "val", tmp_path / "predicted"
        shutil.copytree(truth, predictions)
        numbers = np.array(Image.open(predictions / "000002.png"))
        numbers[numbers == SHAPES["disc"].source_id] = 255
        Image.fromarray(numbers).save(predictions / "000002.png")
        is_disc = tree.truths["000002"].category == SHAPES.index("disc")
        scores = evaluate_files(predictions, truth)
        without_disc = {**tree.truths, "000002": tree.truths["000002"].select(~is_disc)}
        assert reports(scores) == in_memory(without_disc, tree.truths)
        assert scores.report.panoptic.per_category["disc"].fn == is_disc.sum() == 1
        assert scores.issues == ()
        Image.fromarray(np.where(numbers == 255, 99, numbers).astype(np.uint8)).save(predictions / "000002.png")
        unknown = evaluate_files(predictions, truth)
        assert reports(unknown) == reports(scores), "a number without category is void, the rest of the image counts"
        assert kinds(unknown) == [IssueKind.CATEGORY]
        assert f"got 99 in {(numbers == 255).sum()} of {numbers.size} pixels; use their" in unknown.issues[0].what
        assert [image for image, _ in evaluate_files(truth, predictions, reading=reading).skipped] == ["000002"]
        Image.fromarray(numbers).save(predictions / "000002.png")
        with pytest.raises(InvalidArgumentError, match="in the ground truth, found none in semantic masks"):
            evaluate_files(truth, predictions)
        without_void = evaluate_files(predictions, predictions, reading=replace(reading, void=-1))
        assert "'shapes' (7, 11, 24, 26), got 255 in " in str(without_void.skipped)
        without_objects = evaluate_files(truth, truth, reading=ReadingOptions(min_area=1000))
        assert without_objects.report.panoptic.things.num_categories == 0

    def test_categories_of_one_color_get_one_note(self, tmp_path: Path, truths: Any) -> None:
        content = coco_content(truths, SHAPES)
        for category in content["categories"][:2]:
            category["color"] = [9, 9, 9]
        path = write_coco(tmp_path / "t.json", truths, content=content)
        scores = evaluate_files(path, path)
        assert kinds(scores) == [IssueKind.COLORS]
        assert scores.issues[0].what.startswith("expected a color for each category, got one for sky = ground;")
        assert scores.num_issues == 0

    def test_masks_of_one_number_and_255_get_one_note(self, tmp_path: Path) -> None:
        for name in "ab":
            Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / f"{name}.png")
        labels = tmp_path / "categories.json"
        for content, notes in ((["ground", "object"], 2), ({"0": "ground", "255": "object"}, 0)):
            labels.write_text(json.dumps(content))
            scores = evaluate_files(tmp_path, tmp_path)
            assert kinds(scores) == [IssueKind.VOID] * notes, "one of the predictions and one of the truth"
            assert scores.num_issues == 0
            assert scores.report.panoptic.all.num_categories == (1 if notes else 2)
        labels.write_text('["ground", "object"]')
        assert kinds(evaluate_files(tmp_path, tmp_path, reading=ReadingOptions(void=255))) == []
        labels.write_text("[{}]")
        with pytest.raises(
            InvalidAnnotationError, match=r"categories\.json: expected 'source_id' of every category as"
        ):
            evaluate_files(tmp_path, tmp_path)
        assert len(evaluate_files(tmp_path, tmp_path, reading=ReadingOptions("aerial")).records) == 2

    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_a_mask_that_is_no_mask_is_one_issue(self, tmp_path: Path, mode: str) -> None:
        tree = trees.category_masks(tmp_path)
        (tmp_path / "categories.json").write_text(json.dumps(SHAPES.to_dict()))
        shutil.copytree(tmp_path / "labels", tmp_path / "predicted")
        path = tmp_path / "predicted" / "train" / "000001.png"
        noise = np.random.default_rng(0).integers(0, 255, (48, 72, 3), np.uint8)
        Image.fromarray(noise).convert(mode).save(path)
        (tmp_path / "predicted" / "train" / "000002.png").unlink()
        scores = evaluate_files(tmp_path / "predicted", tmp_path / "labels" / "train")
        assert kinds(scores) == [
            IssueKind.UNREADABLE if mode == "RGB" else IssueKind.CATEGORY,
            IssueKind.MISSING_PREDICTION,
        ]
        tp = sum(quality.tp for quality in scores.report.panoptic.per_category.values())
        assert tp == tree.truths["000010"].num_segments

    def test_the_boundary(self, tmp_path: Path) -> None:
        truth = write_coco(tmp_path / "truth.json", several_maps())
        scores = evaluate_files(truth, truth, options=EvaluationOptions(boundary=True))
        assert scores.report.boundary is not None
        assert scores.to_dict()["boundary"]["all"]["pq"] == scores.report.boundary.all.pq == 1
        assert "boundary quality" in str(scores)


def test_average_precision(tmp_path: Path, truth: Path, truths: Any, predictions: Any) -> None:
    content = coco_content(predictions, SHAPES)
    for annotation in content["annotations"]:
        panoptic = predictions[str(annotation["image_id"])]
        for segment, value in zip(annotation["segments_info"], panoptic.score.tolist(), strict=True):
            segment["score"] = value
    path = write_coco(tmp_path / "predictions.json", predictions, content=content)
    metric = InstanceAP(SHAPES)
    for name, prediction in predictions.items():
        metric.update(prediction, truths[name])
    assert (
        evaluate_files(path, truth, options=EvaluationOptions(ap=True)).to_dict()["instances"]
        == metric.compute().to_dict()
    )
    scores = evaluate_files(path, truth, reading=ReadingOptions(threads=3), options=EvaluationOptions(ap_sizes=True))
    sizes = size_percentiles(metric.object_areas())
    assert len(sizes) > 3
    by_size = {**metric.compute().to_dict()["by_size"], **metric.compute(sizes).to_dict()["by_size"]}
    assert scores.to_dict()["instances"]["by_size"] == by_size
    assert all(name in str(scores) for name in sizes)
    path = write_coco(tmp_path / "predictions.json", predictions)
    with pytest.raises(InvalidArgumentError, match=r'1\.png: expected a "score" .* into segments_info .* omit --ap'):
        evaluate_files(path, truth, options=EvaluationOptions(ap=True))


def test_instance_ids_have_no_scores_for_average_precision(tmp_path: Path) -> None:
    cityscapes = LabelSpace.load("cityscapes")
    maps = {"a_000000_000000": PanopticMap(torch.ones(8, 8, dtype=torch.int32), torch.tensor([13]))}
    folder = write_instance_ids(tmp_path / "gtFine", maps, cityscapes)
    with pytest.raises(InvalidArgumentError, match="Cityscapes instance ids have no"):
        evaluate_files(folder, folder, options=EvaluationOptions(ap=True))
    report = evaluate_files(folder, folder, options=EvaluationOptions(iiou=True)).report.instance_iou
    assert report is not None
    assert report.per_category["car"].average_size == CITYSCAPES_AVERAGE_SIZES["car"]


def test_instance_iou(tmp_path: Path, truth: Path, truths: Any, predictions: Any) -> None:
    path = write_coco(tmp_path / "predictions.json", predictions)
    metric = InstanceIoU(SHAPES)
    for name, prediction in predictions.items():
        metric.update(prediction, truths[name])
    scores = evaluate_files(path, truth, reading=ReadingOptions(threads=2), options=EvaluationOptions(iiou=True))
    assert scores.to_dict()["instance_iou"] == metric.compute().to_dict()
    assert 0 < metric.compute().mean_iou < 1
    assert metric.compute().per_category["disc"].average_size == average_sizes(truths.values(), SHAPES)["disc"]
    assert "iIoU" in str(scores)
    assert "instance_iou" not in evaluate_files(path, truth).to_dict()


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("workers", [1, 2, 3, 16])
def test_any_number_of_threads_gives_the_same_bits(tmp_path: Path, workers: int, three_threads: None) -> None:
    truths = several_maps(9)
    truth = write_coco(tmp_path / "truth.json", truths)
    predictions = worse(truths)
    del predictions["4"]
    path = write_coco(tmp_path / "predictions.json", predictions)
    done = []
    scores = evaluate_files(
        path, truth, reading=ReadingOptions(threads=workers), progress=lambda *numbers: done.append(numbers)
    )
    one = evaluate_files(path, truth, reading=ReadingOptions(threads=1))
    assert scores.to_dict() == one.to_dict()
    assert scores.records == one.records
    assert done == [(n, 9) for n in range(1, 10)]
    assert torch.get_num_threads() == 3


def test_an_error_restores_the_threads_of_torch(tmp_path: Path, three_threads: None) -> None:
    def fail(done: int, total: int) -> None:
        raise KeyError(done)

    truth = write_coco(tmp_path / "truth.json", several_maps(9))
    with pytest.raises(KeyError):
        evaluate_files(truth, truth, reading=ReadingOptions(threads=2), progress=fail)
    assert torch.get_num_threads() == 3


def test_an_image_under_another_protocol_is_added_on_request(truths: Any, predictions: Any) -> None:
    total, image = Evaluator(SHAPES), Evaluator(SHAPES, "torchmetrics")
    image.update(predictions["1"], truths["1"])
    with pytest.raises(InvalidArgumentError, match="expected a metric with protocol="):
        total.merge(image)
    assert not total.panoptic.state.any()
    total.merge(image, same_protocol=False)
    assert torch.equal(total.panoptic.state, image.panoptic.state)
    assert torch.equal(total.semantic.state, image.semantic.state)


class TestIssues:
    """What is wrong with a prediction counts as void, what is wrong with the truth leaves the image out."""

    def scored(self, tmp_path: Path, truth: Path, maps: Any, content: Any = None) -> FileEvaluation:
        path = write_coco(tmp_path / "predictions.json", maps, content=content)
        scores = evaluate_files(path, truth, reading=ReadingOptions(threads=1))
        if scores.num_issues:
            with pytest.raises(InvalidAnnotationError) as info:
                evaluate_files(path, truth, reading=ReadingOptions(strict=True))
            assert str(info.value) == str(next(p for p in scores.issues if not p.is_note))
        for issue in scores.issues:
            assert "\n" not in str(issue)
        return scores

    def test_no_prediction(self, tmp_path: Path, truth: Path, truths: Any, predictions: Any) -> None:
        del predictions["2"]
        scores = self.scored(tmp_path, truth, predictions)
        assert reports(scores) == in_memory(predictions, truths)
        assert [str(p) for p in scores.issues] == [
            f"2: expected a prediction in {tmp_path / 'predictions.json'}, found none; all segments count as missed"
        ]

    @pytest.mark.parametrize("protocol", ["coco", "torchmetrics"])
    def test_leaving_images_out_never_helps(self, tmp_path: Path, truth: Path, truths: Any, protocol: str) -> None:
        path = write_coco(tmp_path / "few.json", {"1": truths["1"]})
        whole = evaluate_files(truth, truth, options=EvaluationOptions(protocol=protocol)).report.panoptic
        few = evaluate_files(path, truth, options=EvaluationOptions(protocol=protocol)).report.panoptic
        assert few.all.pq < whole.all.pq
        for name, quality in few.per_category.items():
            complete = whole.per_category[name]
            assert quality.tp + quality.fn == complete.tp + complete.fn
            assert quality.fn > 0

    def test_an_unreadable_png(self, tmp_path: Path, truth: Path, truths: Any, predictions: Any) -> None:
        path = write_coco(tmp_path / "predictions.json", predictions)
        (tmp_path / "predictions" / "1.png").write_bytes(b"broken")
        whole = (tmp_path / "predictions" / "2.png").read_bytes()
        (tmp_path / "predictions" / "2.png").write_bytes(whole[: len(whole) // 2])
        Image.new("L", (32, 24)).save(tmp_path / "predictions" / "3.png")
        (tmp_path / "predictions" / "4.png").unlink()
        with pytest.raises(InvalidAnnotationError, match=r"1\.png: expected a PNG, got something else"):
            evaluate_files(path, truth, reading=ReadingOptions(strict=True))
        scores = evaluate_files(path, truth)
        assert kinds(scores) == [IssueKind.UNREADABLE] * 4
        assert reports(scores) == in_memory({}, truths)
        texts = ["expected a PNG, got", "expected a whole image", "of three channels", "no such file"]
        for text, issue in zip(texts, scores.issues, strict=True):
            assert text in str(issue)

    def test_an_image_of_huge_size(self, tmp_path: Path, truth: Path, predictions: Any) -> None:
        path = write_coco(tmp_path / "predictions.json", predictions)
        png = tmp_path / "predictions" / "1.png"
        Image.new("1", (20000, 20000)).save(png)  # 50 kB
        scores = evaluate_files(path, truth)
        assert kinds(scores) == [IssueKind.SIZE]
        assert "expected 24x32 pixels like its truth, got 20000x20000" in scores.issues[0].what

    def test_another_size(self, tmp_path: Path, truth: Path, truths: Any, predictions: Any) -> None:
        predictions["3"] = predictions["3"].resize(48, 64)
        scores = self.scored(tmp_path, truth, predictions)
        assert scores.issues[0].what == "expected 24x32 pixels like its truth, got 48x64; write it at that size"
        assert reports(scores) == in_memory({n: m for n, m in predictions.items() if n != "3"}, truths)

    def test_ids_without_description(self, tmp_path: Path, truth: Path, truths: Any, predictions: Any) -> None:
        content = coco_content(predictions, SHAPES)
        segments = content["annotations"][0]["segments_info"]
        gone = segments.pop(1)
        scores = self.scored(tmp_path, truth, predictions, content)
        assert kinds(scores) == [IssueKind.UNDESCRIBED]
        assert str(gone["id"]) in scores.issues[0].what
        keep = torch.ones(predictions["1"].num_segments, dtype=torch.bool)
        keep[1] = False
        assert reports(scores) == in_memory({**predictions, "1": predictions["1"].select(keep)}, truths)

    def test_descriptions_without_pixels(self, tmp_path: Path, truth: Path, truths: Any, predictions: Any) -> None:
        content = coco_content(predictions, SHAPES)
        content["annotations"][0]["segments_info"].append({"id": 5, "category_id": 24})
        scores = self.scored(tmp_path, truth, predictions, content)
        assert [str(p) for p in scores.issues] == [
            f"{tmp_path}/predictions/1.png: expected pixels for every described segment, found none for 5; "
            "they are ignored"
        ]
        assert reports(scores) == in_memory(predictions, truths)

    @pytest.mark.parametrize(
        ("change", "kind", "message"),
        [
            (
                {"category_id": 99},
                IssueKind.CATEGORY,
                "expected category_ids of label space 'truth' (7, 11, 24, 26), got 99 (id 7001)",
            ),
            (
                {"category_id": "sky"},
                IssueKind.SHAPE,
                "expected integers 'id' in 1..16777215",
            ),
            ({"id": 14002}, IssueKind.DUPLICATE, "expected one description of each id, got several for 14002"),
        ],
    )
    def test_segments_in_doubt(
        self, tmp_path: Path, truth: Path, truths: Any, predictions: Any, change: Any, kind: IssueKind, message: str
    ) -> None:
        content = coco_content(predictions, SHAPES)
        content["annotations"][0]["segments_info"][0].update(change)
        scores = self.scored(tmp_path, truth, predictions, content)
        assert scores.issues[0].kind == kind
        assert message in scores.issues[0].what
        keep = torch.ones(predictions["1"].num_segments, dtype=torch.bool)
        keep[: 2 if kind is IssueKind.DUPLICATE else 1] = False
        assert reports(scores) == in_memory({**predictions, "1": predictions["1"].select(keep)}, truths)

    def test_two_annotations_of_an_image(self, tmp_path: Path, truth: Path, truths: Any, predictions: Any) -> None:
        content = coco_content(predictions, SHAPES)
        content["annotations"].append(content["annotations"][1])
        scores = self.scored(tmp_path, truth, predictions, content)
        assert [p.what for p in scores.issues] == ["expected one annotation of image 2, got 2; keep one"]
        assert reports(scores) == in_memory({n: m for n, m in predictions.items() if n != "2"}, truths)

    def test_images_that_the_truth_lacks(self, tmp_path: Path, truth: Path, truths: Any, predictions: Any) -> None:
        scores = self.scored(tmp_path, truth, {**predictions, "17": predictions["1"]})
        assert kinds(scores) == [IssueKind.UNKNOWN_IMAGE]
        assert reports(scores) == in_memory(predictions, truths)

    def test_annotations_of_another_form(self, tmp_path: Path, truth: Path, truths: Any, predictions: Any) -> None:
        content = coco_content(predictions, SHAPES)
        content["annotations"][0] = "\x1b[31mred"
        content["annotations"][1]["segments_info"] = {"id": 1}
        scores = self.scored(tmp_path, truth, predictions, content)
        assert kinds(scores) == [IssueKind.SHAPE, IssueKind.MISSING_PREDICTION, IssueKind.SHAPE]
        assert "\x1b" not in "".join(map(str, scores.issues))
        assert reports(scores) == in_memory({n: m for n, m in predictions.items() if n in "34"}, truths)

    @pytest.mark.parametrize(
        "name", ["../secret.png", "/etc/passwd", "a/../../secret.png", "C:\\secret.png", "link.png"]
    )
    def test_paths_that_leave_the_folder(
        self, tmp_path: Path, truth: Path, truths: Any, predictions: Any, name: str
    ) -> None:
        content = coco_content(predictions, SHAPES)
        content["annotations"][0]["file_name"] = name
        write_coco(tmp_path / "predictions.json", predictions)
        secret = tmp_path / "secret.png"
        secret.write_bytes((tmp_path / "predictions" / "1.png").read_bytes())
        (tmp_path / "predictions" / "link.png").symlink_to(secret)
        scores = self.scored(tmp_path, truth, predictions, content)
        assert kinds(scores) == [IssueKind.PATH]
        assert "which is outside" in scores.issues[0].what
        assert reports(scores) == in_memory({n: m for n, m in predictions.items() if n != "1"}, truths)

    def test_colliding_ids_of_arrays(self, tmp_path: Path, truth: Path, truths: Any, predictions: Any) -> None:
        for name, panoptic in predictions.items():
            segments = array_segments(panoptic)
            if name == "1":
                segments.append({"id": 2, "label_id": (segments[1]["label_id"] + 1) % 4, "score": 0.5})
            write_array(tmp_path / "arrays" / f"{name}.npz", panoptic.ids.numpy(), segments)
        scores = evaluate_files(tmp_path / "arrays", truth)
        assert kinds(scores)[0] == IssueKind.COLLISION
        assert "share the id 2; their pixels are indistinguishable" in scores.issues[0].what
        keep = torch.ones(predictions["1"].num_segments, dtype=torch.bool)
        keep[1] = False
        assert reports(scores) == in_arrays({**predictions, "1": predictions["1"].select(keep)}, truths)

    def test_many_wrong_segments_of_an_array_are_one_line(
        self, tmp_path: Path, truth: Path, truths: Any, predictions: Any
    ) -> None:
        for name, panoptic in predictions.items():
            segments = [{**s, "label_id": 99 if name == "1" else s["label_id"]} for s in array_segments(panoptic)]
            write_array(tmp_path / "arrays" / f"{name}.npz", panoptic.ids.numpy(), segments)
        scores = evaluate_files(tmp_path / "arrays", truth)
        assert [kind for kind in kinds(scores) if kind is not IssueKind.PIECES] == [IssueKind.CATEGORY]
        others = range(2, predictions["1"].num_segments + 1)
        assert scores.issues[0].what.startswith("id 1: expected a label_id of label space 'truth' (0, 1, 2, 3)")
        assert scores.issues[0].what.endswith(f"got 99; likewise the ids {', '.join(map(str, others))}")

    def test_arrays_that_would_run_something_or_fill_the_memory(self, tmp_path: Path, truth: Path, truths: Any) -> None:
        folder = tmp_path / "arrays"
        folder.mkdir()
        np.save(folder / "1.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
        np.savez(folder / "2.npz", segmentation=truths["2"].ids.numpy(), segments_info=np.array([{}], dtype=object))
        with (folder / "3.npy").open("wb") as file:
            header = {"descr": "<i8", "fortran_order": False, "shape": (10**9, 10**9)}
            np.lib.format.write_array_header_1_0(file, header)
        (folder / "4.npz").write_bytes(b"PK\x03\x04broken")
        for name in "1234":
            (folder / f"{name}.json").write_text("[]")
        scores = evaluate_files(folder, truth)
        assert kinds(scores) == [IssueKind.UNREADABLE, IssueKind.UNREADABLE, IssueKind.SIZE, IssueKind.UNREADABLE]
        for text, issue in zip(["objects", "objects", "got 1000000000x", "expected an array"], scores.issues):  # noqa: B905
            assert text in issue.what

    def test_notes_change_nothing(self, tmp_path: Path, truths: Any, predictions: Any) -> None:
        content = coco_content(truths, SHAPES)
        content["annotations"][0]["segments_info"][0]["area"] += 3
        truth = write_coco(tmp_path / "truth.json", truths, content=content)
        content = coco_content(predictions, SHAPES)
        content["annotations"][0]["segments_info"][0]["score"] = 17
        path = write_coco(tmp_path / "predictions.json", predictions, content=content)
        scores = evaluate_files(path, truth, reading=ReadingOptions(strict=True))
        assert kinds(scores) == [IssueKind.SCORE, IssueKind.AREA]
        assert scores.num_issues == 0
        assert reports(scores) == in_memory(predictions, truths)

    def test_truths_in_doubt_are_left_out(self, tmp_path: Path, truths: Any, predictions: Any) -> None:
        content = coco_content(truths, SHAPES)
        content["annotations"][0]["segments_info"].pop()
        content["images"].append({"id": 99, "file_name": "99.jpg"})
        truth = write_coco(tmp_path / "truth.json", truths, content=content)
        (tmp_path / "truth" / "2.png").write_bytes(b"")
        scores = self.scored(tmp_path, truth, predictions)
        assert kinds(scores) == [IssueKind.MISSING_TRUTH, IssueKind.UNDESCRIBED, IssueKind.UNREADABLE]
        assert (scores.num_images, len(scores.records)) == (4, 2)
        assert reports(scores) == in_memory(predictions, {n: truths[n] for n in "34"})
        skipped = {one["image"]: one["error"] for one in scores.to_dict()["skipped"]}
        assert {image: Path(error.partition(": ")[0]).name for image, error in skipped.items()} == {
            "1": "1.png",
            "2": "2.png",
        }


class TestRefusals:
    def test_nothing_in_common(self, tmp_path: Path, truth: Path, predictions: Any) -> None:
        path = write_coco(tmp_path / "predictions.json", {f"x{n}": m for n, m in predictions.items()})
        with pytest.raises(InvalidAnnotationError, match="got none with a matching id or name: 'x1' and '1'"):
            evaluate_files(path, truth)

    def test_no_truth_is_left(self, tmp_path: Path, truth: Path) -> None:
        for png in (tmp_path / "truth").iterdir():
            png.write_bytes(b"")
        with pytest.raises(InvalidAnnotationError, match="expected a usable ground truth, got none of 4; the first"):
            evaluate_files(truth, truth)

    @pytest.mark.parametrize(
        ("text", "kind", "message"),
        [
            ("{", UnreadableFileError, "expected JSON, but"),
            ("[" * 100_000, UnreadableFileError, "expected JSON, but"),
            ("17", InvalidAnnotationError, "expected COCO panoptic JSON"),
            ("[]", InvalidAnnotationError, "expected COCO panoptic JSON"),
            ('[{"image_id": 1, "bbox": [1, 2, 3, 4]}]', InvalidAnnotationError, "have no segments_info"),
        ],
    )
    def test_another_json(self, tmp_path: Path, truth: Path, text: str, kind: Any, message: str) -> None:
        path = tmp_path / "predictions.json"
        path.write_text(text)
        with pytest.raises(kind, match=message):
            evaluate_files(path, truth)

    def test_no_categories(self, tmp_path: Path) -> None:
        truths = several_maps()
        content = coco_content(truths, SHAPES)
        del content["categories"]
        path = write_coco(tmp_path / "t.json", truths, content=content)
        with pytest.raises(InvalidArgumentError, match="set the label space with --labels: ade20k_150, aerial, bsb"):
            evaluate_files(path, path)
        labels = tmp_path / "labels.json"
        labels.write_text(json.dumps(SHAPES.to_dict()))
        assert evaluate_files(path, path, reading=ReadingOptions(str(labels))).report.panoptic.all.pq == 1

    @pytest.mark.parametrize("categories", [[1], [{"id": 1}], {"id": 1}, [{"id": 1e400, "name": "a", "isthing": 1}]])
    def test_categories_of_another_form(self, tmp_path: Path, truths: Any, categories: Any) -> None:
        path = write_coco(
            tmp_path / "t.json", truths, content={**coco_content(truths, SHAPES), "categories": categories}
        )
        with pytest.raises(InvalidAnnotationError, match=r"t\.json: expected '"):
            evaluate_files(path, path)

    def test_paths_and_options(self, tmp_path: Path, truth: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "two").mkdir()
        for name in ("a", "b"):
            (tmp_path / "two" / f"{name}.json").write_text("[]")
        write_array(tmp_path / "arrays" / "1.npz", np.zeros((2, 2), int), [])
        with pytest.raises(UnreadableFileError, match="no such file or folder; expected the JSON of COCO"):
            evaluate_files(tmp_path / "nowhere", truth)
        with pytest.raises(UnreadableFileError, match="found none of them"):
            evaluate_files(tmp_path / "empty", truth)
        with pytest.raises(InvalidAnnotationError, match=r"expected one JSON, got a\.json and 1 more"):
            evaluate_files(tmp_path / "two", truth)
        with pytest.raises(UnreadableFileError, match="no such folder; expected the PNGs"):
            evaluate_files(truth, truth, reading=ReadingOptions(pred_dir=tmp_path / "nowhere"))
        with pytest.raises(InvalidArgumentError, match=r"has no JSON; omit"):
            evaluate_files(tmp_path / "arrays", truth, reading=ReadingOptions(pred_dir=tmp_path))
        with pytest.raises(UnknownNameError, match="unknown protocol 'cocoo'"):
            evaluate_files(truth, truth, options=EvaluationOptions(protocol="cocoo"))
        with pytest.raises(UnknownNameError, match="unknown label space 'cityscape'"):
            evaluate_files(truth, truth, reading=ReadingOptions("cityscape"))
        (tmp_path / "masks").mkdir()
        Image.new("L", (2, 2)).save(tmp_path / "masks" / "1.png")
        with pytest.raises(InvalidArgumentError, match="min_area of at least 1 pixel, got 0"):
            evaluate_files(tmp_path / "masks", truth, reading=ReadingOptions(min_area=0))
        with pytest.raises(InvalidArgumentError, match="expected threads of 0 or more, got -1"):
            evaluate_files(truth, truth, reading=ReadingOptions(threads=-1))


def test_the_categories_of_coco_have_its_name(tmp_path: Path) -> None:
    coco = LabelSpace.load("coco_panoptic")
    maps = several_maps(1)
    path = write_coco(tmp_path / "panoptic_val2017.json", maps, coco)
    assert evaluate_files(path, path).labels == coco


def test_equal_names_in_two_folders_stay_apart(tmp_path: Path, truths: Any) -> None:
    content = coco_content(truths, SHAPES)
    for name in ("a", "b"):
        write_coco(tmp_path / "x.json", {"1": truths["1"]}, pngs=tmp_path / "truth" / name)
    content["annotations"] = [
        {**coco_annotation("1", truths["1"], SHAPES), "image_id": n, "file_name": f"{folder}/1.png"}
        for n, folder in enumerate("ab")
    ]
    content["images"] = []
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    scores = evaluate_files(path, path)
    assert scores.issues == ()
    assert [record.name for record in scores.records] == ["a/1", "b/1"]


def test_a_json_that_cannot_be_decoded_is_blamed_itself(tmp_path: Path) -> None:
    truth = write_coco(tmp_path / "truth.json", several_maps(), SHAPES)
    text = truth.read_text().replace('"area": ', '"area": ' + "9" * 5000)
    spoilt = tmp_path / "spoilt.json"
    spoilt.write_text(text)
    shutil.copytree(tmp_path / "truth", tmp_path / "spoilt")
    issue = evaluate_files(spoilt, truth).issues[0]
    assert issue.kind is IssueKind.UNREADABLE
    assert issue.file.startswith(f"{spoilt}, image ")


def test_colored_pngs_beside_their_json_are_no_masks(tmp_path: Path, truth: Path) -> None:
    message = r"got colored PNGs, probably those of truth.json beside the folder; give .*truth\.json$"
    for given in ((truth, tmp_path / "truth"), (tmp_path / "truth", truth)):
        with pytest.raises(InvalidArgumentError, match=message):
            evaluate_files(*given)
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(masks / "1.png")
    shutil.copy(truth, tmp_path / "masks.json")
    assert find_source(masks).form == "semantic masks"
