"""Load weights into models, strictly or partially, by a state dict that contains each tensor once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from panscape.errors import CheckpointMismatchError, UnreadableFileError, listed
from panscape.models import PanopticModel

_logger = logging.getLogger(__name__)


def unique_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a model by name, each tensor once: tensors shared by pyramid levels have the first's name."""
    seen: set[int] = set()
    state = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            state[name] = tensor
    return state


def unique_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the result of ``state_dict`` with each tensor once, as :func:`unique_state_dict` names it."""
    seen: set[int] = set()
    unique = {}
    for name, tensor in state.items():
        if tensor.numel() == 0 or tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            unique[name] = tensor
    return unique


def load_strict(
    model: nn.Module,
    found: Mapping[str, Tensor],
    path: str | Path,
    *,
    remedy: str,
    rename: Callable[[str], str] = str,
) -> None:
    """Copy tensors from a file into a model; the model stays unchanged unless all names and shapes match one to one.

    Args:
        model: the model to load into.
        found: the file's tensors.
        path: path of the file, for messages.
        remedy: what to do if they do not match, for messages.
        rename: maps a name of :func:`unique_state_dict` to the file's name.

    Raises:
        CheckpointMismatchError: names or shapes do not match; all differences are listed.
        UnreadableFileError: a value is nan or infinite, or of a type that weights do not have.
    """
    needed = {rename(name): tensor for name, tensor in unique_state_dict(model).items()}
    require_match(shapes_of(needed), shapes_of(found), path, remedy=remedy)
    for name, tensor in needed.items():
        _require_usable(name, found[name], path, tensor)
    with torch.no_grad():
        for name, tensor in needed.items():
            tensor.copy_(found[name])


def require_match(
    needed: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], path: str | Path, *, remedy: str
) -> None:
    """Check that the tensors of a file are those of a model, one to one.

    Args:
        needed: shape of each tensor of the model by name.
        found: shape of each tensor of the file by name.
        path: path of the file, for messages.
        remedy: what to do if they do not match, for messages.

    Raises:
        CheckpointMismatchError: names or shapes do not match; all differences are listed.
    """
    if needed == found:
        return
    both = needed.keys() & found.keys()
    raise CheckpointMismatchError(
        path,
        missing=needed.keys() - both,
        unused=found.keys() - both,
        misshapen=[
            f"{name} (expected {list(needed[name])}, got {list(found[name])})"
            for name in both
            if needed[name] != found[name]
        ],
        remedy=remedy,
    )


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor by name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _require_usable(name: str, tensor: Tensor, path: str | Path, needed: Tensor) -> None:
    """Refuse weights of a training that diverged, as a network with them predicts nonsense without an error."""
    is_float_where_needed = tensor.is_floating_point() or not needed.is_floating_point()
    if tensor.is_complex() or not is_float_where_needed or (tensor.is_floating_point() and tensor.itemsize == 1):
        raise UnreadableFileError(
            path, f"expected floats of 16, 32 or 64 bits, but {name} is of {tensor.dtype}; convert it to float32"
        )
    num_invalid = tensor.numel() - int(tensor.isfinite().sum())
    if num_invalid:
        raise UnreadableFileError(
            path,
            f"expected finite weights, but {num_invalid} of {tensor.numel()} values of {name} are nan or infinite; its "
            "training diverged, or the file is damaged: use an earlier checkpoint, or download it again",
        )


def warn_of_normalization(name: str, start_of: PanopticModel, path: Path) -> None:
    """Log a warning if weights were trained with another input normalisation than the model that starts from them.

    Args:
        name: that of the weights, see :attr:`PanopticModel.normalization`.
        start_of: the model.
        path: path of the weights, for messages.
    """
    if name != start_of.normalization:
        _logger.warning(
            "%s: its network was trained with input normalization %r, expected %r as in this model; training has to "
            "adapt its layers, so expect a slower start than from weights with the same normalization",
            path.name,
            name,
            start_of.normalization,
        )


class LoadReport(NamedTuple):
    """The result of loading weights partially into a model.

    Attributes:
        line: summary of the tensors that were and were not copied.
        names: names of the model's tensors that were copied, as in :func:`panscape.zoo.transfer.unique_state_dict`.
        normalization: input normalisation of the saved model; None if it is not known.
    """

    line: str
    names: frozenset[str]
    normalization: str | None = None


def load_matching(model: PanopticModel, found: Mapping[str, Tensor], path: Path) -> LoadReport:
    """Copy matching tensors into a model, and leave all others unchanged; see :func:`load_partial`.

    Tensors match by name and shape. A backbone also matches under another name, as in models of another family, if all
    of it is found, by names and shapes, below that name. If a model has copies of a part
    (:attr:`PanopticModel.weight_copies`) and the file has none, they receive the weights of that part.

    Args:
        model: the model to initialise for training.
        found: tensors by name.
        path: path of their file, for messages.

    Raises:
        CheckpointMismatchError: no tensor matches.
        UnreadableFileError: a value is nan or infinite, or of a type that weights do not have.
    """
    needed = unique_state_dict(model)
    sources = {name: name for name in needed if name in found and found[name].shape == needed[name].shape}
    num_same, origins = len(sources), list[str]()
    for backbone in model.backbones:
        mine = {name: tensor for name, tensor in needed.items() if name.startswith(f"{backbone}.")}
        if mine.keys() <= sources.keys():
            continue
        origin = _backbone_in(found, mine, backbone)
        if origin is not None:
            renamed = {name: origin + name.removeprefix(backbone) for name in mine if name not in sources}
            sources |= {name: source for name, source in renamed.items() if source in found}
            origins.append(origin)
    num_moved = len(sources) - num_same
    copies = list[str]()
    for copy, part in model.weight_copies.items():
        if not any(name.startswith(f"{copy}.") for name in found):
            again = {copy + n.removeprefix(part): source for n, source in sources.items() if n.startswith(f"{part}.")}
            sources |= again
            copies += [copy] if again else []
    num_copied = len(sources) - num_same - num_moved
    if not sources:
        raise CheckpointMismatchError(
            path, missing=needed, unused=found, remedy="start from a model of the same family or with the same backbone"
        )
    for name, source in sources.items():
        _require_usable(source, found[source], path, needed[name])
    with torch.no_grad():
        for name, source in sources.items():
            needed[name].copy_(found[source])
    moved = f", {num_moved} of them from its backbone, {origins[0]}" if num_moved else ""
    moved += f", {num_copied} of them copies, in {', '.join(copies)}" if num_copied else ""
    rest = _why_new(needed, found, sorted(needed.keys() - sources.keys()))
    line = f"started from {path.name}: {len(sources)} of {len(needed)} tensors{moved}{rest}"
    return LoadReport(line, frozenset(sources))


def _why_new(needed: Mapping[str, Tensor], found: Mapping[str, Tensor], names: Sequence[str]) -> str:
    """Return why tensors of a model keep their random values, as the end of a sentence."""
    misshapen = [
        f"{name} ({list(found[name].shape)} there, {list(needed[name].shape)} here)" for name in names if name in found
    ]
    missing = [name for name in names if name not in found]
    reasons = (("of another shape", misshapen), ("not in the file", missing))
    return "".join(f"; {len(new)} new, as {reason}: {listed(new)}" for reason, new in reasons if new)


def _backbone_in(found: Mapping[str, Tensor], mine: Mapping[str, Tensor], backbone: str) -> str | None:
    """Return the first prefix in a file that has all tensors that ``mine`` has below ``backbone``.

    Counters of training steps are ignored, as frozen norms have none.
    """
    shapes = {name.removeprefix(backbone): tensor.shape for name, tensor in mine.items() if tensor.is_floating_point()}
    first = next(iter(shapes), None)
    if first is None:
        return None
    for origin in sorted(name.removesuffix(first) for name in found if name.endswith(first)):
        if all(origin + rest in found and found[origin + rest].shape == shape for rest, shape in shapes.items()):
            return origin
    return None
