"""Errors of allocations, from torch and from loader processes, become one error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from panscape.errors import InvalidArgumentError, UnreadableFileError
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


def fail_in_python():
    raise MemoryError


def fail_in_numpy():
    np.empty(2**58, np.uint8)


def fail_in_openvino():
    raise RuntimeError(
        "Check 'ptr' failed at src/cpu_memory.cpp:257:\nFailed to allocate 18009600000 bytes of memory\n"
    )


def fail_in_onnx_runtime():
    fail = type("Fail", (Exception,), {})  # as there: of no other class
    raise fail("[ONNXRuntimeError] : 1 : FAIL : [..] Failed to allocate memory for requested buffer of size 3465216000")


@pytest.mark.parametrize(
    ("allocate", "amount"),
    [
        (allocate_on_cpu, f" (cannot allocate {2**58} bytes)"),
        (fail_in_a_loader_process, " (cannot allocate 7 bytes)"),
        (fail_on_a_gpu, " (cannot allocate 9.53 GiB)"),
        (fail_in_python, ""),
        (fail_in_numpy, " (cannot allocate 256. PiB)"),
        (fail_in_openvino, " (cannot allocate 18009600000 bytes)"),
        (fail_in_onnx_runtime, ""),
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


@pytest.mark.parametrize("error", [RuntimeError("other"), UnreadableFileError("a.png", "MemoryError")])
def test_other_errors_stay(error):
    with pytest.raises(type(error)) as caught, explain_out_of_memory("this", CPU, "take less"):
        raise error
    assert caught.value is error
