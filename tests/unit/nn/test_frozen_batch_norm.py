from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from panscape.nn.backbones import create_backbone
from panscape.nn.frozen_batch_norm import first_layers, freeze_batch_norms, frozen_norms


def with_drawn_norms(backbone: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return backbone


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050", "residual_xs"])
def test_frozen_norms_compute_what_the_norms_did_and_have_nothing_to_train(name: str) -> None:
    backbone = with_drawn_norms(create_backbone(name)).eval()  # type: ignore[arg-type]
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = [f.clone() for f in backbone(images)]
        num_norms = sum(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
        names = {n for n in backbone.state_dict() if not n.endswith("num_batches_tracked")}
        assert freeze_batch_norms(backbone) is backbone
        backbone.train()  # there is no mode in which it computes anything else
        for a, b in zip(backbone(images), expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert len(frozen_norms(backbone)) == num_norms
    assert set(backbone.state_dict()) == names
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())


def test_eps_is_that_of_the_layers_or_the_requested_one() -> None:
    norm = nn.BatchNorm2d(1, eps=0.25)
    norm.running_var.fill_(0.75)
    (kept,) = freeze_batch_norms(nn.Sequential(norm))
    assert isinstance(kept, FrozenBatchNorm2d)
    assert kept(torch.ones(1, 1, 1, 1)).item() == pytest.approx(1)  # 1 / sqrt(0.75 + 0.25)
    norm.running_var.fill_(0.25)
    (none,) = freeze_batch_norms(nn.Sequential(norm), eps=0.0)
    assert none(torch.ones(1, 1, 1, 1)).item() == pytest.approx(2)  # 1 / sqrt(0.25)


def test_a_scale_that_starts_at_zero_gets_ones() -> None:
    norm = nn.BatchNorm2d(2)
    nn.init.zeros_(norm.weight)
    (frozen,) = freeze_batch_norms(nn.Sequential(norm))
    assert torch.equal(frozen.weight, torch.ones(2))
    partly = nn.BatchNorm2d(2)
    partly.weight.data = torch.tensor([0.0, 3.0])
    (frozen,) = freeze_batch_norms(nn.Sequential(partly))
    assert torch.equal(frozen.weight, torch.tensor([0.0, 3.0]))


def test_first_layers_of_resnet50_are_those_that_the_released_code_freezes() -> None:
    backbone = freeze_batch_norms(create_backbone("resnet50"))  # type: ignore[type-var]
    first = first_layers(backbone)
    assert len(first) == 11
    assert sum(p.numel() for p in first) == 222_400
    names = {name for name, p in backbone.named_parameters() if any(p is q for q in first)}
    assert {name.split(".")[0] for name in names} == {"conv1", "layer1"}


def test_first_layers_of_a_small_backbone_are_stem_and_first_stage() -> None:
    backbone = create_backbone("residual_xs")
    first = {id(p) for p in first_layers(backbone)}
    for name, parameter in backbone.named_parameters():  # type: ignore[attr-defined]
        assert (id(parameter) in first) == name.startswith(("stem.", "stages.0."))


def test_finding_the_first_layers_leaves_no_trace() -> None:
    backbone = create_backbone("mobilenetv3_small_050")
    before = {n: t.clone() for n, t in backbone.state_dict().items()}  # type: ignore[attr-defined]
    first = {id(p) for p in first_layers(backbone)}
    for name, parameter in backbone.named_parameters():  # type: ignore[attr-defined]
        assert (id(parameter) in first) == name.startswith(("net.conv_stem.", "net.bn1.", "net.blocks.0."))
    assert all(torch.equal(before[n], t) for n, t in backbone.state_dict().items())  # type: ignore[attr-defined]
    assert backbone.training  # type: ignore[attr-defined]
    assert all(p.grad is None for p in backbone.parameters())  # type: ignore[attr-defined]
