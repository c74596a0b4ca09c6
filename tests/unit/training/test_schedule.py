from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, MultiStepLR, PolynomialLR

from panscape.errors import InvalidArgumentError
from panscape.training.schedule import Schedule, learning_rate


def rates(schedule, steps, highest=1.0):
    return [learning_rate(step, highest, schedule, steps) for step in range(1, steps + 1)]


def torch_rates(create, steps, highest=1.0):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], highest)
    scheduler = create(optimizer)
    seen = []
    for _ in range(steps):
        seen.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return seen


class TestLearningRate:
    def test_by_hand(self):
        assert rates(Schedule(kind="poly", power=1.0), 4) == [1, 0.75, 0.5, 0.25]
        assert rates(Schedule(kind="poly", power=2.0, min_lr=0.2), 4) == pytest.approx([1, 0.65, 0.4, 0.25])
        assert rates(Schedule(kind="cosine"), 4) == pytest.approx([1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4])
        assert rates(Schedule(kind="constant", min_lr=0.2), 3) == [1, 1, 1]
        assert rates(Schedule(kind="constant", warmup_steps=4, warmup_factor=0.2), 6, 10.0) == pytest.approx(
            [2, 4, 6, 8, 10, 10]
        )

    def test_steps_by_hand(self):
        fall = Schedule("steps", milestones=(2, 5), gamma=0.5, min_lr=0.2)
        assert rates(fall, 7) == [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25], "end is not of this decay"
        slow = Schedule("steps", milestones=(2,), gamma=0.5, warmup_steps=4, warmup_factor=0.2)
        assert rates(slow, 6, 10.0) == pytest.approx([2, 4, 3, 4, 5, 5])
        assert rates(fall, 2) == [1, 1], "a shorter training never comes to the milestones"

    def test_warm_up_and_decay_run_at_once(self):
        # detectron2's WarmupPolyLR with its defaults, by its definition: halfway up the factor is 1.001 / 2
        schedule = Schedule(power=0.9, warmup_steps=1000, warmup_factor=1e-3)
        for done, expected in [
            (0, 4e-4 * 1e-3),
            (500, 4e-4 * (1 - 500 / 200_000) ** 0.9 * 0.5005),
            (1000, 4e-4 * (1 - 1000 / 200_000) ** 0.9),
            (199_999, 4e-4 * (1 / 200_000) ** 0.9),
        ]:
            assert learning_rate(done + 1, 4e-4, schedule, 200_000) == pytest.approx(expected, rel=1e-9)

    def test_as_torch(self):
        assert rates(Schedule(kind="poly", power=0.9), 50, 0.3) == pytest.approx(
            torch_rates(lambda o: PolynomialLR(o, 50, 0.9), 50, 0.3), rel=1e-9
        )
        assert rates(Schedule(kind="cosine", min_lr=0.01), 50, 0.3) == pytest.approx(
            torch_rates(lambda o: CosineAnnealingLR(o, 50, 0.01), 50, 0.3), rel=1e-9
        )
        assert rates(Schedule(kind="constant", warmup_steps=7, warmup_factor=0.05), 50, 0.3) == pytest.approx(
            torch_rates(lambda o: LinearLR(o, 0.05, total_iters=7), 50, 0.3), rel=1e-9
        )
        assert rates(Schedule("steps", milestones=(1, 17, 49), gamma=0.3), 50, 0.3) == pytest.approx(
            torch_rates(lambda o: MultiStepLR(o, [1, 17, 49], 0.3), 50, 0.3), rel=1e-9
        )

    def test_a_warm_up_longer_than_the_training(self):
        assert rates(Schedule(kind="constant", warmup_steps=100, warmup_factor=0.5), 3) == [0.5, 0.505, 0.51]

    @pytest.mark.parametrize("step", [0, 11])
    def test_no_such_step(self, step):
        with pytest.raises(InvalidArgumentError, match=f"expected a step from 1 to 10, got {step}"):
            learning_rate(step, 1e-4, Schedule(), 10)
