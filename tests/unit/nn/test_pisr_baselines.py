from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.nn.pisr import RelationModule, Relations, mask_pool
from panscape.nn.pisr_baselines import OCR, Concatenation, ElementwiseProduct

CHANNELS, CATEGORIES, INSTANCES, SIZE = 4, 3, 5, (5, 6)
PARTS = (Concatenation(INSTANCES), ElementwiseProduct(INSTANCES), OCR(INSTANCES, key_width=6))


def built(part: Relations) -> RelationModule:
    """Return its module in eval mode and double precision, with random weights, norms and statistics."""
    g = torch.Generator().manual_seed(0)
    module = part.build(CHANNELS, CATEGORIES).double().eval()
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            uniform = torch.rand(tensor.shape, generator=g, dtype=torch.float64)
            tensor.copy_(uniform + 0.5 if name.endswith("running_var") else uniform - 0.4)
    return module


def inputs(seed: int = 0) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    features = torch.randn(2, CHANNELS, *SIZE, generator=g, dtype=torch.float64)
    prob = torch.randn(2, CATEGORIES, *SIZE, generator=g, dtype=torch.float64).softmax(1)
    return [features, prob, torch.rand(2, INSTANCES, *SIZE, generator=g, dtype=torch.float64)]


def unit(state: dict[str, np.ndarray], name: str, x: np.ndarray, *, relu: bool = True) -> np.ndarray:
    """A 1x1 convolution and a norm with fixed statistics, of one place."""
    raw = state[f"{name}.0.weight"][:, :, 0, 0] @ x
    raw = (raw - state[f"{name}.1.running_mean"]) / np.sqrt(state[f"{name}.1.running_var"] + 1e-5)
    raw = raw * state[f"{name}.1.weight"] + state[f"{name}.1.bias"]
    return np.maximum(raw, 0) if relu else raw


def state_of(module: RelationModule) -> dict[str, np.ndarray]:
    return {k: v.numpy() for k, v in module.state_dict().items()}


def test_concatenation() -> None:
    module, (features, prob, maps) = built(PARTS[0]), inputs()
    result = module(features, prob, maps)
    assert module.out_channels == result.shape[1] == CHANNELS + CATEGORIES + INSTANCES
    assert torch.equal(result, torch.cat([features, prob, maps], dim=1))
    assert list(module.parameters()) == []


def test_product_equals_the_formula_place_by_place() -> None:
    module, (features, prob, maps) = built(PARTS[1]), inputs()
    result, state = module(features, prob, maps).detach().numpy(), state_of(module)
    assert result.shape == features.shape
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            guidance = np.concatenate([prob[1, :, y, x].numpy(), maps[1, :, y, x].numpy()])
            expected = features[1, :, y, x].numpy() * unit(state, "project", guidance, relu=False)
            np.testing.assert_allclose(result[1, :, y, x], expected, atol=1e-12)
    assert sum(p.numel() for p in module.parameters()) == (CATEGORIES + INSTANCES) * CHANNELS + 2 * CHANNELS


def test_object_context_equals_the_formula_place_by_place() -> None:
    module, (features, prob, _) = built(PARTS[2]), inputs()
    result, state = module(features, prob, features[:, :0]).detach().numpy(), state_of(module)
    assert result.shape == features.shape
    f, s = features[0].flatten(1).numpy(), prob[0].flatten(1).numpy()
    logits = np.log(s) + np.random.default_rng(0).normal(size=s.shape[1])  # any softmax's logits
    log_prob = logits - np.log(np.exp(logits).sum(0))
    regions = np.exp(log_prob) / np.exp(log_prob).sum(1, keepdims=True) @ f.T  # softmax over places
    key = [unit(state, "key.1", unit(state, "key.0", r)) for r in regions]
    value = [unit(state, "value", r) for r in regions]
    for i in range(f.shape[1]):
        query = unit(state, "query.1", unit(state, "query.0", f[:, i]))
        powers = np.exp([query @ k * 6**-0.5 for k in key])
        context = unit(state, "context", sum(p * v for p, v in zip(powers / powers.sum(), value, strict=True)))
        expected = unit(state, "fuse.0", np.concatenate([context, f[:, i]]))
        np.testing.assert_allclose(result[0].reshape(CHANNELS, -1)[:, i], expected, atol=1e-12)


def test_parameters_of_object_context_with_512_channels() -> None:
    module = OCR().build(512, 19)
    query = key = 512 * 256 + 2 * 256 + 256 * 256 + 2 * 256
    value, context, fuse = 512 * 256 + 2 * 256, 256 * 512 + 2 * 512, 1024 * 512 + 2 * 512
    assert sum(p.numel() for p in module.parameters()) == query + key + value + context + fuse == 1_184_256
    assert module.is_semantic_only
    assert not module.uses_instances


def test_object_context_drops_channels_in_training_alone() -> None:
    torch.manual_seed(0)
    module, (features, prob, _) = OCR(key_width=6, dropout=0.5).build(64, CATEGORIES), inputs()
    features = features.float().repeat(1, 16, 1, 1)
    dropped = (module(features, prob.float(), features[:, :0]) == 0).all(3).all(2).sum()
    assert 32 < dropped < 96  # of 128
    module.eval()
    assert (module(features, prob.float(), features[:, :0]) == 0).all(3).all(2).sum() < 8


def test_a_region_that_is_nowhere_is_zero() -> None:
    module, (features, prob, _) = built(PARTS[2]), inputs()
    prob[:, 0] = 0
    sums, mass = mask_pool(prob, features)
    assert (mass[:, 0] == 0).all()
    assert (sums[:, 0] == 0).all()
    assert torch.isfinite(module(features, prob, features[:, :0])).all()


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_padding_has_no_influence_and_images_none_on_each_other(part: Relations) -> None:
    module = built(part)
    valid = torch.zeros(1, 1, *SIZE, dtype=torch.bool)
    valid[..., :3, :4] = True
    clean, garbage = inputs(0), inputs(1)
    garbage[0][0], garbage[1][0] = torch.nan, torch.inf
    expected = module(*clean, valid)[..., :3, :4]
    mixed = module(*(torch.where(valid, a, b) for a, b in zip(clean, garbage, strict=True)), valid)
    assert torch.equal(mixed[..., :3, :4], expected)
    torch.testing.assert_close(module(*(x[..., :3, :4] for x in clean)), expected, atol=1e-12, rtol=1e-12)
    for i in range(2):
        alone = module(*(x[i : i + 1] for x in clean), valid)[..., :3, :4]
        torch.testing.assert_close(alone[0], expected[i], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_gradients_flow_into_the_guidance_unless_it_is_detached(part: Relations) -> None:
    features, prob, maps = (x.requires_grad_() for x in inputs())
    built(part)(features, prob, maps).square().sum().backward()
    assert prob.grad is not None
    assert (prob.grad != 0).any()
    assert (maps.grad is not None) == built(part).uses_instances
    detached = type(part)(INSTANCES, detach_guidance=True)
    features, prob, maps = (x.requires_grad_() for x in inputs())
    built(detached)(features, prob, maps).square().sum().backward()
    assert features.grad is not None
    assert prob.grad is None
    assert maps.grad is None


@pytest.mark.parametrize("logit", [-100.0, -200.0])  # its softmax in single precision: denormal, and 0
@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_gradients_are_finite_where_a_category_is_nowhere(part: Relations, logit: float) -> None:
    features, logits, maps = (x.float().requires_grad_() for x in inputs())
    prob = (logits + torch.tensor([0.0, logit, 0.0])[:, None, None]).softmax(1)
    (65536 * built(part).float()(features, prob, maps).sum()).backward()  # as fp16 scales its losses
    assert features.grad.isfinite().all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        (Concatenation, {"num_instances": 0}, "expected num_instances of 1 or more, got 0"),
        (OCR, {"num_instances": -1}, "expected num_instances of 1 or more, got -1"),
        (OCR, {"key_width": 0}, "expected key_width of 1 or more, got 0"),
        (OCR, {"dropout": 1.0}, r"expected dropout in \[0, 1\), got 1.0"),
    ],
)
def test_values_that_cannot_be_used(part: type[Relations], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        part(**options)
