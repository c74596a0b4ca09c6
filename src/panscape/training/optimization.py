"""From gradients to weights: the optimiser, its learning rate at each step, and the running average of weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from panscape.errors import InvalidArgumentError
from panscape.models import PanopticModel
from panscape.training.recipe import Optimizer, Schedule

_WARM_START = 10


def create_optimizer(model: nn.Module, options: Optimizer) -> torch.optim.Optimizer:
    """Build the optimiser of a model.

    Its parameter groups tell apart what decays (tensors of two and more dimensions: weights of convolutions and linear
    layers) from what does not (biases and norms), and the backbone from the rest. Each has its learning rate's
    ``"factor"``, see :func:`set_learning_rate`. Frozen parameters are left out, shared ones come once.

    Args:
        model: its method ``backbone_parameters()`` says which parameters are the backbone's; needed only with a
            ``backbone_factor`` other than 1.
        options: of the recipe.

    Raises:
        InvalidArgumentError: nothing can be trained, or the model does not say what its backbone is.
    """
    groups = _parameter_groups(model, options)
    if not groups:
        raise InvalidArgumentError("expected a model with parameters to train, got one whose parameters are all frozen")
    kind = torch.optim.AdamW if options.name == "adamw" else torch.optim.Adam
    optimizer = kind(groups, options.learning_rate, betas=options.betas, eps=options.eps)
    set_learning_rate(optimizer, options.learning_rate)
    return optimizer


def _parameter_groups(model: nn.Module, options: Optimizer) -> list[dict[str, Any]]:
    backbone = _backbone(model) if options.backbone_factor != 1 else set()
    groups = []
    for factor, is_backbone in ((1.0, False), (options.backbone_factor, True)):
        for decay, is_decayed in ((options.weight_decay, True), (options.norm_weight_decay, False)):
            parameters = [
                p
                for p in model.parameters()
                if p.requires_grad and (id(p) in backbone) == is_backbone and (p.ndim > 1) == is_decayed
            ]
            if parameters:
                groups.append({"params": parameters, "weight_decay": decay, "factor": factor})
    return groups


def _backbone(model: nn.Module) -> set[int]:
    parameters = getattr(model, "backbone_parameters", None)
    if parameters is None:
        raise InvalidArgumentError(
            f"{type(model).__name__} does not say which of its parameters are a backbone's; "
            "leave optimizer.backbone_factor at 1"
        )
    return {id(p) for p in parameters()}


def learning_rate(step: int, optimizer: Optimizer, schedule: Schedule, steps: int) -> float:
    """Return the learning rate of a step, before the factors of parameter groups.

    With ``i = step - 1`` steps done, it is ``end + (highest - end) * decay(i / steps)``; during the warm-up, that times
    a factor that grows along a line from ``warmup_factor`` at ``i = 0`` to 1 at ``i = warmup_steps``. So the decay
    starts with the first step, warm-up or not, and ``end`` is what the step after the last would have. detectron2
    does the same (``WarmupPolyLR``), and without warm-up torch (``PolynomialLR``, ``CosineAnnealingLR``).

    Args:
        step: 1 to ``steps``.
        optimizer: has the highest rate.
        schedule: how it goes.
        steps: of the whole training.

    Raises:
        InvalidArgumentError: there is no such step.
    """
    if not 1 <= step <= steps:
        raise InvalidArgumentError(f"expected a step from 1 to {steps}, got {step}")
    done = (step - 1) / steps
    decay = 1.0
    if schedule.decay == "poly":
        decay = (1 - done) ** schedule.power
    elif schedule.decay == "cosine":
        decay = 0.5 * (1 + math.cos(math.pi * done))
    rate = schedule.end + (optimizer.learning_rate - schedule.end) * decay
    if step > schedule.warmup_steps:
        return rate
    warm = (step - 1) / schedule.warmup_steps
    return rate * (schedule.warmup_factor * (1 - warm) + warm)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next step: ``rate`` times the ``"factor"`` of each parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


class WeightAverage:
    """The running average of a model's weights, as a model to evaluate and save.

    Running statistics of norms are averaged along: they belong to the averaged weights, not to the latest ones.
    Counters are copied. What is averaged only depends on the weights after each step, so that it can go on from
    :meth:`state_dict` bit for bit.

    Args:
        model: copied as it is now, on its device; neither distributed nor otherwise wrapped.
        decay: at full length, ``average = decay * average + (1 - decay) * model``; before, ``step / (step + 10)``, so
            that the random weights of the start are soon forgotten. In (0, 1).

    Attributes:
        model: the averaged model, in eval mode, its parameters frozen; do not train it.

    Raises:
        InvalidArgumentError: the decay is out of its range.
    """

    def __init__(self, model: PanopticModel, decay: float) -> None:
        if not 0 < decay < 1:
            raise InvalidArgumentError(f"expected a decay in (0, 1) to average weights, got {decay}")
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights that the model has after ``step``, counted from 1."""
        averages, copies = _tensors(self.model)
        values, originals = _tensors(model)
        torch._foreach_lerp_(averages, values, 1 - min(self.decay, step / (step + _WARM_START)))
        for mine, its in zip(copies, originals, strict=True):
            mine.copy_(its)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights by name; they are not copied."""
        return self.model.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave; every name must fit."""
        self.model.load_state_dict(state)


def _tensors(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return what can be averaged and what can only be copied; gathered anew each time, as buffers may be replaced."""
    tensors = [p.data for p in model.parameters()] + list(model.buffers())
    return [t for t in tensors if t.is_floating_point()], [t for t in tensors if not t.is_floating_point()]
