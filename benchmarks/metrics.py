"""Time panoptic quality: panscape, the algorithm of the COCO panopticapi, np.unique and torchmetrics.

Images are generated at 1024 x 2048 with about 50 segments, void and crowds, and are id maps in memory, so that no file
is read or decoded. The results of all implementations are compared, and the table has the outcome. Times are CPU time
of the process with one thread, the minimum over rounds in which the implementations alternate; torchmetrics runs once
on one image.

Run ``python benchmarks/metrics.py``; it prints a Markdown table, and that of ``metrics_ap.py`` below it.
``--torchmetrics 0`` skips torchmetrics, which takes seconds per image, and ``--no-ap`` skips average precision.
``--files`` measures the evaluation of COCO panoptic files instead (``metrics_files.py``), and ``--decoding`` the
decoding of PNGs by threads and processes (``metrics_decoding.py``). ``--quick`` takes seconds: it checks that all
implementations run and agree; its times are meaningless.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

import metrics_ap
import metrics_decoding
import numba
import numpy as np
import torch
from reporting import cpu_milliseconds, machine, table

from panscape import LabelSpace, PanopticMap
from panscape.metrics import Evaluator, PanopticQuality
from panscape.ops.contingency_table import ContingencyTable

LABELS = LabelSpace.from_dict(
    {
        "name": "19 categories, 8 of them things",
        "categories": [
            {"name": f"category {i}", "is_thing": i >= 11, "source_id": i, "color": (i, i, i)} for i in range(19)
        ],
    }
)


class Scene(NamedTuple):
    """A prediction, its ground truth, and the areas of the ground truth, which panopticapi reads from a file."""

    prediction: PanopticMap
    truth: PanopticMap
    true_areas: list[int]


def a_scene(seed: int, num_segments: int, height: int, width: int) -> Scene:
    """Return a scene: bands of stuff under ellipses of things; the prediction is shifted and partly misclassified."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    bands = 8
    wave = 40 * np.sin(x / 150 + random.uniform(0, 6)) + 8 * np.sin(x / 11)
    truth = (1 + np.clip((y + wave) * bands // height, 0, bands - 1)).astype(np.int32)
    predicted = (1 + np.clip((y + wave + 12) * bands // height, 0, bands - 1)).astype(np.int32)
    category = [*range(bands), *random.integers(11, 19, num_segments - bands)]
    for segment in range(bands + 1, num_segments + 1):
        center = np.array([random.uniform(0, height), random.uniform(0, width)])
        radii = random.uniform(15, 160, 2)
        shift = random.uniform(-0.3, 0.3, 2) * radii
        for ids, (cy, cx) in ((truth, center), (predicted, center + shift)):
            ids[((y - cy) / radii[0]) ** 2 + ((x - cx) / radii[1]) ** 2 <= 1] = segment
    truth[-height // 12 :] = 0
    predicted[: height // 20, : width // 3] = 0
    mistaken = random.random(num_segments) < 0.1
    crowd = (np.array(category) >= 11) & (random.random(num_segments) < 0.08)
    wrong = np.where(mistaken, random.integers(0, 19, num_segments), category)
    prediction = PanopticMap(torch.from_numpy(predicted), torch.from_numpy(wrong.astype(np.int64))).compact()
    true_category = torch.tensor(category, dtype=torch.int64)
    map_of_truth = PanopticMap(torch.from_numpy(truth), true_category, None, torch.from_numpy(crowd)).compact()
    return Scene(prediction, map_of_truth, map_of_truth.areas().tolist())


def by_reading(scenes: Sequence[Scene]) -> np.ndarray:
    """Only read both maps of each scene: no way to count can be faster."""
    return np.array([[int(side.ids.numpy().max()) for side in scene[:2]] for scene in scenes])


def with_panscape(scenes: Sequence[Scene]) -> np.ndarray:
    metric = PanopticQuality(LABELS)
    for prediction, truth, _ in scenes:
        metric.update(prediction, truth)
    return metric.state.numpy()


def with_evaluator(scenes: Sequence[Scene]) -> np.ndarray:
    evaluator = Evaluator(LABELS)
    for prediction, truth, _ in scenes:
        evaluator.update(prediction, truth)
    return evaluator.panoptic.state.numpy()


def with_unique(scenes: Sequence[Scene]) -> np.ndarray:
    """Count overlaps with np.unique; the matching is panscape's."""
    metric = PanopticQuality(LABELS)
    for prediction, truth, _ in scenes:
        factor = prediction.num_segments + 1
        combined = truth.ids.numpy().astype(np.int64) * factor + prediction.ids.numpy()
        keys, areas = np.unique(combined, return_counts=True)
        parts = (keys // factor, keys % factor, areas)
        metric.update(prediction, truth, ContingencyTable(*map(torch.from_numpy, parts)))
    return metric.state.numpy()


def with_published_algorithm(scenes: Sequence[Scene]) -> np.ndarray:
    """Run panopticapi's algorithm for decoded images: two np.unique and loops over dictionaries."""
    total = np.zeros((len(LABELS), 4))
    for prediction, truth, true_areas in scenes:
        true_ids, predicted_ids = (m.ids.numpy().astype(np.uint32) for m in (truth, prediction))
        crowds = [False] * truth.num_segments if truth.crowd is None else truth.crowd.tolist()
        true = dict(enumerate(zip(truth.category.tolist(), true_areas, crowds, strict=True), start=1))
        predicted = dict(enumerate(prediction.category.tolist(), start=1))
        total += published_counts(true_ids, predicted_ids, true, predicted)
    return total


def published_counts(
    true_ids: np.ndarray,
    predicted_ids: np.ndarray,
    true: dict[int, tuple[int, int, bool]],
    predicted: dict[int, int],
) -> np.ndarray:
    """Return TP, FP, FN and sum of IoU by category of one image, given category, area and crowd flag by id."""
    stats = np.zeros((len(LABELS), 4))
    ids, areas = np.unique(predicted_ids, return_counts=True)
    area_of = dict(zip(ids.tolist(), areas.tolist(), strict=True))
    combined = true_ids.astype(np.uint64) * 2**24 + predicted_ids.astype(np.uint64)
    keys, areas = np.unique(combined, return_counts=True)
    shared = {(k // 2**24, k % 2**24): n for k, n in zip(keys.tolist(), areas.tolist(), strict=True)}
    true_matched, predicted_matched = set(), set()
    for (t, p), area in shared.items():
        if t == 0 or p == 0 or true[t][2] or true[t][0] != predicted[p]:
            continue
        iou = area / (area_of[p] + true[t][1] - area - shared.get((0, p), 0))
        if iou > 0.5:
            stats[true[t][0], 0] += 1
            stats[true[t][0], 3] += iou
            true_matched.add(t)
            predicted_matched.add(p)
    crowd_of = {category: t for t, (category, _, is_crowd) in true.items() if is_crowd}
    for t, (category, _, is_crowd) in true.items():
        if not is_crowd and t not in true_matched:
            stats[category, 2] += 1
    for p, category in predicted.items():
        excused = shared.get((0, p), 0) + shared.get((crowd_of.get(category, -1), p), 0)
        if p not in predicted_matched and excused / area_of[p] <= 0.5:
            stats[category, 1] += 1
    return stats


class Peer(NamedTuple):
    """Time of another library, and the comparison of its result with panopticapi's."""

    milliseconds: float
    result: str


def with_torchmetrics(scene: Scene) -> Peer:
    """Time torchmetrics' PanopticQuality; compare it with panscape under its own protocol and under panopticapi's."""
    from torchmetrics.detection import PanopticQuality as TorchmetricsQuality

    def colors(panoptic: PanopticMap) -> torch.Tensor:
        """Return category and instance of every pixel, [1, H, W, 2], the input of torchmetrics."""
        return torch.stack([panoptic.semantic(void=len(LABELS)), panoptic.ids.long()], dim=-1)[None]

    things, stuff = list(LABELS.thing_ids), list(LABELS.stuff_ids)
    peer = TorchmetricsQuality(things, stuff, allow_unknown_preds_category=True)
    image = colors(scene.prediction), colors(scene.truth)
    started = time.process_time()
    peer.update(*image)
    took = (time.process_time() - started) * 1000
    parts = (peer.true_positives, peer.false_positives, peer.false_negatives, peer.iou_sum)
    found = np.zeros((len(LABELS), 4))
    found[[*things, *stuff]] = torch.stack([part.double() for part in parts], dim=1).numpy()

    def by(protocol: str) -> np.ndarray:
        metric = PanopticQuality(LABELS, protocol)
        metric.update(scene.prediction, scene.truth)
        return metric.state.numpy()

    if not np.allclose(found, by("torchmetrics"), rtol=1e-6, atol=1e-6):
        raise SystemExit('panscape with protocol="torchmetrics" and torchmetrics disagree')
    is_equal = np.allclose(found, by("coco"), rtol=1e-6, atol=1e-6)
    return Peer(took, "equal" if is_equal else 'other protocol; equal to panscape with protocol="torchmetrics"')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4, help="number of images")
    parser.add_argument("--segments", type=int, default=60, help="rendered segments per image, some hidden")
    parser.add_argument("--repeats", type=int, default=15, help="rounds")
    parser.add_argument("--torchmetrics", type=int, default=1, choices=(0, 1), help="number of images for torchmetrics")
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 2048), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--no-ap", action="store_true", help="skip average precision")
    parser.add_argument("--decoding", action="store_true", help="time the decoding of PNGs instead of metrics")
    parser.add_argument("--files", action="store_true", help="time the evaluation of files instead")
    parser.add_argument("--quick", action="store_true", help="check that everything runs; the times are meaningless")
    arguments = parser.parse_args()
    if arguments.decoding:
        if arguments.quick:
            metrics_decoding.print_quickly()
        else:
            metrics_decoding.print_decoding(metrics_decoding.default_workers(), num_pngs=64, repeats=5)
        return
    if arguments.files:
        import metrics_files  # it imports this file

        measured = metrics_files.measure(*metrics_files.QUICK) if arguments.quick else metrics_files.measure()
        print(metrics_files.files_table(measured))
        return
    if arguments.quick:
        arguments.images, arguments.repeats, arguments.size = 1, 1, (128, 256)
    torch.set_num_threads(1)
    scenes = [a_scene(seed, arguments.segments, *arguments.size) for seed in range(arguments.images)]

    ways = {
        "panopticapi's algorithm, in memory": with_published_algorithm,
        "np.unique on combined ids": with_unique,
        "**panscape** `PanopticQuality`": with_panscape,
        "**panscape** `Evaluator` (PQ, PQ†, PC and mIoU)": with_evaluator,
    }
    expected = with_published_algorithm(scenes)
    if not all(np.array_equal(way(scenes), expected) for way in ways.values()):
        raise SystemExit("the implementations disagree")
    tp, fp, fn, _ = expected.sum(0)
    ways["only reading both maps, `numpy.max`"] = by_reading
    times = cpu_milliseconds({name: lambda way=way: way(scenes) for name, way in ways.items()}, arguments.repeats)

    height, width = arguments.size
    true, predicted = (sum(scene[side].num_segments for scene in scenes) / len(scenes) for side in (1, 0))
    print(f"{machine()}, numpy {np.__version__}, numba {numba.__version__}\n")
    print(f"{len(scenes)} images of {height} x {width}, {true:.0f} true and {predicted:.0f} predicted segments each;")
    print(f'"equal" means the same {tp:.0f} matches, {fp:.0f} false positives and {fn:.0f} false negatives,')
    print("and bit-identical sums of IoU.\n")
    per_image = {name: Peer(ms / len(scenes), "" if "only" in name else "equal") for name, ms in times.items()}
    if arguments.torchmetrics:
        per_image["torchmetrics `PanopticQuality`"] = with_torchmetrics(scenes[0])
    published = per_image["panopticapi's algorithm, in memory"].milliseconds
    rows = [
        [name, f"{ms:.2f}", f"{published / ms:.3g}", result]
        for name, (ms, result) in sorted(per_image.items(), key=lambda item: -item[1].milliseconds)
    ]
    print(table(["implementation", "CPU ms per image", "speedup over panopticapi", "PQ"], rows))
    if not arguments.no_ap:
        times_of_ap = metrics_ap.measure_ap(*metrics_ap.QUICK) if arguments.quick else metrics_ap.measure_ap()
        print("\n" + metrics_ap.ap_table(times_of_ap))


if __name__ == "__main__":
    main()
