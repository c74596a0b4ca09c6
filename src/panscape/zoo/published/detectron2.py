"""What checkpoints of several networks in detectron2 share: the names of its ResNets, and statistics of pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from panscape.errors import UnreadableFileError
from panscape.models.base import INPUT_NORMALIZATIONS


def resnet_modules(backbone: nn.Module) -> dict[str, str]:
    """Return detectron2's names of a ResNet's convolutions and norms by ours; both below the name of the backbone."""
    is_deep = isinstance(backbone.conv1, nn.Sequential)  # DeepLab's stem: convolution, norm, ReLU, and so on
    stem = {"conv1.0": 1, "conv1.3": 2, "conv1.6": 3} if is_deep else {"conv1": 1}
    stem_norms = {"conv1.1": 1, "conv1.4": 2, "bn1": 3} if is_deep else {"bn1": 1}
    modules = {name: f"stem.conv{i}" for name, i in stem.items()}
    modules |= {name: f"stem.conv{i}.norm" for name, i in stem_norms.items()}
    for stage in (1, 2, 3, 4):
        for block in range(len(backbone.get_submodule(f"layer{stage}"))):  # type: ignore[arg-type]
            ours, theirs = f"layer{stage}.{block}", f"res{stage + 1}.{block}"
            for i in (1, 2, 3):
                modules[f"{ours}.conv{i}"] = f"{theirs}.conv{i}"
                modules[f"{ours}.bn{i}"] = f"{theirs}.conv{i}.norm"
            modules[f"{ours}.downsample.0"] = f"{theirs}.shortcut"
            modules[f"{ours}.downsample.1"] = f"{theirs}.shortcut.norm"
    return modules


def without_pixel_statistics(found: Mapping[str, Tensor], normalization: str, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint without ``pixel_mean`` and ``pixel_std``, which early files contain.

    Args:
        found: the tensors; mean and standard deviation are those of pixels in 0..255, in the network's channel order.
        normalization: name of the input normalisation that the model will have, which they must equal.
        path: path of the file, for messages.

    Raises:
        UnreadableFileError: the file's network has another input normalisation.
    """
    found, ours = dict(found), INPUT_NORMALIZATIONS[normalization]
    for name, values in (("pixel_mean", ours.mean), ("pixel_std", ours.std)):
        if name in found:
            theirs = found.pop(name).flatten()
            expected = torch.tensor(values[::-1] if ours.is_bgr else values, dtype=torch.float64) * 255
            if theirs.shape != (3,) or not torch.allclose(theirs.double(), expected, rtol=1e-4):
                raise UnreadableFileError(
                    path,
                    f"expected a network with normalization {normalization!r}, with {name} "
                    f"{[round(float(v), 3) for v in expected]}, got {theirs.tolist()}; such weights cannot be used",
                )
    return found
