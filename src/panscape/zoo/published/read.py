"""Read state dicts from published files; content other than tensors is rejected and never executed."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from panscape.errors import UnreadableFileError
from panscape.zoo.published.safe_pickle import PickledArray, UnsafePickleError, load_pickled_arrays

# Exceptions that torch's reader and pickle are known to raise for other files and damaged ones.
_REFUSALS = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    struct.error,
    SafetensorError,
)
_TORCH_HEADS = (b"PK", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19")  # its zip archives, and its legacy format
_PICKLE_HEADS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read_checkpoint(path: Path) -> Mapping[str, Tensor]:
    """Read a state dict from a checkpoint, bare or under "model" or "state_dict" as training frameworks write it.

    Args:
        path: a ``.pkl`` file of NumPy's arrays, as detectron2 publishes weights, a ``.safetensors`` file, or else a
            file of ``torch.save``.

    Raises:
        UnreadableFileError: the file is missing, is not a checkpoint, or contains more than tensors and plain
            containers.
    """
    kind = path.suffix if path.suffix in (".pkl", ".safetensors") else ".pth"
    try:
        content = _load(path)
    except FileNotFoundError as error:
        raise UnreadableFileError(path, f"no such file; give the path of a downloaded {kind} checkpoint") from error
    except OSError as error:
        raise UnreadableFileError(path, f"expected a {kind} checkpoint, but {error}; check the path") from error
    except _REFUSALS as error:
        raise UnreadableFileError(path, f"expected a {kind} checkpoint of {_why_not_read(path, error)}") from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if isinstance(content, dict):
        content = {name: _as_tensor(value) for name, value in content.items()}
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise UnreadableFileError(path, 'expected a state dict (name to tensor), bare or under "model"')
    return content


def _load(path: Path) -> Any:
    if _holds_arrays(path):
        return load_pickled_arrays(path)
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _holds_arrays(path: Path) -> bool:
    # Some files of torch have this ending as well.
    return path.suffix == ".pkl" and not _head(path).startswith(_TORCH_HEADS)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _as_tensor(value: Any) -> Any:
    return torch.from_numpy(value.array) if isinstance(value, PickledArray) and value.array is not None else value


def _why_not_read(path: Path, error: Exception) -> str:
    # torch's own message recommends unpickling arbitrary objects, or shows the state of its reader ("101").
    head, is_arrays = _head(path), _holds_arrays(path)
    expected = "arrays and plain containers" if is_arrays else "tensors and plain containers"
    trust = "if you trust its authors, read it with their code and save the state dict alone with torch.save"
    if not head:
        return f"{expected}, but the file is empty; download it again"
    if path.suffix == ".safetensors":
        return f"tensors, but {error}; download it again"
    if isinstance(error, UnsafePickleError):
        return f"{expected}, but it holds other Python objects, which could run code ({error}); {trust}"
    if not head.startswith((b"PK", *_PICKLE_HEADS)):
        return f"{expected}, but this is another kind of file (a web page or text, perhaps); download it again"
    if isinstance(error, MemoryError):
        return f"{expected}, but memory ran out; the file is damaged, or larger than this machine can hold"
    if isinstance(error, pickle.UnpicklingError) and not is_arrays:
        return f"{expected}, but it holds other Python objects, which could run code, or it is damaged; {trust}"
    return f"{expected}, but the file is damaged or cut off; download it again"
