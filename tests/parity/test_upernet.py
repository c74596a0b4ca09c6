"""UPerNet on Swin Transformers: published checkpoints in three layouts, and what a network with their weights computes.

The second implementation of the head is written from its description, over transformers' names of tensors; that of the
backbone is in test_maskformer.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from released_regions import MIXED, drawn, released_shapes, require_equal
from torch import Tensor
from torch.nn import functional as F

from panscape import load_published
from panscape.datasets.ade20k import ade20k_labels
from panscape.errors import CheckpointMismatchError
from panscape.models.upernet import upernet
from panscape.models.upernet_semantic import UPerNetSemantic, upernet_semantic, upernet_semantic_swin_t
from panscape.nn.pixel_decoder import PixelFeatures
from panscape.nn.swin import Swin
from panscape.zoo.published.identify import identify
from panscape.zoo.published.upernet import from_upernet, upernet_key

SIZE = (96, 160)


class Head:
    """The decoder and the auxiliary head, spelt out in eval mode."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def unit(self, name: str, x: Tensor) -> Tensor:
        weight = self.state[f"{name}.conv.weight"]
        leaves = ("weight", "bias", "running_mean", "running_var")
        w, b, mean, var = (self.state[f"{name}.batch_norm.{leaf}"][:, None, None] for leaf in leaves)
        return F.relu((F.conv2d(x, weight, padding=weight.shape[-1] // 2) - mean) * w / (var + 1e-5).sqrt() + b)

    def classify(self, name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def semantic(self, features: list[Tensor]) -> Tensor:
        sizes = [x.shape[2:] for x in features]
        parts = [features[3]]
        for i, bins in enumerate((1, 2, 3, 6)):
            pooled = self.unit(f"decode_head.psp_modules.{i}.1", F.adaptive_avg_pool2d(features[3], bins))
            parts.append(F.interpolate(pooled, sizes[3], mode="bilinear"))
        levels = {3: self.unit("decode_head.bottleneck", torch.cat(parts, 1))}
        for i in (2, 1, 0):
            above = F.interpolate(levels[i + 1], sizes[i], mode="bilinear")
            levels[i] = self.unit(f"decode_head.lateral_convs.{i}", features[i]) + above
        outputs = [self.unit(f"decode_head.fpn_convs.{i}", levels[i]) for i in range(3)] + [levels[3]]
        together = torch.cat([F.interpolate(x, sizes[0], mode="bilinear") for x in outputs], 1)
        return self.classify("decode_head.classifier", self.unit("decode_head.fpn_bottleneck", together))


def small() -> UPerNetSemantic:
    backbone: Any = Swin(16, (1, 1, 2, 1), (1, 2, 4, 8), 4, name="small", drop_path=0.0)
    return upernet_semantic(MIXED, backbone=backbone, decoder_width=16, auxiliary_width=8, dropout=0.0)


def theirs(model: UPerNetSemantic) -> dict[str, Tensor]:
    """Draw weights of a network under transformers' names, which are those of its own code for the large network."""
    names = {
        "backbone.patch_embed.proj": "backbone.embeddings.patch_embeddings.projection",
        "backbone.patch_embed.norm": "backbone.embeddings.norm",
        "auxiliary.0": "auxiliary_head.convs.0.conv",
        "auxiliary.1": "auxiliary_head.convs.0.batch_norm",
        "classifier": "decode_head.classifier",
        "auxiliary_classifier": "auxiliary_head.classifier",
    }
    rules = (
        (r"backbone\.norms\.(\d)", lambda m: f"backbone.hidden_states_norms.stage{int(m[1]) + 1}"),
        (r"backbone\.layers\.(\d)\.down", lambda m: f"backbone.encoder.layers.{int(m[1]) - 1}.down"),
        (r"backbone\.layers", "backbone.encoder.layers"),
        (r"\.norm1$", ".layernorm_before"),
        (r"\.norm2$", ".layernorm_after"),
        (r"\.attn\.proj", ".attention.output.dense"),
        (r"\.attn", ".attention.self"),
        (r"\.mlp\.fc1", ".intermediate.dense"),
        (r"\.mlp\.fc2", ".output.dense"),
        (r"decoder\.pooled\.(\d)", r"decode_head.psp_modules.\1.1"),
        (r"decoder\.laterals", "decode_head.lateral_convs"),
        (r"decoder\.outputs", "decode_head.fpn_convs"),
        (r"decoder\.fusion", "decode_head.fpn_bottleneck"),
        (r"decoder\.bottleneck", "decode_head.bottleneck"),
        (r"(decode_head.*)\.0$", r"\1.conv"),
        (r"(decode_head.*)\.1$", r"\1.batch_norm"),
    )
    shapes = {}
    for name, tensor in model.state_dict().items():
        module, _, leaf = name.rpartition(".")
        module = names.get(module, module)
        for old, new in rules:
            module = re.sub(old, new, module)
        shapes[f"{module}.{leaf}"] = tuple(tensor.shape)
    state = {name: t for name, t in drawn(shapes).items() if not name.endswith("num_batches_tracked")}
    counters = {name: torch.tensor(7) for name in shapes if name.endswith("num_batches_tracked")}
    split = {}
    for name, tensor in state.items():
        parts = tensor.chunk(3) if ".qkv." in name else (tensor,)
        for kind, part in zip(("query", "key", "value"), parts, strict=False):
            split[name.replace(".qkv.", f".{kind}.")] = part
    return split | counters | {"backbone.swin.layernorm.bias": torch.zeros(128)}


def openmmlab(state: dict[str, Tensor], *, is_authors: bool) -> dict[str, Tensor]:
    """Return weights under the names of mmsegmentation, with its own backbone or the one of Swin's authors."""
    rules = [
        (r"\.batch_norm\.", ".bn."),
        (r"classifier", "conv_seg"),
        (r"hidden_states_norms\.stage(\d)", lambda m: f"norm{int(m[1]) - 1}"),
        (r"embeddings\.patch_embeddings\.projection", "patch_embed.proj" if is_authors else "patch_embed.projection"),
        (r"embeddings\.norm", "patch_embed.norm"),
        (r"encoder\.layers", "layers" if is_authors else "stages"),
        (r"layernorm_before", "norm1"),
        (r"layernorm_after", "norm2"),
        (r"attention\.output\.dense", "attn.proj" if is_authors else "attn.w_msa.proj"),
        (r"attention\.self", "attn" if is_authors else "attn.w_msa"),
        (r"intermediate\.dense", "mlp.fc1" if is_authors else "ffn.layers.0.0"),
        (r"output\.dense", "mlp.fc2" if is_authors else "ffn.layers.1"),
    ]
    result = {}
    for name, tensor in state.items():
        if "swin.layernorm" in name or ".key." in name or ".value." in name:
            continue
        if ".query." in name:
            parts = [state[name.replace(".query.", f".{kind}.")] for kind in ("query", "key", "value")]
            name, tensor = name.replace(".query.", ".qkv."), torch.cat(parts)
        if "downsample" in name and not is_authors:
            tensor = tensor.reshape(*tensor.shape[:-1], 2, 2, -1).movedim(-1, -3).transpose(-2, -1).flatten(-3)
        for old, new in rules:
            name = re.sub(old, new, name)
        result[name] = tensor
    return result


@pytest.mark.parametrize("layout", ["transformers", "microsoft", "openmmlab"])
def test_outputs_are_those_of_the_described_network(layout: str, tmp_path: Path) -> None:
    model = small()
    state = theirs(model)
    saved = state if layout == "transformers" else openmmlab(state, is_authors=layout == "microsoft")
    torch.save({"state_dict": saved}, tmp_path / "upernet.pth")
    load_published(model, tmp_path / "upernet.pth")
    images = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        outputs, features, head = model(images), model.backbone(model.preprocess(images)), Head(state)
        assert outputs.auxiliary is None
        require_equal(outputs.semantic, head.semantic(features))
        for norm in model.train().modules():  # the norms of training, with the statistics of inference
            norm.training &= not isinstance(norm, torch.nn.BatchNorm2d)
        auxiliary = head.classify("auxiliary_head.classifier", head.unit("auxiliary_head.convs.0", features[2]))
        require_equal(model(images).auxiliary, auxiliary)
    reduction = state["backbone.encoder.layers.0.downsample.reduction.weight"]
    assert torch.equal(model.backbone.layers[1].downsample.reduction.weight, reduction)  # type: ignore[index, union-attr]


def test_names_shapes_and_size_are_those_of_the_released_network() -> None:
    with torch.device("meta"):
        model = upernet_semantic_swin_t(ade20k_labels("semantic"))
        found = {name: torch.empty(shape) for name, shape in released_shapes("upernet_swin_t").items()}
    assert identify(found, Path("upernet.pth")) == ("upernet_semantic_swin_t", {}, 150, True)
    key = upernet_key(model.backbone, found)  # type: ignore[arg-type]
    shapes = {name: t.shape for name, t in from_upernet(found).items()}
    assert {key(name): t.shape for name, t in model.state_dict().items()} == shapes
    # transformers counts a LayerNorm of 768 channels that it does not use.
    assert sum(p.numel() for p in model.parameters()) + 2 * 768 == 59_943_398


def test_differences_are_listed(tmp_path: Path) -> None:
    state = theirs(small())
    del state["decode_head.fpn_convs.1.conv.weight"]
    state["decode_head.classifier.bias"] = torch.zeros(6)
    torch.save(state, tmp_path / "upernet.pth")
    with pytest.raises(CheckpointMismatchError) as caught:
        load_published(small(), tmp_path / "upernet.pth")
    assert "1 missing: decode_head.fpn_convs.1.conv.weight" in str(caught.value)
    assert "decode_head.classifier.bias (expected [5], got [6])" in str(caught.value)


def test_a_network_of_transformers_computes_the_same(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="compares with transformers, which is not a dependency")
    swin = transformers.SwinConfig(
        embed_dim=16,
        depths=[1, 1, 2, 1],
        num_heads=[1, 2, 4, 8],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = transformers.UperNetConfig(
        backbone_config=swin, hidden_size=16, auxiliary_channels=8, auxiliary_in_channels=64, num_labels=5
    )
    torch.manual_seed(0)
    theirs = transformers.UperNetForSemanticSegmentation(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += torch.randn(parameter.shape) * 0.1
    theirs.save_pretrained(tmp_path)
    model = load_published(small(), tmp_path / "model.safetensors")
    images = torch.rand(2, 3, *SIZE)
    with torch.inference_mode():
        expected = theirs(pixel_values=model.preprocess(images)).logits
        ours = F.interpolate(model(images).semantic, SIZE, mode="bilinear", align_corners=False)
    require_equal(ours, expected)


def test_the_panoptic_network_is_maskformer_on_its_decoder() -> None:
    options: dict[str, Any] = {"width": 16, "num_heads": 4, "hidden_width": 8, "decoder_layers": 2, "num_queries": 5}
    backbone: Any = Swin(16, (1, 1, 2, 1), (1, 2, 4, 8), 4, name="small", drop_path=0.0)
    model: Any = upernet(MIXED, backbone=backbone, decoder_width=24, **options).eval()
    images = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        outputs = model(images)
        features = model.backbone(model.preprocess(images))
        fine, memory = model.pixel_decoder(features)
        assert torch.equal(memory, features[3])
        category, expected, *_ = model.query_decoder(PixelFeatures(fine, memory), all_layers=False)
    assert tuple(model.query_decoder.mask_features.weight.shape) == (16, 24, 1, 1)
    assert tuple(outputs.mask_logits.shape) == (1, 5, 24, 40)
    assert torch.equal(outputs.category_logits, category[0])
    assert torch.equal(outputs.mask_logits, expected[0])
