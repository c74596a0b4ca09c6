"""A model's state by name, each tensor once, and filling a model from a file: every tensor of both, or an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from panscape.errors import CheckpointMismatchError
from panscape.models import PanopticModel


def unaliased_state(model: PanopticModel) -> dict[str, Tensor]:
    """Return the state of a model by name, each tensor once: what pyramid levels share has its first level's name."""
    seen: set[int] = set()
    state = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            state[name] = tensor
    return state


def fill(
    model: PanopticModel,
    found: Mapping[str, Tensor],
    path: str | Path,
    *,
    remedy: str,
    rename: Callable[[str], str] = str,
) -> None:
    """Copy tensors from a file into a model if names and shapes agree one to one; else leave it as it was.

    Args:
        model: to be filled.
        found: the file's tensors.
        path: of the file, for messages.
        remedy: what to do when they do not fit.
        rename: from a name of :func:`unaliased_state` to the file's.

    Raises:
        CheckpointMismatchError: they do not fit; all differences are listed.
    """
    needed = {rename(name): tensor for name, tensor in unaliased_state(model).items()}
    both = needed.keys() & found.keys()
    misshapen = [
        f"{name} (expected {list(needed[name].shape)}, got {list(found[name].shape)})"
        for name in both
        if needed[name].shape != found[name].shape
    ]
    if misshapen or needed.keys() != found.keys():
        raise CheckpointMismatchError(
            path,
            missing=needed.keys() - both,
            unused=found.keys() - both,
            misshapen=misshapen,
            remedy=remedy,
        )
    with torch.no_grad():
        for name, tensor in needed.items():
            tensor.copy_(found[name])
