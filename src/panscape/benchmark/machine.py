"""The machine and the versions of libraries on which something was measured."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_CPU_LIST = Path("/proc/cpuinfo")
_LIBRARIES = ("panscape", "torch", "numpy", "numba", "transformers", "onnxruntime", "openvino", "tensorrt")
# What decides about the speed of half precision and int8 on a CPU, by its flag in Linux.
_EXTENSIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine.

    Attributes:
        processor: name of the processor.
        extensions: its extensions that matter for networks; empty where they are not known (not Linux on x86).
        cores: number of logical processors that this process may use.
        gpu: name of the GPU; None without one.
        gpu_memory_mb: its memory in MiB; None without one.
        load: processes that were running or waiting during the last minute; None where it is not known.
        python: version of Python.
        versions: versions of the installed libraries that matter, by name.
    """

    processor: str
    extensions: tuple[str, ...]
    cores: int
    gpu: str | None
    gpu_memory_mb: int | None
    load: float | None
    python: str
    versions: dict[str, str]

    @property
    def hardware(self) -> str:
        """Processor, its extensions, number of cores and GPU in one line."""
        extensions = f" ({', '.join(self.extensions)})" if self.extensions else ""
        parts = [f"{self.processor}{extensions}, {self.cores} core{'' if self.cores == 1 else 's'}"]
        return ", ".join(parts if self.gpu is None else [*parts, self.gpu])

    def __str__(self) -> str:
        versions = [f"{name} {number}" for name, number in self.versions.items()]
        return ", ".join([self.hardware, f"Python {self.python}", *versions])


def describe_machine() -> Machine:
    """Return this machine."""
    entries = _first_processor()
    flags = entries.get("flags", "").split()
    has_gpu = torch.cuda.is_available()
    return Machine(
        processor=entries.get("model name") or platform.processor() or platform.machine(),
        extensions=tuple(name for flag, name in _EXTENSIONS.items() if flag in flags),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        gpu=torch.cuda.get_device_name() if has_gpu else None,
        gpu_memory_mb=torch.cuda.get_device_properties().total_memory >> 20 if has_gpu else None,
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        python=platform.python_version(),
        versions={name: number for name in _LIBRARIES if (number := _version(name)) is not None},
    )


def _first_processor() -> dict[str, str]:
    """Return the entries of the first processor in Linux's list; empty elsewhere."""
    text = _CPU_LIST.read_text(encoding="utf-8", errors="replace") if _CPU_LIST.is_file() else ""
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
