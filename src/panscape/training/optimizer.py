"""The optimizer, and the EMA of weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from panscape.errors import InvalidArgumentError
from panscape.models import PanopticModel
from panscape.training.config import Optimizer

_WARM_UP_STEPS = 10
_POSITION_TABLES = ("relative_position_bias_table", "absolute_pos_embed", "pos_embed")  # names in vision transformers


def create_optimizer(model: nn.Module, options: Optimizer) -> torch.optim.Optimizer:
    """Build the optimizer of a model.

    Its parameter groups separate weights of convolutions and linear layers from biases, norms and embeddings (also
    tables of positions), which have their own weight decay; the backbone from the rest; and biases, including those of
    norms, from weights if their learning rates differ. Each group has the ``"factor"`` of its learning rate, see
    :func:`set_learning_rate`. Frozen parameters are excluded, shared ones are included once.

    Args:
        model: its method ``backbone_parameters()`` returns the parameters of the backbone; needed only with a
            ``backbone_lr_mult`` other than 1.
        options: the optimizer options of the recipe.

    Raises:
        InvalidArgumentError: no parameter can be trained, or the model does not define its backbone.
    """
    groups = _parameter_groups(model, options)
    if not groups:
        raise InvalidArgumentError("expected a model with parameters to train, got one whose parameters are all frozen")
    optimizer: torch.optim.Optimizer
    if options.name == "sgd":
        optimizer = torch.optim.SGD(groups, options.learning_rate, momentum=options.momentum, nesterov=options.nesterov)
    else:
        kind = torch.optim.AdamW if options.name == "adamw" else torch.optim.Adam
        optimizer = kind(groups, options.learning_rate, betas=options.betas, eps=options.eps)
    set_learning_rate(optimizer, options.learning_rate)
    return optimizer


def _parameter_groups(model: nn.Module, options: Optimizer) -> list[dict[str, Any]]:
    backbone = {id(p) for p in _backbone(model)} if options.backbone_lr_mult != 1 else set()
    kinds: dict[tuple[bool, bool, float], list[nn.Parameter]] = {}
    seen: set[int] = set()
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        has_weight = any(parameter.ndim > 1 for parameter in own.values())  # a flat parameter beside it is its bias
        for name, parameter in own.items():
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            is_backbone = id(parameter) in backbone
            factor = options.backbone_lr_mult if is_backbone else 1.0
            if name == "bias":
                factor *= options.bias_lr_mult
            is_embedding = isinstance(module, nn.Embedding) or name in _POSITION_TABLES
            is_flat = parameter.ndim < 2 and not (has_weight and options.decay_biases)
            kinds.setdefault((is_backbone, is_embedding or is_flat, factor), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": options.norm_weight_decay if is_other else options.weight_decay,
            "factor": factor,
        }
        for (_, is_other, factor), parameters in sorted(kinds.items(), key=lambda kind: kind[0])
    ]


def freeze_backbone(model: nn.Module) -> None:
    """Exclude the backbone from the training.

    Raises:
        InvalidArgumentError: the model does not define its backbone.
    """
    for parameter in _backbone(model):
        parameter.requires_grad_(False)


def _backbone(model: nn.Module) -> list[nn.Parameter]:
    parameters = getattr(model, "backbone_parameters", None)
    if parameters is None:
        raise InvalidArgumentError(
            f"{type(model).__name__} does not define the parameters of its backbone; "
            "leave optimizer.backbone_lr_mult at 1"
        )
    return list(parameters())


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step: ``rate`` times the ``"factor"`` of each parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


class ModelEMA:
    """The exponential moving average (EMA) of a model's weights, as a model to evaluate and save.

    Running statistics of norms are averaged too: they belong to the averaged weights, not to the latest ones. Counters
    are copied. The average depends only on the weights after each step, so it resumes from :meth:`state_dict` bit for
    bit.

    Args:
        model: copied in its current state, on its device; neither distributed nor otherwise wrapped.
        decay: ``average = decay * average + (1 - decay) * model``, in (0, 1). Early steps use ``step / (step + 10)``
            instead while it is smaller, so that the initial random weights have little influence.

    Attributes:
        model: the averaged model, in eval mode, its parameters frozen; do not train it.

    Raises:
        InvalidArgumentError: the decay is out of its range.
    """

    def __init__(self, model: PanopticModel, decay: float) -> None:
        if not 0 < decay < 1:
            raise InvalidArgumentError(f"expected an EMA decay in (0, 1), got {decay}")
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Update the average with the model's weights after ``step``, counted from 1."""
        averages, copies = _tensors(self.model)
        values, originals = _tensors(model)
        torch._foreach_lerp_(averages, values, 1 - min(self.decay, step / (step + _WARM_UP_STEPS)))
        for copied, original in zip(copies, originals, strict=True):
            copied.copy_(original)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights by name; they are not copied."""
        return self.model.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the result of :meth:`state_dict`; all names must match."""
        self.model.load_state_dict(state)


def _tensors(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the tensors to average and those to copy; collected on every call, since buffers may be replaced."""
    tensors = [p.data for p in model.parameters()] + list(model.buffers())
    return [t for t in tensors if t.is_floating_point()], [t for t in tensors if not t.is_floating_point()]
