"""Numeric precision of a forward pass: single precision, or autocast to one of two half precisions."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from panscape.errors import InvalidArgumentError

Precision = Literal["fp32", "bf16", "fp16"]
"""fp32 computes in single precision, bf16 and fp16 run most layers in a half precision (autocast)."""

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def require_precision(precision: str, device: torch.device) -> None:
    """Check that a forward pass on the device can have this precision.

    Raises:
        InvalidArgumentError: there is no such precision, or the device has no arithmetic for it.
    """
    known = get_args(Precision)
    if precision not in known:
        raise InvalidArgumentError(f"expected precision as one of {', '.join(known)}, got {precision!r}")
    if precision == "fp16" and device.type == "cpu":
        # torch computes it there, but converts to float32 and back in every layer: that takes minutes for an image.
        raise InvalidArgumentError("fp16 needs an accelerator such as CUDA; use bf16 or fp32 on the CPU")


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return a context in which networks run in this precision; ``fp32`` turns a surrounding autocast off.

    Raises:
        InvalidArgumentError: as :func:`require_precision`.
    """
    require_precision(precision, device)
    return torch.autocast(device.type, _HALF.get(precision, torch.bfloat16), enabled=precision in _HALF)
