"""IoU, iIoU and PQ against the evaluators of cityscapesScripts, on real annotations and predictions spoilt from them.

Both sides read files: ours the instance ids, theirs the label ids, the instance ids and what their own converter makes
of these. Label ids and train ids differ: all files here hold label ids. No annotation has a licence plate (label id
-1): their tools leave labels below 0 undrawn, and what is in none of the 19 categories is void here.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from panscape import LabelSpace, PanopticMap
from panscape.formats import coco_categories, decode_cityscapes, encode_coco, load_label_image
from panscape.metrics import InstanceIoU, PanopticQuality, SemanticIoU

DATA = Path("../shared/data/cityscapes")
LABELS = LabelSpace.load("cityscapes")
# With groups (crowds) of cars or persons; every second row and column, which keeps the test short.
IMAGES = ("frankfurt_000000_001236", "frankfurt_000000_011810", "frankfurt_000001_028335")

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not here"),
]


def shifted(truth: PanopticMap, _: np.random.Generator | None = None) -> PanopticMap:
    return PanopticMap(truth.ids.roll((3, -8), (0, 1)), truth.category)


def recategorised(truth: PanopticMap, chance: np.random.Generator) -> PanopticMap:
    other = torch.from_numpy(chance.integers(0, len(LABELS), truth.num_segments))
    return PanopticMap(truth.ids, torch.where(torch.from_numpy(chance.random(len(other)) < 0.3), other, truth.category))


def eroded(truth: PanopticMap, _: np.random.Generator) -> PanopticMap:
    ids = truth.ids.numpy()
    is_inside = ndimage.minimum_filter(ids, 5) == ndimage.maximum_filter(ids, 5)
    return PanopticMap(torch.from_numpy(np.where(is_inside, ids, 0)), truth.category)


def with_void(truth: PanopticMap, chance: np.random.Generator) -> PanopticMap:
    ids = truth.ids.clone()
    for _ in range(12):
        top, left = (int(chance.integers(0, side - 60)) for side in truth.size)
        ids[top : top + 60, left : left + 150] = 0
    return PanopticMap(ids, truth.category)


def grown(truth: PanopticMap, _: np.random.Generator) -> PanopticMap:
    """Void gets the nearest segment: predictions reach over what does not count."""
    ids = truth.ids.numpy()
    nearest = ndimage.distance_transform_edt(ids == 0, return_distances=False, return_indices=True)
    return shifted(PanopticMap(torch.from_numpy(ids[tuple(nearest)]), truth.category))


def merged(truth: PanopticMap, _: np.random.Generator) -> PanopticMap:
    """Of the objects of a category, each second one belongs to the one before."""
    table = torch.arange(truth.num_segments + 1, dtype=torch.int32)
    for category in LABELS.thing_ids:
        rows = (truth.category == category).nonzero().flatten() + 1
        table[rows[1::2]] = table[rows[: 2 * (len(rows) // 2) : 2]]
    return shifted(PanopticMap(table[truth.ids.long()], truth.category))


def split(truth: PanopticMap, _: np.random.Generator) -> PanopticMap:
    """Stripes cut every segment of the truth in two."""
    is_other = torch.zeros(truth.size, dtype=torch.bool)
    is_other[:, torch.arange(truth.size.width) // 45 % 3 == 0] = True
    ids = torch.where(is_other & (truth.ids > 0), truth.ids + truth.num_segments, truth.ids)
    return shifted(PanopticMap(ids, truth.category.repeat(2)))


def of_the_other_side(truth: PanopticMap, _: np.random.Generator) -> PanopticMap:
    """Mirrored: hardly any object is where it should be."""
    return PanopticMap(truth.ids.flip(1).contiguous(), truth.category)


SPOILERS = [shifted, recategorised, eroded, with_void, grown, merged, split, of_the_other_side]


def spoilt(spoil, truths: dict[str, PanopticMap]) -> dict[str, PanopticMap]:
    chance = np.random.default_rng(4)
    return {name: spoil(truth, chance).compact() for name, truth in truths.items()}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with the annotations as published and as cityscapesScripts converts them to panoptic format."""
    from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic

    root = tmp_path_factory.mktemp("cityscapes")
    folder = root / "gtFine/val/frankfurt"
    folder.mkdir(parents=True)
    for name in IMAGES:
        for kind in ("labelIds", "instanceIds"):
            file = f"{name}_gtFine_{kind}.png"
            with Image.open(DATA / "gtFine/val/frankfurt" / file) as image:
                Image.fromarray(np.ascontiguousarray(np.array(image)[::2, ::2])).save(folder / file)
    convert2panoptic(str(root / "gtFine"), str(root), setNames=["val"])
    return root


@pytest.fixture(scope="module")
def truths(root: Path) -> dict[str, PanopticMap]:
    folder = root / "gtFine/val/frankfurt"
    truths = {
        name: decode_cityscapes(load_label_image(folder / f"{name}_gtFine_instanceIds.png"), LABELS) for name in IMAGES
    }
    assert sum(truth.crowd is not None for truth in truths.values()) == len(IMAGES)
    return truths


@pytest.mark.parametrize("spoil", SPOILERS)
def test_iou_and_instance_iou(spoil, root, truths, tmp_path, monkeypatch) -> None:
    import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as theirs  # noqa: N813

    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # numpy 2.4 has no in1d any more
    iou, instance_iou = SemanticIoU(LABELS), InstanceIoU(LABELS)
    source = np.array([0, *(c.source_id for c in LABELS)], dtype=np.uint8)  # void is 0, "unlabeled"
    predicted_files, true_files = [], []
    for name, prediction in spoilt(spoil, truths).items():
        iou.update(prediction, truths[name])
        instance_iou.update(prediction, truths[name])
        predicted_files.append(str(tmp_path / f"{name}_pred.png"))
        true_files.append(str(root / f"gtFine/val/frankfurt/{name}_gtFine_labelIds.png"))
        Image.fromarray(source[prediction.semantic(void=-1).numpy() + 1]).save(predicted_files[-1])
    args = copy.copy(theirs.args)
    args.quiet, args.JSONOutput = True, False
    expected = theirs.evaluateImgLists(predicted_files, true_files, args)

    report, confusion = iou.compute(), np.array(expected["confMatrix"])
    counted = [c.source_id for c in LABELS]
    for c in LABELS:
        came, hits = report.per_category[c.name], confusion[c.source_id, c.source_id]
        assert came.tp == hits
        assert came.fn == confusion[c.source_id].sum() - hits
        assert came.fp == confusion[counted, c.source_id].sum() - hits
        assert came.iou == pytest.approx(expected["classScores"][c.name], abs=1e-12, nan_ok=True)
    assert report.mean_iou == pytest.approx(expected["averageScoreClasses"], abs=1e-12)

    weighted = instance_iou.compute()
    for c in LABELS:
        value = weighted.per_category[c.name].iou if c.is_thing else math.nan
        assert value == pytest.approx(expected["classInstScores"][c.name], abs=1e-12, nan_ok=True)
    assert weighted.mean_iou == pytest.approx(expected["averageScoreInstClasses"], abs=1e-12)
    assert 0.05 < weighted.mean_iou < 1
    assert weighted.mean_iou != pytest.approx(report.mean_iou, abs=1e-3)


@pytest.mark.parametrize("spoil", SPOILERS)
def test_panoptic_quality(spoil, root, truths, tmp_path, monkeypatch) -> None:
    import cityscapesscripts.evaluation.evalPanopticSemanticLabeling as theirs  # noqa: N813

    metric = PanopticQuality(LABELS)
    annotations = []
    for name, prediction in spoilt(spoil, truths).items():
        metric.update(prediction, truths[name])
        rgb, segments = encode_coco(prediction, LABELS)
        Image.fromarray(rgb.numpy()).save(tmp_path / f"{name}.png")
        annotations.append({"image_id": name, "file_name": f"{name}.png", "segments_info": segments})
    (tmp_path / "predictions.json").write_text(json.dumps({"annotations": annotations}))

    sums = []

    def in_this_process(pairs, true_folder, predicted_folder, categories):  # theirs starts a process for each core
        sums.append(theirs.pq_compute_single_core(0, pairs, true_folder, predicted_folder, categories))
        return sums[0]

    monkeypatch.setattr(theirs, "pq_compute_multi_core", in_this_process)
    name = "cityscapes_panoptic_val"
    expected = theirs.evaluatePanoptic(
        str(root / f"{name}.json"),
        str(root / name),
        str(tmp_path / "predictions.json"),
        str(tmp_path),
        str(tmp_path / "results.json"),
    )

    report = metric.compute()
    total = 0
    for c in LABELS:
        came, theirs_of_category = report.per_category[c.name], sums[0][c.source_id]
        counts = (theirs_of_category.tp, theirs_of_category.fp, theirs_of_category.fn)
        assert (came.tp, came.fp, came.fn) == counts
        assert came.iou_sum == pytest.approx(theirs_of_category.iou, abs=1e-12)
        total += sum(counts)
    assert total > 100
    for group, theirs_of_group in ((report.all, "All"), (report.things, "Things"), (report.stuff, "Stuff")):
        values = expected[theirs_of_group]
        assert (group.pq, group.sq, group.rq) == pytest.approx([values[key] for key in ("pq", "sq", "rq")], abs=1e-12)
        assert group.num_categories == values["n"]


def test_categories_have_the_ids_of_the_converted_truth(root) -> None:
    converted = json.loads((root / "cityscapes_panoptic_val.json").read_text())["categories"]
    ours = coco_categories(LABELS)
    for mine, theirs in zip(ours, converted, strict=True):
        assert (mine["id"], mine["name"], mine["isthing"]) == (theirs["id"], theirs["name"], theirs["isthing"])
