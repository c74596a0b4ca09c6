"""Numeric precision of a forward pass: single precision, or autocast to one of two half precisions."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from panscape.errors import InvalidArgumentError

Precision = Literal["fp32", "bf16", "fp16"]
"""fp32 uses single precision, bf16 and fp16 run most layers in half precision (autocast)."""

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def require_precision(precision: str, device: torch.device) -> None:
    """Check that the device supports a forward pass in this precision.

    Raises:
        InvalidArgumentError: the precision is unknown, or the device does not support it.
    """
    known = get_args(Precision)
    if precision not in known:
        raise InvalidArgumentError(f"expected precision as one of {', '.join(known)}, got {precision!r}")
    if precision == "fp16" and device.type == "cpu":
        # torch supports it there, but converts to float32 and back in every layer, which takes minutes per image.
        raise InvalidArgumentError("fp16 needs an accelerator such as CUDA; use bf16 or fp32 on the CPU")


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return a context for a forward pass in this precision; ``fp32`` disables a surrounding autocast.

    Raises:
        InvalidArgumentError: as :func:`require_precision`.
    """
    require_precision(precision, device)
    return torch.autocast(device.type, _HALF.get(precision, torch.bfloat16), enabled=precision in _HALF)
