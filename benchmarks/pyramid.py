"""Do more pyramid levels help on large objects? One small network, one budget, 1 and 3 levels, on town streets.

Run ``python benchmarks/pyramid.py --levels 1 3 --steps 1500``; it prints a Markdown table of PQ over things by the
square root of an object's area. A pair of segments counts at the truth's size, an invented segment at its own.
"""

from __future__ import annotations

import argparse
import time
from bisect import bisect

import torch
from reporting import machine, table

from panscape import PanopticMap, create_model
from panscape.datasets.memory import InMemory
from panscape.datasets.town import Town
from panscape.metrics import Evaluator, match_segments
from panscape.models import PanopticModel
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.training.loop import Training, train
from panscape.transforms import Compose, RandomFlip

EDGES = (24, 64, 128)  # pixels, of the square root of the area
NAMES = ("below 24", "24 to 64", "64 to 128", "above 128")
REPRESENTATION = CenterRepresentation(
    sigma=5.0,
    small_area=512,
    semantic_fraction=0.3,
    offset_loss_weight=0.01,
    decoding=CenterDecoding(stuff_area=128),
)


class QualityBySize:
    """Matched, missed and invented things by size."""

    def __init__(self) -> None:
        self.counts = [[0.0, 0, 0, 0] for _ in NAMES]  # sum of IoU, tp, fp, fn

    def update(self, prediction: PanopticMap, truth: PanopticMap, is_thing: torch.Tensor) -> None:
        found = match_segments(prediction, truth)
        truth_bin, own_bin = ([bisect(EDGES, area**0.5) for area in m.areas().tolist()] for m in (truth, prediction))
        for row, iou in zip(found.truth.tolist(), found.iou.tolist(), strict=True):
            if is_thing[truth.category[row]]:
                self.counts[truth_bin[row]][0] += iou
                self.counts[truth_bin[row]][1] += 1
        for row in found.missed.tolist():
            self.counts[truth_bin[row]][3] += int(is_thing[truth.category[row]])
        for row in found.spurious.tolist():
            self.counts[own_bin[row]][2] += int(is_thing[prediction.category[row]])

    def pq(self) -> list[float]:
        return [iou / max(tp + fp / 2 + fn / 2, 1) for iou, tp, fp, fn in self.counts]


def evaluated(model: PanopticModel, val: InMemory) -> tuple[list[float], float, float]:
    is_thing = torch.tensor([c.is_thing for c in val.labels])
    sizes, scores = QualityBySize(), Evaluator(val.labels)
    for sample in val:
        prediction = model.predict(sample.image)
        sizes.update(prediction, sample.truth, is_thing)
        scores.update(prediction, sample.truth)
    report = scores.compute()
    return sizes.pq(), report.panoptic.all.pq, report.semantic.mean_iou


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", type=int, nargs="*", default=[1, 3])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--size", type=int, nargs=2, default=[384, 384])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    size = (args.size[0], args.size[1])
    val = InMemory(Town(100, size, "street", seed=1))
    rows = []
    for seed in args.seeds:
        for levels in args.levels:
            torch.manual_seed(seed)
            model = create_model(
                "swiftnet",
                val.labels,
                backbone="residual_xs",
                width=48,
                levels=levels,
                representation=REPRESENTATION,
            )
            started = time.time()
            training = Training(args.steps, batch_size=4, learning_rate=2e-3, seed=seed, log_every=100)
            averaged = train(model, Town(100_000, size, "street", seed=0), Compose((RandomFlip(),)), training)
            by_size, pq, mean_iou = evaluated(averaged, val)
            scores = [f"{100 * s:.1f}" for s in [*by_size, pq, mean_iou]]
            rows.append([str(levels), str(seed), *scores, f"{(time.time() - started) / 60:.0f}"])
            print(table(["levels", "seed", *NAMES, "PQ", "mIoU", "minutes"], rows), flush=True)
    print(f"\n{machine()}; {size[0]}x{size[1]}, {args.steps} steps of 4 pictures")


if __name__ == "__main__":
    main()
