from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.models.swiftnet import swiftnet
from panscape.recipes import get_recipe
from panscape.training.config import Optimizer
from panscape.training.loop import set_train_mode
from panscape.training.optimizer import ModelEMA, create_optimizer, freeze_backbone, set_learning_rate
from panscape.training.schedule import Schedule, learning_rate


def small_swiftnet():
    torch.manual_seed(0)
    return swiftnet(LabelSpace.load("cityscapes"), backbone="residual_xs", levels=3, width=8)


class TestOptimizer:
    def test_weights_decay_and_norms_do_not(self):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1, bias=False))
        model[2].weight.requires_grad_(False)
        optimizer = create_optimizer(model, Optimizer(weight_decay=0.1, norm_weight_decay=0.01))
        assert [(g["params"], g["weight_decay"], g["factor"]) for g in optimizer.param_groups] == [
            ([model[0].weight], 0.1, 1.0),
            ([model[0].bias, model[1].weight, model[1].bias], 0.01, 1.0),
        ]

    def test_the_backbone_is_slower_and_its_shared_weights_come_once(self):
        model = small_swiftnet()
        optimizer = create_optimizer(model, Optimizer(learning_rate=1e-3, weight_decay=0.1, backbone_lr_mult=0.25))
        set_learning_rate(optimizer, 4e-3)
        rate = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
        assert len(rate) == sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))
        for name, parameter in model.named_parameters(remove_duplicate=False):
            assert rate[id(parameter)] == (1e-3 if name.startswith("pyramid.") else 4e-3)
        assert [(g["factor"], g["weight_decay"]) for g in optimizer.param_groups] == [
            (1.0, 0.1),
            (1.0, 0.0),
            (0.25, 0.1),
            (0.25, 0.0),
        ]

    def test_a_frozen_backbone_keeps_weights_and_statistics(self):
        model = small_swiftnet()
        freeze_backbone(model)
        recipe = replace(get_recipe("street"), optimizer=Optimizer(backbone_lr_mult=0))
        set_train_mode(model, model, recipe)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        optimizer = create_optimizer(model, recipe.optimizer)
        torch.stack([output.square().mean() for output in model(torch.rand(2, 3, 128, 128))[:3]]).sum().backward()
        optimizer.step()
        changed = {name.partition(".")[0] for name, t in model.state_dict().items() if not t.equal(before[name])}
        assert changed == {"start", "path", "semantic", "center", "offset"}

    @pytest.mark.parametrize("decay_biases", [False, True])
    def test_the_groups_of_maskformer(self, decay_biases):
        # Its released code: embeddings, tables of positions and norms do not decay, biases of other layers do.
        class Window(nn.Module):
            def __init__(self):
                super().__init__()
                self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
                self.qkv = nn.Linear(4, 12)

        model = nn.ModuleDict(
            {
                "backbone": nn.ModuleList([Window(), nn.LayerNorm(4), nn.Conv2d(3, 4, 3)]),
                "queries": nn.Embedding(5, 4),
                "attention": nn.MultiheadAttention(4, 2),
                "norm": nn.GroupNorm(2, 4),
            }
        )
        model.backbone_parameters = model["backbone"].parameters
        options = Optimizer("adamw", 1e-4, weight_decay=0.1, backbone_lr_mult=0.1, decay_biases=decay_biases)
        optimizer = create_optimizer(model, options)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        groups = {(g["lr"], g["weight_decay"]): {names[id(p)] for p in g["params"]} for g in optimizer.param_groups}
        weights = {"attention.in_proj_weight", "attention.out_proj.weight"}
        biases = {"attention.in_proj_bias", "attention.out_proj.bias"}
        of_backbone = {"backbone.0.qkv.weight", "backbone.2.weight"}, {"backbone.0.qkv.bias", "backbone.2.bias"}
        norms = {"norm.weight", "norm.bias"}
        assert groups == {
            (1e-4, 0.1): weights | (biases if decay_biases else set()),
            (1e-4, 0.0): {"queries.weight"} | norms | (set() if decay_biases else biases),
            (1e-5, 0.1): of_backbone[0] | (of_backbone[1] if decay_biases else set()),
            (1e-5, 0.0): {"backbone.0.relative_position_bias_table", "backbone.1.weight", "backbone.1.bias"}
            | (set() if decay_biases else of_backbone[1]),
        }

    @pytest.mark.parametrize("name", ["adam", "adamw"])
    def test_a_step_by_hand(self, name):
        model = nn.Linear(1, 1)
        nn.init.constant_(model.weight, 2.0)
        nn.init.constant_(model.bias, 3.0)
        options = Optimizer(name=name, learning_rate=0.1, betas=(0.5, 0.75), eps=1e-30, weight_decay=0.5)
        optimizer = create_optimizer(model, options)
        for parameter, gradients in ((model.weight, (1.0, -3.0)), (model.bias, (4.0, 2.0))):
            value = float(parameter.detach())
            decay = 0.5 if parameter is model.weight else 0.0
            mean = square = 0.0
            for t, gradient in enumerate(gradients, start=1):
                optimizer.zero_grad()
                parameter.grad = torch.full_like(parameter, gradient)
                optimizer.step()
                if name == "adamw":
                    value *= 1 - 0.1 * decay
                else:
                    gradient += decay * value
                mean = 0.5 * mean + 0.5 * gradient
                square = 0.75 * square + 0.25 * gradient**2
                value -= 0.1 * (mean / (1 - 0.5**t)) / math.sqrt(square / (1 - 0.75**t))
                assert float(parameter.detach()) == pytest.approx(value, rel=1e-6)

    def test_biases_may_go_faster(self):
        # FCOS: twice the rate and no decay for whatever is called a bias, those of norms among them.
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 1, bias=False))
        optimizer = create_optimizer(model, Optimizer(weight_decay=0.1, bias_lr_mult=2.0))
        assert [(g["params"], g["weight_decay"], g["factor"]) for g in optimizer.param_groups] == [
            ([model[0].weight, model[2].weight], 0.1, 1.0),
            ([model[1].weight], 0.0, 1.0),
            ([model[0].bias, model[1].bias], 0.0, 2.0),
        ]
        model = small_swiftnet()
        optimizer = create_optimizer(model, Optimizer(learning_rate=1.0, backbone_lr_mult=0.25, bias_lr_mult=2.0))
        rate = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            expected = (0.25 if name.startswith("pyramid.") else 1.0) * (2 if name.endswith(".bias") else 1)
            assert rate[id(parameter)] == expected, name

    def test_sgd_as_torch(self):
        def losses(optimizer, model, rate_of):
            for step in range(1, 7):
                rate_of(step)
                optimizer.zero_grad()
                model(inputs).square().mean().backward()
                optimizer.step()
            return [p.detach().clone() for p in model.parameters()]

        torch.manual_seed(0)
        inputs = torch.randn(5, 3)
        ours = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
        theirs = copy.deepcopy(ours)
        options = Optimizer(
            "sgd", learning_rate=0.2, momentum=0.8, weight_decay=0.3, norm_weight_decay=0.1, bias_lr_mult=2.0
        )
        schedule = Schedule("steps", milestones=(2, 4))
        mine = create_optimizer(ours, options)
        found = losses(
            mine, ours, lambda step: set_learning_rate(mine, learning_rate(step, options.learning_rate, schedule, 6))
        )

        biases = [p for name, p in theirs.named_parameters() if name.endswith("bias")]
        weights = [theirs[0].weight, theirs[2].weight]
        groups = [
            {"params": weights, "lr": 0.2, "weight_decay": 0.3},
            {"params": [theirs[1].weight], "lr": 0.2, "weight_decay": 0.1},
            {"params": biases, "lr": 0.4, "weight_decay": 0.1},
        ]
        reference = torch.optim.SGD(groups, momentum=0.8)
        scheduler = MultiStepLR(reference, [2, 4])
        expected = losses(reference, theirs, lambda step: scheduler.step() if step > 1 else None)
        for tensor, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(tensor, wanted, rtol=1e-6, atol=1e-7)

    def test_a_model_must_say_what_its_backbone_is(self):
        with pytest.raises(InvalidArgumentError, match="Linear does not define the parameters of its backbone"):
            create_optimizer(nn.Linear(2, 2), Optimizer(backbone_lr_mult=0.1))

    def test_nothing_to_train(self):
        with pytest.raises(InvalidArgumentError, match="all frozen"):
            create_optimizer(nn.Linear(2, 2).requires_grad_(False), Optimizer())


class TestWeightAverage:
    def test_by_hand(self):
        model = nn.BatchNorm2d(1)
        average = ModelEMA(model, decay=0.5)
        assert not average.model.training
        assert not any(p.requires_grad for p in average.model.parameters())
        expected = {"weight": 1.0, "running_var": 1.0, "running_mean": 0.0}
        for step in range(1, 31):
            with torch.no_grad():
                for tensor in (model.weight, model.running_mean, model.running_var):
                    tensor.fill_(3 * step)
            model.num_batches_tracked.fill_(step)
            average.update(model, step)
            decay = min(0.5, step / (step + 10))
            for name in expected:
                expected[name] = decay * expected[name] + (1 - decay) * 3 * step
                assert float(getattr(average.model, name)) == pytest.approx(expected[name], rel=1e-6)
            assert int(average.model.num_batches_tracked) == step
        assert float(model.weight.detach()) == 90

    def test_each_step_counts_once_for_shared_weights(self):
        model = small_swiftnet()
        start = copy.deepcopy(model)
        average = ModelEMA(model, decay=0.9)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(11)
        average.update(model, 1)
        levels = average.model.pyramid.levels
        assert levels[0].stem[0].weight is levels[2].stem[0].weight
        for mean, value in zip(average.model.parameters(), start.parameters(), strict=True):
            torch.testing.assert_close(mean, value + 10, rtol=0, atol=1e-5)

    def test_it_goes_on_where_it_stopped(self):
        def trained(steps):
            torch.manual_seed(steps)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter))

        model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2))
        average = ModelEMA(model, decay=0.99)
        for step in (1, 2):
            trained(step)
            average.update(model, step)
        again = ModelEMA(nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)), decay=0.99)
        again.load_state_dict(copy.deepcopy(average.state_dict()))
        for step in (3, 4):
            trained(step)
            average.update(model, step)
            again.update(model, step)
        for name, tensor in average.state_dict().items():
            assert torch.equal(tensor, again.state_dict()[name])

    @pytest.mark.parametrize("decay", [0.0, 1.0, -1.0, math.nan])
    def test_a_decay_out_of_range(self, decay):
        with pytest.raises(InvalidArgumentError, match=r"expected an EMA decay in \(0, 1\)"):
            ModelEMA(nn.Linear(1, 1), decay)
