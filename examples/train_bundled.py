"""Train a bundled model from scratch, in 60 (street) or 80 minutes (town, all three commands) on one core.

    python examples/train_bundled.py street.safetensors --data path/to/camvid --steps 4200
    python examples/train_bundled.py town.safetensors --steps 3000
    python examples/train_bundled.py town.safetensors --steps 3000 --start town.safetensors --seed 2
    python examples/train_bundled.py town.safetensors --steps 1200 --start town.safetensors --seed 3

With ``--data`` it is ``street``, from CamVid's train split (``images/{train,val}`` and ``labels/{train,val}``);
without, ``town``, from scenes that are drawn while training, half from the street and half from above. Every thousand
steps the averaged model is evaluated on pictures it does not learn from, printed, and saved with its numbers.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from panscape import create_model, zoo
from panscape.datasets.masks import camvid
from panscape.datasets.memory import InMemory
from panscape.datasets.sample import PanopticDataset
from panscape.datasets.town import Town
from panscape.metrics import EvaluationReport, Evaluator
from panscape.models import PanopticModel
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.training.loop import Augmentation, Progress, Training, train
from panscape.transforms import Compose, Photometric, RandomCrop, RandomFlip, ScaleJitter

# Cityscapes' values for pictures a twelfth of its size: lengths by 1/3.5, areas by 1/12.
REPRESENTATION = CenterRepresentation(
    sigma=4.0,
    small_area=340,
    semantic_fraction=0.5,
    offset_loss_weight=0.01,
    decoding=CenterDecoding(stuff_area=100),
)
TOWN_REPRESENTATION = replace(REPRESENTATION, decoding=CenterDecoding(stuff_area=64))


def street(data: Path) -> tuple[PanopticDataset, PanopticDataset, Augmentation, dict[str, object], str]:
    sets = [InMemory(camvid(data, split)) for split in ("train", "val")]
    augment = Compose((ScaleJitter(0.6, 1.8), RandomCrop((256, 320)), RandomFlip(), Photometric()))
    options = {"backbone": "residual_s", "width": 64, "longest_side": 640, "representation": REPRESENTATION}
    source = "CamVid train split, 367 pictures of 360x480; research use, cite Brostow et al. 2008; val has 101"
    return sets[0], sets[1], augment, options, source


def town(seed: int) -> tuple[PanopticDataset, PanopticDataset, Augmentation, dict[str, object], str]:
    data = Town(length=100_000, size=(384, 384), view="both", seed=seed)
    val = InMemory(Town(length=100, size=(384, 384), view="both", seed=1))
    augment = Compose((ScaleJitter(0.6, 1.4), RandomCrop((256, 256)), RandomFlip()))
    options = {"backbone": "residual_xs", "width": 64, "representation": TOWN_REPRESENTATION}
    return data, val, augment, options, "drawn scenes of panscape.datasets.town; val is 100 of 384x384 with seed 1"


def evaluated(model: PanopticModel, val: PanopticDataset) -> EvaluationReport:
    evaluator = Evaluator(val.labels)
    for i in range(len(val)):
        sample = val[i]
        evaluator.update(model.predict(sample.image), sample.truth)
    return evaluator.compute()


def card_of(scores: EvaluationReport, **facts: object) -> dict[str, object]:
    """Put numbers in percent beside facts."""
    groups = {"PQ": scores.panoptic.all, "PQ things": scores.panoptic.things, "PQ stuff": scores.panoptic.stuff}
    numbers = {name: round(100 * group.pq, 1) for name, group in groups.items()}
    return facts | {"val": numbers | {"mIoU": round(100 * scores.semantic.mean_iou, 1)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, help="CamVid; without it, scenes are drawn")
    parser.add_argument("--steps", type=int, default=4200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", help="weights to go on from, instead of random ones")
    parser.add_argument("--seed", type=int, default=0, help="give a new one when going on, but not 1, which is val")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    data, val, augment, options, source = street(args.data) if args.data else town(args.seed)
    model = zoo.load(args.start) if args.start else create_model("swiftnet", data.labels, **options)
    started = time.time()

    def report(progress: Progress) -> None:
        losses = ", ".join(f"{name} {value:.3f}" for name, value in progress.losses.items())
        print(f"step {progress.step}: {losses}, {progress.images_per_second:.1f} images/s", flush=True)
        if progress.step % 1000 == 0 or progress.step == args.steps:
            scores, minutes = evaluated(progress.model, val), round((time.time() - started) / 60)
            print(f"after {minutes} minutes, on val:\n{scores}", flush=True)
            zoo.save(progress.model, args.out, card_of(scores, data=source, steps=progress.step, minutes=minutes))

    training = Training(args.steps, learning_rate=2e-3, log_every=100, seed=args.seed)
    train(model, data, augment, training, report)


if __name__ == "__main__":
    main()
