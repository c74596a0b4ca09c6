"""Kernels are compiled at their first call, with one notice, and cached on disk."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import TORCH, Process

from panscape.ops.jit import JitKernel
from panscape.representations.centers.decode_checks import rounded_root

KERNELS = """
from panscape.ops.jit import jit

@jit
def doubled(x):
    return 2 * x

@jit
def sum_of_doubled(values):
    total = 0.0
    for v in values:
        total += doubled(v)
    return total

@jit
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
    from panscape.representations.centers.encode import center_targets

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    center_targets(torch.ones(4, 5, dtype=torch.int32), torch.tensor([1]), torch.tensor([True]), void=255)


def import_kernels() -> None:
    for name in (
        "representations.centers.decode",
        "representations.centers.encode",
        "ops.argmax_cpu",
        "ops.contingency_table",
    ):
        importlib.import_module(f"panscape.{name}")
    assert "numba" not in sys.modules


def printed(log: Path, function: Callable[[], None]) -> str:
    """Return the output of a function in a new process, whose cache is the folder of its log."""
    process = Process(log, function, environment={"NUMBA_CACHE_DIR": str(log.parent)}, imported=TORCH)
    assert process.end() == 0, process.text
    return process.text


def test_kernels_call_kernels_of_their_file(kernels):
    assert kernels.sum_of_doubled(np.array([1.0, 2.5])) == 7
    assert kernels.doubled(3.0) == 6
    assert type(kernels.doubled.dispatcher).__module__.startswith("numba")
    assert kernels.doubled.__name__ == "doubled"


def test_the_first_process_compiles_with_one_notice_and_the_next_one_loads(tmp_path):
    first, second = (printed(tmp_path / name, call_center_targets) for name in ("first", "second"))
    assert first.count("compiling kernels for this processor, once") == first.count("\n") == 1
    assert second == ""


def print_num_compiled() -> None:
    call_center_targets()
    kernels = vars(sys.modules["panscape.representations.centers.encode"]).values()
    stats = [kernel.dispatcher.stats for kernel in kernels if isinstance(kernel, JitKernel)]
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


@pytest.mark.parametrize("factor", [3, 5])
def test_a_change_in_the_file_of_a_called_kernel_renews_what_is_kept(tmp_path, monkeypatch, factor):
    monkeypatch.syspath_prepend(tmp_path)
    names = ("called_kernels_of_a_test", "calling_kernels_of_a_test")
    called, calling = (tmp_path / f"{name}.py" for name in names)
    calling.write_text(
        "from panscape.ops.jit import jit\nfrom called_kernels_of_a_test import scaled\n\n"
        "@jit\ndef scaled_sum(a, b):\n    return scaled(a) + scaled(b)\n"
    )
    for number in (2, factor):
        called.write_text(f"from panscape.ops.jit import jit\n\n@jit\ndef scaled(x):\n    return {number} * x\n")
        importlib.invalidate_caches()
        module = importlib.import_module(names[1])
        assert module.scaled_sum(1.0, 10.0) == 11 * number
        assert len([*tmp_path.rglob("calling*scaled_sum*.nbc")]) == (1 if number == 2 else 2)
        for name in names:
            del sys.modules[name]
        for compiled_module in tmp_path.rglob("called*.pyc"):  # sources of one second and one size look the same
            compiled_module.unlink()
