"""Errors of allocations, from torch and from loader processes, become one error."""

from __future__ import annotations

import pytest
import torch

from panscape.errors import InvalidArgumentError
from panscape.memory import explain_out_of_memory

CPU = torch.device("cpu")


def allocate_on_cpu():
    torch.empty(2**58, dtype=torch.uint8)


def fail_in_a_loader_process():
    raise RuntimeError("Caught RuntimeError in loader process 0.\n[..] DefaultCPUAllocator: tried to allocate 7 bytes.")


def overflow():
    torch.empty(2**40, 2**40)


def fail_on_a_gpu():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.53 GiB. GPU 0 has")


def fail_in_numpy():
    raise MemoryError


@pytest.mark.parametrize(
    ("allocate", "amount"),
    [
        (allocate_on_cpu, f" (cannot allocate {2**58} bytes)"),
        (fail_in_a_loader_process, " (cannot allocate 7 bytes)"),
        (fail_on_a_gpu, " (cannot allocate 9.53 GiB)"),
        (fail_in_numpy, ""),
        (overflow, ""),
    ],
)
def test_a_failed_allocation_is_explained(allocate, amount):
    with (
        pytest.raises(InvalidArgumentError) as caught,
        explain_out_of_memory("this", CPU, "take less"),
    ):
        allocate()
    assert str(caught.value) == f"this does not fit into the memory of cpu{amount}; take less"


def test_other_errors_stay():
    with pytest.raises(RuntimeError, match="other"), explain_out_of_memory("this", CPU, "take less"):
        raise RuntimeError("other")
