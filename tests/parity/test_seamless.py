"""Seamless Scene Segmentation: the authors' checkpoints, and what a network with their weights computes.

The second implementation below is written from the description of seamseg's network, over its names of tensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from released_regions import BLOCKS, BOXES, MIXED, drawn, released_shapes, require_equal, small_resnet
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from panscape import LabelSpace, create_model, load, load_published
from panscape.errors import CheckpointMismatchError, InvalidArgumentError, UnreadableFileError
from panscape.representations.regions import Anchors, DetectionSelection, ProposalSelection, RegionRepresentation
from panscape.zoo.published.seamless import seamless_key

RATIOS = (0.2, 0.5, 1.0, 2.0, 5.0)
STRIDES = (4, 8, 16, 32, 64, 128)
PARTS = ("body", "rpn_head", "roi_head", "sem_head")
STATISTICS = ((0.41738699, 0.45732192, 0.46886091), (0.25685097, 0.26509955, 0.29067996))


class Seamseg:
    """The network, spelt out in eval mode."""

    def __init__(self, state: dict[str, Tensor], blocks: tuple[int, ...]) -> None:
        self.state, self.blocks = state, blocks

    def conv(self, name: str, x: Tensor, **options: Any) -> Tensor:
        weight = self.state[f"{name}.weight"]
        padding = options.get("dilation", 1) * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), padding=padding, **options)

    def abn(self, name: str, x: Tensor, *, activate: bool = True) -> Tensor:
        w, b, mean, var = (self.state[f"{name}.{leaf}"] for leaf in ("weight", "bias", "running_mean", "running_var"))
        shape = (1, -1, *[1] * (x.ndim - 2))
        scale = (w.abs() + 1e-5) / (var + 1e-5).sqrt()
        y = (x - mean.view(shape)) * scale.view(shape) + b.view(shape)
        return torch.where(y > 0, y, 0.01 * y) if activate else y

    def features(self, images: Tensor) -> list[Tensor]:
        mean, std = (torch.tensor(v)[:, None, None] for v in STATISTICS)
        x = F.conv2d((images - mean) / std, self.state["body.backbone.mod1.conv1.weight"], stride=2, padding=3)
        x = F.max_pool2d(self.abn("body.backbone.mod1.bn1", x), 3, 2, 1)
        levels = []
        for module, blocks in enumerate(self.blocks, start=2):
            for block in range(1, blocks + 1):
                b = f"body.backbone.mod{module}.block{block}"
                stride = 2 if module > 2 and block == 1 else 1
                y = self.abn(f"{b}.convs.bn1", self.conv(f"{b}.convs.conv1", x))
                y = self.abn(f"{b}.convs.bn2", self.conv(f"{b}.convs.conv2", y, stride=stride))
                y = self.abn(f"{b}.convs.bn3", self.conv(f"{b}.convs.conv3", y), activate=False)
                if block == 1:
                    x = self.abn(f"{b}.proj_bn", self.conv(f"{b}.proj_conv", x, stride=stride), activate=False)
                x = F.leaky_relu(x + y, 0.01)
            levels.append(x)
        return levels

    def pyramid(self, features: list[Tensor]) -> list[Tensor]:
        def unit(name: str, x: Tensor, stride: int = 1) -> Tensor:
            return self.abn(f"body.fpn.{name}.bn", self.conv(f"body.fpn.{name}.conv", x, stride=stride))

        tops = [unit("lateral.3", features[3])]
        for i in (2, 1, 0):
            lateral = unit(f"lateral.{i}", features[i])
            tops.insert(0, lateral + F.interpolate(tops[0], lateral.shape[-2:]))
        extra = unit("extra.0", features[3], 2)
        return [*(unit(f"output.{i}", x) for i, x in enumerate(tops)), extra, unit("extra.1", extra, 2)]

    def proposals(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        objectness, offsets = [], []
        for level in levels:
            y = self.abn("rpn_head.bn1", self.conv("rpn_head.conv1", level))
            objectness.append(self.conv("rpn_head.conv_obj", y).permute(0, 2, 3, 1).reshape(1, -1))
            offsets.append(self.conv("rpn_head.conv_bbx", y).permute(0, 2, 3, 1).reshape(1, -1, 4))
        return torch.cat(objectness, 1), torch.cat(offsets, 1)

    def regions(self, levels: list[Tensor], boxes: Tensor) -> Tensor:
        """14x14 samples of each box, [N, C, 14, 14]."""
        regions = []
        for box in boxes:
            area = (box[2] - box[0]) * (box[3] - box[1])
            k = int(torch.floor(2 + torch.log2(area.sqrt() / 224 + 1e-6)).clamp(0, 3))
            rois = torch.cat([torch.zeros(1, 1), box[None] - 0.5], 1)
            regions.append(roi_align(levels[k], rois, 14, 1 / STRIDES[k], sampling_ratio=1, aligned=False))
        return torch.cat(regions)

    def boxes(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        x = F.avg_pool2d(regions, 2).flatten(1)
        for i in (1, 2):
            x = self.abn(f"roi_head.fc.bn{i}", x @ self.state[f"roi_head.fc.fc{i}.weight"].T)
        category, offsets = (
            x @ self.state[f"roi_head.{name}.weight"].T + self.state[f"roi_head.{name}.bias"]
            for name in ("roi_cls", "roi_bbx")
        )
        return category, offsets.view(len(x), -1, 4)

    def masks(self, regions: Tensor) -> Tensor:
        x = regions
        for i in (1, 2, 3, 4):
            x = self.abn(f"roi_head.conv.bn{i}", self.conv(f"roi_head.conv.conv{i}", x))
        x = F.conv_transpose2d(x, self.state["roi_head.conv.conv_up.weight"], stride=2)
        return self.conv("roi_head.roi_msk", self.abn("roi_head.conv.bn_up", x))

    def semantic(self, levels: list[Tensor]) -> Tensor:
        parts = []
        for i, x in enumerate(levels[:4]):
            name = f"sem_head.output.{i}"
            window = [min(64, side) for side in x.shape[-2:]]
            (top, left), (bottom, right) = ([(k - 1) // 2 for k in window], [k - 1 - (k - 1) // 2 for k in window])
            pooled = F.pad(F.avg_pool2d(x, window, 1), (left, right, top, bottom), mode="replicate")
            y = [self.conv(f"{name}.conv1_3x3", x), self.conv(f"{name}.conv1_dil", x, dilation=6)]
            y = self.abn(f"{name}.bn1", torch.cat([*y, self.conv(f"{name}.conv1_glb", pooled)], 1))
            y = self.abn(f"{name}.bn2", self.conv(f"{name}.conv2", y))
            parts.append(F.interpolate(y, levels[0].shape[-2:], mode="bilinear", align_corners=False))
        return self.conv("sem_head.conv_sem", torch.cat(parts, 1))


def nested(state: dict[str, Tensor]) -> dict[str, Any]:
    """Return a state as seamseg saves it: each part by itself, beside the state of meters and the optimizer."""
    parts: dict[str, Any] = {part: {} for part in PARTS}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    meter = {"sum": torch.tensor(1.0), "count": torch.tensor(2)}
    parts |= {"loss_meter": meter, "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2)}}}}
    return {"config": "[general]", "state_dict": parts, "training_meta": {"epoch": 85, "best_score": torch.tensor(0.4)}}


def without_counters(model: Any) -> dict[str, tuple[int, ...]]:
    key = seamless_key(model)
    shapes = {key(name): tuple(t.shape) for name, t in model.state_dict().items()}
    return {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}


def test_names_and_shapes_are_those_of_the_released_network() -> None:
    with torch.device("meta"):
        model = create_model("seamless_r50", "vistas_v1.2")
    shapes = released_shapes("seamless_r50_vistas")
    assert len(shapes) == 415
    assert without_counters(model) == shapes


def test_the_layout_for_cityscapes() -> None:
    with torch.device("meta"):
        model = create_model("seamless_r50", "cityscapes")
    shapes = without_counters(model)
    vistas = released_shapes("seamless_r50_vistas")
    assert vistas.keys() - shapes.keys() == {name for name in vistas if name.startswith("body.fpn.extra.1.")}
    assert not shapes.keys() - vistas.keys()
    heads = ("rpn_head.conv_obj", "rpn_head.conv_bbx", "roi_head.roi_cls", "roi_head.roi_bbx", "roi_head.roi_msk")
    assert [shapes[f"{head}.bias"][0] for head in (*heads, "sem_head.conv_sem")] == [3, 12, 9, 32, 8, 19]
    differ = {name.rpartition(".")[0] for name, shape in shapes.items() if vistas[name] != shape}
    assert differ == {*heads, "sem_head.conv_sem"}


@pytest.fixture
def small() -> Any:
    torch.manual_seed(0)
    representation = RegionRepresentation(
        anchors=Anchors(strides=STRIDES, scale=2.0, ratios=RATIOS),
        proposals=ProposalSelection(20, 20, 10, 10),
        detections=DetectionSelection(max_detections=2),
    )
    return create_model("seamless", MIXED, backbone=small_resnet(0.01), width=16, representation=representation)


def test_outputs_are_those_of_the_described_network(small: Any, tmp_path: Path) -> None:
    state = drawn(without_counters(small))
    assert sum(bool((t < 0).any()) for n, t in state.items() if "bn" in n and n.endswith("weight")) > 30
    path = tmp_path / "seamless.tar"
    torch.save(nested(state), path)
    load_published(small, path)
    assert (small.normalization, small.training) == ("vistas", False)
    assert small.spec.options["normalization"] == "vistas"
    theirs = Seamseg(state, BLOCKS)
    images = torch.rand(1, 3, 288, 320, generator=torch.Generator().manual_seed(1))
    yxhw = [1, 0, 3, 2]
    with torch.inference_mode():
        outputs = small(images)
        levels = theirs.pyramid(theirs.features(images))
        # All stuff, then all things there: b, d, e, A, C.
        require_equal(outputs.semantic, theirs.semantic(levels)[:, [3, 0, 4, 1, 2]])
        objectness, offsets = theirs.proposals(levels)
        require_equal(outputs.objectness, objectness)
        require_equal(outputs.anchor_offsets, offsets[..., yxhw])
        regions = theirs.regions(levels, BOXES)
        category, offsets = small.classify_regions(images, BOXES[None])
        require_equal(category[0], theirs.boxes(regions)[0])
        require_equal(offsets[0], theirs.boxes(regions)[1][..., yxhw])
        thing = torch.tensor([1, 0, 1, 0])
        masks = small.mask_regions(images, BOXES[None], thing[None])
        require_equal(masks[0], theirs.masks(regions)[torch.arange(4), thing])


def test_anchors_are_those_of_the_released_network() -> None:
    with torch.device("meta"):
        model: Any = create_model("seamless_r50", "vistas_v1.2")
    anchors = model.representation.anchors.boxes((128, 256))
    wide, square = anchors[0], anchors[5 * 65 + 2]  # ratio 0.2 in the first cell; ratio 1 in the second row and column
    assert torch.allclose(wide, torch.tensor([2 - 4 * 5**0.5, 2 - 4 / 5**0.5, 2 + 4 * 5**0.5, 2 + 4 / 5**0.5]))
    assert square.tolist() == [2, 2, 10, 10]
    sizes = [float(anchors[start + 2, 2] - anchors[start + 2, 0]) for start in (0, 10240, 12800, 13440, 13600, 13640)]
    assert sizes == [8, 16, 32, 64, 128, 256]


def test_the_released_file_is_loaded_without_its_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "panscape")
    shapes = released_shapes("seamless_r50_vistas")
    state = {name: torch.full((), 0.01).expand(shape) for name, shape in shapes.items()}
    state["sem_head.conv_sem.bias"] = torch.arange(65.0)
    path = tmp_path / "seamless_r50_vistas.tar"
    torch.save(nested(state), path)
    model: Any = load(path)
    assert caplog.messages == [
        "seamless_r50_vistas.tar: seamless_r50 (longest_side=2304), 65 categories of vistas_v1.2"
    ]
    labels = LabelSpace.load("vistas_v1.2")
    assert (len(labels.stuff_ids), len(labels.thing_ids)) == (28, 37)
    names = ("Curb", "Road", "Ego Vehicle", "Bird", "Car", "Wheeled Slow")
    assert model.semantic.predictor.bias[[labels.index(name) for name in names]].tolist() == [0, 10, 27, 28, 58, 64]
    assert torch.equal(model.backbone.bn1.weight, torch.full((64,), 0.01) + 1e-5)


def test_differences_are_listed_and_leave_the_model_as_it_was(small: Any, tmp_path: Path) -> None:
    path, state = tmp_path / "seamless.pth", drawn(without_counters(small))
    del state["roi_head.fc.bn1.running_var"]
    state["sem_head.more.weight"] = torch.zeros(1)
    state["roi_head.roi_bbx.bias"] = torch.zeros(3)
    torch.save(nested(state), path)
    before = {name: t.clone() for name, t in small.state_dict().items()}
    with pytest.raises(CheckpointMismatchError) as caught:
        load_published(small, path)
    message = str(caught.value)
    assert "1 missing: roi_head.fc.bn1.running_var" in message
    assert "1 unused: sem_head.more.weight" in message
    assert "roi_head.roi_bbx.bias (expected [8], got [3])" in message
    assert 'build the model as create_model("seamless_r50", labels)' in message
    assert all(torch.equal(before[name], t) for name, t in small.state_dict().items())
    assert small.normalization == "imagenet"


def test_missing_and_unknown_parts_are_refused(small: Any, tmp_path: Path) -> None:
    path, content = tmp_path / "seamless.pth", nested(drawn(without_counters(small)))
    missing = len(content["state_dict"].pop("roi_head"))
    content["state_dict"]["depth_head"] = {"w": torch.zeros(3)}
    torch.save(content, path)
    with pytest.raises(CheckpointMismatchError, match=rf"{missing} missing: roi_head.* 1 unused: depth_head\.w"):
        load_published(small, path)


@pytest.mark.parametrize("name", ["rpn_head.conv_obj.bias", "roi_head.fc.bn1.weight"])
def test_integers_in_place_of_weights_are_refused(small: Any, tmp_path: Path, name: str) -> None:
    path, state = tmp_path / "seamless.pth", drawn(without_counters(small))
    torch.save(nested(state | {name: state[name].long()}), path)
    with pytest.raises(UnreadableFileError, match=rf"of 16, 32 or 64 bits, but {name} is of torch\.int64"):
        load_published(small, path)


def test_the_network_for_all_scales_was_not_released(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(1)}, path)
    model = create_model("seamless", MIXED, backbone=small_resnet(0.01), width=8, semantic="deeplabv3plus")
    with pytest.raises(InvalidArgumentError, match="no published checkpoint layout is known for Seamless"):
        load_published(model, path)
