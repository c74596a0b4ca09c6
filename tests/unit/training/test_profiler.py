"""Profiling of training steps, with a simulated clock."""

from __future__ import annotations

import pytest
import torch

from panscape.training.profiler import SampleTimes, StepProfiler, cached_speed, compare_speeds


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def pass_by(self, seconds):
        self.now += seconds


def a_step(timer, clock, wait=0.0, forward=0.0, other=0.0, images=8):
    with timer.section("wait for data"):
        clock.pass_by(wait)
    with timer.section("forward"):
        clock.pass_by(forward)
    clock.pass_by(other)
    timer.step_done(images)


def test_the_table_adds_up_and_leaves_out_the_first_steps():
    clock = Clock()
    timer = StepProfiler(is_on=True, skip=2, clock=clock)
    for _ in range(2):
        a_step(timer, clock, wait=60.0, forward=60.0, other=60.0)
    a_step(timer, clock, wait=0.002, forward=0.1, other=0.05)
    a_step(timer, clock, wait=0.004, forward=0.2, other=0.044)
    assert timer.images_per_second == pytest.approx(16 / 0.4)
    assert timer.report(workers=1, processors=2).splitlines() == [
        "2 steps, 40.0 images/s  ms per step    share",
        "wait for data                   3.0    1.5 %",
        "forward                       150.0   75.0 %",
        "other                          47.0   23.5 %",
        "total                         200.0  100.0 %",
        "the data loader is fast enough: 1.5 % of the time is spent waiting for data",
    ]


def test_a_section_entered_more_than_once_a_step_counts_whole():
    clock = Clock()
    timer = StepProfiler(is_on=True, skip=0, clock=clock)
    for _ in range(4):
        with timer.section("forward"):
            clock.pass_by(0.25)
    timer.step_done(1)
    assert "forward                     1000.0  100.0 %" in timer.report(workers=1)


def test_a_section_that_fails_is_measured_and_raises():
    clock = Clock()
    timer = StepProfiler(is_on=True, skip=0, clock=clock)

    def fail():
        with timer.section("loss"):
            clock.pass_by(1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    timer.step_done(1)
    assert "loss                        1000.0  100.0 %" in timer.report(workers=1)


@pytest.mark.parametrize(
    ("workers", "verdict"),
    [
        (0, "the network waits for data 25.0 % of the time: use more --workers (now 0)"),
        (1, "the network waits for data 25.0 % of the time: use more --workers (now 1)"),
        (
            2,
            "the network waits for data 25.0 % of the time, and --workers 2 already use all 2 processors: "
            "store smaller images",
        ),
    ],
)
def test_a_slow_loader_gets_the_advice_that_helps(workers, verdict):
    clock = Clock()
    timer = StepProfiler(is_on=True, skip=0, clock=clock)
    a_step(timer, clock, wait=0.25, forward=0.75)
    assert timer.report(workers, processors=2).splitlines()[-1] == verdict


def test_samples_are_averaged_and_those_of_the_first_steps_left_out():
    clock = Clock()
    timer = StepProfiler(is_on=True, skip=1, clock=clock)
    timer.add_samples([SampleTimes(9.0, 9.0, 9.0)])
    a_step(timer, clock, forward=1)
    timer.add_samples([SampleTimes(0.001, 0.010, 0.004), SampleTimes(0.003, 0.020, 0.002)])
    a_step(timer, clock, forward=1)
    line = timer.report(workers=1).splitlines()[-2]
    assert line == "ms per sample: read 2.0, augment 15.0, encode 3.0; one worker prepares 50.0 samples/s at most"


def test_a_timer_that_is_off_never_looks_at_the_clock():
    def clock():
        raise AssertionError

    timer = StepProfiler(is_on=False, clock=clock)
    assert timer.section("forward") is timer.section("loss")
    with timer.section("forward"), timer.section("loss"):
        pass
    timer.step_done(8)
    timer.add_samples([SampleTimes(1, 1, 1)])
    assert timer.images_per_second == 0
    assert timer.report(workers=1) == "no step was measured; train for more steps"


def test_a_device_beside_the_processor_is_waited_for_at_both_ends(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    device = torch.device("cuda", 0)
    timer = StepProfiler(is_on=True, device=device, skip=0)
    with timer.section("forward"):
        assert waited == [device]
    assert waited == [device] * 2
    off = StepProfiler(is_on=False, device=device)
    with off.section("forward"):
        off.step_done(1)
    assert len(waited) == 2
    StepProfiler(is_on=True, device=torch.device("cpu")).step_done(1)
    assert len(waited) == 2


def test_the_speed_on_one_batch_counts_only_the_rounds():
    clock, seconds = Clock(), iter([50.0, 50.0, 0.5, 0.25, 0.25])
    assert cached_speed(lambda: clock.pass_by(next(seconds)), 8, 3, skip=2, clock=clock) == 24.0
    assert next(seconds, None) is None


def test_the_comparison_names_both_speeds():
    assert compare_speeds(19.0, 20.0) == (
        "19.0 images/s with the data loader, 20.0 on one batch in memory: 95.0 % of the maximum"
    )
