"""Frozen parts of backbones for fine-tuning: BatchNorm with fixed statistics, and layers that are not trained.

Detectors are trained on large images, of which few fit into a batch. Their backbones start from ImageNet weights and
keep the statistics, as a few images would estimate them badly.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from panscape.nn.backbones import Backbone

Module = TypeVar("Module", bound=nn.Module)


def freeze_batch_norms(module: Module, eps: float | None = None) -> Module:
    """Replace every BatchNorm layer within a module by one with fixed statistics, scale and shift.

    Names and values stay, with one exception: a scale that is all zero, which some residual branches start with, is
    set to ones, as it could not be trained any more. timm's layers with an activation keep it.

    Args:
        module: changed in place; not a BatchNorm layer itself.
        eps: value that the layers add to their variance; None keeps each layer's own. Detectors of torchvision up to
            0.8, and others of that time, added nothing.

    Returns:
        ``module``.
    """
    from timm.layers import norm_act

    freeze: Any = norm_act.freeze_batch_norm_2d
    freeze(module)
    norms = frozen_norms(module)
    without_zero_scales(norms)
    for norm in norms:
        if eps is not None:
            norm.eps = eps  # type: ignore[assignment]
    return module


def without_zero_scales(norms: Sequence[nn.Module]) -> None:
    """Set the scale of frozen norms to ones where it is all zero; see :func:`freeze_batch_norms`."""
    for norm in norms:
        scale = cast(Tensor, norm.weight)
        norm.weight = torch.where(scale.any(), scale, torch.ones_like(scale))


def frozen_norms(module: nn.Module) -> list[nn.Module]:
    """Return the layers created by :func:`freeze_batch_norms`."""
    from timm.layers.norm_act import FrozenBatchNormAct2d
    from torchvision.ops.misc import FrozenBatchNorm2d

    return [m for m in module.modules() if isinstance(m, (FrozenBatchNorm2d, FrozenBatchNormAct2d))]


def first_layers(backbone: Backbone) -> list[nn.Parameter]:
    """Return the parameters of the stem and the first stage: all parameters that features at stride 4 depend on."""
    module = cast(nn.Module, backbone)
    # On a copy on the meta device, so that nothing is computed and no statistics are updated.
    with torch.inference_mode(False), torch.enable_grad():
        probe = copy.deepcopy(module).to("meta").requires_grad_().eval()
        dtype = next(probe.parameters()).dtype
        finest = probe(torch.zeros(1, 3, 32, 32, device="meta", dtype=dtype))[0]
        gradients = torch.autograd.grad(finest.sum(), list(probe.parameters()), allow_unused=True)
    return [p for p, gradient in zip(module.parameters(), gradients, strict=True) if gradient is not None]
