"""Selection of the device on which a model runs."""

from __future__ import annotations

import torch

from panscape.errors import InvalidArgumentError
from panscape.models import PanopticModel


def choose_device(name: str, model: PanopticModel | None = None) -> torch.device:
    """Return the device called ``name``; "auto" is CUDA if available, else the CPU.

    Args:
        name: "auto" or a torch device.
        model: the model to run; for exported ones "auto" is the CPU.

    Raises:
        InvalidArgumentError: the name is not a torch device, or the device is not available.
    """
    if name == "auto" and model is not None and model.exported_file is not None:
        return torch.device("cpu")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidArgumentError(f'expected a device such as "auto", "cpu" or "cuda", got {name!r}') from error
    available = _available_devices()
    if (device.type, device.index or 0) not in available:
        known = ", ".join(kind if kind == "cpu" else f"{kind}:{index}" for kind, index in available)
        raise InvalidArgumentError(
            f'device {name} is not available: torch {torch.__version__} finds {known}; use one of these, or "auto"'
        )
    return device


def _available_devices() -> list[tuple[str, int]]:
    """Return type and index of the CPU and of each device of the accelerator that torch supports, if any."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return [("cpu", 0)]
    return [("cpu", 0), *((accelerator.type, i) for i in range(torch.accelerator.device_count()))]
