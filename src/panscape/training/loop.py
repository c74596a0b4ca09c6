"""The training loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import Module

from panscape.models import PanopticModel
from panscape.nn.depthwise import DepthwiseInFloat32
from panscape.training.config import Recipe
from panscape.training.data.loader import Batch
from panscape.training.logging.reporter import Reporter
from panscape.training.monitor import TrainingMonitor
from panscape.training.optimizer import ModelEMA, create_optimizer, set_learning_rate
from panscape.training.profiler import WAIT, StepProfiler, cached_speed
from panscape.training.schedule import learning_rate


@dataclass
class TrainingState:
    """The state of a training between two steps; all of it is saved in a checkpoint.

    Attributes:
        model: the model in training.
        optimizer: the optimizer of its weights.
        average: the EMA of its weights; None if the recipe has none.
        step: number of completed steps.
    """

    model: PanopticModel
    optimizer: torch.optim.Optimizer
    average: ModelEMA | None
    step: int = 0

    @property
    def best_model(self) -> PanopticModel:
        """The model to evaluate and save: the EMA if there is one, else the trained model."""
        return self.model if self.average is None else self.average.model

    def load_weights(self, content: Mapping[str, Any]) -> None:
        """Replace the weights by those in the content of a checkpoint, without the rest of the state."""
        self.model.load_state_dict(content["model"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])


def train(
    fabric: Fabric,
    state: TrainingState,
    batches: Iterator[Batch],
    recipe: Recipe,
    *,
    seed: int,
    reporter: Reporter,
    monitor: TrainingMonitor,
    timer: StepProfiler,
    after_step: Callable[[int], bool],
    last_step: int,
) -> None:
    """Train from ``state.step`` to ``last_step``, or until ``after_step`` ends the training.

    Step ``s`` is a function of the previous state, the batch and (``seed``, ``s``): a training that resumes from a
    checkpoint computes the same as an uninterrupted one.

    Args:
        fabric: launched; defines device, precision and processes.
        state: trained in place.
        batches: this process's share of each step, in ``recipe.grad_accum_steps`` parts, starting with step
            ``state.step + 1``.
        recipe: learning rate, gradient accumulation, clipping.
        seed: the seed of the run.
        reporter: receives the losses of each step.
        monitor: raises on divergence or on a stop request.
        timer: profiles the steps.
        after_step: called with the number of each completed step, for checkpoints, images and evaluations; returns
            whether the training ends here.
        last_step: at most that of the recipe, which defines the learning rates.

    Raises:
        TrainingDivergedError: a loss or a gradient is not finite.
        Stopped: the run received a stop request; ``state`` is consistent.
        PanscapeError: any error of ``batches``, in all processes.
    """
    network, optimizer = fabric.setup(state.model, state.optimizer)
    set_train_mode(network, state.model, recipe)
    for step in range(state.step + 1, last_step + 1):
        # For dropout, if the network has it.
        torch.manual_seed(((seed * 1_000_003 + step) * 1_009 + fabric.global_rank) % 2**63)
        rate = learning_rate(step, recipe.optimizer.learning_rate, recipe.schedule, recipe.steps)
        set_learning_rate(state.optimizer, rate)
        losses: dict[str, Tensor] = {}
        names: list[str] = []
        is_clamped: list[bool] = []
        for part in range(1, recipe.grad_accum_steps + 1):
            with timer.section(WAIT):
                batch = monitor.next_batch(batches)
            timer.add_samples(batch.times)
            found = add_gradients(fabric, network, state.model, batch, part, recipe.grad_accum_steps, timer)
            losses = {name: losses.get(name, 0) + loss for name, loss in found.items()}
            names += batch.names
            is_clamped += [flag for flag in batch.is_clamped if flag is not None]
        with timer.section("optimizer"):
            norm = clip_gradients(fabric, network, optimizer, recipe)
            monitor.check(step, losses, norm, names)
            optimizer.step()
            optimizer.zero_grad()
        if state.average is not None:
            with timer.section("average"):
                state.average.update(state.model, step)
        state.step = step
        with timer.section("logging"):
            reporter.step(step, losses, rate, recipe.batch_size, norm, is_clamped)
        timer.step_done(len(names))
        with timer.excluded():
            is_over = after_step(step)
        monitor.stop_if_requested(step)
        if is_over:
            return


def set_train_mode(network: Module, model: PanopticModel, recipe: Recipe) -> None:
    """Set the training mode, in which a frozen backbone keeps the statistics of its norms.

    Args:
        network: the model as wrapped by Fabric.
        model: the wrapped model.
        recipe: defines by ``backbone_lr_mult`` whether the backbone is frozen.
    """
    network.train()
    if recipe.optimizer.backbone_lr_mult == 0:
        for name in model.backbones:
            model.get_submodule(name).eval()


def add_gradients(
    fabric: Fabric,
    network: Module,
    model: PanopticModel,
    batch: Batch,
    part: int,
    parts: int,
    timer: StepProfiler,
) -> dict[str, Tensor]:
    """Accumulate the gradients of one part of a step's batch, and return its share of the losses.

    Args:
        fabric: launched.
        network: the model as wrapped by Fabric.
        model: the wrapped model.
        batch: the part.
        part: its number, 1 to ``parts``; processes exchange gradients with the last one.
        parts: number of parts of the step's batch.
        timer: profiles the steps.
    """
    with timer.section("to device"):
        images, targets = to_device(batch, fabric.device)
    with fabric.no_backward_sync(cast(Any, network), enabled=part < parts):
        with timer.section("forward"), DepthwiseInFloat32():
            outputs = network(images, targets) if model.takes_targets else network(images)
        with timer.section("loss"):
            losses = {name: loss / parts for name, loss in model.loss(outputs, targets).items()}
            total = torch.stack(list(losses.values())).sum()
        with timer.section("backward"):
            fabric.backward(total)
    return {name: loss.detach() for name, loss in losses.items()}


def clip_gradients(fabric: Fabric, network: Module, optimizer: Any, recipe: Recipe) -> Tensor:
    """Clip gradients to the recipe's norm if it has one, and return the norm before clipping."""
    # Without a limit this only measures the norm, which shows whether the gradient is finite.
    limit = recipe.optimizer.grad_clip_norm or torch.inf
    return cast(Tensor, fabric.clip_gradients(network, optimizer, max_norm=limit, error_if_nonfinite=False))


def max_throughput(batch: Batch, fabric: Fabric, state: TrainingState, recipe: Recipe, rounds: int = 10) -> float:
    """Return the images per second of this process without data loading; ``state`` stays unchanged.

    Args:
        batch: one part of this process's share.
        fabric: launched; all processes must call this.
        state: provides the model.
        recipe: the recipe of the training.
        rounds: number of measured steps.
    """
    model = copy.deepcopy(state.model)
    average = ModelEMA(model, recipe.ema_decay) if recipe.ema_decay else None
    network, optimizer = fabric.setup(model, create_optimizer(model, recipe.optimizer))
    set_train_mode(network, model, recipe)
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
    """Return the images as float [B, 3, H, W] in 0..1, channels last, and the targets, both on the device."""
    images = batch.images.to(device, non_blocking=True).float().div_(255).contiguous(memory_format=torch.channels_last)
    return images, type(batch.targets)(*(t.to(device, non_blocking=True) for t in batch.targets))
