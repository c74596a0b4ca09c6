"""Memory that the training process shares with its loader processes and reuses for every batch.

Torch's own shared memory is allocated for every tensor: the system must clear it, map it page by page in both
processes, and pass a file descriptor each time. It also resides in /dev/shm, which is often small in containers.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

_ALIGNMENT = 64  # bytes; one cache line


Shapes = Sequence[tuple[torch.dtype, tuple[int, ...]]]
"""Dtype and shape of each tensor in a slot."""


class SharedMemoryPool:
    """A pool of slots of one size for tensors, shared with processes forked later, not with spawned ones.

    Args:
        shapes: the largest tensors of a slot.
        count: number of slots, may be 0; only slots that have been written use memory.

    Raises:
        OSError: there is not enough memory.
    """

    def __init__(self, shapes: Shapes, count: int) -> None:
        self._size = max(_ALIGNMENT, sum(_sizes(shapes)))
        self._memory = mmap.mmap(-1, self._size * count) if count else b""
        self._free = list(range(count))

    def acquire(self) -> int | None:
        """Return a free slot, or None; the most recently released one, since it is likely still in the cache."""
        return self._free.pop() if self._free else None

    def release(self, slot: int) -> None:
        """Mark the slot as free."""
        self._free.append(slot)

    def tensors(self, slot: int, shapes: Shapes, *, auto_release: bool = False) -> list[Tensor] | None:
        """Return tensors in a slot, for writing or reading; None if they are larger than the slot.

        Args:
            slot: index of the slot.
            shapes: of the tensors; the same for writing and reading.
            auto_release: release the slot as soon as none of the tensors, nor any view of one, is alive.
        """
        sizes = _sizes(shapes)
        if sum(sizes) > self._size:
            return None
        part = memoryview(self._memory)[slot * self._size : (slot + 1) * self._size]
        if auto_release:
            weakref.finalize(part, self.release, slot).atexit = False  # the tensors' storage references the part
        whole = torch.frombuffer(part, dtype=torch.uint8)
        return [
            whole[offset : offset + dtype.itemsize * math.prod(shape)].view(dtype).view(shape)
            for offset, (dtype, shape) in zip(accumulate(sizes, initial=0), shapes, strict=False)
        ]


def _sizes(shapes: Shapes) -> list[int]:
    """Return the bytes of each tensor, rounded up to whole cache lines."""
    return [-(-dtype.itemsize * math.prod(shape) // _ALIGNMENT) * _ALIGNMENT for dtype, shape in shapes]
