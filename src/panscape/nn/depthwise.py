"""Depthwise convolutions in single precision: training in bfloat16 on a CPU is twice as fast with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class DepthwiseInFloat32(TorchFunctionMode):
    """A context in which grouped convolutions that are trained under a CPU's autocast compute in single precision.

    PyTorch computes their gradients in bfloat16 on a CPU without a fast kernel: half of the time of a training step of
    EfficientNet. Their inputs are converted, and their results converted back. All else is unchanged, as are
    convolutions without gradients, for which bfloat16 is fast.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """See :class:`torch.overrides.TorchFunctionMode`."""
        options = dict(kwargs or {})
        if func is not torch.conv2d or not _is_slow(args, options):
            return func(*args, **options)
        images, *others = args
        with torch.autocast("cpu", enabled=False):
            return func(images.float(), *others, **options).to(images.dtype)


def _is_slow(args: tuple[Any, ...], options: Mapping[str, Any]) -> bool:
    groups = args[6] if len(args) > 6 else options.get("groups", 1)
    if groups == 1 or len(args) < 2:
        return False
    weight = args[1]
    return weight.device.type == "cpu" and weight.requires_grad and torch.is_autocast_enabled("cpu")
