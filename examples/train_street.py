"""Train the bundled ``street`` model on CamVid's train split, from scratch, in about an hour and a half on one core.

    python examples/train_street.py path/to/camvid street.safetensors

The folder has ``images/{train,val}`` and ``labels/{train,val}``. Every thousand steps the averaged model is
evaluated on val at native resolution, printed, and saved with its numbers.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from panscape import create_model, zoo
from panscape.datasets.masks import camvid
from panscape.datasets.memory import InMemory
from panscape.metrics import Evaluator
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.training.loop import Progress, Training, train
from panscape.transforms import Compose, Photometric, RandomCrop, RandomFlip, ScaleJitter

# Cityscapes' values for pictures a twelfth of its size: lengths by 1/3.5, areas by 1/12.
REPRESENTATION = CenterRepresentation(
    sigma=4.0,
    small_area=340,
    semantic_fraction=0.5,
    offset_loss_weight=0.01,
    decoding=CenterDecoding(stuff_area=100),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=4200)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    train_set, val_set = (InMemory(camvid(args.data, split)) for split in ("train", "val"))
    options = {"backbone": "residual_s", "width": 64, "longest_side": 640, "representation": REPRESENTATION}
    model = create_model("swiftnet", train_set.labels, **options)
    augment = Compose((ScaleJitter(0.6, 1.8), RandomCrop((256, 320)), RandomFlip(), Photometric()))
    started = time.time()

    def report(progress: Progress) -> None:
        losses = ", ".join(f"{name} {value:.3f}" for name, value in progress.losses.items())
        print(f"step {progress.step}: {losses}, {progress.images_per_second:.1f} images/s", flush=True)
        if progress.step % 1000 == 0 or progress.step == args.steps:
            evaluator = Evaluator(val_set.labels)
            for sample in val_set:
                evaluator.update(progress.model.predict(sample.image), sample.truth)
            scores = evaluator.compute()
            print(f"after {(time.time() - started) / 60:.1f} minutes, on val:\n{scores}", flush=True)
            card = {
                "data": "CamVid train split, 367 pictures; research use, cite Brostow et al. 2008",
                "command": f"python examples/train_street.py DATA OUT --steps {args.steps}",
                "step": progress.step,
                "minutes": round((time.time() - started) / 60, 1),
                "val": scores.to_dict(),
            }
            zoo.save(progress.model, args.out, card)

    train(model, train_set, augment, Training(steps=args.steps, learning_rate=2e-3, log_every=100), report)


if __name__ == "__main__":
    main()
