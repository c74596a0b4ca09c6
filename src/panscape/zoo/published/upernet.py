"""Tensor names and values in checkpoints of UPerNet on Swin: its authors', mmsegmentation's and transformers'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.nn.pyramid_pooling import BINS
from panscape.nn.swin import Swin
from panscape.nn.upernet import UPerNet
from panscape.zoo.published.swin import SwinLayout, from_swin, swin_modules
from panscape.zoo.transfer import load_strict

_UNUSED_NORMS = ("backbone.layernorm.", "backbone.swin.layernorm.")  # of transformers


def upernet_layout(found: Mapping[str, Tensor]) -> SwinLayout:
    """Return the layout of a checkpoint of UPerNet by its names."""
    if any(name.startswith("backbone.stages.") for name in found):
        return "openmmlab"
    return "microsoft" if "decode_head.conv_seg.weight" in found else "transformers"


def fill_upernet(model: UPerNet, found: Mapping[str, Tensor], path: Path) -> None:
    """Load a checkpoint of UPerNet strictly; the model stays unchanged unless all names and shapes match.

    Raises:
        CheckpointMismatchError: keys or shapes differ; both differences are listed.
        InvalidArgumentError: the model has another backbone than a Swin Transformer.
    """
    if not isinstance(model.backbone, Swin):
        raise InvalidArgumentError(
            f"expected UPerNet on a Swin Transformer for {path}, got a {type(model.backbone).__name__}; build it on "
            'create_backbone("swin_tiny_patch4_window7_224") or a larger one'
        )
    remedy = "build the network with the Swin Transformer and the number of categories of the checkpoint"
    load_strict(model, from_upernet(found), path, remedy=remedy, rename=upernet_key(model.backbone, found))


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
