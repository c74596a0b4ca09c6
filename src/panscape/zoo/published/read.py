"""Read state dicts from published files; content other than tensors is rejected and never executed."""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor

from panscape.errors import UnreadableFileError, listed, shown
from panscape.input_files import require_file
from panscape.weights_file import read_tensors
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
)
_MAX_DEPTH = 4  # of keys that lead to a state dict
_SEAMSEG_PARTS = ("body", "rpn_head", "roi_head", "sem_head")  # seamseg saves the state of each part of its network
_SEAMSEG_TRAINING = re.compile(r"optimizer|\w+_meter")  # and these beside them
_TORCH_HEADS = (b"PK", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19")  # its zip archives, and its legacy format
_PICKLE_HEADS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read_checkpoint(path: Path) -> Mapping[str, Tensor]:
    """Read a state dict from a checkpoint, bare or under keys as training frameworks write it.

    Of several, that under "model", "state_dict" or both is taken. Those of the parts of seamseg's network are joined.

    Args:
        path: a ``.pkl`` file of NumPy's arrays, as detectron2 publishes weights, a ``.safetensors`` file, or else a
            file of ``torch.save``.

    Raises:
        UnreadableFileError: the file is missing, is not a checkpoint, or contains more than tensors and plain
            containers, or several state dicts.
    """
    require_file(path)
    if path.suffix == ".safetensors":
        return read_tensors(path)
    kind = ".pkl" if path.suffix == ".pkl" else ".pth"
    try:
        content = load_pickled_arrays(path) if _holds_arrays(path) else torch.load(path, "cpu", weights_only=True)
    except OSError as error:
        raise UnreadableFileError(path, f"expected a {kind} checkpoint, but {error}; check the path") from error
    except _REFUSALS as error:
        raise UnreadableFileError(path, f"expected a {kind} checkpoint of {_why_not_read(path, error)}") from error
    states = _joined(_states(content))
    usual = [keys for keys in (("model",), ("state_dict",), ("model", "state_dict")) if keys in states]
    if len(states) == 1 or usual:
        return states[usual[0] if usual else next(iter(states))]
    found = f"several, under {listed([_shown(keys) for keys in states])}" if states else "none"
    example = _shown(next(iter(states))) if states else '["..."]'
    raise UnreadableFileError(
        path,
        f'expected one state dict (name to tensor), bare or under a key such as "model", got {found}; save the right '
        f"one alone: torch.save(torch.load(FILE, weights_only=True){example}, OTHER)",
    )


def _states(content: Any) -> dict[tuple[str, ...], dict[str, Tensor]]:
    """Return each state dict inside a checkpoint by the keys that lead to it; those of optimizers have numbers."""
    found = dict[tuple[str, ...], dict[str, Tensor]]()
    seen, parts = set[int](), list[tuple[tuple[str, ...], Any]]([((), content)])
    for keys, part in parts:
        # A file may nest dicts without end, or contain one in itself.
        if not isinstance(part, dict) or len(keys) > _MAX_DEPTH or id(part) in seen:
            continue
        seen.add(id(part))
        if not all(isinstance(key, str) for key in part):
            continue
        tensors = {name: _as_tensor(value) for name, value in part.items()}
        if tensors and all(isinstance(tensor, Tensor) for tensor in tensors.values()):
            found[keys] = tensors
        else:
            parts += [((*keys, key), value) for key, value in part.items()]
    return found


def _joined(states: dict[tuple[str, ...], dict[str, Tensor]]) -> dict[tuple[str, ...], dict[str, Tensor]]:
    """Return state dicts, those of the parts of seamseg's network as one, under the keys above them.

    Unknown parts are joined as well, and missing ones are not required: the load that follows lists both.
    """
    for above in dict.fromkeys(keys[:-1] for keys in states if keys):
        parts = {keys[len(above) :]: state for keys, state in states.items() if keys[: len(above)] == above}
        if sum((part,) in parts for part in _SEAMSEG_PARTS) > 1:
            kept = {keys: state for keys, state in parts.items() if keys and not _SEAMSEG_TRAINING.fullmatch(keys[0])}
            return {above: {".".join((*keys, name)): t for keys, state in kept.items() for name, t in state.items()}}
    return states


def _shown(keys: tuple[str, ...]) -> str:
    return "".join(f"[{shown(key)}]" for key in keys)


def _holds_arrays(path: Path) -> bool:
    # Some files of torch have this ending as well.
    return path.suffix == ".pkl" and not _head(path).startswith(_TORCH_HEADS)


def _is_torch_archive(path: Path) -> bool:
    with ZipFile(path) as archive:
        return any(name.endswith("data.pkl") for name in archive.namelist())


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
    if isinstance(error, UnsafePickleError):
        return f"{expected}, but it holds other Python objects, which could run code ({error}); {trust}"
    if head.startswith(b"PK") and is_zipfile(path) and not _is_torch_archive(path):
        return f"{expected}, but this is an archive of other files; unpack it and pass the checkpoint in it"
    if not head.startswith((b"PK", *_PICKLE_HEADS)):
        return f"{expected}, but this is another kind of file (a web page or text, perhaps); download it again"
    if isinstance(error, MemoryError):
        return f"{expected}, but memory ran out; the file is damaged, or larger than this machine can hold"
    if isinstance(error, pickle.UnpicklingError) and not is_arrays:
        return f"{expected}, but it holds other Python objects, which could run code, or it is damaged; {trust}"
    return f"{expected}, but the file is damaged or cut off; download it again"
