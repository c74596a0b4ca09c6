"""The training loop, on one screen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import Module

from panscape.models import PanopticModel
from panscape.training.config import Recipe
from panscape.training.data.loader import Batch
from panscape.training.logging.reporter import Reporter
from panscape.training.monitor import TrainingMonitor
from panscape.training.optimizer import ModelEMA, create_optimizer, learning_rate, set_learning_rate
from panscape.training.profiler import WAIT, StepProfiler, cached_speed


@dataclass
class TrainingState:
    """What a training is between two steps; all of it goes into a checkpoint.

    Attributes:
        model: with the weights that are trained.
        optimizer: of these weights.
        average: their running average; None if the recipe has none.
        step: number of steps done.
    """

    model: PanopticModel
    optimizer: torch.optim.Optimizer
    average: ModelEMA | None
    step: int = 0

    @property
    def best_model(self) -> PanopticModel:
        """The averaged model, else the trained one: what is evaluated and saved."""
        return self.model if self.average is None else self.average.model


def train(
    fabric: Fabric,
    state: TrainingState,
    batches: Iterator[Batch],
    recipe: Recipe,
    *,
    seed: int,
    reporter: Reporter,
    watch: TrainingMonitor,
    timer: StepProfiler,
    after_step: Callable[[int], None],
) -> None:
    """Train from ``state.step`` to the recipe's last step.

    Step ``s`` is a function of the state before it, of the batch and of (``seed``, ``s``): a training that goes on from
    a checkpoint does what it would have done without the break.

    Args:
        fabric: launched; knows device, precision and processes.
        state: is trained in place.
        batches: this process's share of each step, in ``recipe.grad_accum_steps`` parts, from step ``state.step + 1``
            on.
        recipe: learning rate, accumulation, clipping.
        seed: of the run.
        reporter: is told the losses of each step.
        watch: stops a training that has gone wrong or shall end.
        timer: measures where time goes.
        after_step: called with each step that is done, for what happens now and then.

    Raises:
        TrainingDivergedError: a loss or a gradient is not finite.
        Stopped: the run was asked to stop; ``state`` is whole.
        PanscapeError: what ``batches`` raises, in all processes.
    """
    network, optimizer = fabric.setup(state.model, state.optimizer)
    network.train()
    for step in range(state.step + 1, recipe.steps + 1):
        # Of dropout, if a network has it.
        torch.manual_seed(((seed * 1_000_003 + step) * 1_009 + fabric.global_rank) % 2**63)
        rate = learning_rate(step, recipe.optimizer, recipe.schedule, recipe.steps)
        set_learning_rate(state.optimizer, rate)
        losses: dict[str, Tensor] = {}
        names: list[str] = []
        for part in range(1, recipe.grad_accum_steps + 1):
            with timer.section(WAIT):
                batch = watch.next_batch(batches)
            timer.add_samples(batch.times)
            found = add_gradients(fabric, network, state.model, batch, part, recipe.grad_accum_steps, timer)
            losses = {name: losses.get(name, 0) + loss for name, loss in found.items()}
            names += batch.names
        with timer.section("optimizer"):
            norm = clip_gradients(fabric, network, optimizer, recipe)
            watch.check(step, losses, norm, names)
            optimizer.step()
            optimizer.zero_grad()
        if state.average is not None:
            with timer.section("average"):
                state.average.update(state.model, step)
        state.step = step
        with timer.section("logging"):
            reporter.step(step, losses, rate, recipe.batch_size, norm)
        timer.step_done(len(names))
        with timer.excluded():
            after_step(step)
        watch.stop_if_requested(step)


def add_gradients(
    fabric: Fabric,
    network: Module,
    model: PanopticModel,
    batch: Batch,
    part: int,
    parts: int,
    timer: StepProfiler,
) -> dict[str, Tensor]:
    """Add the gradients of a part of a step's batch, and return its share of the losses.

    Args:
        fabric: launched.
        network: the model as Fabric has set it up.
        model: that is in it.
        batch: the part.
        part: which, 1 to ``parts``; processes exchange gradients with the last.
        parts: of the step's batch.
        timer: measures where time goes.
    """
    with timer.section("to device"):
        images, targets = to_device(batch, fabric.device)
    with fabric.no_backward_sync(cast(Any, network), enabled=part < parts):
        with timer.section("forward"):
            outputs = network(images)
        with timer.section("loss"):
            losses = {name: loss / parts for name, loss in model.loss(outputs, targets).items()}
            total = torch.stack(list(losses.values())).sum()
        with timer.section("backward"):
            fabric.backward(total)
    return {name: loss.detach() for name, loss in losses.items()}


def clip_gradients(fabric: Fabric, network: Module, optimizer: Any, recipe: Recipe) -> Tensor:
    """Scale gradients down to the recipe's norm if it has one, and return the norm that they had."""
    # Without a limit this only measures, which is how a gradient that is not finite is noticed.
    limit = recipe.optimizer.grad_clip_norm or torch.inf
    return cast(Tensor, fabric.clip_gradients(network, optimizer, max_norm=limit, error_if_nonfinite=False))


def max_throughput(batch: Batch, fabric: Fabric, state: TrainingState, recipe: Recipe, rounds: int = 10) -> float:
    """Return how many images a second this process trains on if it never waits for them; ``state`` stays as it is.

    Args:
        batch: one part of this process's share.
        fabric: launched; all of its processes must call this.
        state: tells the model.
        recipe: of the training.
        rounds: steps that are measured.
    """
    model = copy.deepcopy(state.model)
    average = ModelEMA(model, recipe.ema_decay) if recipe.ema_decay else None
    network, optimizer = fabric.setup(model, create_optimizer(model, recipe.optimizer))
    network.train()
    timer = StepProfiler(is_on=False)

    def step() -> None:
        for part in range(1, recipe.grad_accum_steps + 1):
            add_gradients(fabric, network, model, batch, part, recipe.grad_accum_steps, timer)
        float(clip_gradients(fabric, network, optimizer, recipe))
        optimizer.step()
        optimizer.zero_grad()
        if average is not None:
            average.update(model, 1)

    return cached_speed(step, len(batch.names) * recipe.grad_accum_steps, rounds, device=fabric.device)


def to_device(batch: Batch, device: torch.device) -> tuple[Tensor, Any]:
    """Return images as float [B, 3, H, W] in 0..1, channels last, and the targets, both on the device."""
    images = batch.images.to(device, non_blocking=True).float().div_(255).contiguous(memory_format=torch.channels_last)
    return images, type(batch.targets)(*(t.to(device, non_blocking=True) for t in batch.targets))
