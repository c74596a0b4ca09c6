"""Test whether the data loader limits training: training with the loader against training on one cached batch.

Both train the same network in the same process and alternate round by round, so that changes in the speed of the
machine affect both. The first steps of each round are excluded: in them the loader fills or empties its prefetch queue.
At the end a profile of the training steps is printed.

    python benchmarks/loader.py --threads 1 --workers 1                 # town, scenes rendered while training
    python benchmarks/loader.py --threads 1 --workers 1 --data CAMVID   # CamVid as well
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from reporting import machine, table

from panscape.recipes import get_recipe
from panscape.recipes.model_options import SwiftNetOptions
from panscape.training.config import Recipe
from panscape.training.data.loader import Batch, training_batches
from panscape.training.data.recipe_stream import create_stream, segments_for
from panscape.training.distributed import Distributed
from panscape.training.logging.reporter import NullReporter
from panscape.training.loop import TrainingState, train
from panscape.training.monitor import TrainingMonitor
from panscape.training.optimizer import ModelEMA, create_optimizer
from panscape.training.profiler import StepProfiler, compare_speeds

PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def recipe_of(name: str, args: argparse.Namespace) -> Recipe:
    """Return the recipe of a bundled model with another network, crop and batch."""
    recipe = get_recipe(name)
    model = replace(cast(SwiftNetOptions, recipe.model), backbone=args.backbone, width=args.width)
    augmentation = replace(recipe.augmentation, crop=(args.size, args.size))
    return replace(recipe, model=model, augmentation=augmentation, batch_size=args.batch_size)


@dataclass
class Rounds:
    """One training that continues from round to round, with batches from either source."""

    fabric: Fabric
    recipe: Recipe
    state: TrainingState

    def go(self, batches: Iterator[Batch], steps: int, timer: StepProfiler) -> None:
        """Train for more steps."""
        train(
            self.fabric,
            self.state,
            batches,
            replace(self.recipe, steps=self.state.step + steps),
            seed=0,
            reporter=NullReporter(),
            monitor=TrainingMonitor(self.fabric, Distributed(self.fabric), print, str),
            timer=timer,
            after_step=lambda step: False,
            last_step=self.state.step + steps,
        )


def measured(name: str, data: Path | None, args: argparse.Namespace) -> tuple[list[str], str]:
    """Return a row of the table, and the profile of the median round with the loader."""
    recipe = recipe_of(name, args)
    fabric = Fabric(accelerator=args.device, devices=1, precision=PRECISIONS[args.precision])
    fabric.launch()
    dataset = recipe.data.load(data, "train")
    torch.manual_seed(0)
    model = recipe.model.create(dataset.labels).to(fabric.device).to(memory_format=torch.channels_last)
    average = ModelEMA(model, recipe.ema_decay) if recipe.ema_decay else None
    rounds = Rounds(fabric, recipe, TrainingState(model, create_optimizer(model, recipe.optimizer), average))
    batches = training_batches(
        create_stream(
            recipe, dataset, model, segments_for(recipe, dataset, on_error="raise"), seed=0, on_error="raise"
        ),
        batch_size=recipe.batch_size,
        first_step=1,
        last_step=2 * (args.rounds + 1) * (args.steps + args.skip),
        workers=args.workers,
        pin_memory=fabric.device.type == "cuda",
    )
    kept = next(batches)  # the loader reuses its memory, so it is copied
    targets = type(kept.targets)(*(t.clone() for t in kept.targets))
    kept = kept._replace(images=kept.images.clone(), targets=targets, times=())
    sources: dict[str, Callable[[], Iterator[Batch]]] = {"loader": lambda: batches, "memory": lambda: repeat(kept)}
    timers: dict[str, list[StepProfiler]] = {source: [] for source in sources}
    for _ in range(args.rounds):
        for source, timed in timers.items():
            timed.append(StepProfiler(is_on=True, device=fabric.device, skip=args.skip))
            rounds.go(sources[source](), args.skip + args.steps, timed[-1])
    speeds = {source: [timer.images_per_second for timer in timed] for source, timed in timers.items()}
    ratios = [a / b for a, b in zip(speeds["loader"], speeds["memory"], strict=True)]
    loaded, cached = (median(found) for found in speeds.values())
    print(f"{name}: {compare_speeds(loaded, cached)}", flush=True)
    million = sum(p.numel() for p in model.parameters()) / 1e6
    line = [name, f"{million:.2f} M", f"{loaded:.1f}", f"{cached:.1f}", f"{100 * median(ratios):.1f} %"]
    line.append(f"{100 * min(ratios):.1f} to {100 * max(ratios):.1f} %")
    middle = min(timers["loader"], key=lambda timer: abs(timer.images_per_second - loaded))
    return line, middle.report(args.workers)


def main() -> None:
    """Measure and print the table and the profiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of CamVid (images/train, labels/train); default: only town")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="rounds per source of batches")
    parser.add_argument("--steps", type=int, default=20, help="measured steps per round")
    parser.add_argument(
        "--skip", type=int, default=None, help="excluded steps per round; default: the prefetched batches"
    )
    parser.add_argument("--size", type=int, default=256, help="side of the crops, pixels")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--backbone", default="residual_xs")
    parser.add_argument(
        "--width", type=int, default=144, help="channels of the network; 144 gives 1.5 million parameters"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=list(PRECISIONS), default="bf16")
    args = parser.parse_args()
    if args.skip is None:
        args.skip = 4 * args.workers + 2
    torch.set_num_threads(args.threads)
    rows, reports = [], []
    for name, data in [("town", None)] + ([("street", args.data)] if args.data else []):
        line, report = measured(name, data, args)
        rows.append(line)
        reports.append(f"{name}:\n\n```text\n{report}\n```")
    header = ["data", "parameters", "images/s with the loader", "on a cached batch", "ratio, median", "range"]
    print(f"\n{machine()}, {args.workers} worker(s), {args.precision}, {args.batch_size} x {args.size}x{args.size}\n")
    print(table(header, rows) + "\n\n" + "\n\n".join(reports))


if __name__ == "__main__":
    main()
