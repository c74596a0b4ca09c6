"""Train a model on a dataset: one loop, on one screen."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from panscape.datasets.sample import PanopticDataset
from panscape.errors import InvalidArgumentError
from panscape.models import PanopticModel
from panscape.panoptic import PanopticMap

Augmentation = Callable[[Tensor, PanopticMap, torch.Generator], tuple[Tensor, PanopticMap]]


@dataclass(frozen=True, slots=True)
class Training:
    """How to train.

    Attributes:
        steps: optimiser steps.
        batch_size: crops per step.
        learning_rate: the highest; after a linear warm-up it falls to 0 along a half cosine.
        warmup_steps: length of the warm-up.
        weight_decay: of AdamW, on weights of convolutions only.
        clip_norm: gradients are scaled down to this norm.
        ema_decay: of the averaged weights that are the result.
        bf16: compute in bfloat16 where autocast deems it safe.
        workers: processes that prepare samples; each batch comes from one of them, so their number decides its samples.
        seed: decides order and augmentation.
        log_every: steps between reports.
    """

    steps: int
    batch_size: int = 8
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    weight_decay: float = 0.02
    clip_norm: float = 10.0
    ema_decay: float = 0.998
    bf16: bool = True
    workers: int = 1
    seed: int = 0
    log_every: int = 50

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise InvalidArgumentError(
                "expected at least one step, one crop a batch and a positive learning rate, got "
                f"steps={self.steps}, batch_size={self.batch_size}, learning_rate={self.learning_rate}"
            )


class Progress(NamedTuple):
    """What is reported every few steps.

    Attributes:
        step: steps done.
        losses: mean of each loss since the last report.
        images_per_second: since the last report.
        model: the averaged model, to evaluate or save; do not train it.
    """

    step: int
    losses: dict[str, float]
    images_per_second: float
    model: PanopticModel


class _Crops(IterableDataset[tuple[Tensor, Any]]):
    """An endless stream of augmented, encoded samples, every epoch in a new order; the seed decides everything."""

    def __init__(self, dataset: PanopticDataset, augment: Augmentation, model: PanopticModel, seed: int) -> None:
        self.dataset, self.augment, self.encode, self.seed = dataset, augment, model.encode, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        worker = torch.utils.data.get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        epoch = 0
        while True:
            order = torch.randperm(len(self.dataset), generator=torch.Generator().manual_seed(self.seed + epoch))
            for position in range(first, len(order), step):
                sample = self.dataset[int(order[position])]
                generator = torch.Generator().manual_seed(hash((self.seed, epoch, position)) % 2**63)
                image, truth = self.augment(sample.image, sample.truth, generator)
                yield image, self.encode(truth)
            epoch += 1


def train(
    model: PanopticModel,
    dataset: PanopticDataset,
    augment: Augmentation,
    training: Training,
    report: Callable[[Progress], None] | None = None,
) -> PanopticModel:
    """Train ``model`` in place and return its averaged copy in eval mode.

    Args:
        model: on the device to train on.
        dataset: of the model's label space.
        augment: must give crops of one size.
        training: how.
        report: called every ``log_every`` steps and at the end; by default a line is printed to stderr.

    Raises:
        InvalidArgumentError: the dataset has another label space or no sample.
        FloatingPointError: the loss is not finite; says at which step.
    """
    if dataset.labels != model.labels:
        raise InvalidArgumentError(
            f"expected a dataset of label space {model.labels.name!r} as the model's, got {dataset.labels.name!r}"
        )
    if len(dataset) == 0:
        raise InvalidArgumentError("expected at least one sample to train on, got an empty dataset")
    device = next(model.parameters()).device
    model.train().to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(_parameter_groups(model, training.weight_decay), lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, training))
    loader = _loader(dataset, augment, model, training)
    sums: dict[str, float] = {}
    since, started = 0, time.perf_counter()
    for step, (images, targets) in zip(range(1, training.steps + 1), loader, strict=False):
        images = images.to(device).float().div_(255).contiguous(memory_format=torch.channels_last)
        targets = type(targets)(*(t.to(device) for t in targets))
        with torch.autocast(device.type, torch.bfloat16, enabled=training.bf16):
            outputs = model(images)
        losses = model.loss(outputs, targets)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise FloatingPointError(f"the loss is {float(total.detach())} at step {step}; lower the learning rate")
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        optimizer.step()
        schedule.step()
        _update_average(average, model, min(training.ema_decay, step / (step + 10)))
        sums = {name: sums.get(name, 0.0) + float(loss.detach()) for name, loss in losses.items()}
        since += 1
        if step % training.log_every == 0 or step == training.steps:
            elapsed = time.perf_counter() - started
            means = {name: value / since for name, value in sums.items()}
            (report or _print)(Progress(step, means, since * training.batch_size / elapsed, average))
            sums, since, started = {}, 0, time.perf_counter()
    return average


def _loader(
    dataset: PanopticDataset, augment: Augmentation, model: PanopticModel, training: Training
) -> DataLoader[tuple[Tensor, Any]]:
    workers = min(training.workers, len(dataset))  # a worker without samples would give none and never end
    return DataLoader(
        _Crops(dataset, augment, model, training.seed),
        training.batch_size,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )


def _rate(step: int, training: Training) -> float:
    if step < training.warmup_steps:
        return (step + 1) / training.warmup_steps
    done = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, value in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    # Running statistics must follow at the same pace: they belong to the averaged weights, not to the latest ones.
    for kept, buffer in zip(average.buffers(), model.buffers(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(buffer, 1 - decay)
        else:
            kept.copy_(buffer)


def _print(progress: Progress) -> None:
    parts = ", ".join(f"{name} {value:.4f}" for name, value in progress.losses.items())
    print(f"step {progress.step}: {parts}, {progress.images_per_second:.1f} images/s", file=sys.stderr)
