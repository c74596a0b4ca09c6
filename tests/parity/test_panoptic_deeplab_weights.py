"""Published checkpoints of Panoptic-DeepLab: names and shapes, where each tensor goes, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from released_deeplab import DETECTRON2, MOBILENETV2, R50, released_shapes, without_memory, without_values
from torch import Tensor

from panscape import create_model, load_published
from panscape.errors import CheckpointMismatchError, InvalidArgumentError, UnreadableFileError
from panscape.nn.pisr import PISR
from panscape.zoo.published.panoptic_deeplab import panoptic_deeplab_key

PUBLISHED = [DETECTRON2, R50, MOBILENETV2]


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

    model = without_memory("panoptic_deeplab", {"backbone": name, "compat": "standalone"})
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
    assert message.endswith("of the checkpoint (its names are those of compat='standalone')")
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_a_checkpoint_of_the_other_form_names_it(tmp_path: Path) -> None:
    path = tmp_path / "model_final.pth"
    torch.save(numbered(released_shapes("detectron2_r52")), path)
    with pytest.raises(CheckpointMismatchError, match="its names are those of compat='detectron2'"):
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
    # Without any, other missing tensors are still reported, but not their counters.
    norm = "backbone.features.0.1"
    torch.save({name: t for name, t in state.items() if name not in counters and not name.startswith(norm)}, path)
    with pytest.raises(CheckpointMismatchError, match=rf"4 missing: {norm}\.bias, {norm}\.running_mean, "):
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
        ("panoptic_deeplab_r52", {"relations": PISR()}),
        ("panoptic_deeplab_r50", {"compat": "standalone", "separable": False}),
        ("panoptic_deeplab_mobilenetv2", {"compat": "detectron2"}),
        ("panoptic_deeplab", {"backbone": "residual_xs"}),
    ],
)
def test_no_layout_is_known_for_other_networks(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model_final.pth"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(InvalidArgumentError, match="no published checkpoint layout is known for PanopticDeepLab"):
        load_published(without_memory(name, options), path)
