"""Shared functions of the benchmarks: machine description, time, memory, Markdown tables."""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from panscape.benchmark.machine import describe_machine


def machine() -> str:
    """Return processor, GPU, threads and versions in one line."""
    return f"{describe_machine()}, {torch.get_num_threads()} thread(s)"


def cpu_milliseconds(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Time alternating calls of all functions for ``repeats`` rounds; return the minimum CPU milliseconds of each."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(repeats):
        for name, way in ways.items():
            started = time.process_time()
            way()
            best[name] = min(best[name], (time.process_time() - started) * 1000)
    return best


def peak_megabytes(way: Callable[[], object], warm_up: Callable[[], object]) -> float:
    """Return how much this process grows at most while a way runs, MB (Linux); the warm-up loads kernels before."""
    warm_up()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # reset the peak
    before = _resident("VmRSS")
    way()
    return _resident("VmHWM") - before


def _resident(entry: str) -> float:
    found = re.search(rf"{entry}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1024


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
