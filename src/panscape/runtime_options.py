"""The options --runtime and --precision of a model that is loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from panscape.errors import InvalidArgumentError

if TYPE_CHECKING:
    from panscape.models import PanopticModel
    from panscape.precision import Precision
    from panscape.zoo.graph_model import GraphModel

RuntimeOption = Literal["auto", "torch", "openvino", "onnx"]
PrecisionOption = Literal["auto", "fp32", "bf16", "fp16"]


# What a driver of a device that torch supports creates, in Linux and in Windows.
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "C:/Windows/System32/nvcuda.dll")


def graph_of(
    name: str, runtime: RuntimeOption, precision: PrecisionOption, device: str, *, channels_last: bool = False
) -> GraphModel | None:
    """Return a model that runs without torch; None if torch has to be imported to load it, or to say what is wrong.

    Args:
        name: name or path of the model.
        runtime: as for :func:`on_runtime_of`, like the following arguments.
        precision: see there.
        device: see there.
        channels_last: see there.
    """
    if precision != "auto" or channels_last or device not in ("auto", "cpu"):
        return None
    from panscape.export.cached_graphs import open_cached, usual_runtime
    from panscape.zoo.graph_model import open_exported

    if Path(name).suffix in (".onnx", ".xml"):
        return open_exported(Path(name)) if usual_runtime(runtime) == "auto" else None
    if device == "auto" and any(os.path.exists(driver) for driver in _DRIVERS):  # noqa: PTH110 - also on Windows
        return None
    return open_cached(name, runtime)


def on_runtime_of(
    model: PanopticModel,
    runtime: RuntimeOption,
    precision: PrecisionOption,
    device: str,
    *,
    channels_last: bool = False,
) -> tuple[PanopticModel, Precision]:
    """Return a model on the runtime of a command, and the precision in which torch is to run it.

    Args:
        model: as loaded, on the CPU.
        runtime: "auto" is torch on other devices than a CPU, and with ``channels_last``.
        precision: "auto" is that of the runtime, and fp32 in torch.
        device: as for :func:`panscape.inference.device.choose_device`.
        channels_last: whether torch's channels-last memory format is asked for.

    Raises:
        InvalidArgumentError: the runtime is for CPUs and the device is none, or has not the precision.
        PanscapeError: as :func:`panscape.export.on_runtime`.
    """
    from panscape.inference.device import choose_device

    of_torch: Precision = "fp32" if precision == "auto" else precision
    if runtime == "torch" or (runtime == "auto" and channels_last):
        return model, of_torch
    if choose_device(device, model).type != "cpu" or precision == "fp16":
        if runtime != "auto":
            given = f"--device {device}" if precision != "fp16" else "--precision fp16"
            raise InvalidArgumentError(f"--runtime {runtime} is for CPUs, and {given} is not; omit one of them")
        return model, of_torch
    from panscape.export.runtime import on_runtime

    faster = on_runtime(model, runtime, precision=precision)
    return faster, of_torch if faster is model else "fp32"
