"""The training loop, on one screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from panscape.models import PanopticModel
from panscape.training.batches import Batch
from panscape.training.optimization import WeightAverage, learning_rate, set_learning_rate
from panscape.training.recipe import Recipe
from panscape.training.reporting import Reporter
from panscape.training.timing import StepTimer
from panscape.training.watching import Watch


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
    average: WeightAverage | None
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
    watch: Watch,
    timer: StepTimer,
    after_step: Callable[[int], None],
) -> None:
    """Train from ``state.step`` to the recipe's last step.

    Step ``s`` is a function of the state before it, of the batch and of (``seed``, ``s``): a training that goes on from
    a checkpoint does what it would have done without the break.

    Args:
        fabric: launched; knows device, precision and processes.
        state: is trained in place.
        batches: this process's share of each step, in ``recipe.accumulate`` parts, from step ``state.step + 1`` on.
        recipe: learning rate, accumulation, clipping.
        seed: of the run.
        reporter: is told the losses of each step.
        watch: stops a training that has gone wrong or shall end.
        timer: measures where time goes.
        after_step: called with each step that is done, for what happens now and then.

    Raises:
        TrainingDivergedError: a loss or a gradient is not finite.
        KeyboardInterrupt: the run was asked to stop; ``state`` is whole.
    """
    network, optimizer = fabric.setup(state.model, state.optimizer)
    network.train()
    for step in range(state.step + 1, recipe.steps + 1):
        torch.manual_seed((seed * 1_000_003 + step) * 1_009 + fabric.global_rank)  # of dropout, if a network has it
        rate = learning_rate(step, recipe.optimizer, recipe.schedule, recipe.steps)
        set_learning_rate(state.optimizer, rate)
        losses: dict[str, Tensor] = {}
        names: list[str] = []
        for part in range(1, recipe.accumulate + 1):
            with timer.section("wait for data"):
                batch = next(batches)
            for skipped, reason in batch.skipped:
                watch.skipped(skipped, reason)
            with timer.section("to device"):
                images, targets = to_device(batch, fabric.device)
            with fabric.no_backward_sync(network, enabled=part < recipe.accumulate):
                with timer.section("forward"):
                    outputs = network(images)
                with timer.section("loss"):
                    found = state.model.loss(outputs, targets)
                    total = torch.stack(list(found.values())).sum() / recipe.accumulate
                with timer.section("backward"):
                    fabric.backward(total)
            losses = {k: losses.get(k, 0) + v.detach() / recipe.accumulate for k, v in found.items()}
            names += batch.names
        with timer.section("optimizer"):
            # Without a limit this only measures, which is how a gradient that is not finite is noticed.
            limit = recipe.optimizer.clip_norm or torch.inf
            norm = cast(Tensor, fabric.clip_gradients(network, optimizer, max_norm=limit, error_if_nonfinite=False))
            watch.look(step, losses, norm, names)
            optimizer.step()
            optimizer.zero_grad()
        if state.average is not None:
            with timer.section("average"):
                state.average.update(state.model, step)
        state.step = step
        with timer.section("logging"):
            reporter.step(step, losses, rate, recipe.batch_size, norm)
        timer.step_done(len(names))
        after_step(step)
        watch.stop_if_asked(step)


def to_device(batch: Batch, device: torch.device) -> tuple[Tensor, Any]:
    """Return images as float [B, 3, H, W] in 0..1, channels last, and the targets, both on the device."""
    images = batch.images.to(device, non_blocking=True).float().div_(255).contiguous(memory_format=torch.channels_last)
    return images, type(batch.targets)(*(t.to(device, non_blocking=True) for t in batch.targets))
