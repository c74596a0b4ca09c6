"""Tensor names in the checkpoints of the authors of Panoptic SwiftNet (released for R18)."""

from __future__ import annotations

from collections.abc import Callable

from panscape.models.swiftnet import PanopticSwiftNet, SpatialPyramidPooling

_UNIT = {"0": "norm", "2": "conv"}  # the authors' names of the layers of norm_relu_conv, by index


def swiftnet_key(model: PanopticSwiftNet) -> Callable[[str], str]:
    """Return the function that maps this model's names to those of the authors of Panoptic SwiftNet."""
    levels = len(model.pyramid.levels)
    num_skips = [len(module.projections) for module in model.path]  # type: ignore[arg-type]
    is_spp = isinstance(model.start, SpatialPyramidPooling)
    head = {"semantic": "sem_seg_head.classifier.sem_seg"} | {
        name: f"ins_embed_head.classifier.{name}" for name in ("center", "offset")
    }
    decoder = "decoder.semantic_decoder"  # shared by all three heads there as well, despite its name

    def backbone_key(level: str, rest: str) -> str:
        *module, leaf = rest.split(".")
        is_norm = module[-1].startswith("bn") or module[-2:] == ["downsample", "1"]
        pre_nms_top_k = [f"norms.{level}"] if is_norm and levels > 1 else []
        return ".".join(["backbone", *module, *pre_nms_top_k, leaf])

    def start_key(parts: list[str]) -> str:
        if not is_spp:
            return f"{decoder}.bottleneck.conv.{parts[-1]}"
        unit = {"reduce": "spp_bn", "fuse": "spp_fuse"}.get(parts[0], f"spp{parts[1]}")
        return f"{decoder}.spp.spp.{unit}.{_UNIT[parts[-2]]}.{parts[-1]}"

    def path_key(parts: list[str]) -> str:
        step, block, *rest = parts
        if block == "blend":
            unit = "blend_conv"
        else:
            # A module with one skip has it without a list.
            unit = f"bottleneck.{rest[0]}" if num_skips[int(step)] > 1 else "bottleneck"
        return f"{decoder}.upsamples.{step}.{unit}.{_UNIT[rest[-2]]}.{rest[-1]}"

    def key(name: str) -> str:
        top, *parts = name.split(".")
        if top == "pyramid":
            return backbone_key(parts[1], ".".join(parts[2:]))
        if top == "start":
            return start_key(parts)
        if top == "path":
            return path_key(parts)
        return ".".join([head[top], *parts])

    return key
