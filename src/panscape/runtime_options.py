"""The options --runtime and --precision of a model that is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from panscape.errors import InvalidArgumentError

if TYPE_CHECKING:
    from panscape.models import PanopticModel
    from panscape.precision import Precision

RuntimeOption = Literal["auto", "torch", "openvino", "onnx"]
PrecisionOption = Literal["auto", "fp32", "bf16", "fp16"]


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
