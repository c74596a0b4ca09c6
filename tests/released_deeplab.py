"""The released networks of Panoptic-DeepLab: options that give them, and names and shapes of their tensors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from panscape import create_model

_KEYS = Path(__file__).parent / "parity"
# The name of a model, its options, and of the list of its tensors.
DETECTRON2 = ("panoptic_deeplab_r52", {}, "detectron2_r52")
R50 = ("panoptic_deeplab_r50", {"compat": "standalone"}, "standalone_r50")
MOBILENETV2 = ("panoptic_deeplab_mobilenetv2", {}, "standalone_mobilenetv2")


def released_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Return name and shape of each tensor of a released network, as its own code lists them."""
    lines = (_KEYS / f"panoptic_deeplab_{name}_keys.txt").read_text().splitlines()
    split = (re.fullmatch(r"(\S+) \((.*)\) \w+", line) for line in lines)
    return {m[1]: tuple(int(n) for n in re.findall(r"\d+", m[2])) for m in split if m}


def without_memory(name: str, options: dict[str, Any]) -> Any:
    with torch.device("meta"):
        return create_model(name, "cityscapes", **options)


def without_values(name: str, options: dict[str, Any]) -> Any:
    model = without_memory(name, options).to_empty(device="cpu")
    model.set_input_normalization("imagenet")
    return model
