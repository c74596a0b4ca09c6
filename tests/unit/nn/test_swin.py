"""Swin Transformers against timm's, where both compute the same: maps of whole windows, before the last norms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from panscape.errors import CheckpointMismatchError
from panscape.nn.backbones import create_backbone
from panscape.nn.pretrained import fill_backbone
from panscape.nn.swin import Swin, SwinBlock

OPTIONS: dict[str, Any] = {"depths": (2, 1, 2, 1), "num_heads": (1, 2, 4, 8)}


def timm_swin() -> Any:
    from timm.models.swin_transformer import SwinTransformer

    torch.manual_seed(0)
    options = {"always_partition": True, "strict_img_size": False}
    return SwinTransformer(img_size=128, embed_dim=8, window_size=4, num_classes=3, **OPTIONS, **options).eval()


@pytest.mark.parametrize("is_authors", [False, True])
def test_features_are_those_of_timm(*, is_authors: bool) -> None:
    net, backbone = timm_swin(), Swin(8, window=4, name="small", **OPTIONS).eval()
    state = dict(net.state_dict())
    if is_authors:  # with constants, other names of the classifier, and merging as the last layer of a stage
        state = {name.replace("head.fc", "head"): tensor for name, tensor in state.items()}
        for i in (1, 2, 3):
            for name in [name for name in state if name.startswith(f"layers.{i}.downsample")]:
                state[name.replace(f"layers.{i}", f"layers.{i - 1}")] = state.pop(name)
        state["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 16, 16)
    fill_backbone(backbone, state, Path("swin.pth"))
    images = torch.rand(2, 3, 128, 256)
    with torch.inference_mode():
        expected = net.forward_intermediates(images, intermediates_only=True)
        features = backbone(images)
    for one, x in zip(features, expected, strict=True):
        normalized = F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2)
        torch.testing.assert_close(one, normalized, atol=1e-5, rtol=1e-5)


def test_weights_of_another_window_are_refused() -> None:
    backbone = Swin(8, window=7, name="small", **OPTIONS)
    with pytest.raises(CheckpointMismatchError, match=r"bias_table \(expected \[169, 1\], got \[49, 1\]\)"):
        fill_backbone(backbone, timm_swin().state_dict(), Path("swin.pth"))


def test_branches_are_skipped_for_some_images_in_training() -> None:
    torch.manual_seed(0)
    block = SwinBlock(8, 2, 4, 0, drop_path=0.5)
    x, mask = torch.rand(64, 4, 4, 8), torch.zeros(())
    with torch.no_grad():
        torch.nn.init.zeros_(block.mlp.fc2.weight)
        torch.nn.init.zeros_(block.mlp.fc2.bias)
        whole, some = block.eval()(x, mask) - x, block.train()(x, mask) - x
    is_kept = some.flatten(1).any(1)
    assert 20 < int(is_kept.sum()) < 44
    torch.testing.assert_close(some[is_kept], 2 * whole[is_kept], atol=1e-6, rtol=1e-5)


def test_published_and_small_ones_have_names() -> None:
    with torch.device("meta"):
        large: Any = create_backbone("swin_large_patch4_window12_384.ms_in22k")
        small: Any = create_backbone("swin_xs")
    assert (large.channels, large.window, large.weights_name) == (
        (192, 384, 768, 1536),
        12,
        "swin_large_patch4_window12_384.ms_in22k",
    )
    assert [len(stage.blocks) for stage in large.layers] == [2, 2, 18, 2]
    assert [round(block.drop_path, 4) for stage in large.layers for block in stage.blocks][::23] == [0.0, 0.3]
    assert small.channels == (24, 48, 96, 192)
