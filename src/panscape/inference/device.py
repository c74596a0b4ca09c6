"""The device on which a model runs."""

from __future__ import annotations

import torch

from panscape.errors import InvalidArgumentError


def choose_device(name: str) -> torch.device:
    """Return the device called ``name``; "auto" is CUDA where there is a device, else the CPU.

    Raises:
        InvalidArgumentError: torch does not know the name, or the device is not here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidArgumentError(f'expected a device such as "auto", "cpu" or "cuda", got {name!r}') from error
    here = _devices_here()
    if (device.type, device.index or 0) not in here:
        known = ", ".join(kind if kind == "cpu" else f"{kind}:{index}" for kind, index in here)
        raise InvalidArgumentError(
            f'device {name} is not here: torch {torch.__version__} sees {known}; use one of these, or "auto"'
        )
    return device


def _devices_here() -> list[tuple[str, int]]:
    """Return kind and index of the CPU and of each device of the accelerator that torch was built for, if any."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return [("cpu", 0)]
    return [("cpu", 0), *((accelerator.type, i) for i in range(torch.accelerator.device_count()))]
