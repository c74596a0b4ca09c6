"""Panoptic SwiftNet against the numbers of its released models, and against a second, functional forward pass."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from panscape import create_model, load_published
from panscape.errors import CheckpointMismatchError, InvalidArgumentError, UnreadableFileError
from panscape.models.swiftnet import PUBLISHED, skips_by_module
from panscape.zoo.published.read import read_checkpoint
from panscape.zoo.published.swiftnet import swiftnet_key
from panscape.zoo.transfer import unique_state_dict

KEYS = Path(__file__).with_name("psn_r18_pyrx3_keys.txt")  # name, shape and dtype of each tensor in the released file


@pytest.mark.parametrize(
    ("options", "parameters", "entries", "gmac"),
    [
        ({"levels": 3}, 14_896_598, 438, 208.5),
        ({"levels": 2}, 14_048_982, 308, 203.2),
        ({"levels": 1}, 13_201_366, 178, 182.0),
        ({"context": "spp"}, 13_401_044, 207, 182.3),
    ],
)
def test_sizes_of_the_rows_of_table_6(options: dict[str, object], parameters: int, entries: int, gmac: float) -> None:
    with torch.device("meta"):
        model = create_model("swiftnet_r18", "cityscapes", **options).to("meta")
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len({id(t) for t in model.state_dict(keep_vars=True).values()}) == entries
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 1024, 2048, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmac, rel=0.002)


def test_parameters_with_coco_categories() -> None:
    with torch.device("meta"):
        model = create_model("swiftnet_r18", "coco_panoptic")
    assert sum(p.numel() for p in model.parameters()) == 14_925_896


@pytest.mark.parametrize(
    ("labels", "sigma", "fraction", "align_corners", "nms_kernel", "stuff_area"),
    [
        ("cityscapes", 10, 0.2, True, 7, 2048),
        ("coco_panoptic", 8, 1.0, False, 41, 4096),
        ("vistas", 10, 1.0, False, 7, 4096),
    ],
)
def test_released_configurations(
    labels: str, sigma: float, fraction: float, align_corners: bool, nms_kernel: int, stuff_area: int
) -> None:
    released = PUBLISHED[labels]
    assert (released.sigma, released.hard_pixel_fraction) == (sigma, fraction)
    assert released.boundary_alphas == (8, 4, 2, 1)
    decoding = released.decoding
    assert (decoding.align_corners, decoding.nms_kernel, decoding.stuff_area) == (align_corners, nms_kernel, stuff_area)
    assert (decoding.threshold, decoding.top_k) == (0.1, 200)


def test_level_matching() -> None:
    # (stage, level): stage 0 is res2 at stride 4, stage 3 is res5 at stride 32.
    assert skips_by_module(3) == [
        [(3, 1), (2, 2)],
        [(3, 0), (2, 1), (1, 2)],
        [(2, 0), (1, 1), (0, 2)],
        [(1, 0), (0, 1)],
        [(0, 0)],
    ]
    assert skips_by_module(2) == [[(3, 0), (2, 1)], [(2, 0), (1, 1)], [(1, 0), (0, 1)], [(0, 0)]]
    assert skips_by_module(1) == [[(2, 0)], [(1, 0)], [(0, 0)]]


def released_layout(seed: int = 0) -> dict[str, Tensor]:
    """Random tensors under the names, shapes and types of the released three-level checkpoint."""
    g = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for line in KEYS.read_text().splitlines():
        name, rest = line.split(" ", 1)
        shape = tuple(int(n) for n in rest[rest.index("(") + 1 : rest.index(")")].split(",") if n.strip())
        if rest.endswith("int64"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            state[name] = torch.rand(shape, generator=g) * 0.5 + 0.75
        else:
            fan_in = max(1, int(torch.tensor(shape[1:]).prod())) if len(shape) > 1 else 100
            state[name] = torch.randn(shape, generator=g) / fan_in**0.5
    return state


def functional_forward(p: dict[str, Tensor], images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The released network for three levels, spelt out over the released names, in eval mode."""

    def norm(name: str, x: Tensor) -> Tensor:
        stats = (p[f"{name}.running_mean"], p[f"{name}.running_var"], p[f"{name}.weight"], p[f"{name}.bias"])
        return F.batch_norm(x, *stats, training=False, eps=1e-5)

    def unit(name: str, x: Tensor, padding: int) -> Tensor:
        return F.conv2d(F.relu(norm(f"{name}.norm", x)), p[f"{name}.conv.weight"], padding=padding)

    def head(name: str, x: Tensor) -> Tensor:
        return F.conv2d(F.relu(norm(f"{name}.0", x)), p[f"{name}.2.weight"], p[f"{name}.2.bias"])

    def resize(x: Tensor, size: torch.Size) -> Tensor:
        return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)

    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    normalised = (images - mean) / std
    before: dict[tuple[int, int], Tensor] = {}  # (stage 2..5, level): residual sums before the last ReLU
    for level in range(3):
        shape = torch.Size(s >> level for s in normalised.shape[-2:])
        x = resize(normalised, shape) if level else normalised
        x = F.relu(norm(f"backbone.bn1.norms.{level}", F.conv2d(x, p["backbone.conv1.weight"], stride=2, padding=3)))
        x = F.max_pool2d(x, 3, 2, 1)
        for stage in (1, 2, 3, 4):
            for block in (0, 1):
                b = f"backbone.layer{stage}.{block}"
                stride = 2 if stage > 1 and block == 0 else 1
                y = F.conv2d(x, p[f"{b}.conv1.weight"], stride=stride, padding=1)
                y = F.conv2d(F.relu(norm(f"{b}.bn1.norms.{level}", y)), p[f"{b}.conv2.weight"], padding=1)
                y = norm(f"{b}.bn2.norms.{level}", y)
                if stride == 2:
                    x = F.conv2d(x, p[f"{b}.downsample.0.weight"], stride=2)
                    x = norm(f"{b}.downsample.1.norms.{level}", x)
                y = y + x
                x = F.relu(y)
            before[stage + 1, level] = y

    d = "decoder.semantic_decoder"
    x = F.conv2d(F.relu(before[5, 2]), p[f"{d}.bottleneck.conv.weight"])
    table = [
        [(5, 1), (4, 2)],
        [(5, 0), (4, 1), (3, 2)],
        [(4, 0), (3, 1), (2, 2)],
        [(3, 0), (2, 1)],
        [(2, 0)],
    ]
    for s, skips in enumerate(table):
        names = [f"{d}.upsamples.{s}.bottleneck" + (f".{j}" if len(skips) > 1 else "") for j in range(len(skips))]
        skip = sum(unit(name, before[key], 0) for name, key in zip(names, skips, strict=True))
        x = unit(f"{d}.upsamples.{s}.blend_conv", resize(x, skip.shape[-2:]) + skip, 1)
    center, offset = (head(f"ins_embed_head.classifier.{n}", x) for n in ("center", "offset"))
    return head("sem_seg_head.classifier.sem_seg", x), center, offset * 4


@pytest.mark.parametrize("size", [(256, 512), (384, 128)])
def test_released_weights_give_the_outputs_of_the_released_network(size: tuple[int, int], tmp_path: Path) -> None:
    state = released_layout()
    path = tmp_path / "model_final.pth"
    torch.save({"model": state, "iteration": 90_000}, path)
    model = load_published(create_model("swiftnet_r18", "cityscapes"), path)
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours, theirs = model(images), functional_forward(state, images)
    for name, a, b in zip(("semantic", "center", "offset"), ours.tensors, theirs, strict=True):
        assert b.std() > 0.01, name  # the comparison would say nothing about a vanished signal
        torch.testing.assert_close(a, b, atol=1e-5 * float(b.abs().max()), rtol=1e-5)


def test_both_differences_are_listed(tmp_path: Path) -> None:
    state = released_layout()
    del state["backbone.conv1.weight"]
    state["decoder.instance_decoder.bottleneck.conv.weight"] = torch.zeros(1)
    state["sem_seg_head.classifier.sem_seg.2.bias"] = torch.zeros(5)
    path = tmp_path / "model_final.pth"
    torch.save(state, path)
    model = create_model("swiftnet_r18", "cityscapes")
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(CheckpointMismatchError) as caught:
        load_published(model, path)
    message = str(caught.value)
    assert "1 missing: backbone.conv1.weight" in message
    assert "1 unused: decoder.instance_decoder.bottleneck.conv.weight" in message
    assert "sem_seg_head.classifier.sem_seg.2.bias (expected [19], got [5])" in message
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_a_checkpoint_for_other_levels_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "model_final.pth"
    torch.save(released_layout(), path)
    with pytest.raises(CheckpointMismatchError, match="levels and context"):
        load_published(create_model("swiftnet_r18", "cityscapes", levels=2), path)


@pytest.mark.parametrize(
    ("options", "entries", "names"),
    [
        ({"levels": 1}, 178, ["backbone.bn1.weight", "decoder.semantic_decoder.upsamples.0.bottleneck.conv.weight"]),
        (
            {"context": "spp"},
            207,
            [f"decoder.semantic_decoder.spp.spp.{u}.norm.weight" for u in ("spp_bn", "spp2", "spp_fuse")],
        ),
        ({"levels": 2}, 308, ["backbone.bn1.norms.1.weight", "decoder.semantic_decoder.bottleneck.conv.weight"]),
    ],
)
def test_the_layout_of_the_other_rows(options: dict[str, object], entries: int, names: list[str]) -> None:
    model = create_model("swiftnet_r18", "cityscapes", **options)
    key = swiftnet_key(model)
    keys = {key(name) for name in unique_state_dict(model)}
    assert len(keys) == entries
    assert set(names) <= keys


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this must not run",))


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model_final.pth"
    torch.save({"model": {"a": _Payload()}}, path)
    with pytest.raises(UnreadableFileError, match="tensors and plain containers"):
        load_published(create_model("swiftnet_r18", "cityscapes"), path)
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "but the file is empty; download it again"),
        (b"hello there", "but this is another kind of file (a web page or text, perhaps); download it again"),
        (b"<!DOCTYPE html>", "but this is another kind of file (a web page or text, perhaps); download it again"),
        (b"PK\x03\x04aaaa", "but the file is damaged or cut off; download it again"),
        (b"\x80\x02abcdef", "but the file is damaged or cut off; download it again"),
        (
            pickle.dumps({"a": _Payload()}, 2),
            "but it holds other Python objects, which could run code, or it is damaged; "
            "if you trust its authors, read it with their code and save the state dict alone with torch.save",
        ),
    ],
)
def test_other_files_are_refused_with_reason_and_remedy(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model_final.pth"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError) as caught:
        read_checkpoint(path)
    assert str(caught.value) == f"{path}: expected a .pth checkpoint of tensors and plain containers, {message}"


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="expected a file, got a folder"):
        read_checkpoint(tmp_path)


def test_missing_file_and_unknown_layout(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="no such file"):
        load_published(create_model("swiftnet_r18", "cityscapes"), tmp_path / "absent.pth")
    path = tmp_path / "model_final.pth"
    torch.save(released_layout(), path)
    with pytest.raises(InvalidArgumentError, match="no published checkpoint layout"):
        load_published(create_model("swiftnet", "cityscapes", backbone="residual_xs"), path)
