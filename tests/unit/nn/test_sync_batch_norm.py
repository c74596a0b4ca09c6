from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from processes import end_together
from torch import distributed, nn

from panscape import Category, LabelSpace, create_model
from panscape.errors import InvalidArgumentError
from panscape.nn.backbones import create_backbone
from panscape.nn.image_pyramid import ImagePyramid
from panscape.nn.pisr import PISR
from panscape.nn.pisr_baselines import OCR
from panscape.nn.sync_batch_norm import SyncedBatchNorm2d, check_batch_norms, convert_sync_batchnorm

PROCESSES = 2


def network(**options) -> nn.Sequential:
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(4, **options)
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Conv2d(4, 2, 1))


def batch(dtype, offset=0.0):
    return torch.randn(5, 3, 7, 9, generator=torch.Generator().manual_seed(2)).to(dtype) + offset


CASES = {
    "double": ({}, torch.float64, 0.0, 1e-12),
    "float": ({}, torch.float32, 0.0, 4e-6),
    "far from zero": ({}, torch.float64, 1e4, 1e-7),
    "cumulative": ({"momentum": None}, torch.float64, 0.0, 1e-12),
    "without parameters": ({"affine": False}, torch.float64, 0.0, 1e-12),
    "without statistics": ({"track_running_stats": False}, torch.float64, 0.0, 1e-12),
}


def two_steps(model, images, share):
    """Everything that can be seen of two passes, one of them backward; the loss is a sum over samples."""
    model(images[share].flip(-1))
    images = images.clone().requires_grad_()
    result = model(images[share])
    # weights of its own for every value, or the gradient through BatchNorm would vanish
    (result * torch.linspace(-1, 1, result[0].numel()).to(result.dtype).view_as(result[0])).square().sum().backward()
    return {
        "result": result.detach(),
        "image gradient": images.grad[share],
        "state": dict(model.state_dict()),
        "gradients": [p.grad for p in model.parameters()],
    }


def process(rank, folder):
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=PROCESSES, timeout=None
    )
    seen = {}
    share = slice(0, 2) if rank == 0 else slice(2, 5)  # of different sizes
    for name, (options, dtype, offset, _) in CASES.items():
        seen[name] = two_steps(convert_sync_batchnorm(network(**options).to(dtype)), batch(dtype, offset), share)
    norm = convert_sync_batchnorm(nn.BatchNorm2d(3)).bfloat16()
    norm.float()
    with torch.autocast("cpu", torch.bfloat16):
        seen["half"] = norm(batch(torch.bfloat16)[share]).detach()
    seen["half statistics"] = norm.running_mean, norm.running_var
    one = convert_sync_batchnorm(nn.BatchNorm2d(3)).eval()
    seen["eval"] = one(batch(torch.float32)[share]).detach()
    try:
        one.train()(batch(torch.float32)[: 1 - rank, :, :1, :1])
    except InvalidArgumentError as error:
        seen["error"] = str(error)
    torch.save(seen, f"{folder}/{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    end_together(folder, process, PROCESSES, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_do_what_one_does_with_the_whole_batch(seen, name):
    options, dtype, offset, tolerance = CASES[name]
    expected = two_steps(network(**options).to(dtype), batch(dtype, offset), slice(None))

    def check(actual, expected, size=1.0):
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance * size)

    one, other = (s[name] for s in seen)
    check(torch.cat([one["result"], other["result"]]), expected["result"])
    check(torch.cat([one["image gradient"], other["image gradient"]]), expected["image gradient"])
    assert one["state"].keys() == expected["state"].keys()
    for key, value in expected["state"].items():
        check(one["state"][key], value)
        assert torch.equal(one["state"][key], other["state"][key])
    # Gradients of weights are sums that cancel, some to almost nothing.
    size = max(float(g.abs().max()) for g in expected["gradients"])
    for a, b, whole in zip(one["gradients"], other["gradients"], expected["gradients"], strict=True):
        assert whole.abs().max() > 0
        check(a + b, whole, size)


def test_half_precision_is_normalised_by_statistics_of_full_precision(seen):
    norm = nn.BatchNorm2d(3)
    images = batch(torch.bfloat16)
    expected = norm(images.float())
    actual = torch.cat([s["half"] for s in seen])
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.float(), expected, rtol=2**-8, atol=1e-6)  # 8 bits
    for mean, var in (s["half statistics"] for s in seen):
        torch.testing.assert_close(mean, norm.running_mean, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(var, norm.running_var, rtol=1e-6, atol=1e-7)


def test_eval_mode_uses_the_running_statistics(seen):
    expected = nn.BatchNorm2d(3).eval()(batch(torch.float32))
    assert torch.equal(torch.cat([s["eval"] for s in seen]), expected)


def test_one_value_a_channel_cannot_be_normalised(seen):
    for s in seen:
        assert s["error"] == (
            "expected more than one value per channel to normalise over in training, got 1 in all processes together; "
            "use a larger batch or larger crops"
        )


def test_alone_it_is_plain_batch_norm():
    plain = network()
    other = convert_sync_batchnorm(copy.deepcopy(plain))
    expected, actual = (two_steps(m, batch(torch.float32), slice(None)) for m in (plain, other))
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_levels_of_a_pyramid_stay_together():
    pyramid = ImagePyramid(create_backbone("residual_xs"), 3)
    before = {name: id(p) for name, p in pyramid.named_parameters(remove_duplicate=False)}
    keys = list(pyramid.state_dict())
    assert convert_sync_batchnorm(pyramid) is pyramid
    assert {name: id(p) for name, p in pyramid.named_parameters(remove_duplicate=False)} == before
    assert list(pyramid.state_dict()) == keys
    norms = [m for m in pyramid.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(type(m) is SyncedBatchNorm2d for m in norms)
    assert pyramid.levels[0].stem[0].weight is pyramid.levels[2].stem[0].weight
    assert pyramid.levels[0].stem[1].weight is not pyramid.levels[2].stem[1].weight


def test_a_timm_backbone_with_activations_in_its_norms_computes_the_same():
    torch.manual_seed(0)
    from timm.layers import BatchNormAct2d  # seconds, which the processes would take, too

    backbone = create_backbone("mobilenetv3_small_050")
    assert any(isinstance(m, BatchNormAct2d) for m in backbone.modules())
    images = torch.randn(2, 3, 64, 64)
    expected = copy.deepcopy(backbone)(images)
    for a, b in zip(convert_sync_batchnorm(backbone)(images), expected, strict=True):
        assert torch.equal(a, b)


def test_a_norm_of_its_own_kind_is_refused():
    class Doubled(nn.BatchNorm2d):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(InvalidArgumentError, match=r"expected norms of torch or timm .* got .*Doubled; train without"):
        convert_sync_batchnorm(nn.Sequential(Doubled(3)))


def test_it_is_as_deep_a_copy_as_before():
    model = convert_sync_batchnorm(network())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = copy.deepcopy(model)
    assert [type(m) for m in again] == [type(m) for m in model]
    assert again[1].weight is not model[1].weight


SMALL: dict[str, dict[str, Any]] = {
    "swiftnet": {"backbone": "residual_xs", "width": 8, "levels": 1},
    "panoptic_deeplab": {"backbone": "residual_xs", "decoder_width": 8, "instance_width": 8, "output_stride": 32},
    "dense_detections": {"backbone": "residual_xs", "box_width": 16, "semantic_width": 8, "fpn_width": 8},
}
ONE = LabelSpace("one", (Category("roof", True, 1, (200, 0, 0)),))
TWO = LabelSpace("two", (*ONE.categories, Category("ground", False, 2, (0, 200, 0))))


@pytest.mark.parametrize(
    ("name", "options", "labels", "size", "layer"),
    [
        ("swiftnet", {}, TWO, (32, 32), r"in pyramid\.levels\.0\.\S+ with 1 image of 32x32 .* larger crops"),
        ("swiftnet", {}, TWO, (32, 33), None),
        ("swiftnet", {"context": "spp"}, TWO, (64, 32), None),
        ("swiftnet", {"levels": 2}, TWO, (64, 64), r"in pyramid\.levels\.1\.\S+ with 1 image of 64x64 "),
        ("swiftnet", {"levels": 2}, TWO, (64, 65), None),
        ("panoptic_deeplab", {}, TWO, (32, 32), "in backbone"),
        ("panoptic_deeplab", {"context_size": (512, 512)}, TWO, (33, 32), None),
        ("dense_detections", {}, TWO, (32, 32), "in backbone"),
        ("swiftnet", {"relations": OCR(key_width=4)}, TWO, (64, 64), None),
        (
            "swiftnet",
            {"relations": OCR(key_width=4)},
            ONE,
            (64, 64),
            r"in relations\.related\.key\.0\.1 with 1 image of 64x64 .* or more than one category$",
        ),
        ("swiftnet", {"relations": PISR(4, key_width=4, depthwise=True)}, ONE, (64, 64), None),
    ],
)
def test_a_single_value_is_refused_as_torch_does_but_with_a_remedy(
    name: str, options: dict[str, Any], labels: LabelSpace, size: tuple[int, int], layer: str | None
) -> None:
    model, images = create_model(name, labels, **SMALL[name] | options), torch.zeros(1, 3, *size)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    if layer is None:
        check_batch_norms(model, images)
    else:
        with pytest.raises(InvalidArgumentError, match=f"^expected more than one value .* got a single one {layer}"):
            check_batch_norms(model, images)
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            copy.deepcopy(model)(images)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    check_batch_norms(model, images.expand(2, -1, -1, -1))
    model.eval()(images)  # no hook is left
