"""What is written for the servers of benchmarks, read and scored by the benchmarks' own tools."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import trees
from PIL import Image

from panscape import LabelSpace, PanopticMap
from panscape.datasets.splits import ImageFile
from panscape.geometry import Size
from panscape.inference.submission import CityscapesSubmission, CocoSubmission, Submission
from panscape.metrics import InstanceAP, PanopticQuality


def spoilt(truth: PanopticMap, seed: int) -> PanopticMap:
    """A shifted map, an object of another category and one missing, void at the left, and scores."""
    chance = torch.Generator().manual_seed(seed)
    ids, category = truth.ids.roll((1, -1), (0, 1)), truth.category.clone()
    ids[:, :2] = 0
    if seed == 1:
        category[-1] = category[0]
        ids[ids == 2] = 0
    return PanopticMap(ids, category, torch.rand(len(category), generator=chance)).compact()


def written(kind: type[Submission], tree: trees.Tree, folder: Path, split: str = "val") -> dict[str, PanopticMap]:
    predictions = {name: spoilt(truth, i) for i, (name, truth) in enumerate(tree.truths.items())}
    with kind(folder, split, tree.labels, "method") as submission:
        for name, prediction in predictions.items():
            image_id = int(name) if name.isdecimal() else None
            submission.write(ImageFile(name, tree.images[name], prediction.size, image_id), prediction)
    return predictions


def their_panoptic_quality(truth: Path, predictions: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Evaluate two JSONs, each beside a folder of its name; this evaluator is panopticapi's with another file head."""
    import cityscapesscripts.evaluation.evalPanopticSemanticLabeling as theirs  # noqa: N813

    monkeypatch.setattr(
        theirs,
        "pq_compute_multi_core",  # theirs starts a process for each core
        lambda pairs, *others: theirs.pq_compute_single_core(0, pairs, *others),
    )
    files = [str(path) for json_path in (truth, predictions) for path in (json_path, json_path.with_suffix(""))]
    with contextlib.redirect_stdout(io.StringIO()):
        return theirs.evaluatePanoptic(*files, str(tmp_path / "results.json"))


def require_equal_quality(theirs, predictions, truths, labels) -> None:
    metric = PanopticQuality(labels)
    for name, prediction in predictions.items():
        metric.update(prediction, truths[name])
    report = metric.compute()
    for group, name in ((report.all, "All"), (report.things, "Things"), (report.stuff, "Stuff")):
        values = [theirs[name][key] for key in ("pq", "sq", "rq")]
        assert (group.pq, group.sq, group.rq) == pytest.approx(values, abs=1e-12)
    assert 0.1 < report.all.pq < 0.9


def test_cityscapes_panoptic_scores_what_was_predicted(tmp_path, monkeypatch) -> None:
    from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic

    tree = trees.cityscapes(tmp_path / "data", "val")
    (tmp_path / "truth").mkdir()
    with contextlib.redirect_stdout(io.StringIO()):
        convert2panoptic(str(tmp_path / "data/gtFine"), str(tmp_path / "truth"), setNames=["val"])
    predictions = written(CityscapesSubmission, tree, tmp_path / "out")
    # As it is found in the unpacked archive, by the tool's own rule: the folder beside the JSON.
    with zipfile.ZipFile(tmp_path / "out/cityscapes_val_panoptic.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    name = "cityscapes_panoptic_val.json"
    theirs = their_panoptic_quality(tmp_path / "truth" / name, tmp_path / "unpacked" / name, monkeypatch, tmp_path)
    require_equal_quality(theirs, predictions, tree.truths, tree.labels)


def test_cityscapes_instances_score_what_was_predicted(tmp_path, monkeypatch) -> None:
    script = importlib.import_module("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
    if not hasattr(np, "in1d"):  # gone since numpy 2.4; the script still calls it
        monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    monkeypatch.setattr(script, "writeDict2JSON", lambda *_: None)  # it cannot write the integers of today's numpy
    tree = trees.cityscapes(tmp_path / "data", "val")
    predictions = written(CityscapesSubmission, tree, tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "out/cityscapes_val_instance.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    for key, value in {
        "gtInstancesFile": str(tmp_path / "truth.json"),
        "predictionPath": str((tmp_path / "unpacked").resolve()),
        "predictionWalk": None,
        "quiet": True,
        "JSONOutput": False,
    }.items():
        monkeypatch.setattr(script.args, key, value)
    truths = [str(path) for path in tree.annotations.values()]
    files = [script.getPrediction(path, script.args) for path in truths]  # by the tool's own search
    with contextlib.redirect_stdout(io.StringIO()):
        averages = script.evaluateImgLists(files, truths, script.args)["averages"]
    metric = InstanceAP(tree.labels, "cityscapes")
    for name, prediction in predictions.items():
        metric.update(prediction, tree.truths[name])
    report = metric.compute()
    assert (report.ap, report.ap50) == pytest.approx((averages["allAp"], averages["allAp50%"]), abs=1e-12)
    assert 0.05 < report.ap < report.ap50


def test_coco_scores_what_was_predicted(tmp_path, monkeypatch) -> None:
    labels = LabelSpace.load("coco_panoptic")
    tree = trees.coco_2017(tmp_path / "data", "val", labels)
    predictions = written(CocoSubmission, tree, tmp_path / "out", "test-dev")
    name = "panoptic_test-dev2017_method_results"
    with zipfile.ZipFile(tmp_path / f"out/{name}.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    truth = tmp_path / "data/annotations/panoptic_val2017.json"
    content = json.loads(truth.read_text())
    for annotation in content["annotations"]:  # the evaluator needs areas, which the tree leaves out
        with Image.open(tree.annotations[Path(annotation["file_name"]).stem]) as image:
            ids = np.array(image).astype(np.int64) @ (1, 256, 65536)
        annotation["segments_info"] = [s | {"area": int((ids == s["id"]).sum())} for s in annotation["segments_info"]]
    truth.write_text(json.dumps(content))
    theirs = their_panoptic_quality(truth, tmp_path / f"unpacked/{name}.json", monkeypatch, tmp_path)
    require_equal_quality(theirs, predictions, tree.truths, labels)
    for name_of_image, prediction in predictions.items():
        with Image.open(tmp_path / f"out/{name}/{name_of_image}.png") as image:
            assert Size(image.height, image.width) == prediction.size
            assert image.mode == "RGB"
