"""Launch the processes of a run on its device."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from torch import distributed

from panscape.errors import InvalidArgumentError
from panscape.training.distributed import Distributed
from panscape.training.run_options import RunOptions

_PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def launch(options: RunOptions) -> Fabric:
    """Start the processes of a run, or join those that torchrun or SLURM started, on the device of the options.

    Raises:
        InvalidArgumentError: a device is missing or does not support the precision, or the number of tasks on each
            machine of SLURM is unknown.
    """
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise InvalidArgumentError(f'expected device "auto", "cpu" or "cuda", got {device!r}')
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidArgumentError("device cuda was requested, but torch finds no CUDA device; use --device cpu")
    if device == "cpu" and options.precision == "fp16":
        raise InvalidArgumentError("fp16 needs a CUDA device; use --precision bf16 or fp32 on the CPU")
    devices, nodes = _started(options)
    if device == "cuda" and devices > torch.cuda.device_count():
        raise InvalidArgumentError(
            f"expected a CUDA device for each of {devices} processes, found {torch.cuda.device_count()}; use fewer "
            "--devices"
        )
    if options.threads:
        torch.set_num_threads(options.threads)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it logs the requested settings
    fabric = Fabric(accelerator=device, devices=devices, num_nodes=nodes, precision=_PRECISIONS[options.precision])
    fabric.launch()
    return fabric


@contextmanager
def only_rank_zero_logs(processes: Distributed) -> Iterator[None]:
    """Drop the log messages of the other processes, which do the same as rank 0."""
    logger = logging.getLogger("panscape")
    previous = logger.level
    if not processes.is_first:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(previous)


def _started(options: RunOptions) -> tuple[int, int]:
    """Return processes per machine and machines, as started by torchrun or SLURM, else as given by the options."""
    if distributed.is_available() and distributed.is_torchelastic_launched():
        num_local = int(os.environ["LOCAL_WORLD_SIZE"])
        return num_local, int(os.environ["WORLD_SIZE"]) // num_local
    if SLURMEnvironment.detect():
        if "SLURM_NTASKS_PER_NODE" in os.environ:
            return int(os.environ["SLURM_NTASKS_PER_NODE"]), int(os.environ.get("SLURM_NNODES", "1"))
        if os.environ["SLURM_NTASKS"] != "1":
            raise InvalidArgumentError(
                f"SLURM started {os.environ['SLURM_NTASKS']} tasks without the number of tasks per machine; give "
                "srun --ntasks-per-node"
            )
        return 1, 1
    return options.devices, 1


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or the number of threads on the CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
