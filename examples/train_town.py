"""Train the bundled ``town`` model on procedural scenes, from scratch; nothing to download.

    python examples/train_town.py town.safetensors

Scenes of 384x384 from the street and from above, half and half, rendered while training; crops of 256x256 after a scale
jitter. Every thousand steps the averaged model is evaluated on 100 other scenes, printed, and saved with its numbers.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from panscape import create_model, zoo
from panscape.datasets.memory import InMemory
from panscape.datasets.town import Town
from panscape.metrics import Evaluator
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.training.loop import Progress, Training, train
from panscape.transforms import Compose, RandomCrop, RandomFlip, ScaleJitter

REPRESENTATION = CenterRepresentation(
    sigma=4.0,
    small_area=340,
    semantic_fraction=0.5,
    offset_loss_weight=0.01,
    decoding=CenterDecoding(stuff_area=64),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", help="weights to go on from, instead of random ones")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the scenes; give a new one when going on, but not 1, which is val"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    train_set = Town(length=100_000, size=(384, 384), view="both", seed=args.seed)
    val_set = InMemory(Town(length=100, size=(384, 384), view="both", seed=1))
    if args.start:
        model = zoo.load(args.start)
    else:
        options = {"backbone": "residual_xs", "width": 64, "representation": REPRESENTATION}
        model = create_model("swiftnet", train_set.labels, **options)
    augment = Compose((ScaleJitter(0.6, 1.4), RandomCrop((256, 256)), RandomFlip()))
    started = time.time()

    def report(progress: Progress) -> None:
        losses = ", ".join(f"{name} {value:.3f}" for name, value in progress.losses.items())
        print(f"step {progress.step}: {losses}, {progress.images_per_second:.1f} images/s", flush=True)
        if progress.step % 1000 == 0 or progress.step == args.steps:
            evaluator = Evaluator(val_set.labels)
            for sample in val_set:
                evaluator.update(progress.model.predict(sample.image), sample.truth)
            scores = evaluator.compute()
            print(f"after {(time.time() - started) / 60:.1f} minutes, on 100 other scenes:\n{scores}", flush=True)
            start = f" --start {Path(args.start).name}" if args.start else ""
            card = {
                "data": "procedural scenes of panscape.datasets.town; val is seed 1",
                "command": f"train_town.py OUT --steps {args.steps} --seed {args.seed}{start}",
                "step": progress.step,
                "minutes": round((time.time() - started) / 60, 1),
                "val": scores.to_dict(),
            }
            zoo.save(progress.model, args.out, card)

    train(
        model, train_set, augment, Training(steps=args.steps, learning_rate=2e-3, log_every=100, seed=args.seed), report
    )


if __name__ == "__main__":
    main()
