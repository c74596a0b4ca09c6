"""MaskFormer: published checkpoints in four layouts, and what a network with their weights computes.

The second implementation below is written from the description of the authors' network, over its names of tensors.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from released_regions import BLOCKS, MIXED, drawn, released_shapes, require_equal, small_resnet
from torch import Tensor
from torch.nn import functional as F

from panscape import LabelSpace, load_published
from panscape.errors import CheckpointMismatchError
from panscape.models import maskformer
from panscape.nn.swin import Swin
from panscape.zoo.published.identify import identify
from panscape.zoo.published.maskformer import from_maskformer, maskformer_key

SMALL: dict[str, Any] = {"width": 64, "num_heads": 4, "hidden_width": 48, "decoder_layers": 3, "num_queries": 5}
WINDOW, DEPTHS, HEADS = 4, (2, 2, 2, 2), (1, 2, 4, 8)
SIZE = (96, 160)  # stages of 24x40, 12x20, 6x10 and 3x5 cells: the last two are padded to whole windows
MEAN, STD = torch.tensor([123.675, 116.28, 103.53])[:, None, None], torch.tensor([58.395, 57.12, 57.375])[:, None, None]


class Detectron2:
    """The network, spelt out in eval mode, in the layout of the released files."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), stride, weight.shape[-1] // 2)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        x = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return x * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def unit(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        leaves = ("weight", "bias", "running_mean", "running_var")
        w, b, mean, var = (self.state[f"{name}.norm.{leaf}"][:, None, None] for leaf in leaves)
        return (self.conv(name, x, stride) - mean) * w / (var + 1e-5).sqrt() + b

    def grouped(self, name: str, x: Tensor) -> Tensor:
        norm = (self.state[f"{name}.norm.weight"], self.state[f"{name}.norm.bias"])
        return F.group_norm(self.conv(name, x), 32, *norm)

    def resnet(self, x: Tensor) -> list[Tensor]:
        x = F.max_pool2d(F.relu(self.unit("backbone.stem.conv1", x, 2)), 3, 2, 1)
        features = []
        for stage, blocks in enumerate(BLOCKS, start=2):
            for i in range(blocks):
                b, stride = f"backbone.res{stage}.{i}", 2 if stage > 2 and i == 0 else 1
                y = F.relu(self.unit(f"{b}.conv2", F.relu(self.unit(f"{b}.conv1", x)), stride))
                y = self.unit(f"{b}.conv3", y)
                x = F.relu(y + (self.unit(f"{b}.shortcut", x, stride) if i == 0 else x))
            features.append(x)
        return features

    def window_attention(self, name: str, x: Tensor, num_heads: int, shift: int) -> Tensor:
        """Attention of all pairs of cells of one image [H, W, C], of which those in one shifted window remain."""
        height, width, channels = x.shape
        x = F.pad(x, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
        place = torch.cartesian_prod(torch.arange(x.shape[0]), torch.arange(x.shape[1]))
        shifted = (place - shift) % torch.tensor(x.shape[:2])
        window, between = shifted // WINDOW, place[:, None] - place
        # Cells that the shift carried to the other end are in the window of others, at another distance.
        together = (window[:, None] == window).all(-1) & (between == shifted[:, None] - shifted).all(-1)
        number = ((between + WINDOW - 1) * torch.tensor([2 * WINDOW - 1, 1])).sum(-1)
        bias = self.state[f"{name}.relative_position_bias_table"][number.where(together, 0)]
        q, k, v = self.linear(f"{name}.qkv", x).reshape(len(place), 3, num_heads, -1).unbind(1)
        logits = torch.einsum("ihc,jhc->ijh", q, k) / math.sqrt(channels / num_heads) + bias
        weights = logits.where(together[..., None], -math.inf).softmax(1)
        y = torch.einsum("ijh,jhc->ihc", weights, v).reshape(x.shape)
        return self.linear(f"{name}.proj", y)[:height, :width]

    def swin(self, images: Tensor) -> list[Tensor]:
        (x,) = F.conv2d(
            images, self.state["backbone.patch_embed.proj.weight"], self.state["backbone.patch_embed.proj.bias"], 4
        )
        x = self.norm("backbone.patch_embed.norm", x.permute(1, 2, 0))
        features = []
        for stage, (depth, heads) in enumerate(zip(DEPTHS, HEADS, strict=True)):
            if stage:
                name = f"backbone.layers.{stage - 1}.downsample"
                parts = [x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]]
                x = self.linear(f"{name}.reduction", self.norm(f"{name}.norm", torch.cat(parts, -1)))
            for block in range(depth):
                b = f"backbone.layers.{stage}.blocks.{block}"
                shift = WINDOW // 2 if block % 2 else 0
                x = x + self.window_attention(f"{b}.attn", self.norm(f"{b}.norm1", x), heads, shift)
                x = x + self.linear(f"{b}.mlp.fc2", F.gelu(self.linear(f"{b}.mlp.fc1", self.norm(f"{b}.norm2", x))))
            features.append(self.norm(f"backbone.norm{stage}", x).permute(2, 0, 1)[None])
        return features

    def positions(self, height: int, width: int, channels: int) -> Tensor:
        y, x = torch.meshgrid(torch.arange(1, height + 1), torch.arange(1, width + 1), indexing="ij")
        parts = []
        for place, side in ((y, height), (x, width)):
            for i in range(channels // 2):
                angle = place / (side + 1e-6) * 2 * math.pi / 10000 ** (2 * (i // 2) / (channels // 2))
                parts.append((angle.cos() if i % 2 else angle.sin()).flatten())
        return torch.stack(parts, 1)

    def attention(self, name: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        weights, biases = self.state[f"{name}.in_proj_weight"].chunk(3), self.state[f"{name}.in_proj_bias"].chunk(3)
        q, k, v = (x @ w.T + b for x, w, b in zip((query, key, value), weights, biases, strict=True))
        heads = []
        for i in range(SMALL["num_heads"]):
            one = slice(i * 16, i * 16 + 16)
            heads.append((q[:, one] @ k[:, one].T / 4).softmax(1) @ v[:, one])
        return self.linear(f"{name}.out_proj", torch.cat(heads, 1))

    def hidden(self, name: str, x: Tensor) -> Tensor:
        return x + self.linear(f"{name}.linear2", F.relu(self.linear(f"{name}.linear1", x)))

    def outputs(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return category and mask logits of each decoder layer for one image."""
        x = (images * 255 - MEAN) / STD
        has_encoder = "sem_seg_head.input_proj.weight" in self.state
        *finer, memory = self.resnet(x) if "backbone.stem.conv1.weight" in self.state else self.swin(x)
        if has_encoder:
            memory = self.conv("sem_seg_head.input_proj", memory)
            place = self.positions(*memory.shape[2:], memory.shape[1])
            cells = memory[0].flatten(1).T
            for i in range(2):
                layer = f"sem_seg_head.transformer.encoder.layers.{i}"
                y = cells + self.attention(f"{layer}.self_attn", cells + place, cells + place, cells)
                cells = self.norm(f"{layer}.norm2", self.hidden(layer, self.norm(f"{layer}.norm1", y)))
            memory = cells.T.reshape(memory.shape)
        fine = F.relu(self.grouped("sem_seg_head.layer_4", memory))
        for level in (3, 2, 1):
            fine = fine.repeat_interleave(2, 2).repeat_interleave(2, 3)
            fine = self.grouped(f"sem_seg_head.adapter_{level}", finer[level - 1]) + fine
            fine = F.relu(self.grouped(f"sem_seg_head.layer_{level}", fine))
        masks = self.conv("sem_seg_head.mask_features", fine)[0]
        head = "sem_seg_head.predictor"
        if not has_encoder:
            memory = self.conv(f"{head}.input_proj", memory)
        place, cells = self.positions(*memory.shape[2:], memory.shape[1]), memory[0].flatten(1).T
        query = self.state[f"{head}.query_embed.weight"]
        x, found = torch.zeros_like(query), []
        for i in range(3):
            layer = f"{head}.transformer.decoder.layers.{i}"
            x = self.norm(f"{layer}.norm1", x + self.attention(f"{layer}.self_attn", x + query, x + query, x))
            y = self.attention(f"{layer}.multihead_attn", x + query, cells + place, cells)
            x = self.norm(f"{layer}.norm3", self.hidden(layer, self.norm(f"{layer}.norm2", x + y)))
            y = self.norm(f"{head}.transformer.decoder.norm", x)
            embedded = y
            for step in range(3):
                embedded = self.linear(f"{head}.mask_embed.layers.{step}", F.relu(embedded) if step else embedded)
            found.append((self.linear(f"{head}.class_embed", y), torch.einsum("qc,chw->qhw", embedded, masks)))
        return found


# Names in other layouts by those of the released files; the first that fits is used.
MMDETECTION = (
    (r"backbone\.stem\.conv1\.norm", "backbone.bn1"),
    (r"backbone\.stem\.conv1", "backbone.conv1"),
    (r"backbone\.res(\d)\.(\d)\.conv(\d)\.norm", lambda m: f"backbone.layer{int(m[1]) - 1}.{m[2]}.bn{m[3]}"),
    (r"backbone\.res(\d)\.(\d)\.conv(\d)", lambda m: f"backbone.layer{int(m[1]) - 1}.{m[2]}.conv{m[3]}"),
    (r"backbone\.res(\d)\.(\d)\.shortcut\.norm", lambda m: f"backbone.layer{int(m[1]) - 1}.{m[2]}.downsample.1"),
    (r"backbone\.res(\d)\.(\d)\.shortcut", lambda m: f"backbone.layer{int(m[1]) - 1}.{m[2]}.downsample.0"),
    (r"backbone\.patch_embed\.proj", "backbone.patch_embed.projection"),
    (r"backbone\.layers\.(.+)\.attn", r"backbone.stages.\1.attn.w_msa"),
    (r"backbone\.layers\.(.+)\.mlp\.fc1", r"backbone.stages.\1.ffn.layers.0.0"),
    (r"backbone\.layers\.(.+)\.mlp\.fc2", r"backbone.stages.\1.ffn.layers.1"),
    (r"backbone\.layers", "backbone.stages"),
    (r"sem_seg_head\.adapter_(\d)\.norm", lambda m: f"panoptic_head.pixel_decoder.lateral_convs.{int(m[1]) - 1}.gn"),
    (r"sem_seg_head\.adapter_(\d)", lambda m: f"panoptic_head.pixel_decoder.lateral_convs.{int(m[1]) - 1}.conv"),
    (r"sem_seg_head\.layer_4\.norm", "panoptic_head.pixel_decoder.LAST.gn"),
    (r"sem_seg_head\.layer_4", "panoptic_head.pixel_decoder.LAST.conv"),
    (r"sem_seg_head\.layer_(\d)\.norm", lambda m: f"panoptic_head.pixel_decoder.output_convs.{int(m[1]) - 1}.gn"),
    (r"sem_seg_head\.layer_(\d)", lambda m: f"panoptic_head.pixel_decoder.output_convs.{int(m[1]) - 1}.conv"),
    (r"sem_seg_head\.mask_features", "panoptic_head.pixel_decoder.mask_feature"),
    (r"sem_seg_head\.input_proj", "panoptic_head.pixel_decoder.encoder_in_proj"),
    (r"sem_seg_head\.predictor\.input_proj", "panoptic_head.decoder_input_proj"),
    (r"sem_seg_head\.predictor\.query_embed", "panoptic_head.query_embed"),
    (r"sem_seg_head\.predictor\.class_embed", "panoptic_head.cls_embed"),
    (r"sem_seg_head\.predictor\.mask_embed\.layers\.(\d)", lambda m: f"panoptic_head.mask_embed.{2 * int(m[1])}"),
    (r"sem_seg_head\.predictor\.transformer\.decoder\.norm", "panoptic_head.transformer_decoder.post_norm"),
    (r"sem_seg_head\.predictor\.transformer\.decoder", "panoptic_head.transformer_decoder"),
    (r"sem_seg_head\.transformer\.encoder", "panoptic_head.pixel_decoder.encoder"),
)
MMDETECTION_LAYERS = (
    (r"\.self_attn\.", ".attentions.0.attn."),
    (r"\.multihead_attn\.", ".attentions.1.attn."),
    (r"\.linear1\.", ".ffns.0.layers.0.0."),
    (r"\.linear2\.", ".ffns.0.layers.1."),
    (r"\.norm(\d)\.", lambda m: f".norms.{int(m[1]) - 1}."),
)
BLOCK = "model.pixel_level_module.encoder.model.encoder.layers"
TRANSFORMERS = (
    (r"backbone\.norm", "model.pixel_level_module.encoder.hidden_states_norms."),
    (r"backbone\.patch_embed\.proj", "model.pixel_level_module.encoder.model.embeddings.patch_embeddings.projection"),
    (r"backbone\.patch_embed", "model.pixel_level_module.encoder.model.embeddings"),
    (r"backbone\.layers\.(.+)\.norm1", rf"{BLOCK}.\1.layernorm_before"),
    (r"backbone\.layers\.(.+)\.norm2", rf"{BLOCK}.\1.layernorm_after"),
    (r"backbone\.layers\.(.+)\.attn\.proj", rf"{BLOCK}.\1.attention.output.dense"),
    (r"backbone\.layers\.(.+)\.attn", rf"{BLOCK}.\1.attention.self"),
    (r"backbone\.layers\.(.+)\.mlp\.fc1", rf"{BLOCK}.\1.intermediate.dense"),
    (r"backbone\.layers\.(.+)\.mlp\.fc2", rf"{BLOCK}.\1.output.dense"),
    (r"backbone\.layers", BLOCK),
    (r"sem_seg_head\.layer_4\.norm", "model.pixel_level_module.decoder.fpn.stem.1"),
    (r"sem_seg_head\.layer_4", "model.pixel_level_module.decoder.fpn.stem.0"),
    (
        r"sem_seg_head\.(adapter|layer)_(\d)(\.norm)?",
        lambda m: (
            f"model.pixel_level_module.decoder.fpn.layers.{3 - int(m[2])}."
            f"{'proj' if m[1] == 'adapter' else 'block'}.{int(bool(m[3]))}"
        ),
    ),
    (r"sem_seg_head\.mask_features", "model.pixel_level_module.decoder.mask_projection"),
    (r"sem_seg_head\.predictor\.input_proj", "model.transformer_module.input_projection"),
    (r"sem_seg_head\.predictor\.query_embed", "model.transformer_module.queries_embedder"),
    (r"sem_seg_head\.predictor\.class_embed", "class_predictor"),
    (r"sem_seg_head\.predictor\.mask_embed\.layers\.(\d)", r"mask_embedder.\1.0"),
    (r"sem_seg_head\.predictor\.transformer\.decoder\.norm", "model.transformer_module.decoder.layernorm"),
    (r"sem_seg_head\.predictor\.transformer", "model.transformer_module"),
)
TRANSFORMERS_LAYERS = (
    (r"\.multihead_attn\.", ".encoder_attn."),
    (r"\.linear(\d)\.", r".fc\1."),
    (r"\.norm1\.", ".self_attn_layer_norm."),
    (r"\.norm2\.", ".encoder_attn_layer_norm."),
    (r"\.norm3\.", ".final_layer_norm."),
)


def renamed(name: str, rules: Any, layers: Any) -> str:
    name = next((re.sub(f"^{old}", new, name) for old, new in rules if re.match(old, name)), name)
    if ".decoder.layers." in name or ".encoder.layers." in name or "transformer_decoder.layers." in name:
        name = next((re.sub(old, new, name) for old, new in layers if re.search(old, name)), name)
    return name


def in_layout(state: dict[str, Tensor], layout: str) -> dict[str, Tensor]:
    if layout == "released":
        return state | {"criterion.empty_weight": torch.ones(6)}
    if layout == "current":
        pixels = re.compile(r"sem_seg_head\.(?!predictor)")
        return {pixels.sub("sem_seg_head.pixel_decoder.", name): t for name, t in state.items()}
    result = {}
    last = "encoder_out_proj" if "sem_seg_head.input_proj.weight" in state else "last_feat_conv"
    for name, tensor in state.items():
        if layout == "mmdetection":
            if "downsample" in name:  # there, by nn.Unfold: channels, rows, columns
                tensor = tensor.reshape(*tensor.shape[:-1], 2, 2, -1).movedim(-1, -3).transpose(-2, -1).flatten(-3)
            result[renamed(name, MMDETECTION, MMDETECTION_LAYERS).replace("LAST", last)] = tensor
            if name.endswith("running_var"):
                result[renamed(name, MMDETECTION, ()).replace("running_var", "num_batches_tracked")] = torch.tensor(3)
            continue
        theirs = renamed(name, TRANSFORMERS, TRANSFORMERS_LAYERS)
        if ".qkv." in theirs or "in_proj_" in theirs:
            kinds = ("query.", "key.", "value.") if ".qkv." in theirs else ("q_proj.", "k_proj.", "v_proj.")
            for kind, part in zip(kinds, tensor.chunk(3), strict=True):
                result[re.sub(r"qkv\.|in_proj_", kind, theirs)] = part
        else:
            result[theirs] = tensor
    if layout == "transformers":
        result["model.pixel_level_module.encoder.model.layernorm.weight"] = torch.ones(128)
        result[f"{BLOCK}.0.blocks.0.attention.self.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
    return result


def small(kind: str) -> Any:
    if kind == "resnet":
        backbone: Any = small_resnet(0.0)
        return maskformer.maskformer(MIXED, backbone=backbone, encoder_layers=2, dropout=0.0, frozen_norm=True, **SMALL)
    backbone = Swin(16, DEPTHS, HEADS, WINDOW, name="small", drop_path=0.0)
    return maskformer.maskformer(MIXED, backbone=backbone, encoder_layers=0, dropout=0.0, **SMALL)


def released(model: Any) -> dict[str, Tensor]:
    """Draw weights of a network under the names of released files."""
    key = maskformer_key(model, {})
    shapes = {key(name): tuple(t.shape) for name, t in model.state_dict().items()}
    return {name: t.abs() if ".running_var" in name else t for name, t in drawn(shapes).items()}


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        ("resnet", "released"),
        ("resnet", "current"),
        ("resnet", "mmdetection"),
        ("swin", "released"),
        ("swin", "mmdetection"),
        ("swin", "transformers"),
    ],
)
def test_outputs_are_those_of_the_described_network(kind: str, layout: str, tmp_path: Path) -> None:
    model = small(kind)
    state = released(model)
    torch.save({"state_dict": in_layout(state, layout), "meta": {"epoch": 75}}, tmp_path / "model.pth")
    load_published(model, tmp_path / "model.pth")
    images = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        theirs = Detectron2(state).outputs(images)
        ours = model(images)
        assert ours.auxiliary_mask_logits is None
        require_equal(ours.category_logits[0], theirs[-1][0])
        require_equal(ours.mask_logits[0], theirs[-1][1])
        outputs = model.train()(images)
        for i, (category, masks) in enumerate(theirs[:-1]):
            require_equal(outputs.auxiliary_category_logits[i, 0], category)
            require_equal(outputs.auxiliary_mask_logits[i, 0], masks)


def test_sizes_are_those_of_the_released_networks() -> None:
    labels = LabelSpace.load("coco_panoptic")
    sizes = {}
    with torch.device("meta"):
        for name in ("r50", "r101", "swin_t", "swin_s"):
            model: Any = getattr(maskformer, f"maskformer_{name}")(labels)
            sizes[name] = sum(p.numel() for p in model.parameters())
    # R50 and Swin-T as counted in the authors' networks. R101 has 17 more blocks, and norms that are constants.
    assert (sizes["r50"], sizes["swin_t"]) == (45_012_038, 41_752_640)
    assert sizes["r101"] - sizes["r50"] == 17 * (2 * 1024 * 256 + 9 * 256 * 256)
    # Swin-S has 12 more blocks of 384 channels and 12 heads.
    block = 4 * 384 + 4 * 384 * 384 + 4 * 384 + 8 * 384 * 384 + 5 * 384 + 169 * 12
    assert sizes["swin_s"] - sizes["swin_t"] == 12 * block


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ("maskformer_r50", "maskformer_r50"),
        ("maskformer_swin_t_d2", "maskformer_swin_t"),
        ("maskformer_swin_t", "maskformer_swin_t"),
    ],
)
def test_names_and_shapes_are_those_of_the_released_networks(keys: str, name: str) -> None:
    with torch.device("meta"):
        found = {key: torch.empty(shape) for key, shape in released_shapes(keys).items()}
        assert identify(found, Path("model.pkl")) == (name, {}, 133, False)
        model = getattr(maskformer, name)(LabelSpace.load("coco_panoptic"))
        theirs = {key: t.shape for key, t in from_maskformer(found, model, Path("model.pkl")).items()}
        key = maskformer_key(model, found)
        assert {key(name): t.shape for name, t in model.state_dict().items()} == theirs


def test_differences_are_listed_and_leave_the_model_as_it_was(tmp_path: Path) -> None:
    model = small("swin")
    state = in_layout(released(model), "transformers")
    del state["model.transformer_module.decoder.layers.1.self_attn.k_proj.bias"]
    state["class_predictor.bias"] = torch.zeros(7)
    state["mask_embedder.3.0.bias"] = torch.zeros(1)
    torch.save(state, tmp_path / "model.pth")
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(CheckpointMismatchError) as caught:
        load_published(model, tmp_path / "model.pth")
    message = str(caught.value)
    assert "1 missing: model.transformer_module.decoder.layers.1.self_attn.in_proj_bias" in message
    assert "3 unused: mask_embedder.3.0.bias" in message
    assert "class_predictor.bias (expected [6], got [7])" in message
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_a_network_of_transformers_computes_the_same(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="compares with transformers, which is not a dependency")
    swin = transformers.SwinConfig(
        embed_dim=16,
        depths=list(DEPTHS),
        num_heads=list(HEADS),
        window_size=WINDOW,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    detr = transformers.MaskFormerDetrConfig(
        d_model=64, decoder_layers=3, decoder_ffn_dim=48, decoder_attention_heads=4, num_queries=5
    )
    config = transformers.MaskFormerConfig(
        backbone_config=swin, decoder_config=detr, fpn_feature_size=64, mask_feature_size=64, num_labels=5
    )
    torch.manual_seed(0)
    theirs = transformers.MaskFormerForInstanceSegmentation(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += torch.randn(parameter.shape) * 0.1
    theirs.save_pretrained(tmp_path)
    model = load_published(small("swin"), tmp_path / "model.safetensors")
    images = torch.rand(2, 3, *SIZE)
    with torch.inference_mode():
        outputs, expected = model(images), theirs(pixel_values=model.preprocess(images))
    require_equal(outputs.category_logits, expected.class_queries_logits)
    require_equal(outputs.mask_logits, expected.masks_queries_logits)
