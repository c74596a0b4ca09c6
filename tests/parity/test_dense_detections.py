"""Dense detections against the numbers of the released network, and against a second, functional forward pass."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from panscape import LabelSpace, create_model, load_published, zoo
from panscape.errors import CheckpointMismatchError, InvalidArgumentError
from panscape.models.dense_detections import PUBLISHED
from panscape.nn.shared_conv import SharedHeadConv

# Name and shape of each tensor of the released code's network, made by that code with a torchvision of today.
KEYS = Path(__file__).with_name("rtps_r50_keys.txt")
CITYSCAPES = LabelSpace.load("cityscapes")


def built(name: str = "dense_detections_r50", labels: str = "cityscapes", **options: object) -> torch.nn.Module:
    with torch.device("meta"):
        return create_model(name, labels, **options).to("meta")


def parameters(module: torch.nn.Module | None) -> int:
    assert module is not None
    return sum(p.numel() for p in module.parameters())


def gmac(model: torch.nn.Module, size: tuple[int, int] = (1024, 2048)) -> dict[str, float]:
    """Return billions of multiply-adds of each module, below the name of its parents; the whole is "Global"."""
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, *size, device="meta"))
    root = type(model).__name__
    counts = {name: sum(c.values()) / 2e9 for name, c in counter.get_flop_counts().items()}
    return {name.removeprefix(f"{root}."): count for name, count in counts.items()}


@pytest.fixture
def as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let convolutions over all levels be computed as the released code writes them."""
    monkeypatch.setattr(SharedHeadConv, "forward", SharedHeadConv.plain)


@pytest.mark.usefixtures("as_written")
def test_sizes_of_the_released_network_and_of_its_parts() -> None:
    model = built()
    assert parameters(model) == 30_624_107
    head = model.head
    found = {
        "backbone": parameters(model.backbone),
        "pyramid": parameters(model.pyramid),
        "head": parameters(head),
        "head.location_tower": parameters(head.location_tower),
        "head.semantic_tower": parameters(head.semantic_tower),
        "head.semantic": parameters(head.semantic),
        "head.levelness": parameters(head.levelness),
        "head.box_category": parameters(head.box_category),
        "head.box": parameters(head.box),
        "head.centerness": parameters(head.centerness),
    }
    counts = gmac(model)
    table = {  # parameters, multiply-adds at 1024x2048
        "backbone": (23_454_912, 170.83),
        "pyramid": (3_868_672, 33.26),
        "head": (3_300_523, 148.71),
        "head.location_tower": (2_362_368, 102.98),
        "head.semantic_tower": (738_816, 32.18),
        "head.semantic": (109_459, 3.59),
        "head.levelness": (69_126, 9.06),
        "head.box_category": (9_224, 0.40),
        "head.box": (9_220, None),
        "head.centerness": (2_305, None),
    }
    assert found == {name: number for name, (number, _) in table.items()}
    for name, (_, expected) in table.items():
        if expected is not None:
            assert counts[name] == pytest.approx(expected, abs=0.006), name
    assert counts["head.box"] + counts["head.centerness"] == pytest.approx(0.50, abs=0.006)
    assert counts["Global"] == pytest.approx(352.8, abs=0.05)
    assert sum(b.numel() for b in model.backbone.buffers()) == 106_240


@pytest.mark.usefixtures("as_written")
def test_multiply_adds_at_the_size_of_coco() -> None:
    counts = gmac(built(), (800, 1344))
    expected = {"backbone": 87.58, "pyramid": 17.07, "head": 76.31, "head.location_tower": 52.85}
    for name, number in (expected | {"Global": 180.96}).items():
        assert counts[name] == pytest.approx(number, abs=0.006), name


def test_parameters_with_coco_categories() -> None:
    assert parameters(built(labels="coco_panoptic")) == 31_363_877


def test_sizes_of_the_rows_of_table_3() -> None:
    # Without the convolutions over all levels. Instead, levelness has 6 x 9 products of 256 channels at each location,
    # and the semantic logits 19 x 9 of 128.
    rest, locations = 352.80 - 9.06 - 3.59, 43_648 / 1e9
    levelness, semantic = 54 * 256 * locations, 171 * 128 * locations
    rows: list[tuple[dict[str, object], int, float]] = [
        ({}, 30_624_107, rest + levelness + semantic),
        ({"levelness": False}, 30_624_107 - 69_126, rest + semantic),
        # One tower of 256 channels: without the semantic one, but twice the channels for the categories of boxes (0.40)
        # and for the semantic logits.
        (
            {"levelness": False, "towers": 1},
            30_624_107 - 69_126 - 738_816 + 8 * 9 * 128 + 19 * 9 * 640,
            rest - 32.18 + 0.40 + 2 * semantic,
        ),
    ]
    for options, number, billions in rows:
        model = built(**options)
        assert parameters(model) == number
        assert gmac(model)["Global"] == pytest.approx(billions, abs=0.03)


def test_size_of_the_light_network() -> None:
    model = built("dense_detections_light", frozen_norm=True)
    # By hand: laterals and outputs of the pyramid, P6 and P7; tower with GroupNorm; outputs; scales.
    pyramid = (512 + 1024 + 2048) * 128 + 3 * 128 + 5 * (9 * 128 * 128 + 128)
    tower = 4 * (9 * 128 * 128 + 128 + 2 * 128)
    outputs = sum(9 * channels * n + n for channels, n in ((128, 8), (128, 4), (128, 1), (640, 6), (640, 19)))
    assert parameters(model.pyramid) == pyramid
    assert parameters(model.head) == tower + outputs + 5
    assert parameters(model) == 23_454_912 + pyramid + tower + outputs + 5
    laterals = (512 * 32_768 + 1024 * 8192 + 2048 * 2048) * 128
    locations = 43_648
    square = 9 * 128 * 128
    multiplied = laterals + square * (32_768 + 8192 + 2048 + 512 + 128)
    multiplied += 4 * square * locations + 9 * 128 * (8 + 4 + 1 + 6 + 19) * locations
    assert gmac(model)["Global"] == pytest.approx(170.83 + multiplied / 1e9, abs=0.006)


@pytest.mark.usefixtures("as_written")
def test_multiply_adds_of_the_other_networks_as_written() -> None:
    two_towers = 352.80 - 9.06
    assert gmac(built(levelness=False))["Global"] == pytest.approx(two_towers, abs=0.03)
    # Twice the channels for the categories of boxes (0.40) and for the semantic logits (3.59).
    one_tower = two_towers - 32.18 + 0.40 + 3.59
    assert gmac(built(levelness=False, towers=1))["Global"] == pytest.approx(one_tower, abs=0.03)
    # As above, but levelness at a quarter of the image and semantic logits at an eighth, of 640 channels.
    laterals = (512 * 32_768 + 1024 * 8192 + 2048 * 2048) * 128
    at_locations = (5 * 9 * 128 * 128 + 9 * 128 * (8 + 4 + 1)) * 43_648
    over_levels = 9 * 640 * (6 * 256 * 512 + 19 * 128 * 256)
    light = 170.83 + (laterals + at_locations + over_levels) / 1e9
    found = gmac(built("dense_detections_light", frozen_norm=True))["Global"]
    assert found == pytest.approx(light, abs=0.006)


def test_published_values() -> None:
    cityscapes, coco = PUBLISHED["cityscapes"], PUBLISHED["coco_panoptic"]
    assert (cityscapes.level_ends, cityscapes.finest_stride) == ((64, 128, 256, 512), 8)
    assert (cityscapes.semantic_loss_weight, coco.semantic_loss_weight) == (1, 0.4)
    assert (cityscapes.hard_pixel_fraction, coco.hard_pixel_fraction) == (0.3, 0.3)
    assert (cityscapes.decoding.fusion.stuff_area, coco.decoding.fusion.stuff_area) == (2048, 4096)


def released_shapes() -> dict[str, tuple[int, ...]]:
    lines = (line.split(" ", 1) for line in KEYS.read_text().splitlines())
    return {name: tuple(int(n) for n in re.findall(r"\d+", shape)) for name, shape in lines}


def released_layout(*, is_old: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors under the names and shapes of the released checkpoint, which a torchvision of its time wrote."""
    g = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for key, shape in released_shapes().items():
        name = re.sub(r"(inner|layer)_blocks\.(\d)\.0\.", r"\1_blocks.\2.", key) if is_old else key
        if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            tensor = torch.rand(shape, generator=g) * 0.5 + 0.75
        elif name.endswith("bn3.weight"):
            tensor = torch.rand(shape, generator=g) * 0.2
        elif name.endswith(".scale"):
            tensor = torch.rand(shape, generator=g) * 0.5 + 0.75
        else:
            fan_in = math.prod(shape[1:]) if len(shape) > 1 else 100
            tensor = torch.randn(shape, generator=g) / fan_in**0.5
        state[name] = tensor
    return state


def functional_forward(p: dict[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    """The released network, spelt out over the released names, with the norms of its time."""

    def norm(name: str, x: Tensor) -> Tensor:
        stats = (p[f"{name}.running_mean"], p[f"{name}.running_var"], p[f"{name}.weight"], p[f"{name}.bias"])
        return F.batch_norm(x, *stats, training=False, eps=0.0)

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = p[f"{name}.weight"]
        return F.conv2d(x, weight, p.get(f"{name}.bias"), stride=stride, padding=weight.shape[-1] // 2)

    def tower(name: str, x: Tensor) -> Tensor:
        for i in (0, 3, 6, 9):
            x = conv(f"{name}.{i}", x)
            x = F.relu(F.group_norm(x, x.shape[1] // 8, p[f"{name}.{i + 1}.weight"], p[f"{name}.{i + 1}.bias"]))
        return x

    def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)

    x = images[:, [2, 1, 0]] * 255 - torch.tensor([102.9801, 115.9465, 122.7717])[:, None, None]
    body = "backbone.body"
    x = F.max_pool2d(F.relu(norm(f"{body}.bn1", conv(f"{body}.conv1", x, 2))), 3, 2, 1)
    stages = []
    for stage, blocks in ((1, 3), (2, 4), (3, 6), (4, 3)):
        for block in range(blocks):
            b = f"{body}.layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = F.relu(norm(f"{b}.bn1", conv(f"{b}.conv1", x)))
            y = F.relu(norm(f"{b}.bn2", conv(f"{b}.conv2", y, stride)))
            y = norm(f"{b}.bn3", conv(f"{b}.conv3", y))
            shortcut = norm(f"{b}.downsample.1", conv(f"{b}.downsample.0", x, stride)) if block == 0 else x
            x = F.relu(y + shortcut)
        stages.append(x)

    new = ".0" if "backbone.fpn.inner_blocks.0.0.weight" in p else ""
    merged = [conv(f"backbone.fpn.inner_blocks.{i}{new}", c) for i, c in enumerate(stages[1:])]
    for i in (1, 0):
        merged[i] = merged[i] + F.interpolate(merged[i + 1], size=merged[i].shape[-2:], mode="nearest")
    levels = [conv(f"backbone.fpn.layer_blocks.{i}{new}", m) for i, m in enumerate(merged)]
    levels.append(conv("backbone.fpn.extra_blocks.p6", levels[-1], 2))
    levels.append(conv("backbone.fpn.extra_blocks.p7", F.relu(levels[-1]), 2))

    head = "panoptic_head"
    location = [tower(f"{head}.bbox_tower", x) for x in levels]
    semantic = [tower(f"{head}.cls_tower", x) for x in levels]
    height, width = levels[0].shape[-2:]
    flat = {
        name: torch.cat([conv(f"{head}.{name}", x).flatten(2) for x in features], dim=2)
        for name, features in (("box_cls_logits", semantic), ("centerness", location))
    }
    box = [
        torch.exp((p[f"{head}.scales.{i}.scale"] * conv(f"{head}.bbox_pred", x)).clamp(max=math.log(10_000))).flatten(2)
        for i, x in enumerate(location)
    ]
    return {
        "semantic": conv(f"{head}.cls_logits", torch.cat([resize(x, (height, width)) for x in semantic], 1)),
        "box_category": flat["box_cls_logits"],
        "box": torch.cat(box, dim=2),
        "centerness": flat["centerness"][:, 0],
        "levelness": conv(f"{head}.levelness", torch.cat([resize(x, (2 * height, 2 * width)) for x in location], 1)),
    }


@pytest.mark.parametrize(("is_old", "size"), [(True, (128, 192)), (False, (64, 96))])
def test_released_weights_give_the_outputs_of_the_released_network(
    is_old: bool, size: tuple[int, int], tmp_path: Path
) -> None:
    state = released_layout(is_old=is_old)
    assert len(state) == 328
    assert sum(t.numel() for t in state.values()) == 30_730_347
    path = tmp_path / "standalone.pth"
    torch.save(state, path)
    model = load_published(create_model("dense_detections_r50", CITYSCAPES), path)
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours, theirs = model(images)._asdict(), functional_forward(state, images)
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        assert expected.std() > 0.01, name  # the comparison would say nothing about a vanished signal
        torch.testing.assert_close(ours[name], expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)
    # What the weights expect of pixels and norms is saved with them.
    zoo.save(model, tmp_path / "model.safetensors")
    again = zoo.load(tmp_path / "model.safetensors")
    assert again.normalization == "caffe"
    with torch.inference_mode():
        for a, b in zip(again(images), ours.values(), strict=True):
            assert torch.equal(a, b)


def test_channels_of_things_and_categories_are_those_of_the_released_network() -> None:
    # Semantic channels are train ids, in which things follow stuff; boxes have the things from the first on.
    assert CITYSCAPES.thing_ids == tuple(range(11, 19))
    assert [c.source_id for c in CITYSCAPES] == [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]
    assert LabelSpace.load("coco_panoptic").thing_ids == tuple(range(80))


def test_mismatches_are_listed_and_leave_the_model_unchanged(tmp_path: Path) -> None:
    state = released_layout()
    del state["panoptic_head.scales.4.scale"]
    state["panoptic_head.cls_logits.bias"] = torch.zeros(5)
    state["backbone.body.fc.bias"] = torch.zeros(1)
    path = tmp_path / "standalone.pth"
    torch.save(state, path)
    model = create_model("dense_detections_r50", CITYSCAPES)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(CheckpointMismatchError) as caught:
        load_published(model, path)
    message = str(caught.value)
    assert "1 missing: panoptic_head.scales.4.scale" in message
    assert "1 unused: backbone.body.fc.bias" in message
    assert "panoptic_head.cls_logits.bias (expected [19], got [5])" in message
    assert 'create_model("dense_detections_r50", labels)' in message
    assert model.normalization == "imagenet"
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_no_layout_is_known_for_other_backbones(tmp_path: Path) -> None:
    path = tmp_path / "standalone.pth"
    torch.save({"a": torch.zeros(1)}, path)
    model = create_model("dense_detections", CITYSCAPES, backbone="residual_xs", box_width=8, semantic_width=8)
    with pytest.raises(InvalidArgumentError, match="no published checkpoint layout is known for DenseDetections"):
        load_published(model, path)
