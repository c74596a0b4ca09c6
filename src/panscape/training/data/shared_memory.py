"""Memory that the training process shares with its loader processes and reuses for every batch.

Torch's own shared memory is allocated for every tensor: the system must clear it, map it page by page in both
processes, and pass a file descriptor each time. It also resides in /dev/shm, which is often small in containers.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

_ALIGNMENT = 64  # bytes; one cache line


class SharedMemoryPool:
    """A pool of slots for tensors of known shapes, shared with processes forked later, not with spawned ones.

    Args:
        shapes: dtype and shape of each tensor in a slot.
        count: number of slots, may be 0; only slots that have been written use memory.

    Raises:
        OSError: there is not enough memory.
    """

    def __init__(self, shapes: Sequence[tuple[torch.dtype, tuple[int, ...]]], count: int) -> None:
        self.shapes = list(shapes)
        sizes = [-(-dtype.itemsize * math.prod(shape) // _ALIGNMENT) * _ALIGNMENT for dtype, shape in shapes]
        self._offsets = [sum(sizes[:i]) for i in range(len(sizes))]
        self._size = max(_ALIGNMENT, sum(sizes))
        self._memory = mmap.mmap(-1, self._size * count) if count else b""
        self._free = list(range(count))

    def acquire(self) -> int | None:
        """Return a free slot, or None; the most recently released one, since it is likely still in the cache."""
        return self._free.pop() if self._free else None

    def release(self, slot: int) -> None:
        """Mark the slot as free."""
        self._free.append(slot)

    def tensors(self, slot: int, *, auto_release: bool = False) -> list[Tensor]:
        """Return the tensors of a slot, for writing or reading.

        Args:
            slot: index of the slot.
            auto_release: release the slot as soon as none of the tensors, nor any view of one, is alive.
        """
        part = memoryview(self._memory)[slot * self._size : (slot + 1) * self._size]
        if auto_release:
            weakref.finalize(part, self.release, slot).atexit = False  # the tensors' storage references the part
        whole = torch.frombuffer(part, dtype=torch.uint8)
        return [
            whole[offset : offset + dtype.itemsize * math.prod(shape)].view(dtype).view(shape)
            for offset, (dtype, shape) in zip(self._offsets, self.shapes, strict=True)
        ]
