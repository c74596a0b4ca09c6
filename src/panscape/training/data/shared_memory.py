"""Memory that the training process shares with its loader processes and uses again for batch after batch.

The memory that torch shares is new for every tensor: the system must clear it, map it page by page in both processes,
and hand over a file each time. It lies in /dev/shm, moreover, which containers keep small.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

_ALIGNMENT = 64  # bytes; a line of cache


class SharedMemoryPool:
    """Places for tensors of known shapes. They are shared with processes forked later, not with spawned ones.

    Args:
        shapes: dtype and shape of each tensor that a slot holds.
        count: number of slots, may be 0; memory is used only for those that have been written.

    Raises:
        OSError: there is not so much memory.
    """

    def __init__(self, shapes: Sequence[tuple[torch.dtype, tuple[int, ...]]], count: int) -> None:
        self.shapes = list(shapes)
        sizes = [-(-dtype.itemsize * math.prod(shape) // _ALIGNMENT) * _ALIGNMENT for dtype, shape in shapes]
        self._offsets = [sum(sizes[:i]) for i in range(len(sizes))]
        self._size = max(_ALIGNMENT, sum(sizes))
        self._memory = mmap.mmap(-1, self._size * count) if count else b""
        self._free = list(range(count))

    def acquire(self) -> int | None:
        """Return a slot that nobody uses, None if there is none; the one used last, since it is warm."""
        return self._free.pop() if self._free else None

    def release(self, slot: int) -> None:
        """Let others have the slot."""
        self._free.append(slot)

    def tensors(self, slot: int, *, give_back: bool = False) -> list[Tensor]:
        """Return the tensors of a slot, to write or read.

        Args:
            slot: which.
            give_back: let others have the slot as soon as none of the tensors, nor a view of one, is left.
        """
        part = memoryview(self._memory)[slot * self._size : (slot + 1) * self._size]
        if give_back:
            weakref.finalize(part, self.release, slot).atexit = False  # the tensors' storage holds on to the part
        whole = torch.frombuffer(part, dtype=torch.uint8)
        return [
            whole[offset : offset + dtype.itemsize * math.prod(shape)].view(dtype).view(shape)
            for offset, (dtype, shape) in zip(self._offsets, self.shapes, strict=True)
        ]
