"""Read safetensors files that anyone may have written: their metadata, shapes and tensors, with errors of panscape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from panscape.errors import UnreadableFileError
from panscape.input_files import require_file

if TYPE_CHECKING:
    from torch import Tensor


class WeightsHeader(NamedTuple):
    """The header of a safetensors file, whose length it determines.

    Attributes:
        metadata: texts by name.
        shapes: shape of each tensor by name.
    """

    metadata: dict[str, str]
    shapes: dict[str, tuple[int, ...]]


def read_header(path: Path) -> WeightsHeader:
    """Read metadata and shapes, but no tensor.

    Raises:
        UnreadableFileError: the file is missing, damaged, or no safetensors file.
    """
    with _opened(path) as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dict
        return WeightsHeader(file.metadata() or {}, shapes)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors, to the CPU.

    Raises:
        UnreadableFileError: the file is missing, damaged, or no safetensors file.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UnreadableFileError(
            path, f"expected a complete safetensors file, but {error}; download or copy it again"
        ) from error
