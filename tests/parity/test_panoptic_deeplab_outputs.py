"""What networks of Panoptic-DeepLab compute with weights in published checkpoints' layouts."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from released_deeplab import DETECTRON2, released_shapes, without_values
from torch import Tensor, nn
from torch.nn import functional as F

from panscape import create_model, load_published, zoo


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
