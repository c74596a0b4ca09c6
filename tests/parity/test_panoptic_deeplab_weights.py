"""Published checkpoints of Panoptic-DeepLab: their names, and what networks with their weights compute."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape import create_model, load_published, zoo
from panscape.convert.panoptic_deeplab import panoptic_deeplab_key
from panscape.errors import CheckpointMismatchError, InvalidArgumentError, UnreadableFileError
from panscape.nn.relations import PanopticRelations

DETECTRON2 = ("panoptic_deeplab_r52", {}, "detectron2_r52")
R50 = ("panoptic_deeplab_r50", {"form": "standalone"}, "standalone_r50")
MOBILENETV2 = ("panoptic_deeplab_mobilenetv2", {}, "standalone_mobilenetv2")
PUBLISHED = [DETECTRON2, R50, MOBILENETV2]


def released_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Return name and shape of each tensor of a released network, as its own code lists them."""
    lines = Path(__file__).with_name(f"panoptic_deeplab_{name}_keys.txt").read_text().splitlines()
    split = (re.fullmatch(r"(\S+) \((.*)\) \w+", line) for line in lines)
    return {m[1]: tuple(int(n) for n in re.findall(r"\d+", m[2])) for m in split if m}


def without_memory(name: str, options: dict[str, Any]) -> Any:
    with torch.device("meta"):
        return create_model(name, "cityscapes", **options)


def without_values(name: str, options: dict[str, Any]) -> Any:
    model = without_memory(name, options).to_empty(device="cpu")
    model.set_pixels("imagenet")
    return model


def numbered(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return tensors that are filled with a number of their own each and take no memory."""
    return {name: torch.tensor(float(i)).expand(shape) for i, (name, shape) in enumerate(shapes.items())}


@pytest.mark.parametrize(("name", "options", "released"), PUBLISHED)
def test_names_and_shapes_are_those_of_the_released_networks(name: str, options: dict[str, Any], released: str) -> None:
    model = without_memory(name, options)
    key = panoptic_deeplab_key(model)
    assert {key(ours): tuple(tensor.shape) for ours, tensor in model.state_dict().items()} == released_shapes(released)


@pytest.mark.parametrize("name", ["resnet101", "resnext101_32x8d"])
def test_other_backbones_of_the_older_repository_have_the_names_of_torchvision(name: str) -> None:
    import torchvision

    model = without_memory("panoptic_deeplab", {"backbone": name, "form": "standalone"})
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name).state_dict()
    key = panoptic_deeplab_key(model)
    ours = {key(n): t.shape for n, t in model.state_dict().items() if n.startswith("backbone.")}
    assert ours == {f"backbone.{n}": t.shape for n, t in theirs.items() if not n.startswith("fc.")}


# By hand from both implementations: where a few tensors of every part go.
PLACES = {
    "detectron2_r52": {
        "backbone.conv1.0.weight": "backbone.stem.conv1.weight",
        "backbone.conv1.4.running_mean": "backbone.stem.conv2.norm.running_mean",
        "backbone.conv1.6.weight": "backbone.stem.conv3.weight",
        "backbone.bn1.bias": "backbone.stem.conv3.norm.bias",
        "backbone.layer1.0.downsample.0.weight": "backbone.res2.0.shortcut.weight",
        "backbone.layer3.5.bn2.num_batches_tracked": "backbone.res4.5.conv2.norm.num_batches_tracked",
        "backbone.layer4.0.downsample.1.running_var": "backbone.res5.0.shortcut.norm.running_var",
        "semantic_decoder.pyramid.branches.0.1.weight": "sem_seg_head.decoder.res5.project_conv.convs.0.norm.weight",
        "semantic_decoder.pyramid.branches.3.1.0.weight": (
            "sem_seg_head.decoder.res5.project_conv.convs.3.pointwise.weight"
        ),
        "instance_decoder.pyramid.mean.bias": "ins_embed_head.decoder.res5.project_conv.convs.4.1.bias",
        "instance_decoder.pyramid.blend.0.weight": "ins_embed_head.decoder.res5.project_conv.project.weight",
        "semantic_decoder.projections.0.0.weight": "sem_seg_head.decoder.res3.project_conv.weight",
        "instance_decoder.projections.1.1.bias": "ins_embed_head.decoder.res2.project_conv.norm.bias",
        "instance_decoder.blends.0.0.0.weight": "ins_embed_head.decoder.res3.fuse_conv.depthwise.weight",
        "semantic_decoder.blends.1.1.1.bias": "sem_seg_head.decoder.res2.fuse_conv.pointwise.norm.bias",
        "semantic.0.0.1.weight": "sem_seg_head.head.depthwise.norm.weight",
        "semantic.1.bias": "sem_seg_head.predictor.bias",
        "center.0.1.0.weight": "ins_embed_head.center_head.1.weight",
        "center.1.weight": "ins_embed_head.center_predictor.weight",
        "offset.0.1.0.weight": "ins_embed_head.offset_head.pointwise.weight",
        "offset.1.bias": "ins_embed_head.offset_predictor.bias",
    },
    "standalone_r50": {
        "backbone.conv1.weight": "backbone.conv1.weight",
        "backbone.layer2.0.downsample.1.bias": "backbone.layer2.0.downsample.1.bias",
        "backbone.layer4.2.bn3.running_var": "backbone.layer4.2.bn3.running_var",
        "semantic_decoder.pyramid.branches.2.0.weight": "decoder.semantic_decoder.aspp.convs.2.0.weight",
        "instance_decoder.pyramid.mean.weight": "decoder.instance_decoder.aspp.convs.4.aspp_pooling.1.weight",
        "instance_decoder.pyramid.blend.1.running_mean": "decoder.instance_decoder.aspp.project.1.running_mean",
        "semantic_decoder.projections.0.0.weight": "decoder.semantic_decoder.project.0.0.weight",
        "instance_decoder.blends.2.0.0.weight": "decoder.instance_decoder.fuse.2.0.0.0.weight",
        "instance_decoder.blends.2.0.1.bias": "decoder.instance_decoder.fuse.2.0.0.1.bias",
        "semantic_decoder.blends.1.1.0.weight": "decoder.semantic_decoder.fuse.1.0.1.weight",
        "semantic_decoder.blends.1.1.1.weight": "decoder.semantic_decoder.fuse.1.0.2.weight",
        "semantic.0.0.0.weight": "decoder.semantic_head.classifier.semantic.0.0.0.0.weight",
        "center.0.1.0.weight": "decoder.instance_head.classifier.center.0.0.1.weight",
        "center.0.1.1.num_batches_tracked": "decoder.instance_head.classifier.center.0.0.2.num_batches_tracked",
        "offset.1.bias": "decoder.instance_head.classifier.offset.1.bias",
    },
    "standalone_mobilenetv2": {
        "backbone.net.conv_stem.weight": "backbone.features.0.0.weight",
        "backbone.net.blocks.0.0.conv_dw.weight": "backbone.features.1.conv.0.0.weight",
        "backbone.net.blocks.0.0.bn2.bias": "backbone.features.1.conv.2.bias",
        "backbone.net.blocks.1.1.conv_pw.weight": "backbone.features.3.conv.0.0.weight",
        "backbone.net.blocks.3.3.bn2.running_var": "backbone.features.10.conv.1.1.running_var",
        "backbone.net.blocks.5.0.conv_pwl.weight": "backbone.features.14.conv.2.weight",
        "backbone.net.blocks.6.0.bn3.weight": "backbone.features.17.conv.3.weight",
        "semantic_decoder.projections.1.0.weight": "decoder.semantic_decoder.project.1.0.weight",
    },
}


@pytest.mark.parametrize(("name", "options", "released"), PUBLISHED)
def test_every_tensor_is_filled_from_its_place(
    name: str, options: dict[str, Any], released: str, tmp_path: Path
) -> None:
    state = numbered(released_shapes(released))
    numbers = {key: i for i, key in enumerate(state)}
    path = tmp_path / "model_final.pth"
    torch.save({"model": state, "iteration": 90_000}, path)
    model = without_values(name, options)
    filled = load_published(model, path).state_dict()
    assert not model.training
    found = {ours: tensor.flatten()[0].item() for ours, tensor in filled.items()}
    assert sorted(found.values()) == sorted(numbers.values())  # each once
    for ours, tensor in filled.items():
        assert (tensor == found[ours]).all(), ours
    assert {ours: numbers[theirs] for ours, theirs in PLACES[released].items()} == {
        ours: found[ours] for ours in PLACES[released]
    }


def test_the_layout_of_ordinary_convolutions(tmp_path: Path) -> None:
    model = without_memory("panoptic_deeplab_r52", {"separable": False})
    key = panoptic_deeplab_key(model)
    keys = {key(name) for name in model.state_dict()}
    assert len(keys) == 508
    # What differs by name: the units of separable convolutions, of which the centres have none.
    separable = {k for k in released_shapes("detectron2_r52") if "depthwise" in k or "pointwise" in k}
    assert not separable & keys
    ours = keys - released_shapes("detectron2_r52").keys()
    assert {k.rpartition(".")[0].removesuffix(".norm") for k in ours} == {
        *(f"{h}.decoder.res5.project_conv.convs.{i}" for h in ("sem_seg_head", "ins_embed_head") for i in (1, 2, 3)),
        *(
            f"{h}.decoder.{res}.fuse_conv.{i}"
            for h in ("sem_seg_head", "ins_embed_head")
            for res in ("res2", "res3")
            for i in (0, 1)
        ),
        *(f"{head}.{i}" for head in ("sem_seg_head.head", "ins_embed_head.offset_head") for i in (0, 1)),
    }
    assert key("semantic_decoder.pyramid.branches.1.0.weight").endswith("convs.1.weight")
    assert key("instance_decoder.blends.1.1.1.bias") == "ins_embed_head.decoder.res2.fuse_conv.1.norm.bias"
    # The network whose stem is one convolution (R50-DC5).
    key = panoptic_deeplab_key(without_memory("panoptic_deeplab_r50", {"separable": False}))
    assert key("backbone.conv1.weight") == "backbone.stem.conv1.weight"
    assert key("backbone.bn1.bias") == "backbone.stem.conv1.norm.bias"


def drawn(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            state[name] = torch.rand(shape, generator=g) * 0.5 + 0.75
        else:
            fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 100
            state[name] = torch.randn(shape, generator=g) * (1.4 / fan_in**0.5)
    return state


class Detectron2:
    """The network of detectron2's project with separable convolutions, spelt out over its names, in eval mode."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def unit(self, name: str, x: Tensor, *, relu: bool = True, **options: Any) -> Tensor:
        weight, p = self.state[f"{name}.weight"], self.state
        padding = options.get("dilation", 1) * (weight.shape[-1] // 2)
        x = F.conv2d(x, weight, padding=padding, groups=x.shape[1] // weight.shape[1], **options)
        stats = (p[f"{name}.norm.running_mean"], p[f"{name}.norm.running_var"])
        x = F.batch_norm(x, *stats, p[f"{name}.norm.weight"], p[f"{name}.norm.bias"], eps=1e-5)
        return F.relu(x) if relu else x

    def separable(self, name: str, x: Tensor, dilation: int = 1) -> Tensor:
        return self.unit(f"{name}.pointwise", self.unit(f"{name}.depthwise", x, dilation=dilation))

    def features(self, images: Tensor) -> list[Tensor]:
        mean, std = (torch.tensor(v)[:, None, None] for v in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
        x = self.unit("backbone.stem.conv1", (images * 255 - mean) / std, stride=2)
        x = self.unit("backbone.stem.conv3", self.unit("backbone.stem.conv2", x))
        x = F.max_pool2d(x, 3, 2, 1)
        stages = []
        for stage, blocks in ((2, 3), (3, 4), (4, 6), (5, 3)):
            for i in range(blocks):
                b = f"backbone.res{stage}.{i}"
                stride = 2 if stage in (3, 4) and i == 0 else 1
                y = self.unit(f"{b}.conv1", x)
                y = self.unit(f"{b}.conv2", y, stride=stride, dilation=(2, 4, 8)[i] if stage == 5 else 1)
                y = self.unit(f"{b}.conv3", y, relu=False)
                x = F.relu(y + (self.unit(f"{b}.shortcut", x, relu=False, stride=stride) if i == 0 else x))
            stages.append(x)
        return stages

    def decoder(self, name: str, res2: Tensor, res3: Tensor, res5: Tensor) -> Tensor:
        def resize(x: Tensor, like: Tensor) -> Tensor:
            return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)

        context = f"{name}.res5.project_conv"
        branches = [self.unit(f"{context}.convs.0", res5)]
        branches += [
            self.separable(f"{context}.convs.{i}", res5, dilation) for i, dilation in ((1, 6), (2, 12), (3, 18))
        ]
        pooling = f"{context}.convs.4.1"
        mean = F.conv2d(res5.mean((2, 3), keepdim=True), self.state[f"{pooling}.weight"], self.state[f"{pooling}.bias"])
        y = self.unit(f"{context}.project", torch.cat([*branches, resize(F.relu(mean), res5)], 1))
        for res, feature in (("res3", res3), ("res2", res2)):
            projected = self.unit(f"{name}.{res}.project_conv", feature)
            y = self.separable(f"{name}.{res}.fuse_conv", torch.cat([projected, resize(y, projected)], 1))
        return y

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        res2, res3, _, res5 = self.features(images)
        semantic = self.separable("sem_seg_head.head", self.decoder("sem_seg_head.decoder", res2, res3, res5))
        objects = self.decoder("ins_embed_head.decoder", res2, res3, res5)
        center = self.unit("ins_embed_head.center_head.1", self.unit("ins_embed_head.center_head.0", objects))
        offset = self.separable("ins_embed_head.offset_head", objects)
        return {
            "semantic": self.predictor("sem_seg_head.predictor", semantic),
            "center": self.predictor("ins_embed_head.center_predictor", center),
            "offset": self.predictor("ins_embed_head.offset_predictor", offset) * 4,
        }

    def predictor(self, name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])


class Standalone:
    """Decoders and heads of the older repository, spelt out over its names, in eval mode, after given features."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def unit(self, conv: str, norm: str, x: Tensor, dilation: int = 1) -> Tensor:
        weight, p = self.state[f"{conv}.weight"], self.state
        padding, groups = dilation * (weight.shape[-1] // 2), x.shape[1] // weight.shape[1]
        x = F.conv2d(x, weight, padding=padding, groups=groups, dilation=dilation)
        stats = (p[f"{norm}.running_mean"], p[f"{norm}.running_var"], p[f"{norm}.weight"], p[f"{norm}.bias"])
        return F.relu(F.batch_norm(x, *stats, eps=1e-5))

    def separable(self, name: str, x: Tensor) -> Tensor:
        return self.unit(f"{name}.1", f"{name}.2", self.unit(f"{name}.0.0", f"{name}.0.1", x))

    def decoder(self, name: str, features: list[Tensor]) -> Tensor:
        def resize(x: Tensor, like: Tensor) -> Tensor:
            return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)

        coarsest = features[-1]
        convs = f"{name}.aspp.convs"
        branches = [
            self.unit(f"{convs}.{i}.0", f"{convs}.{i}.1", coarsest, rate) for i, rate in enumerate((1, 3, 6, 9))
        ]
        mean = F.conv2d(coarsest.mean((2, 3), keepdim=True), self.state[f"{convs}.4.aspp_pooling.1.weight"])
        x = torch.cat([*branches, resize(F.relu(mean), coarsest)], 1)
        y = self.unit(f"{name}.aspp.project.0", f"{name}.aspp.project.1", x)
        for i, feature in enumerate(features[-2::-1]):
            projected = self.unit(f"{name}.project.{i}.0", f"{name}.project.{i}.1", feature)
            y = self.separable(f"{name}.fuse.{i}.0", torch.cat([resize(y, projected), projected], 1))
        return y

    def head(self, name: str, x: Tensor) -> Tensor:
        x = self.separable(f"{name}.0.0", x)
        return F.conv2d(x, self.state[f"{name}.1.weight"], self.state[f"{name}.1.bias"])

    def __call__(self, features: list[Tensor]) -> dict[str, Tensor]:
        semantic, objects = (self.decoder(f"decoder.{part}_decoder", features) for part in ("semantic", "instance"))
        return {
            "semantic": self.head("decoder.semantic_head.classifier.semantic", semantic),
            "center": self.head("decoder.instance_head.classifier.center", objects),
            "offset": self.head("decoder.instance_head.classifier.offset", objects) * 4,
        }


def compare(model: nn.Module, images: Tensor, theirs: dict[str, Tensor]) -> None:
    with torch.inference_mode():
        ours = model(images)
    for name, expected in theirs.items():
        assert expected.std() > 0.01, name  # the comparison would say nothing about a vanished signal
        largest = float(expected.abs().max())
        torch.testing.assert_close(getattr(ours, name), expected, atol=2e-5 * largest, rtol=1e-4)


def test_pickled_weights_of_detectron2_give_the_outputs_of_its_network(tmp_path: Path) -> None:
    state = drawn(released_shapes("detectron2_r52"))
    assert sum(t.numel() for name, t in state.items() if "running" not in name and "num_" not in name) == 30_271_350
    # As the first files were: with the constants of normalisation, and without counters.
    arrays = {name: t.numpy() for name, t in state.items() if not name.endswith("num_batches_tracked")}
    constants = {
        "pixel_mean": np.array([123.675, 116.28, 103.53], np.float32).reshape(3, 1, 1),
        "pixel_std": np.array([58.395, 57.12, 57.375], np.float32).reshape(3, 1, 1),
    }
    path = tmp_path / "model_final.pkl"
    with path.open("wb") as file:
        pickle.dump({"model": constants | arrays, "__author__": "somebody"}, file, 2)
    model = load_published(without_values(*DETECTRON2[:2]), path)
    images = torch.rand(1, 3, 96, 160, generator=torch.Generator().manual_seed(1))
    compare(model, images, Detectron2(state)(images))
    assert all(t == 0 for name, t in model.state_dict().items() if name.endswith("num_batches_tracked"))


def test_weights_of_the_older_repository_give_the_outputs_of_its_network(tmp_path: Path) -> None:
    from torchvision.models import mobilenet_v2

    state = drawn(released_shapes("standalone_mobilenetv2"))
    path = tmp_path / "panoptic_deeplab.pth"
    torch.save({"state_dict": state, "start_iter": 90_000}, path)
    model = load_published(create_model("panoptic_deeplab_mobilenetv2", "cityscapes"), path)

    backbone = mobilenet_v2().features[:18].eval()  # the layers whose names these are
    prefix = "backbone.features."
    backbone.load_state_dict({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})
    images = torch.rand(1, 3, 65, 97, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    features, x = [], (images - mean) / std
    with torch.inference_mode():
        for i, layer in enumerate(backbone):
            x = layer(x)
            if i in (3, 6, 13, 17):
                features.append(x)
        compare(model, images, Standalone(state)(features))
    assert all(t == 7 for name, t in model.state_dict().items() if name.endswith("num_batches_tracked"))
    # Saved in our own form, they give the same.
    zoo.save(model, tmp_path / "model.safetensors")
    with torch.inference_mode():
        for a, b in zip(zoo.load(tmp_path / "model.safetensors")(images)[:3], model(images)[:3], strict=True):
            assert torch.equal(a, b)


def test_both_differences_are_listed_and_leave_the_model_as_it_was(tmp_path: Path) -> None:
    state = numbered(released_shapes("standalone_mobilenetv2"))
    del state["backbone.features.17.conv.3.weight"]
    state["decoder.instance_head.classifier.center.2.weight"] = torch.zeros(1)
    state["decoder.semantic_head.classifier.semantic.1.bias"] = torch.zeros(5)
    path = tmp_path / "panoptic_deeplab.pth"
    torch.save(state, path)
    model = create_model("panoptic_deeplab_mobilenetv2", "cityscapes")
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(CheckpointMismatchError) as caught:
        load_published(model, path)
    message = str(caught.value)
    assert "1 missing: backbone.features.17.conv.3.weight" in message
    assert "1 unused: decoder.instance_head.classifier.center.2.weight" in message
    assert "decoder.semantic_head.classifier.semantic.1.bias (expected [19], got [5])" in message
    assert message.endswith("of the checkpoint (its names are those of form='standalone')")
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_a_checkpoint_of_the_other_form_says_which(tmp_path: Path) -> None:
    path = tmp_path / "model_final.pth"
    torch.save(numbered(released_shapes("detectron2_r52")), path)
    with pytest.raises(CheckpointMismatchError, match="its names are those of form='detectron2'"):
        load_published(without_memory(*R50[:2]), path)
    with pytest.raises(CheckpointMismatchError, match=r"missing: .*fuse_conv\.0.* unused: .*fuse_conv\.depthwise"):
        load_published(without_memory("panoptic_deeplab_r52", {"separable": False}), path)


def test_counters_are_all_there_or_none(tmp_path: Path) -> None:
    path = tmp_path / "panoptic_deeplab.pth"
    state = numbered(released_shapes("standalone_mobilenetv2"))
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    torch.save({name: t for name, t in state.items() if name not in counters[1:]}, path)
    with pytest.raises(CheckpointMismatchError, match=f"{len(counters) - 1} missing: "):
        load_published(without_memory(*MOBILENETV2[:2]), path)
    # Without any, what else is missing is still told, and no counter of it.
    norm = "backbone.features.0.1"
    torch.save({name: t for name, t in state.items() if name not in counters and not name.startswith(norm)}, path)
    with pytest.raises(CheckpointMismatchError, match=rf"5 missing: {norm}\.bias, {norm}\.num_batches_tracked, "):
        load_published(without_memory(*MOBILENETV2[:2]), path)


def test_a_network_that_takes_pixels_otherwise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model_final.pth"
    state = numbered(released_shapes("detectron2_r52"))
    torch.save(state | {"pixel_mean": torch.tensor([103.53, 116.28, 123.675])[:, None, None]}, path)
    model = without_values(*DETECTRON2[:2])
    with pytest.raises(UnreadableFileError, match=r"with pixel_mean \[123.675, 116.28, 103.53\], got \[103.5"):
        load_published(model, path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("panoptic_deeplab_r52", {"relations": PanopticRelations()}),
        ("panoptic_deeplab_r50", {"form": "standalone", "separable": False}),
        ("panoptic_deeplab_mobilenetv2", {"form": "detectron2"}),
        ("panoptic_deeplab", {"backbone": "residual_xs"}),
    ],
)
def test_no_layout_is_known_for_other_networks(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model_final.pth"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(InvalidArgumentError, match="no published checkpoint layout is known for PanopticDeepLab"):
        load_published(without_memory(name, options), path)
