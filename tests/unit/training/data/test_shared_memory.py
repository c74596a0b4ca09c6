"""A slot is in use until its last tensor is deleted."""

from __future__ import annotations

import os

import torch

from panscape.training.data.shared_memory import SharedMemoryPool

SHAPES = [(torch.uint8, (3, 5)), (torch.int64, (7,)), (torch.float32, (2, 2, 2)), (torch.bool, ())]


def test_tensors_of_slots_do_not_touch():
    slots = SharedMemoryPool(SHAPES, 3)
    for slot in range(3):
        for i, tensor in enumerate(slots.tensors(slot, SHAPES)):
            tensor.fill_(slot + i > 0 if tensor.dtype == torch.bool else 10 * slot + i)
    for slot in range(3):
        tensors = slots.tensors(slot, SHAPES)
        assert [(t.dtype, tuple(t.shape)) for t in tensors] == SHAPES
        assert all(t.is_contiguous() and t.data_ptr() % 8 == 0 for t in tensors)
        assert [float(t.float().mean()) for t in tensors[:3]] == [10 * slot, 10 * slot + 1, 10 * slot + 2]


def test_a_slot_is_free_when_no_view_of_it_is_left():
    slots = SharedMemoryPool(SHAPES, 2)
    first, second = slots.acquire(), slots.acquire()
    assert {first, second} == {0, 1}
    assert slots.acquire() is None
    tensors = slots.tensors(first, SHAPES, auto_release=True)
    view = tensors[1][2:4]
    del tensors
    assert slots.acquire() is None
    view += 1
    del view
    assert slots.acquire() == first
    slots.release(second)
    assert slots.acquire() == second


def test_a_forked_process_writes_what_this_one_reads():
    slots = SharedMemoryPool(SHAPES, 2)
    pid = os.fork()
    if pid == 0:
        slots.tensors(1, SHAPES)[1].copy_(torch.arange(7))
        os._exit(0)
    os.waitpid(pid, 0)
    assert slots.tensors(1, SHAPES)[1].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert slots.tensors(0, SHAPES)[1].tolist() == [0] * 7
