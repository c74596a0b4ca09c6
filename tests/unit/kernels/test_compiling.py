"""Compilation happens when a kernel is first called, is announced once, and is kept on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from panscape.kernels.compiling import compiled


@compiled
def doubled(x: float) -> float:
    return 2 * x


@compiled
def sum_of_doubled(values: np.ndarray) -> float:
    total = 0.0
    for v in values:
        total += doubled(v)
    return total


def run(code: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)


def test_kernels_call_kernels_of_their_file():
    assert sum_of_doubled(np.array([1.0, 2.5])) == 7
    assert doubled(3.0) == 6
    assert type(doubled.dispatcher).__module__.startswith("numba")
    assert doubled.__name__ == "doubled"


def test_the_first_process_compiles_and_says_so_once_and_the_next_one_loads(tmp_path):
    code = """
import numpy as np, torch, sys
from panscape.kernels.boundary_weights import boundary_weights
from panscape.kernels.center_targets import center_targets
ids = torch.ones(4, 5, dtype=torch.int32)
boundary_weights(ids, 1)
center_targets(ids, torch.tensor([1]), torch.tensor([True]))
"""
    first, second = run(code, tmp_path), run(code, tmp_path)
    assert first.stderr.count("panscape: compiling kernels for this processor, once") == 1
    assert second.stderr == ""
    assert first.stdout == second.stdout == ""


@pytest.mark.parametrize("module", ["center_grouping", "center_targets", "boundary_weights"])
def test_importing_a_kernel_does_not_import_numba(module, tmp_path):
    code = f"import sys, panscape.kernels.{module}; print('numba' in sys.modules)"
    assert run(code, tmp_path).stdout == "False\n"


def test_arithmetic_is_not_contracted_nor_reordered():
    @compiled
    def product_and_sum(a: float, b: float, c: float) -> float:
        return a * b + c

    a, b = np.float32(1 + 2**-12), np.float32(1 + 2**-12)
    product = np.float32(a * b)  # 1 + 2^-11 + 2^-24 rounds to 1 + 2^-11
    assert product_and_sum(a, b, np.float32(-product)) == 0  # a fused multiply-add would give 2^-24
