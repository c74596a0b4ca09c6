"""State dicts from the files in which authors publish them; what a file holds besides tensors is refused, not run."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from panscape.errors import UnreadableFileError

# What torch's readers are known to raise on other files and damaged ones.
_REFUSALS = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    struct.error,
)


def read_state(path: Path) -> Mapping[str, Tensor]:
    """Read a state dict from a ``.pth`` file, bare or under "model" as training frameworks write it.

    Raises:
        UnreadableFileError: the file is missing, is not a checkpoint, or holds more than tensors and plain containers.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UnreadableFileError(path, "no such file; give the path of a downloaded .pth checkpoint") from error
    except OSError as error:
        raise UnreadableFileError(path, f"expected a .pth checkpoint, but {error}; check the path") from error
    except _REFUSALS as error:
        raise UnreadableFileError(path, _why_not_read(path, error)) from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise UnreadableFileError(path, 'expected a state dict (name to tensor), bare or under "model"')
    return content


def _why_not_read(path: Path, error: Exception) -> str:
    # torch's own words are advice to unpickle whatever the file holds, or the state of its reader ("101").
    with path.open("rb") as file:
        head = file.read(2)
    expected = "expected a .pth checkpoint of tensors and plain containers"
    if not head:
        return f"{expected}, but the file is empty; download it again"
    if head not in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return f"{expected}, but this is another kind of file (a web page or text, perhaps); download it again"
    if isinstance(error, pickle.UnpicklingError):
        return (
            f"{expected}, but it holds other Python objects, which could run code, or it is damaged; if you trust its "
            "authors, read it with their code and save the state dict alone with torch.save"
        )
    return f"{expected}, but the file is damaged or cut off; download it again"
