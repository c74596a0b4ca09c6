"""Recognise that a device has too little memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from panscape.errors import InvalidArgumentError, PanscapeError

# Of torch, of loader processes, and of OpenVINO and ONNX Runtime.
_ALLOCATION = re.compile(
    r"DefaultCPUAllocator: |Storage size calculation overflowed|OutOfMemoryError|\bMemoryError\b|"
    r"Failed to allocate |\bbad_alloc\b"
)
_SIZE = re.compile(r"(?:tried|failed|unable) to allocate ([\d.]+ \w+)", re.IGNORECASE)


@contextmanager
def explain_out_of_memory(needed: str, device: object, remedy: str) -> Iterator[None]:
    """Turn the error of an allocation that fails into one about its cause.

    Args:
        needed: what needs the memory.
        device: where the computation runs, such as a device of torch or "cpu".
        remedy: what to do.

    Raises:
        InvalidArgumentError: an allocation failed.
    """
    try:
        yield
    except PanscapeError:  # explained already
        raise
    except Exception as error:
        # Few runtimes have a class for this error, and loader processes pass on no class: only the text tells.
        text = f"{type(error).__name__}: {error}"
        if not isinstance(error, MemoryError) and not _ALLOCATION.search(text):
            raise
        size = _SIZE.search(text)
        failed = f" (cannot allocate {size[1]})" if size else ""
        raise InvalidArgumentError(f"{needed} does not fit into the memory of {device}{failed}; {remedy}") from error
