"""Average precision against the evaluators of COCO and Cityscapes themselves."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from maps import generated_map, spoilt_map
from PIL import Image

from panscape import Category, LabelSpace, PanopticMap
from panscape.formats import decode_cityscapes, load_label_image
from panscape.metrics import InstanceAP, InstanceAPReport, size_percentiles
from panscape.ops.cropped_masks import CroppedMasks

LABELS = LabelSpace(
    "shapes and things that never occur",
    tuple(
        Category(name, is_thing, i + 1, (i, i, i))
        for i, (name, is_thing) in enumerate(
            [
                ("sky", False),
                ("ground", False),
                ("disc", True),
                ("box", True),
                ("only predicted", True),
                ("never", True),
            ]
        )
    ),
)


def scored(annotation: PanopticMap, generator: torch.Generator, steps: int) -> PanopticMap:
    """Give every segment one of ``steps`` scores, so that there are ties."""
    score = torch.randint(0, steps, (annotation.num_segments,), generator=generator).float() / steps
    return PanopticMap(annotation.ids, annotation.category, score)


def a_prediction_of(truth: PanopticMap, seed: int) -> PanopticMap:
    other = generated_map(6000 + seed, truth.size, objects=2)
    g = torch.Generator().manual_seed(5000 + seed)
    result = spoilt_map(truth, g, other, shift=(3, 4), one_in=7, num_categories=5, void=seed % 3 == 0)
    return scored(result, g, 5 if seed % 2 else 1000)


def many_tiny_segments(seed: int) -> tuple[PanopticMap, PanopticMap]:
    """Return 300 predicted boxes of 2 x 2 pixels, of which an image's best 100 of a category take part."""
    g = torch.Generator().manual_seed(seed)
    rows, columns = 15, 20
    cells = torch.arange(1, rows * columns + 1, dtype=torch.int32).view(rows, columns)
    truth_ids = cells.repeat_interleave(2, 0).repeat_interleave(2, 1)
    predicted_ids = truth_ids.clone()
    predicted_ids[torch.rand(truth_ids.shape, generator=g) < 0.15] = 0
    category = torch.full((rows * columns,), 2)
    category[torch.rand(rows * columns, generator=g) < 0.2] = 3
    is_crowd = torch.rand(rows * columns, generator=g) < 0.05
    truth = PanopticMap(truth_ids, category, None, is_crowd)
    return scored(PanopticMap(predicted_ids, category).compact(), g, 40), truth


def halves() -> tuple[PanopticMap, PanopticMap]:
    """Return predictions whose IoU with each of two objects is exactly one half, one of them a crowd at times."""
    truth = torch.arange(1, 9, dtype=torch.int32).repeat_interleave(3).repeat(2, 1)
    prediction = torch.arange(1, 5, dtype=torch.int32).repeat_interleave(6).repeat(2, 1)
    crowd = torch.tensor([False, False, True, False, False, True, True, True])
    return (
        PanopticMap(prediction, torch.full((4,), 3), torch.tensor([0.5, 0.5, 0.25, 1.0])),
        PanopticMap(truth, torch.full((8,), 3), None, crowd),
    )


def images() -> list[tuple[PanopticMap, PanopticMap]]:
    pairs = []
    for seed in range(120):
        size = (160, 224) if seed % 10 == 0 else (48, 64)
        truth = generated_map(seed, size, objects=9, smallest=4, void=seed % 2 == 0, crowd=seed % 4 < 2)
        pairs.append((a_prediction_of(truth, seed), truth))
    pairs += [many_tiny_segments(seed) for seed in range(3)] + [halves()]
    empty, (prediction, truth) = PanopticMap.empty((48, 64)), pairs[3]
    return [*pairs, (empty, empty), (empty, truth), (prediction, empty)]


def pycocotools_evaluator(
    pairs: list[tuple[PanopticMap | list[PanopticMap], PanopticMap]], ranges: list[tuple[float, float]] | None = None
):
    """Hand the masks of all things to COCOeval, as detections and annotations of COCO; of several maps they overlap."""
    from pycocotools import mask
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, detections = [], []
    for number, (prediction, truth) in enumerate(pairs, start=1):
        predictions = prediction if isinstance(prediction, list) else [prediction]
        for annotation, into in (*((one, detections) for one in predictions), (truth, annotations)):
            crowd = torch.zeros(annotation.num_segments) if annotation.crowd is None else annotation.crowd
            for row in range(annotation.num_segments):
                if not LABELS[int(annotation.category[row])].is_thing:
                    continue
                pixels = (annotation.ids == row + 1).numpy()
                entry = {
                    "id": len(into) + 1,
                    "image_id": number,
                    "category_id": int(annotation.category[row]),
                    "segmentation": mask.encode(np.asfortranarray(pixels.astype(np.uint8))),
                    "iscrowd": int(crowd[row]),
                    "area": int(pixels.sum()),
                }
                if into is detections:
                    entry["score"] = float(annotation.score[row])
                into.append(entry)
    coco = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        coco.dataset = {
            "images": [
                {"id": number, "height": truth.size[0], "width": truth.size[1]}
                for number, (_, truth) in enumerate(pairs, start=1)
            ],
            "categories": [{"id": i, "name": LABELS[i].name} for i in LABELS.thing_ids],
            "annotations": annotations,
        }
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(detections), "segm")
        if ranges is not None:
            evaluator.params.areaRng = [[0, 1e10], *map(list, ranges)]
            evaluator.params.areaRngLbl = ["all", *map(str, ranges)]
        evaluator.evaluate()
        evaluator.accumulate()
        if ranges is None:
            evaluator.summarize()
    return evaluator


def accumulated(pairs, **options) -> InstanceAP:
    metric = InstanceAP(LABELS, **options)
    for prediction, truth in pairs:
        metric.update(prediction, truth)
    return metric


def require_equal_curves(report: InstanceAPReport, evaluator) -> None:
    for ours, theirs in (
        (report.curves.precision, evaluator.eval["precision"]),
        (report.curves.recall, evaluator.eval["recall"]),
    ):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(np.where(np.isnan(ours), -1, ours), theirs, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def pairs():
    return images()


def test_all_numbers_of_pycocotools(pairs) -> None:
    report, evaluator = accumulated(pairs).compute(), pycocotools_evaluator(pairs)
    require_equal_curves(report, evaluator)
    sizes = [report.by_size[name] for name in ("small", "medium", "large")]
    ours = [report.ap, report.ap50, report.ap75, *(size.ap for size in sizes), *report.recall.values()]
    ours += [size.recall for size in sizes]
    theirs = evaluator.stats
    assert list(report.recall) == [1, 10, 100]
    assert 0.1 < report.ap < 0.9
    assert sum(size.num_objects > 0 for size in sizes) >= 2  # the images have small and medium objects
    np.testing.assert_allclose([-1 if np.isnan(value) else value for value in ours], theirs, rtol=0, atol=1e-12)
    by_category = evaluator.eval["precision"][..., 0, -1]
    for k, category in enumerate(LABELS.thing_ids):
        theirs = by_category[..., k]
        came = report.per_category[LABELS[category].name]
        assert came.num_predictions == sum(int((p.category == category).sum()) for p, _ in pairs)
        if (theirs == -1).all():
            assert np.isnan([came.ap, came.ap50, came.ap75]).all()
        else:
            expected = [theirs.mean(), theirs[0].mean(), theirs[5].mean()]
            np.testing.assert_allclose([came.ap, came.ap50, came.ap75], expected, rtol=0, atol=1e-12)
    assert np.isnan(report.per_category["only predicted"].ap)
    assert report.per_category["only predicted"].num_predictions > 0


def test_size_percentiles_are_ranges_of_pycocotools(pairs) -> None:
    chosen = pairs[:60]
    metric = accumulated(chosen)
    sizes = size_percentiles(metric.object_areas(), (0, 10, 30, 60, 90, 100))
    report = metric.compute(sizes)
    assert report.curves.precision.shape[3] == 6
    require_equal_curves(report, pycocotools_evaluator(chosen, list(sizes.values())))
    counts = [size.num_objects for size in report.by_size.values()]
    assert sum(counts) == sum(category.num_objects for category in report.per_category.values())
    assert min(counts) > 0


def test_every_image_alone(pairs) -> None:
    chosen = [*pairs[:6], *pairs[122:124]]
    for pair in chosen:
        require_equal_curves(accumulated([pair]).compute(), pycocotools_evaluator([pair]))


def test_equal_scores_keep_the_order_of_segments_and_images(pairs) -> None:
    chosen = [
        (PanopticMap(prediction.ids, prediction.category, torch.ones(prediction.num_segments)), truth)
        for prediction, truth in pairs[:30]
    ]
    unscored = [(PanopticMap(prediction.ids, prediction.category), truth) for prediction, truth in chosen]
    evaluator = pycocotools_evaluator(chosen)
    require_equal_curves(accumulated(chosen).compute(), evaluator)
    require_equal_curves(accumulated(unscored, score="one").compute(), evaluator)


def as_masks(predictions: list[PanopticMap], labels: LabelSpace) -> tuple[CroppedMasks, torch.Tensor, torch.Tensor]:
    """Return the things of several maps as masks that overlap, with categories and scores."""
    is_thing = [torch.isin(one.category, torch.tensor(labels.thing_ids)) for one in predictions]
    scores = [torch.zeros(0) if one.score is None else one.score for one in predictions]  # none of empty maps
    parts = [
        (one.masks()[kept], one.category[kept], score[kept])
        for one, kept, score in zip(predictions, is_thing, scores, strict=True)
    ]
    masks, category, score = (torch.cat(part) for part in zip(*parts, strict=True))
    return CroppedMasks.from_masks(masks), category, score


def test_masks_that_overlap(pairs) -> None:
    several = [([one, a_prediction_of(truth, 700 + i)], truth) for i, (one, truth) in enumerate(pairs[:30])]
    metric = InstanceAP(LABELS)
    for predictions, truth in several:
        metric.update_masks(*as_masks(predictions, LABELS), truth)
    report = metric.compute()
    assert 0.05 < report.ap < 0.9
    require_equal_curves(report, pycocotools_evaluator(several))


def test_masks_of_a_map_are_its_objects(pairs) -> None:
    of_maps, of_masks = accumulated(pairs), InstanceAP(LABELS)
    for prediction, truth in pairs:
        of_masks.update_masks(*as_masks([prediction], LABELS), truth)
    assert of_masks.compute() == of_maps.compute()


SAMPLE = Path("../shared/data/cityscapes")
CITYSCAPES = LabelSpace.load("cityscapes")


def a_shifted_prediction(truth: PanopticMap, seed: int) -> PanopticMap:
    """Displace things one by one, drop some, confuse some, leave parts void, cut one in two; score at random."""
    g = torch.Generator().manual_seed(seed)
    height, width = truth.size
    is_thing = torch.tensor([category.is_thing for category in CITYSCAPES])
    ids, category = torch.zeros_like(truth.ids), truth.category.clone()
    boxes = truth.boxes().int().tolist()
    for row in torch.randperm(truth.num_segments, generator=g).tolist():
        if not is_thing[category[row]]:
            continue
        left, top, right, bottom = boxes[row]
        chance = float(torch.rand(1, generator=g))
        scale = 0.04 + 0.25 * chance**3
        down = int((torch.rand(1, generator=g) - 0.5) * 2 * scale * (bottom - top))
        across = int((torch.rand(1, generator=g) - 0.5) * 2 * scale * (right - left))
        if chance > 0.95:
            continue
        y, x = (truth.ids[top:bottom, left:right] == row + 1).nonzero(as_tuple=True)
        y, x = y + top + down, x + left + across
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        ids[y[inside], x[inside]] = row + 1
        if chance < 0.1:
            things = is_thing.nonzero().flatten()
            category[row] = things[int(torch.randint(0, len(things), (1,), generator=g))]
    right_half = ids[:, width // 2 :]
    halved = torch.where(right_half > 0, right_half + truth.num_segments, right_half)
    ids = torch.cat([ids[:, : width // 2], halved], dim=1)
    ids[: height // 8] = int(truth.num_segments) * 2 + 1  # a false object on sky and buildings
    ids[-height // 12 :] = int(truth.num_segments) * 2 + 2  # and one on the bonnet, which is void
    new = torch.tensor([CITYSCAPES.index("train"), CITYSCAPES.index("car")])
    return scored(PanopticMap(ids, torch.cat([category, category, new])).compact(), g, 30)


def write_for_cityscapes(predictions: list[PanopticMap], name: str, folder: Path) -> Path:
    """Write a line and a mask for each predicted thing, as the evaluator reads them."""
    lines = []
    for number, row in [(n, row) for n, one in enumerate(predictions) for row in range(one.num_segments)]:
        prediction, file = predictions[number], f"{name}_{number}_{row}.png"
        mask = Image.fromarray(((prediction.ids == row + 1).numpy() * 255).astype(np.uint8))
        mask.save(folder / file, compress_level=1)
        category = CITYSCAPES[int(prediction.category[row])]
        lines.append(f"{file} {category.source_id} {float(prediction.score[row])!r}")
    (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder / f"{name}.txt"


@pytest.mark.real_data
@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"{SAMPLE} is not here")
@pytest.mark.parametrize("overlapping", [False, True])
def test_all_numbers_of_the_cityscapes_evaluator(tmp_path, monkeypatch, overlapping) -> None:
    script = pytest.importorskip("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
    if not hasattr(np, "in1d"):  # gone since numpy 2.4; the script still calls it
        monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    # It also writes its matches, which are not used here, and cannot write the integers of today's numpy.
    monkeypatch.setattr(script, "writeDict2JSON", lambda *_: None)
    truths = sorted((SAMPLE / "gtFine").resolve().glob("*/*/*_instanceIds.png"))
    truths = [
        truths[i] for i in ((2, 10) if overlapping else (2, 7, 9, 10))
    ]  # with groups of two categories, and with objects below 100 pixels
    metric, files = InstanceAP(CITYSCAPES, "cityscapes"), []
    for seed, path in enumerate(truths):
        truth = decode_cityscapes(load_label_image(path), CITYSCAPES)
        predictions = [a_shifted_prediction(truth, seed)]
        if overlapping:
            predictions.append(a_shifted_prediction(truth, 40 + seed))
            metric.update_masks(*as_masks(predictions, CITYSCAPES), truth)
        else:
            metric.update(predictions[0], truth)
        files.append(str(write_for_cityscapes(predictions, path.stem, tmp_path)))
    report = metric.compute()

    monkeypatch.setattr(script.args, "gtInstancesFile", str(tmp_path / "truth.json"))
    monkeypatch.setattr(script.args, "predictionPath", str(tmp_path.resolve()))
    monkeypatch.setattr(script.args, "quiet", True)
    monkeypatch.setattr(script.args, "JSONOutput", False)
    with contextlib.redirect_stdout(io.StringIO()):
        averages = script.evaluateImgLists(files, [str(path) for path in truths], script.args)["averages"]
    np.testing.assert_allclose([report.ap, report.ap50], [averages["allAp"], averages["allAp50%"]], rtol=0, atol=1e-12)
    assert 0.05 < report.ap < report.ap50 < 0.95
    assert list(averages["classes"]) == list(report.per_category)
    for name, theirs in averages["classes"].items():
        came = report.per_category[name]
        np.testing.assert_allclose([came.ap, came.ap50], [theirs["ap"], theirs["ap50%"]], rtol=0, atol=1e-12)
    assert sum(np.isfinite(category.ap) for category in report.per_category.values()) >= 4
