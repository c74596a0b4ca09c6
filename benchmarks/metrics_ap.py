"""Time average precision of objects: panscape, pycocotools and faster-coco-eval on the same data.

The data are generated: images of 480 x 640 with about 25 objects of eight categories, crowds and void, in memory. The
other libraries take masks as run lengths. Encoding is timed separately: it is needed for maps, but not for files of
detections. Times are CPU time of the process with one thread, the minimum over rounds in which the implementations
alternate. The twelve COCO metrics are first checked to be equal within 1e-12.

Run ``python benchmarks/metrics_ap.py``; it prints a Markdown table. ``benchmarks/metrics.py`` prints the same rows.
``--quick`` takes seconds: it checks that all implementations run and agree; its times are meaningless.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from reporting import cpu_milliseconds, machine, table

from panscape import LabelSpace, PanopticMap
from panscape.metrics import InstanceAP

LABELS = LabelSpace.from_dict(
    {
        "name": "11 categories, 8 of them things",
        "categories": [
            {"name": f"category {i}", "is_thing": i >= 3, "source_id": i + 1, "color": (i, i, i)} for i in range(11)
        ],
    }
)

QUICK = 2, 1
"""Numbers of images and rounds of ``--quick``."""

Pair = tuple[PanopticMap, PanopticMap]


class APTimes(NamedTuple):
    """Result of one implementation.

    Attributes:
        way: name of the implementation.
        milliseconds: CPU time per image.
        is_equal: whether its twelve metrics equal those of pycocotools within 1e-12; None if it computes none.
    """

    way: str
    milliseconds: float
    is_equal: bool | None


def a_pair(seed: int, height: int = 480, width: int = 640, num_objects: int = 30) -> Pair:
    """Return a prediction with scores and its ground truth: stuff under ellipses, shifted and partly misclassified."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    truth = (1 + y * 3 // height).astype(np.int32)
    predicted = (1 + np.minimum((y + 9) * 3 // height, 2)).astype(np.int32)
    category = np.array([0, 1, 2, *random.integers(3, 11, num_objects)])
    for segment in range(4, num_objects + 4):
        center, radii = random.uniform(0, 1, 2) * (height, width), np.exp(random.uniform(1, 4.5, 2))
        shift = random.normal(0, 0.12, 2) * radii
        for ids, (cy, cx) in ((truth, center), (predicted, center + shift)):
            ids[((y - cy) / radii[0]) ** 2 + ((x - cx) / radii[1]) ** 2 <= 1] = segment
    truth[-height // 12 :] = 0
    crowd = (category >= 3) & (random.random(len(category)) < 0.05)
    wrong = np.where(random.random(len(category)) < 0.1, random.integers(0, 11, len(category)), category)
    score = (random.random(len(category)).astype(np.float32) + (wrong == category)) / 2
    return (
        PanopticMap(*map(torch.from_numpy, (predicted, wrong, score.astype(np.float32)))).compact(),
        PanopticMap(torch.from_numpy(truth), torch.from_numpy(category), None, torch.from_numpy(crowd)).compact(),
    )


def with_panscape(pairs: Sequence[Pair]) -> np.ndarray:
    """Return the twelve COCO metrics, from maps."""
    metric = InstanceAP(LABELS)
    for prediction, truth in pairs:
        metric.update(prediction, truth)
    report = metric.compute()
    sizes = list(report.by_size.values())
    means = [report.ap, report.ap50, report.ap75, *(size.ap for size in sizes)]
    return np.nan_to_num([*means, *report.recall.values(), *(size.recall for size in sizes)], nan=-1.0)


def encoded(pairs: Sequence[Pair]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the ground truth as COCO annotations and the predictions as COCO detections, with masks as run lengths."""
    from pycocotools import mask

    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for number, (prediction, truth) in enumerate(pairs, start=1):
        for annotation, entries in ((prediction, detections), (truth, annotations)):
            ids, category = np.asfortranarray(annotation.ids.numpy()), annotation.category.tolist()
            rows = [row for row, c in enumerate(category) if LABELS[c].is_thing]
            for row in rows:
                mask_of_row = mask.encode((ids == row + 1).view(np.uint8))
                entry = {"image_id": number, "category_id": category[row], "segmentation": mask_of_row}
                if annotation.score is not None:
                    entry["score"] = float(annotation.score[row])
                else:
                    entry["iscrowd"] = int(annotation.crowd is not None and annotation.crowd[row])
                    entry["area"] = int(mask.area(mask_of_row))
                    entry["id"] = len(entries) + 1
                entries.append(entry)
    dataset = {
        "images": [
            {"id": number, "height": truth.size[0], "width": truth.size[1]}
            for number, (_, truth) in enumerate(pairs, start=1)
        ],
        "categories": [{"id": i, "name": LABELS[i].name} for i in LABELS.thing_ids],
        "annotations": annotations,
    }
    return dataset, detections


def with_pycocotools(dataset: dict[str, Any], detections: list[dict[str, Any]]) -> np.ndarray:
    """Return the twelve COCO metrics, from run lengths."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(detections), "segm")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return np.array(evaluator.stats)


def with_faster_coco_eval(dataset: dict[str, Any], detections: list[dict[str, Any]]) -> np.ndarray:
    """Return the twelve COCO metrics, from run lengths."""
    from faster_coco_eval import COCO, COCOeval_faster

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(dataset)
        evaluator = COCOeval_faster(truth, truth.loadRes(detections), "segm")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return np.array(evaluator.stats[:12])


def measure_ap(num_images: int = 50, repeats: int = 3) -> list[APTimes]:
    """Time all implementations on the same generated data and compare their metrics with those of pycocotools."""
    pairs = [a_pair(seed) for seed in range(num_images)]
    dataset, detections = encoded(pairs)

    def from_copies(way: Callable[[Any, Any], np.ndarray]) -> np.ndarray:
        # The other libraries modify their inputs.
        annotations = [dict(entry) for entry in dataset["annotations"]]
        return way({**dataset, "annotations": annotations}, [dict(entry) for entry in detections])

    numbers: dict[str, Callable[[], np.ndarray]] = {
        "pycocotools, from run lengths": lambda: from_copies(with_pycocotools),
        "faster-coco-eval, from run lengths": lambda: from_copies(with_faster_coco_eval),
        "**panscape** `InstanceAP`, from maps": lambda: with_panscape(pairs),
    }
    expected = from_copies(with_pycocotools)
    is_equal = {name: np.allclose(way(), expected, rtol=0, atol=1e-12) for name, way in numbers.items()}
    times = cpu_milliseconds({**numbers, "encoding maps as run lengths": lambda: encoded(pairs)}, repeats)
    return [APTimes(name, ms / num_images, is_equal.get(name)) for name, ms in times.items()]


def ap_table(times: Sequence[APTimes]) -> str:
    """Return a table: implementation, CPU ms per image, speedup over pycocotools, and whether the metrics are equal."""
    words = {True: "equal", False: "differ", None: ""}
    slowest = times[0].milliseconds
    rows = [
        [way, f"{ms:.2f}", "" if is_equal is None else f"{slowest / ms:.1f}", words[is_equal]]
        for way, ms, is_equal in times
    ]
    return table(["average precision of objects", "CPU ms per image", "speedup over pycocotools", "metrics"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50, help="number of images")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--quick", action="store_true", help="check that everything runs; the times are meaningless")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    times = measure_ap(*(QUICK if arguments.quick else (arguments.images, arguments.repeats)))
    print(f"{machine()}, numpy {np.__version__}\n")
    print(ap_table(times))


if __name__ == "__main__":
    main()
