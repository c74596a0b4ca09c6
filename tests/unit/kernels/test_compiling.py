"""Compilation happens when a kernel is first called, is announced once, and is kept on disk."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from panscape.kernels.center_decoding import rounded_root

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


def run(code: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)


def test_kernels_call_kernels_of_their_file(kernels):
    assert kernels.sum_of_doubled(np.array([1.0, 2.5])) == 7
    assert kernels.doubled(3.0) == 6
    assert type(kernels.doubled.dispatcher).__module__.startswith("numba")
    assert kernels.doubled.__name__ == "doubled"


def test_the_first_process_compiles_and_says_so_once_and_the_next_one_loads(tmp_path):
    code = """
import numpy as np, torch, sys
from panscape.kernels.center_targets import center_targets
ids = torch.ones(4, 5, dtype=torch.int32)
center_targets(ids, torch.tensor([1]), torch.tensor([True]), void=255)
"""
    first, second = run(code, tmp_path), run(code, tmp_path)
    assert first.stderr.count("panscape: compiling kernels for this processor, once") == 1
    assert second.stderr == ""
    assert first.stdout == second.stdout == ""


def test_importing_kernels_does_not_import_numba(tmp_path):
    modules = "boundary_weights", "center_grouping", "center_targets"
    code = f"import sys, {', '.join(f'panscape.kernels.{m}' for m in modules)}; print('numba' in sys.modules)"
    assert run(code, tmp_path).stdout == "False\n"


def test_arithmetic_is_not_contracted(kernels):
    a = np.float32(1 + 2**-12)
    product = np.float32(a * a)  # 1 + 2^-11 + 2^-24 rounds to 1 + 2^-11
    assert kernels.product_and_sum(a, a, np.float32(-product)) == 0  # a fused multiply-add would give 2^-24


def test_roots_are_rounded_correctly():
    squared = torch.rand(10**5, generator=torch.Generator().manual_seed(0)) * 1e6
    expected = torch.from_numpy(np.sqrt(squared.numpy()))
    assert torch.equal(rounded_root(squared), expected)
