"""Panoptic FPN: checkpoints of detectron2 and mmdetection, and what a network with their weights computes.

The second implementation below is written from the description of detectron2's network, over its names of tensors.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from released_regions import BLOCKS, BOXES, MIXED, drawn, released_shapes, require_equal, small_resnet
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from panscape import create_model, load, load_published
from panscape.errors import CheckpointMismatchError, InvalidArgumentError, UnreadableFileError
from panscape.models.panoptic_fpn import PUBLISHED
from panscape.representations.regions import DetectionSelection, ProposalSelection
from panscape.zoo.published.panoptic_fpn import panoptic_fpn_key

STRIDES = (4, 8, 16, 32)
MEAN = (103.53, 116.28, 123.675)  # blue, green, red
# Corners of the anchors of the first level: 32 pixels, ratios 0.5, 1 and 2 of height to width.
ANCHORS = [[-22.6274, -11.3137, 22.6274, 11.3137], [-16.0, -16, 16, 16], [-11.3137, -22.6274, 11.3137, 22.6274]]


class Detectron2:
    """The network, spelt out in eval mode; mmdetection's is the same on torchvision's ResNet."""

    def __init__(self, state: dict[str, Tensor], blocks: tuple[int, ...], *, is_torchvision: bool = False) -> None:
        self.state, self.blocks, self.is_torchvision = state, blocks, is_torchvision

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), stride, weight.shape[-1] // 2)

    def unit(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        leaves = ("weight", "bias", "running_mean", "running_var")
        w, b, mean, var = (self.state[f"{name}.norm.{leaf}"][:, None, None] for leaf in leaves)
        return (self.conv(name, x, stride) - mean) * w / (var + 1e-5).sqrt() + b

    def features(self, images: Tensor) -> list[Tensor]:
        if self.is_torchvision:
            x = images - torch.tensor([0.485, 0.456, 0.406])[:, None, None]
            x = x / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        else:
            x = images.flip(1) * 255 - torch.tensor(MEAN)[:, None, None]
        x = F.max_pool2d(F.relu(self.unit("backbone.bottom_up.stem.conv1", x, 2)), 3, 2, 1)
        features = []
        for stage, blocks in enumerate(self.blocks, start=2):
            for i in range(blocks):
                b = f"backbone.bottom_up.res{stage}.{i}"
                stride = 2 if stage > 2 and i == 0 else 1
                strides = (1, stride) if self.is_torchvision else (stride, 1)
                y = F.relu(self.unit(f"{b}.conv1", x, strides[0]))
                y = self.unit(f"{b}.conv3", F.relu(self.unit(f"{b}.conv2", y, strides[1])))
                x = F.relu(y + (self.unit(f"{b}.shortcut", x, stride) if i == 0 else x))
            features.append(x)
        return features

    def pyramid(self, features: list[Tensor]) -> list[Tensor]:
        tops = [self.conv("backbone.fpn_lateral5", features[3])]
        for level in (4, 3, 2):
            lateral = self.conv(f"backbone.fpn_lateral{level}", features[level - 2])
            tops.insert(0, lateral + F.interpolate(tops[0], scale_factor=2.0, mode="nearest"))
        levels = [self.conv(f"backbone.fpn_output{i}", x) for i, x in enumerate(tops, start=2)]
        return [*levels, F.max_pool2d(levels[-1], 1, 2)]

    def proposals(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        head = "proposal_generator.rpn_head"
        hidden = [F.relu(self.conv(f"{head}.conv", x)) for x in levels]
        objectness = [self.conv(f"{head}.objectness_logits", x).permute(0, 2, 3, 1).reshape(1, -1) for x in hidden]
        offsets = [self.conv(f"{head}.anchor_deltas", x).permute(0, 2, 3, 1).reshape(1, -1, 4) for x in hidden]
        return torch.cat(objectness, 1), torch.cat(offsets, 1)

    def regions(self, levels: list[Tensor], boxes: Tensor, num_cells: int) -> Tensor:
        regions = []
        for box in boxes:
            area = (box[2] - box[0]) * (box[3] - box[1])
            k = int(torch.floor(4 + torch.log2(area.sqrt() / 224 + 1e-8)).clamp(2, 5)) - 2
            rois = torch.cat([torch.zeros(1, 1), box[None]], 1)
            regions.append(roi_align(levels[k], rois, num_cells, 1 / STRIDES[k], sampling_ratio=0, aligned=True))
        return torch.cat(regions)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.state[f"roi_heads.{name}.weight"].T + self.state[f"roi_heads.{name}.bias"]

    def boxes(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.linear("box_head.fc1", regions.flatten(1)))
        x = F.relu(self.linear("box_head.fc2", x))
        return self.linear("box_predictor.cls_score", x), self.linear("box_predictor.bbox_pred", x).view(len(x), -1, 4)

    def masks(self, regions: Tensor) -> Tensor:
        head, x = "roi_heads.mask_head", regions
        for i in (1, 2, 3, 4):
            x = F.relu(self.conv(f"{head}.mask_fcn{i}", x))
        x = F.conv_transpose2d(x, self.state[f"{head}.deconv.weight"], self.state[f"{head}.deconv.bias"], 2)
        return self.conv(f"{head}.predictor", F.relu(x))

    def semantic(self, levels: list[Tensor]) -> Tensor:
        total = torch.zeros(())
        for i, x in enumerate(levels[:4]):
            for step in range(max(1, i)):
                name = f"sem_seg_head.p{i + 2}.{2 * step}"
                norm = (self.state[f"{name}.norm.weight"], self.state[f"{name}.norm.bias"])
                x = F.relu(F.group_norm(self.conv(name, x), 32, *norm))
                if i:
                    x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            total = total + x
        return self.conv("sem_seg_head.predictor", total)


def named(model: Any) -> dict[str, tuple[int, ...]]:
    key = panoptic_fpn_key(model, {})
    return {key(name): tuple(t.shape) for name, t in model.state_dict().items()}


def r101_shapes() -> dict[str, tuple[int, ...]]:
    """Return the tensors of the network on ResNet-101, whose third stage has 23 blocks instead of 6."""
    shapes = released_shapes("panoptic_fpn_r50")
    last = "backbone.bottom_up.res4.5."
    more = {
        name.replace("res4.5.", f"res4.{i}."): s for name, s in shapes.items() for i in range(6, 23) if last in name
    }
    return shapes | more


def save(state: dict[str, Tensor], path: Path) -> None:
    arrays = {name: t.contiguous().numpy() for name, t in state.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))


# Names of mmdetection by those of detectron2; the first that fits is used.
MMDETECTION = (
    (r"backbone\.bottom_up\.stem\.conv1\.norm", "backbone.bn1"),
    (r"backbone\.bottom_up\.stem\.conv1", "backbone.conv1"),
    (
        r"backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)\.norm",
        lambda m: f"backbone.layer{int(m[1]) - 1}.{m[2]}.bn{m[3]}",
    ),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)", lambda m: f"backbone.layer{int(m[1]) - 1}.{m[2]}.conv{m[3]}"),
    (r"backbone\.bottom_up\.res(\d)\.0\.shortcut\.norm", lambda m: f"backbone.layer{int(m[1]) - 1}.0.downsample.1"),
    (r"backbone\.bottom_up\.res(\d)\.0\.shortcut", lambda m: f"backbone.layer{int(m[1]) - 1}.0.downsample.0"),
    (r"backbone\.fpn_lateral(\d)", lambda m: f"neck.lateral_convs.{int(m[1]) - 2}.conv"),
    (r"backbone\.fpn_output(\d)", lambda m: f"neck.fpn_convs.{int(m[1]) - 2}.conv"),
    (r"proposal_generator\.rpn_head\.conv", "rpn_head.rpn_conv"),
    (r"proposal_generator\.rpn_head\.objectness_logits", "rpn_head.rpn_cls"),
    (r"proposal_generator\.rpn_head\.anchor_deltas", "rpn_head.rpn_reg"),
    (r"roi_heads\.box_head\.fc(\d)", lambda m: f"roi_head.bbox_head.shared_fcs.{int(m[1]) - 1}"),
    (r"roi_heads\.box_predictor\.cls_score", "roi_head.bbox_head.fc_cls"),
    (r"roi_heads\.box_predictor\.bbox_pred", "roi_head.bbox_head.fc_reg"),
    (r"roi_heads\.mask_head\.mask_fcn(\d)", lambda m: f"roi_head.mask_head.convs.{int(m[1]) - 1}.conv"),
    (r"roi_heads\.mask_head\.deconv", "roi_head.mask_head.upsample"),
    (r"roi_heads\.mask_head\.predictor", "roi_head.mask_head.conv_logits"),
    (
        r"sem_seg_head\.p(\d)\.(\d)(\.norm)?",
        lambda m: (
            f"semantic_head.conv_upsample_layers.{int(m[1]) - 2}.convs.{int(m[2]) // 2}.{'gn' if m[3] else 'conv'}"
        ),
    ),
    (r"sem_seg_head\.predictor", "semantic_head.conv_logits"),
)


def in_mmdetection(state: dict[str, Tensor]) -> dict[str, Tensor]:
    result = {}
    for name, tensor in state.items():
        theirs = next(re.sub(f"^{old}", new, name) for old, new in MMDETECTION if re.match(old, name))
        result[theirs] = tensor.roll(-1, 0) if "semantic_head.conv_logits" in theirs else tensor  # things come last
        if theirs.endswith("running_var"):
            result[theirs.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    return result


def test_names_and_shapes_are_those_of_the_released_networks() -> None:
    shapes = released_shapes("panoptic_fpn_r50")
    assert len(shapes) == 330
    with torch.device("meta"):
        assert named(create_model("panoptic_fpn_r50", "coco_panoptic")) == shapes
        assert named(create_model("panoptic_fpn_r101", "coco_panoptic")) == r101_shapes()


def small_fpn(**options: Any) -> Any:
    few = {"proposals": ProposalSelection(20, 20, 10, 10), "detections": DetectionSelection(max_detections=2)}
    options["representation"] = replace(PUBLISHED, **few)
    return create_model("panoptic_fpn", MIXED, backbone=small_resnet(0.0), width=16, semantic_width=32, **options)


@pytest.fixture
def small() -> Any:
    torch.manual_seed(0)
    return create_model(
        "panoptic_fpn", MIXED, backbone=small_resnet(0.0), width=16, semantic_width=32, frozen_norm=True
    )


@pytest.mark.parametrize("layout", ["detectron2", "mmdetection"])
def test_outputs_are_those_of_the_described_network(layout: str, small: Any, tmp_path: Path) -> None:
    state = drawn(named(small))
    path = tmp_path / "model_final.pkl"
    if layout == "detectron2":
        save(state, path)
    else:
        torch.save({"meta": {"epoch": 12}, "state_dict": in_mmdetection(state)}, path)
    load_published(small, path)
    is_torchvision = layout == "mmdetection"
    assert (small.normalization, small.training) == ("imagenet" if is_torchvision else "msra", False)
    assert small.spec.options.get("compat") == (None if is_torchvision else "detectron2")
    theirs = Detectron2(state, BLOCKS, is_torchvision=is_torchvision)
    images = torch.rand(1, 3, 288, 320, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        outputs = small(images)
        levels = theirs.pyramid(theirs.features(images))
        require_equal(outputs.semantic, theirs.semantic(levels))  # all things, then b, d, e
        objectness, offsets = theirs.proposals(levels)
        require_equal(outputs.objectness, objectness)
        require_equal(outputs.anchor_offsets, offsets)
        regions = theirs.regions(levels, BOXES, 7)
        category, offsets = small.classify_regions(images, BOXES[None])
        require_equal(category[0], theirs.boxes(regions)[0][:, [2, 0, 1]])  # the background is last there
        require_equal(offsets[0], theirs.boxes(regions)[1])
        thing = torch.tensor([1, 0, 1, 0])
        masks = small.mask_regions(images, BOXES[None], thing[None])
        require_equal(masks[0], theirs.masks(theirs.regions(levels, BOXES, 14))[torch.arange(4), thing])


def test_the_released_file_is_loaded_without_its_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "panscape")
    state = {key: torch.full((), 0.01).expand(shape) for key, shape in released_shapes("panoptic_fpn_r50").items()}
    state["roi_heads.box_predictor.cls_score.bias"] = torch.arange(81.0)
    state["sem_seg_head.predictor.bias"] = torch.arange(54.0)
    path = tmp_path / "model_final.pth"
    torch.save({"model": state}, path)
    model: Any = load(path)
    given = "compat='detectron2', longest_side=1333, test_scale=1.667"
    assert caplog.messages == [f"model_final.pth: panoptic_fpn_r50 ({given}), 133 categories of coco_panoptic"]
    assert model.heads.boxes.category.bias[:3].tolist() == [80, 0, 1]
    assert torch.equal(model.semantic.predictor.bias, torch.arange(54.0))
    assert model.inference_size((480, 640)) == (800, 1067)
    # A saved model is rebuilt as the same network.
    with torch.device("meta"):
        again: Any = create_model(model.spec.name, model.labels, **model.spec.options)
    assert (again.normalization, again.backbone.layer2[0].conv1.stride) == ("msra", (2, 2))


def test_a_file_of_mmdetection_is_identified_with_its_minimum_score(tmp_path: Path) -> None:
    shapes = {name: torch.zeros(()).expand(shape) for name, shape in r101_shapes().items()}
    torch.save({"state_dict": in_mmdetection(shapes)}, tmp_path / "panoptic_fpn_r101_fpn_1x_coco.pth")
    model: Any = load(tmp_path / "panoptic_fpn_r101_fpn_1x_coco.pth")
    assert (model.spec.name, model.labels.name, model.normalization) == (
        "panoptic_fpn_r101",
        "coco_panoptic",
        "imagenet",
    )
    assert model.decoding.fusion.min_score == 0.6
    assert model.inference_size((480, 640)) == (800, 1067)
    with pytest.raises(InvalidArgumentError, match=r'mmdetection.*compat="detectron2"; build it without compat'):
        load_published(
            create_model("panoptic_fpn_r101", "coco_panoptic", compat="detectron2"),
            tmp_path / "panoptic_fpn_r101_fpn_1x_coco.pth",
        )


def test_tensors_of_early_files_must_be_those_of_the_network(small: Any, tmp_path: Path) -> None:
    path, state = tmp_path / "model_final.pkl", drawn(named(small))
    mean, std, anchors = torch.tensor(MEAN)[:, None, None], torch.ones(3, 1, 1), torch.tensor(ANCHORS)
    cells = {f"proposal_generator.anchor_generator.cell_anchors.{i}": anchors * 2**i for i in range(5)}
    state |= {"pixel_mean": mean, "pixel_std": std} | cells
    save(state, path)
    load_published(small, path)
    assert torch.equal(small.semantic.predictor.bias, state["sem_seg_head.predictor.bias"])
    save(state | {"pixel_mean": mean.flip(0)}, path)
    with pytest.raises(UnreadableFileError, match=r"'msra', with pixel_mean \[103.53, .*got \[123.6"):
        load_published(small, path)
    save(state | {"proposal_generator.anchor_generator.cell_anchors.1": anchors}, path)
    with pytest.raises(UnreadableFileError, match=r"expected a network with anchors .* at stride 8, got"):
        load_published(small, path)


def test_differences_are_listed_and_leave_the_model_as_it_was(small: Any, tmp_path: Path) -> None:
    path, state = tmp_path / "model_final.pkl", drawn(named(small))
    del state["backbone.fpn_output3.bias"]
    state["roi_heads.box_head.fc3.weight"] = torch.zeros(1)
    state["roi_heads.box_predictor.cls_score.bias"] = torch.zeros(4)
    save(state, path)
    before = {name: t.clone() for name, t in small.state_dict().items()}
    with pytest.raises(CheckpointMismatchError) as caught:
        load_published(small, path)
    message = str(caught.value)
    assert "1 missing: backbone.fpn_output3.bias" in message
    assert "1 unused: roi_heads.box_head.fc3.weight" in message
    assert "cls_score.bias (expected [3], got [4])" in message
    assert all(torch.equal(before[name], t) for name, t in small.state_dict().items())
    assert (small.normalization, small.backbone.layer2[0].conv1.stride) == ("imagenet", (1, 1))


def test_norms_that_are_trained_get_counters(tmp_path: Path) -> None:
    model = small_fpn()
    state = {name: t for name, t in drawn(named(model)).items() if not name.endswith("num_batches_tracked")}
    save(state, tmp_path / "model_final.pkl")
    load_published(model, tmp_path / "model_final.pkl")
    assert int(model.backbone.bn1.num_batches_tracked) == 0
    assert torch.equal(model.backbone.bn1.weight, state["backbone.bottom_up.stem.conv1.norm.weight"])
