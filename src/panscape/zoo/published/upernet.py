"""Tensor names and values in checkpoints of UPerNet on Swin: its authors', mmsegmentation's and transformers'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from panscape.nn.pyramid_pooling import BINS
from panscape.nn.swin import Swin
from panscape.zoo.published.swin import SWIN_ENDINGS, SwinLayout, from_swin, swin_modules, swin_name

CLASSIFIERS = ("decode_head.conv_seg.weight", "decode_head.classifier.weight")
"""Names of the layer of categories, in mmsegmentation and transformers."""

_UNUSED_NORMS = ("backbone.layernorm.", "backbone.swin.layernorm.")  # of transformers


def upernet_layout(found: Mapping[str, Tensor]) -> SwinLayout:
    """Return the layout of a checkpoint of UPerNet by its names."""
    if any(name.startswith("backbone.stages.") for name in found):
        return "openmmlab"
    return "microsoft" if CLASSIFIERS[0] in found else "transformers"


def upernet_of(found: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
    """Return name and options of the model for a checkpoint of UPerNet; None if its backbone is not known here."""
    backbone = swin_name(found)
    if backbone is None:
        return None
    if backbone in SWIN_ENDINGS:
        return f"upernet_semantic_{SWIN_ENDINGS[backbone]}", {}
    return "upernet_semantic", {"backbone": backbone}


def from_upernet(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a checkpoint under their names, with the values that our layers need.

    Constants are left out, and so is a norm that transformers' network does not use.
    """
    used = {name: tensor for name, tensor in found.items() if not name.startswith(_UNUSED_NORMS)}
    return from_swin(used, upernet_layout(found))


def upernet_key(backbone: Swin, found: Mapping[str, Tensor]) -> Callable[[str], str]:
    """Return the function that maps the names of a model on this backbone to those of a checkpoint, in its layout."""
    layout = upernet_layout(found)
    modules = _modules(layout)
    modules |= {f"backbone.{ours}": f"backbone.{theirs}" for ours, theirs in swin_modules(backbone, layout).items()}

    def key(name: str) -> str:
        module, _, leaf = name.rpartition(".")
        return f"{modules[module]}.{leaf}"

    return key


def _modules(layout: SwinLayout) -> dict[str, str]:
    """Return their names of all modules but those within the backbone."""
    is_transformers = layout == "transformers"
    norms = "hidden_states_norms.stage{}" if is_transformers else "norm{}"
    classifier = "classifier" if is_transformers else "conv_seg"
    units = {f"decoder.pooled.{i}": f"decode_head.psp_modules.{i}.1" for i in range(len(BINS))}
    units |= {f"decoder.laterals.{i}": f"decode_head.lateral_convs.{i}" for i in range(3)}
    units |= {f"decoder.outputs.{i}": f"decode_head.fpn_convs.{i}" for i in range(3)}
    units |= {"decoder.bottleneck": "decode_head.bottleneck", "decoder.fusion": "decode_head.fpn_bottleneck"}
    units |= {"auxiliary": "auxiliary_head.convs.0"}
    modules = {f"{ours}.0": f"{theirs}.conv" for ours, theirs in units.items()}
    modules |= {f"{ours}.1": f"{theirs}.{'batch_norm' if is_transformers else 'bn'}" for ours, theirs in units.items()}
    modules |= {f"backbone.norms.{i}": f"backbone.{norms.format(i + is_transformers)}" for i in range(4)}
    return modules | {
        "classifier": f"decode_head.{classifier}",
        "auxiliary_classifier": f"auxiliary_head.{classifier}",
    }
