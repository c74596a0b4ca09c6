from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from panscape.errors import InvalidArgumentError
from panscape.nn.pisr import PISR, PISRModule, RelationModule

CHANNELS, CATEGORIES, INSTANCES, SIZE = 5, 3, 4, (6, 7)


def with_random_weights(module: RelationModule, seed: int = 0) -> RelationModule:
    """Return it in eval mode and double precision, with random weights, norms and statistics."""
    g = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            uniform = torch.rand(tensor.shape, generator=g, dtype=torch.float64)
            tensor.copy_(uniform + 0.5 if name.endswith("running_var") else uniform - 0.4)
    return module


def built(**options: Any) -> PISRModule:
    part = PISR(**{"num_instances": INSTANCES, "key_width": 6} | options)
    return with_random_weights(part.build(CHANNELS, CATEGORIES))  # type: ignore[return-value]


def inputs(
    seed: int = 0, batch: int = 2, instances: int = INSTANCES, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, CHANNELS, *SIZE, generator=g, dtype=dtype)
    prob = torch.randn(batch, CATEGORIES, *SIZE, generator=g, dtype=dtype).softmax(1)
    maps = (torch.rand(batch, instances, *SIZE, generator=g, dtype=dtype) - 0.5).clamp_min(0)
    return [features, prob, maps]


def rectangle(rows: int, columns: int) -> Tensor:
    valid = torch.zeros(1, 1, *SIZE, dtype=torch.bool)
    valid[..., :rows, :columns] = True
    return valid


def normed(state: dict[str, np.ndarray], name: str, channel: int, value: float) -> float:
    """BatchNorm with fixed statistics, of one number."""
    mean, var = state[f"{name}.running_mean"][channel], state[f"{name}.running_var"][channel]
    return state[f"{name}.weight"][channel] * (value - mean) / np.sqrt(var + 1e-5) + state[f"{name}.bias"][channel]


def by_hand(module: PISRModule, features: Tensor, prob: Tensor, maps: Tensor, valid: Tensor) -> np.ndarray:
    """Compute the forward pass for one image element by element."""
    part, state = module.part, {k: v.numpy() for k, v in module.state_dict().items()}
    shown, f = valid.numpy(), features.numpy()
    height, width = shown.shape
    places = [(y, x) for y in range(height) for x in range(width) if shown[y, x]]
    rows = np.concatenate([prob.numpy(), maps.numpy()])
    num_rows, keys = len(rows), part.key_width

    encodings = np.zeros((num_rows, CHANNELS))
    mass = np.zeros(num_rows)
    for p in range(num_rows):
        for y, x in places:
            mass[p] += rows[p, y, x]
            for c in range(CHANNELS):
                encodings[p, c] += rows[p, y, x] * f[c, y, x]
        encodings[p] /= {"mass": mass[p] + 1, "none": 1.0, "pixels": len(places)}[part.normalization]
        if part.reweighting:
            hidden = state["importance.0.weight"] @ encodings[p] + state["importance.0.bias"]
            score = state["importance.2.weight"][0] @ np.maximum(hidden, 0) + state["importance.2.bias"][0]
            encodings[p] *= 1 / (1 + np.exp(-score))

    def projected(name: str, p: int, out: int) -> np.ndarray:
        if mass[p] == 0:
            return np.zeros(out)
        raw = state[f"{name}.0.weight"][:, :, 0, 0] @ encodings[p]
        if part.encoding_norm == "layer":
            raw = (raw - raw.mean()) / np.sqrt(raw.var() + 1e-5)
            raw = raw * state[f"{name}.1.weight"] + state[f"{name}.1.bias"]
        else:
            raw = np.array([normed(state, f"{name}.1", c, raw[c]) for c in range(out)])
        return np.maximum(raw, 0)

    query = np.array([projected("encoding_key", p, keys) for p in range(num_rows)])
    value = np.array([projected("encoding_value", p, CHANNELS) for p in range(num_rows)])
    result = np.zeros((CHANNELS, height, width))
    for y, x in places:
        place = np.zeros(keys)
        for k in range(keys):
            total = 0.0
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if (y + dy, x + dx) in places:
                        total += state["place_key.0.weight"][k, :, dy + 1, dx + 1] @ f[:, y + dy, x + dx]
            place[k] = max(normed(state, "place_key.1", k, total), 0)
        similarity = query @ place / (np.sqrt(keys) if part.scaled else 1)
        if part.softmax:
            powers = np.where(mass > 0, np.exp(similarity), 0)
            similarity = powers / powers.sum()
        mixed = np.zeros(num_rows)
        for p in range(num_rows):
            if part.depthwise:
                name, channel = ("mix.categories", p) if p < CATEGORIES else ("mix.objects", 0)
                mixed[p] = normed(state, name, channel, similarity[p])
            else:
                mixed[p] = normed(state, "mix.1", p, state["mix.0.weight"][p, :, 0, 0] @ similarity)
        related = np.maximum(mixed, 0) @ value
        for c in range(CHANNELS):
            result[c, y, x] = normed(state, "norm", c, related[c]) + (f[c, y, x] if part.residual else 0)
    return result


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalization": "none"},
        {"normalization": "pixels"},
        {"reweighting": False},
        {"reweighting_width": 3},
        {"residual": False},
        {"scaled": False},
        {"softmax": True},
        {"depthwise": True, "softmax": True},
        {"encoding_norm": "layer"},
    ],
    ids=str,
)
def test_forward_equals_the_formulas_number_by_number(options: dict[str, Any], padded: bool) -> None:
    module = built(**options)
    features, prob, maps = inputs()
    maps[1, 2:] = 0  # fewer objects than heatmaps
    valid = rectangle(5, 4) if padded else rectangle(*SIZE)
    found = module(features, prob, maps, valid if padded else None).detach().numpy()
    for i in range(2):
        expected = by_hand(module, features[i], prob[i], maps[i], valid[0, 0])
        np.testing.assert_allclose(np.where(valid[0, 0], found[i], 0), expected, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"normalization": "pixels", "depthwise": True, "softmax": True}], ids=str)
def test_padding_has_no_influence(options: dict[str, Any]) -> None:
    module, valid = built(**options), rectangle(4, 5)
    clean, garbage = inputs(0), inputs(1)
    garbage[0][0, 0], garbage[0][1, 0], garbage[1][0, 1] = torch.nan, torch.inf, 1e30
    mixed = [torch.where(valid, a, b) for a, b in zip(clean, garbage, strict=True)]
    expected = module(*clean, valid)[..., :4, :5]
    assert torch.equal(module(*mixed, valid)[..., :4, :5], expected)
    cut = module(*(x[..., :4, :5] for x in clean))
    torch.testing.assert_close(cut, expected, atol=1e-12, rtol=1e-12)


def test_padding_has_no_influence_on_statistics_in_training() -> None:
    valid = rectangle(4, 5)
    clean, garbage = inputs(0), inputs(1)
    one, other = built().train(), built().train()
    expected = one(*clean, valid)[..., :4, :5]
    found = other(*(torch.where(valid, a, b) for a, b in zip(clean, garbage, strict=True)), valid)[..., :4, :5]
    assert torch.equal(found, expected)
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))


def test_encodings_of_an_image_tiled_twice_each_way_are_those_of_one() -> None:
    features, prob, maps = inputs()
    rows = torch.cat([prob, maps], dim=1)
    tiled = [x.repeat(1, 1, 2, 2) for x in (features, rows)]
    mass = rows.sum((2, 3))[..., None]
    once, _ = built().encodings(features, rows)
    twice, _ = built().encodings(*tiled)
    # But for the one place that damps what is hardly there: (m + 1) / m once, (4 m + 1) / (4 m) twice.
    torch.testing.assert_close(twice * (4 * mass + 1) / (4 * mass), once * (mass + 1) / mass, atol=1e-12, rtol=1e-12)
    assert ((twice - once).abs() <= once.abs() / mass).all()
    pixels = built(normalization="pixels")
    torch.testing.assert_close(pixels.encodings(*tiled)[0], pixels.encodings(features, rows)[0], atol=1e-12, rtol=1e-12)
    raw = built(normalization="none")
    torch.testing.assert_close(raw.encodings(*tiled)[0], 4 * raw.encodings(features, rows)[0], atol=1e-12, rtol=1e-12)


def test_an_encoding_is_the_mean_of_the_features_under_a_map() -> None:
    features = torch.arange(2 * CHANNELS * 42, dtype=torch.float64).view(2, CHANNELS, *SIZE)
    mask = torch.zeros(2, CATEGORIES + INSTANCES, *SIZE, dtype=torch.float64)
    mask[:, 1, :2, :3] = 1
    encodings, is_present = built().encodings(features, mask)
    torch.testing.assert_close(encodings[:, 1], features[..., :2, :3].mean((2, 3)) * 6 / 7)
    assert is_present.nonzero().tolist() == [[0, 1], [1, 1]]
    assert (encodings[:, 0] == 0).all()


def test_categories_and_objects_can_change_places_with_their_weights() -> None:
    features, prob, maps = inputs()
    prob[:, 2] = prob[:, 0]  # identical rows, which differ only in the weights of g_p
    module, other = built(), built()
    order = torch.tensor([2, 0, 1, 5, 3, 6, 4])
    with torch.no_grad():
        for name, tensor in other.mix.state_dict().items():
            if tensor.ndim:
                tensor.copy_(tensor[order])
            if name == "0.weight":
                tensor.copy_(tensor[:, order])
    rows = torch.cat([prob, maps], dim=1)[:, order]
    found = other(features, rows[:, :CATEGORIES], rows[:, CATEGORIES:])
    torch.testing.assert_close(found, module(features, prob, maps), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_heatmaps_left_over_have_no_influence(norm: str, training: bool) -> None:
    features, prob, maps = inputs()
    maps[:, 2:] = 0
    maps[1, 1:] = 0
    large, small = built(encoding_norm=norm), built(encoding_norm=norm, num_instances=2)
    with torch.no_grad():
        for name, tensor in small.state_dict().items():
            source = large.state_dict()[name]
            tensor.copy_(source[tuple(slice(side) for side in tensor.shape)])
    found, expected = (m.train(training)(features, prob, x) for m, x in ((large, maps), (small, maps[:, :2])))
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    for name, buffer in small.named_buffers():
        kept = large.get_buffer(name)[tuple(slice(side) for side in buffer.shape)]
        torch.testing.assert_close(buffer, kept, atol=1e-12, rtol=1e-12, msg=name)


def test_statistics_of_encodings_are_those_of_what_is_there() -> None:
    features, prob, maps = inputs()
    maps[0, 1:] = 0
    module = built(reweighting=False).train()
    encodings, is_present = module.encodings(features, torch.cat([prob, maps], dim=1))
    assert is_present.sum(1).tolist() == [CATEGORIES + 1, CATEGORIES + INSTANCES]
    conv, norm, _ = module.encoding_key
    before = norm.running_mean.clone()
    module(features, prob, maps)
    rows = [encodings[b, p] for b in range(2) for p in range(CATEGORIES + INSTANCES) if is_present[b, p]]
    mean = torch.stack([conv.weight[..., 0, 0] @ row for row in rows]).mean(0)
    torch.testing.assert_close(norm.running_mean, 0.9 * before + 0.1 * mean, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("training", [False, True])
def test_depthwise_takes_any_number_of_objects(training: bool) -> None:
    module, other = built(depthwise=True).train(training), built(depthwise=True).train(training)
    features, prob, maps = inputs(instances=9)
    maps[:, 2:] = 0
    expected = module(features, prob, maps[:, :2])
    torch.testing.assert_close(other(features, prob, maps), expected, atol=1e-12, rtol=1e-12)
    for name, buffer in module.named_buffers():
        torch.testing.assert_close(other.get_buffer(name), buffer, atol=1e-12, rtol=1e-12, msg=name)
    assert module.num_heatmaps is None


@pytest.mark.parametrize("depthwise", [False, True])
def test_images_without_objects_can_be_trained_on(depthwise: bool) -> None:
    module = PISR(INSTANCES, key_width=6, depthwise=depthwise).build(CHANNELS, 1).train()
    torch.nn.init.ones_(module.norm.weight)
    features, prob, maps = inputs(batch=1, dtype=torch.float32)
    result = module(features, prob[:, :1], 0 * maps)
    result.square().sum().backward()
    assert all(torch.isfinite(x).all() for x in (result, *(p.grad for p in module.parameters())))


def test_before_training_the_result_is_the_features() -> None:
    features, prob, maps = inputs(dtype=torch.float32)
    module = PISR(INSTANCES, key_width=6).build(CHANNELS, CATEGORIES)
    torch.testing.assert_close(module(features, prob, maps), features, atol=1e-6, rtol=0)
    literal = PISR(INSTANCES, key_width=6, residual=False).build(CHANNELS, CATEGORIES)
    assert (literal(features, prob, maps) - features).abs().max() > 0.1


def test_gradients_are_right_and_stop_where_they_shall() -> None:
    wanted = [x[:, :, :2, :3].clone().requires_grad_() for x in inputs(batch=1)]
    assert torch.autograd.gradcheck(built(), wanted, eps=1e-6, atol=1e-5)
    features, prob, maps = wanted
    built(detach_guidance=True)(features, prob, maps).sum().backward()
    assert features.grad is not None
    assert prob.grad is None
    assert maps.grad is None


def test_a_batch_of_two_equals_two_of_one_and_one_image_can_be_trained_on() -> None:
    module, batch = built(), inputs()
    both = module(*batch)
    for i in range(2):
        torch.testing.assert_close(module(*(x[i : i + 1] for x in batch))[0], both[i], atol=1e-12, rtol=1e-12)
    trained = PISR(1, key_width=6).build(CHANNELS, 1).train()
    features, prob, maps = inputs(batch=1, dtype=torch.float32)
    torch.nn.init.ones_(trained.norm.weight)
    result = trained(features, prob[:, :1], maps[:, :1])
    assert torch.isfinite(result).all()
    result.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in trained.parameters())


def test_sums_are_exact_under_autocast() -> None:
    module = PISR(INSTANCES, key_width=6).build(CHANNELS, CATEGORIES).eval()
    torch.nn.init.ones_(module.norm.weight)
    features, prob, maps = inputs(dtype=torch.float32)
    rows = torch.cat([prob, maps], dim=1)
    expected, _ = module.encodings(features, rows)
    plain = module(features, prob, maps)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = module.encodings(features, rows)
        result = module(features, prob, maps)
        half = module(features.bfloat16(), prob, maps)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    torch.testing.assert_close(result, plain, atol=0.05, rtol=0.05)
    assert torch.isfinite(half).all()
    # 4096 places of 100 are beyond what half precision holds.
    raw = PISR(1, normalization="none").build(1, 1)
    sums, _ = raw.encodings(torch.full((1, 1, 64, 64), 100.0).half(), torch.ones(1, 2, 64, 64))
    assert sums.flatten().tolist() == [409600.0, 409600.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_encodings_beyond_half_precision_can_be_trained_on(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = PISR(1, key_width=8, normalization="none", reweighting=False).build(4, 2).train()
    torch.nn.init.ones_(module.norm.weight)
    g = torch.Generator().manual_seed(0)
    features = 100 * torch.rand(2, 4, 64, 64, generator=g)
    prob = torch.randn(2, 2, 64, 64, generator=g).softmax(1)
    maps = torch.rand(2, 1, 64, 64, generator=g)
    plain = copy.deepcopy(module)
    expected = plain(features, prob, maps)
    with torch.autocast("cpu", dtype=dtype):
        found = module(features, prob, maps)
    assert torch.isfinite(found).all()
    assert float((found - expected).detach().abs().mean()) < 0.2  # the added part has a deviation of 1
    torch.testing.assert_close(module.encoding_key[1].running_mean, plain.encoding_key[1].running_mean)


def test_parameters_and_operations_on_panoptic_deeplab() -> None:
    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    module = PISR().build(384, 19)
    assert count(module.place_key[0]) == 9 * 384 * 256 == 884_736
    assert count(module.encoding_key[0]) == 384 * 256 == 98_304
    assert count(module.encoding_value[0]) == 384 * 384 == 147_456
    assert count(module.mix[0]) == (19 + 50) ** 2 == 4_761
    assert module.importance is not None
    assert count(module.importance) == 384 * 96 + 96 + 96 + 1 == 37_057
    norms = 2 * (256 + 256 + 384 + 69 + 384)
    assert count(module) == 884_736 + 98_304 + 147_456 + 4_761 + 37_057 + norms == 1_175_012
    # What the measured totals at 1024x2048 leave when the base (416.8) and the copied heads (35.2) are taken off.
    for num, width, billions in (
        (10, 256, 571.96),
        (20, 256, 573.39),
        (50, 256, 577.85),
        (100, 256, 585.81),
        # Each channel less or more saves or costs a 3x3 convolution of 384 channels and a product with 69 rows.
        (50, 64, 577.85 - 192 * (9 * 384 + 69) * 256 * 512 / 1e9),
        (50, 512, 577.85 + 256 * (9 * 384 + 69) * 256 * 512 / 1e9),
    ):
        with torch.device("meta"):
            module = PISR(num, key_width=width).build(384, 19).eval()
            planes = [torch.zeros(1, channels, 256, 512) for channels in (384, 19, num)]
        with FlopCounterMode(display=False) as counter:
            module(*planes)
        assert counter.get_total_flops() / 2e9 == pytest.approx(billions - 416.8 - 35.2, abs=0.1)


def test_forward_exports_and_the_graph_agrees() -> None:
    module, batch = built(), tuple(inputs())
    graph = torch.export.export(module, batch).module()
    torch.testing.assert_close(graph(*batch), module(*batch), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_instances": 0}, "expected num_instances of 1 or more, got 0"),
        ({"num_instances": 2.5}, r"expected num_instances as an integer, got 2.5"),
        ({"key_width": 0}, "expected key_width of 1 or more, got 0"),
        ({"reweighting_width": 0}, "expected reweighting_width of 1 or more, got 0"),
        ({"normalization": "hw"}, 'expected normalization "mass", "none" or "pixels", got \'hw\''),
        ({"encoding_norm": "group"}, 'expected encoding_norm "batch" or "layer", got \'group\''),
    ],
)
def test_values_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        PISR(**options)


def test_shapes_that_contradict_each_other() -> None:
    module, (features, prob, maps) = built(), inputs()
    with pytest.raises(InvalidArgumentError, match=r"expected features as \[2, 5, 6, 7\] .* got \[2, 4, 6, 7\]"):
        module(features[:, :4], prob, maps)
    with pytest.raises(InvalidArgumentError, match=r"expected semantic_prob as \[2, 3, 6, 7\] .* got \[2, 2, 6, 7\]"):
        module(features, prob[:, :2], maps)
    with pytest.raises(InvalidArgumentError, match=r"expected instances as \[2, 4, 6, 7\] .* got \[2, 4, 6, 6\]"):
        module(features, prob, maps[..., :6])
    with pytest.raises(InvalidArgumentError, match=r"expected features as \[B, 5, h, w\], got \[5, 6, 7\]"):
        module(features[0], prob[0], maps[0])
    for valid in (torch.ones(1, 1, *SIZE), torch.ones(3, 1, *SIZE).bool(), torch.ones(1, *SIZE).bool()):
        said = f"expected valid as bool [2, 1, 6, 7], or the first 1, got {valid.dtype} {list(valid.shape)}"
        with pytest.raises(InvalidArgumentError, match=re.escape(said)):
            module(features, prob, maps, valid)
    with pytest.raises(InvalidArgumentError, match="expected at least one channel and one category, got 5 and 0"):
        PISR().build(5, 0)
