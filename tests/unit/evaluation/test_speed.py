"""Images per second of a model, with a clock that is moved by hand."""

from __future__ import annotations

import pytest
import torch
from color_model import ColorModel, painted
from maps import SHAPES, generated_map

from panscape.datasets.base import Sample
from panscape.errors import BadSampleError, InvalidArgumentError, UnreadableFileError
from panscape.evaluation.speed import measure_speed


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow(ColorModel):
    """Takes a second for the network and a quarter for the map; the first image of a size takes ten times that."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.factor = clock, 10.0
        self.known: set[torch.Size] = set()

    def forward(self, images):
        self.factor = 1.0 if images.shape in self.known else 10.0
        self.known.add(images.shape)
        self.clock.now += self.factor
        return super().forward(images)

    def decode(self, outputs, sizes):
        self.clock.now += self.factor / 4
        return super().decode(outputs, sizes)


class Scenes:
    labels = SHAPES

    def __init__(self, clock: Clock, bad: tuple[int, ...] = ()) -> None:
        self.clock, self.bad = clock, bad

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Sample:
        self.clock.now += 100  # reading
        if index in self.bad:
            raise UnreadableFileError(f"/data/{index}.png", "expected a whole image")
        truth = generated_map(index, size=(24 + index % 2, 40), smallest=6)
        return Sample(painted(truth), truth, str(index))


def test_network_and_post_processing_are_timed_apart_without_warm_up_and_reading() -> None:
    clock, done = Clock(), []
    model = Slow(clock)
    report = measure_speed(model, Scenes(clock, bad=(2,)), clock=clock, progress=lambda *counts: done.append(counts))
    assert report.network == (1.0,) * 5
    assert report.post_processing == (0.25,) * 5
    assert done == [(i, 6) for i in range(1, 7)]
    assert {shape[0] for _, shape, _ in model.seen} == {1}
    said = report.to_dict()
    assert said["images_per_second"] == 0.8
    assert said["network"] == {"images_per_second": 1.0, "median_ms": 1000.0}
    assert said["post_processing"] == {"images_per_second": 4.0, "median_ms": 250.0}
    assert (said["images"], said["batch_size"], said["device"], said["precision"]) == (5, 1, "cpu", "fp32")
    head, *rows = str(report).splitlines()
    assert head.startswith(f"speed on cpu, {torch.get_num_threads()} thread")
    assert "fp32, batch of 1, 5 images" in head
    assert [row.split() for row in rows] == [
        ["network", "1.0", "1000.0"],
        ["post-processing", "4.0", "250.0"],
        ["both", "0.8", "1250.0"],
    ]


def test_a_limit_and_a_precision_are_those_of_the_evaluation() -> None:
    clock = Clock()
    model = Slow(clock)
    assert len(measure_speed(model, Scenes(clock), clock=clock, limit=2, precision="bf16").network) == 2
    assert all(is_autocast for _, _, is_autocast in model.seen)


def test_invalid_timings_are_refused() -> None:
    clock = Clock()
    with pytest.raises(BadSampleError, match=r"/data/0\.png"):
        measure_speed(Slow(clock), Scenes(clock, bad=(0, 1, 2, 3, 4, 5)), clock=clock)
    with pytest.raises(InvalidArgumentError, match="limit of 0 or more, got 6 images and limit=-1"):
        measure_speed(Slow(clock), Scenes(clock), clock=clock, limit=-1)
