"""Train Panoptic SwiftNet at full width (ResNet-18, 256 channels) on town for eight minutes, and evaluate it.

One run per row of the paper's Table 6: ``--levels 1``, ``--context spp``, ``--levels 2``, ``--levels 3``.
"""

from __future__ import annotations

import time

import queue_options
import torch
from reporting import machine

from panscape import create_model, zoo
from panscape.datasets.memory import InMemory
from panscape.datasets.town import Town
from panscape.metrics import Evaluator
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.training.loop import Progress, Training, train
from panscape.transforms import Compose, RandomCrop, RandomFlip, ScaleJitter


def main() -> None:
    parser = queue_options.parser(__doc__)
    parser.add_argument("--levels", type=int, default=None)
    parser.add_argument("--context", default="pyramid")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2500, help="about eight minutes on a data-centre GPU")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    size, steps = ((128, 256), 4) if args.quick else ((512, 1024), args.steps)
    data, val = Town(1_000_000, size, "both", args.seed), InMemory(Town(4 if args.quick else 100, size, "both", 1_000))
    representation = CenterRepresentation(
        sigma=6, small_area=1024, semantic_fraction=0.3, decoding=CenterDecoding(stuff_area=256)
    )
    model = create_model(
        "swiftnet_r18", data.labels, levels=args.levels, context=args.context, representation=representation
    ).to(args.device)
    augment = Compose((ScaleJitter(0.5, 1.5), RandomCrop(size), RandomFlip()))
    started, lines = time.time(), []

    def report(progress: Progress) -> None:
        lines.append(f"{progress.step} {progress.losses} {progress.images_per_second:.1f} pictures/s")
        print(lines[-1], flush=True)

    workers = 0 if args.quick else 14
    training = Training(steps, batch_size=2 if args.quick else 16, learning_rate=5e-4, seed=args.seed, workers=workers)
    averaged = train(model, data, augment, training, report)
    evaluator = Evaluator(data.labels)
    for sample in val:
        evaluator.update(averaged.predict(sample.image), sample.truth)
    scores = evaluator.compute()
    name = f"town_{args.context}_{args.levels}_seed{args.seed}"
    text = f"{machine()}\n\n{name}: {steps} steps, {(time.time() - started) / 60:.1f} minutes\n\n{scores}"
    queue_options.write(args.out, name, text, {"log": lines, "val": scores.to_dict()})
    zoo.save(averaged, args.out / f"{name}.safetensors", {"val": scores.to_dict()})


if __name__ == "__main__":
    main()
