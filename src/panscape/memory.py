"""Recognise that a device has too little memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from panscape.errors import InvalidArgumentError

_ALLOCATION = re.compile(r"DefaultCPUAllocator: |Storage size calculation overflowed|OutOfMemoryError|\bMemoryError\b")
_SIZE = re.compile(r"tried to allocate ([\d.]+ \w+)", re.IGNORECASE)


@contextmanager
def explain_out_of_memory(needed: str, device: torch.device, remedy: str) -> Iterator[None]:
    """Turn the error of an allocation that fails into one about its cause.

    Args:
        needed: what needs the memory.
        device: where the computation runs.
        remedy: what to do.

    Raises:
        InvalidArgumentError: an allocation failed.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # torch has no class for errors of CPU memory, and loader processes pass on no class: only the text tells.
        text = str(error)
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and not _ALLOCATION.search(text):
            raise
        size = _SIZE.search(text)
        failed = f" (cannot allocate {size[1]})" if size else ""
        raise InvalidArgumentError(f"{needed} does not fit into the memory of {device}{failed}; {remedy}") from error
