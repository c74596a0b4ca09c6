"""Compilation happens when a kernel is first called, is announced once, and is kept on disk."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import TORCH, Process

from panscape.kernels.center_decoding import rounded_root
from panscape.kernels.compiling import CompiledKernel

KERNELS = """
from panscape.kernels.compiling import compiled

@compiled
def doubled(x):
    return 2 * x

@compiled
def sum_of_doubled(values):
    total = 0.0
    for v in values:
        total += doubled(v)
    return total

@compiled
def product_and_sum(a, b, c):
    return a * b + c
"""


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    (tmp_path / "kernels_of_a_test.py").write_text(KERNELS)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("kernels_of_a_test")
    del sys.modules["kernels_of_a_test"]


def call_center_targets() -> None:
    from panscape.kernels.center_targets import center_targets

    center_targets(torch.ones(4, 5, dtype=torch.int32), torch.tensor([1]), torch.tensor([True]), void=255)


def import_kernels() -> None:
    for name in ("boundary_weights", "center_grouping", "center_targets"):
        importlib.import_module(f"panscape.kernels.{name}")
    assert "numba" not in sys.modules


def printed(log: Path, function: Callable[[], None]) -> str:
    """What a function prints in a new process, whose cache is the folder of its log."""
    process = Process(log, function, environment={"NUMBA_CACHE_DIR": str(log.parent)}, imported=TORCH)
    assert process.end() == 0, process.text
    return process.text


def test_kernels_call_kernels_of_their_file(kernels):
    assert kernels.sum_of_doubled(np.array([1.0, 2.5])) == 7
    assert kernels.doubled(3.0) == 6
    assert type(kernels.doubled.dispatcher).__module__.startswith("numba")
    assert kernels.doubled.__name__ == "doubled"


def test_the_first_process_compiles_and_says_so_once_and_the_next_one_loads(tmp_path):
    first, second = (printed(tmp_path / name, call_center_targets) for name in ("first", "second"))
    assert first.count("panscape: compiling kernels for this processor, once") == first.count("\n") == 1
    assert second == ""


def print_num_compiled() -> None:
    call_center_targets()
    kernels = vars(sys.modules["panscape.kernels.center_targets"]).values()
    stats = [kernel.dispatcher.stats for kernel in kernels if isinstance(kernel, CompiledKernel)]
    print(sum(sum(one.cache_misses.values()) for one in stats))


def test_of_processes_that_start_together_one_compiles(tmp_path):
    environment, logs = {"NUMBA_CACHE_DIR": str(tmp_path)}, [tmp_path / name for name in ("one", "two")]
    started = [Process(log, print_num_compiled, environment=environment, imported=TORCH) for log in logs]
    assert [process.end() for process in started] == [0, 0], started[0].text + started[1].text
    num_compiled = [int(process.text.splitlines()[-1]) for process in started]
    assert sum(num_compiled) == len([*tmp_path.rglob("*.nbc")]) > 0


def test_importing_kernels_does_not_import_numba(tmp_path):
    assert printed(tmp_path / "log", import_kernels) == ""


def test_arithmetic_is_not_contracted(kernels):
    a = np.float32(1 + 2**-12)
    product = np.float32(a * a)  # 1 + 2^-11 + 2^-24 rounds to 1 + 2^-11
    assert kernels.product_and_sum(a, a, np.float32(-product)) == 0  # a fused multiply-add would give 2^-24


def test_roots_are_rounded_correctly():
    squared = torch.rand(10**5, generator=torch.Generator().manual_seed(0)) * 1e6
    expected = torch.from_numpy(np.sqrt(squared.numpy()))
    assert torch.equal(rounded_root(squared), expected)
