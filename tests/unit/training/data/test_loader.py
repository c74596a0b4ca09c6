"""Batches from loader processes: independent of their number, with clear errors."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import pytest
import torch
from maps import SHAPES, generated_map
from torch import Tensor

from panscape import PanopticMap
from panscape.datasets.base import Sample
from panscape.datasets.in_memory import InMemoryDataset
from panscape.datasets.workers import explain_worker_death
from panscape.errors import BadSampleError, InvalidArgumentError, UnreadableFileError, WorkerDiedError
from panscape.geometry import Size
from panscape.representations.centers import CenterRepresentation
from panscape.training.data import loader
from panscape.training.data.loader import Batch, collate, training_batches
from panscape.training.data.stream import MultiScale, SampleStream
from panscape.transforms import RandomFlip


class Targets(NamedTuple):
    ids: Tensor
    categories: Tensor


def encode(truth: PanopticMap) -> Targets:
    return Targets(truth.ids, truth.semantic(void=255))


class Images:
    """Images of one color, their index; one may be unreadable, kill the process, or have another size."""

    labels = SHAPES

    def __init__(
        self, length: int = 7, bad: int | None = None, deadly: int | None = None, odd: int | None = None
    ) -> None:
        self.length, self.bad, self.deadly, self.odd = length, bad, deadly, odd

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if index == self.bad:
            raise UnreadableFileError(f"/data/p{index}.jpg", "truncated")
        if index == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        size = (16, 16 if index == self.odd else 24)
        image = torch.full((3, *size), index, dtype=torch.uint8)
        return Sample(image, generated_map(index, size, smallest=2), f"p{index}")


def shifted(image: Tensor, truth: PanopticMap, generator: torch.Generator) -> tuple[Tensor, PanopticMap]:
    return image + torch.randint(100, (1,), generator=generator).to(torch.uint8), truth


def stream(images: Images | None = None, **options: object) -> SampleStream:
    return SampleStream(images or Images(), shifted, encode, 11, **options)


def take(batches: Iterator[Batch]) -> list[Batch]:
    """Return copies of all batches, which do not hold the loader's memory."""
    return [
        Batch(b.images.clone(), type(b.targets)(*(t.clone() for t in b.targets)), b.names, b.skipped) for b in batches
    ]


def assert_same(some: list[Batch], others: list[Batch]) -> None:
    assert len(some) == len(others)
    for a, b in zip(some, others, strict=True):
        assert a.names == b.names
        assert a.skipped == b.skipped
        assert torch.equal(a.images, b.images)
        assert type(a.targets) is type(b.targets)
        assert all(torch.equal(x, y) for x, y in zip(a.targets, b.targets, strict=True))


def joined(batches: list[Batch]) -> Batch:
    kind = type(batches[0].targets)
    return Batch(
        torch.cat([b.images for b in batches]),
        kind(*(torch.cat(field) for field in zip(*(b.targets for b in batches), strict=True))),
        [name for b in batches for name in b.names],
        [skipped for b in batches for skipped in b.skipped],
    )


REPEATS = torch.tensor([1, 1.5, 2.3, 1, 1, 1, 1.2], dtype=torch.float64)


def test_step_s_has_its_sample_numbers():
    source = stream()
    first, second = training_batches(source, batch_size=3, first_step=4, last_step=5, workers=0)
    for batch, start in ((first, 9), (second, 12)):
        items = [source[n] for n in range(start, start + 3)]
        assert batch.names == [item.name for item in items]
        assert torch.equal(batch.images, torch.stack([item.image for item in items]))
        assert torch.equal(batch.targets.ids, torch.stack([item.targets.ids for item in items]))
        assert type(batch.targets) is Targets


def test_the_size_of_a_batch_is_that_of_all_processes_parts_and_workers(monkeypatch):
    in_slots: list[bool] = []
    answer = loader._unpack
    monkeypatch.setattr(
        loader, "_unpack", lambda a, slots: (in_slots.append(type(a.content) is not Batch), answer(a, slots))[1]
    )
    source = stream(multi_scale=MultiScale((Size(8, 12), Size(16, 24), Size(32, 48)), 8))  # 2 steps of 4 samples
    options = {"batch_size": 4, "first_step": 1, "last_step": 24}
    expected = [tuple(b.images.shape[2:]) for b in training_batches(source, **options, workers=0)]
    assert expected[0::2] == expected[1::2]
    assert set(expected) == {(8, 12), (16, 24), (32, 48)}
    for rank in (0, 1):
        share = {**options, "first_step": 3, "rank": rank, "world_size": 2, "parts": 2}
        in_slots.clear()
        worked = take(training_batches(source, **share, workers=1))
        assert all(in_slots)  # whatever the size of the first batch
        assert_same(worked, take(training_batches(source, **share, workers=0)))
        assert [tuple(b.images.shape[2:]) for b in worked] == [size for size in expected[2:] for _ in range(2)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_loader_processes_changes_nothing(workers):
    source = stream(Images(bad=2), repeats=REPEATS, on_error="skip")
    options = {"batch_size": 4, "first_step": 1, "last_step": 11}
    alone = take(training_batches(source, **options, workers=0))
    assert sum(len(batch.skipped) for batch in alone) > 3
    assert_same(alone, take(training_batches(source, **options, workers=workers, prefetch=2)))


def test_batches_may_be_kept():
    options = {"batch_size": 4, "first_step": 1, "last_step": 12}
    kept = list(training_batches(stream(), **options, workers=1, prefetch=1))
    assert_same(take(training_batches(stream(), **options, workers=0)), kept)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_goes_on_at_any_step(workers):
    whole = take(training_batches(stream(repeats=REPEATS), batch_size=3, first_step=1, last_step=9, workers=workers))
    for step in (2, 7):
        batches = training_batches(stream(repeats=REPEATS), batch_size=3, first_step=step, last_step=9, workers=workers)
        assert_same(whole[step - 1 :], take(batches))
    assert list(training_batches(stream(), batch_size=3, first_step=10, last_step=9, workers=workers)) == []


def test_shares_of_processes_and_parts_make_up_the_batch():
    options = {"batch_size": 12, "first_step": 2, "last_step": 4}
    whole = take(training_batches(stream(), **options, workers=0))
    ranks = [take(training_batches(stream(), **options, workers=1, rank=r, world_size=2, parts=3)) for r in (0, 1)]
    assert [len(batches) for batches in ranks] == [9, 9]
    assert all(len(batch.names) == 2 for batch in ranks[0])
    for step, expected in enumerate(whole):
        parts = [batch for batches in ranks for batch in batches[3 * step : 3 * step + 3]]
        assert_same([expected], [joined(parts)])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_stops_at_its_step_with_one_line(workers):
    order = [stream()[n].name for n in range(7)]
    position = order.index("p2")
    batches = training_batches(stream(Images(bad=2)), batch_size=1, first_step=1, last_step=9, workers=workers)
    arrived = []
    with pytest.raises(BadSampleError) as caught:
        arrived.extend(batch.names[0] for batch in batches)
    assert len(arrived) in (0, position)  # extend() gives what came before the error to the list or does not
    assert type(caught.value) is BadSampleError
    assert str(caught.value) == (
        "/data/p2.jpg: truncated; repair or remove it, or skip invalid images with --on-error skip"
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_crops_of_different_sizes(workers):
    with pytest.raises(
        InvalidArgumentError, match=r"expected crops of one size in a batch, got \[3, 16, \d+\] of p.*; augment must"
    ):
        take(training_batches(stream(Images(odd=3)), batch_size=7, first_step=1, last_step=1, workers=workers))


def test_targets_of_different_sizes():
    items = [stream()[0], stream()[1]]
    items[1] = items[1]._replace(targets=Targets(items[1].targets.ids[:5], items[1].targets.categories))
    with pytest.raises(
        InvalidArgumentError, match=r"expected ids of one size in a batch, got \[16, 24\] of .* \[5, 24\]"
    ):
        collate(items)


def test_a_killed_loader_process_is_explained():
    with pytest.raises(WorkerDiedError) as caught, explain_worker_death():  # the signal may come in between
        take(training_batches(stream(Images(deadly=2)), batch_size=2, first_step=1, last_step=9, workers=2))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("a data-loader process died: process ")
    assert "--workers" in str(caught.value)
    assert "/dev/shm" in str(caught.value)


@pytest.mark.parametrize(
    ("torchs", "ours"),
    [
        ("DataLoader worker (pid(s) 12, 13) exited unexpectedly", "process 12, 13 exited unexpectedly"),
        ("DataLoader worker (pid 12) is killed by signal: Killed. ", "process 12 is killed by signal: Killed"),
        (
            "DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that dataloader's workers are "
            "out of shared memory. Please try to raise your shared memory limit.",
            "process 12 is killed by signal: Bus error",
        ),
        (
            "DataLoader worker (pid 12) exited unexpectedly with exit code 1. Details are lost due to multiprocessing. "
            "Rerunning with num_workers=0 may give better error trace.",
            "process 12 exited unexpectedly with exit code 1",
        ),
    ],
)
def test_errors_of_torch_about_dead_workers(torchs, ours):
    with pytest.raises(WorkerDiedError) as caught, explain_worker_death():
        raise RuntimeError(torchs)
    assert str(caught.value).startswith(f"a data-loader process died: {ours}. The usual cause")


def test_a_death_while_torch_writes_a_file_is_reported_as_such():
    class File:
        writes = 0

        def write(self, data: bytes) -> int:
            self.writes += 1
            if self.writes == 4:  # in the middle of a record
                raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")
            return len(data)

        def flush(self) -> None:
            pass

    with pytest.raises(RuntimeError, match="unexpected pos"):  # what torch makes of it
        torch.save({"weight": torch.zeros(3)}, File())
    with pytest.raises(WorkerDiedError, match="process 12 is killed by signal: Killed"), explain_worker_death():
        torch.save({"weight": torch.zeros(3)}, File())


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match=r"^CUDA error$"), explain_worker_death():
        raise RuntimeError("CUDA error")


def test_closing_ends_the_processes():
    before = set(multiprocessing.active_children())
    batches = training_batches(stream(), batch_size=2, first_step=1, last_step=50, workers=2)
    next(batches)
    started = set(multiprocessing.active_children()) - before
    assert len(started) == 2
    batches.close()
    gc.collect()
    assert set(multiprocessing.active_children()) <= before


def test_ctrl_c_is_not_the_business_of_loader_processes():
    before = set(multiprocessing.active_children())
    batches = training_batches(stream(), batch_size=2, first_step=1, last_step=30, workers=1, prefetch=1)
    arrived = [next(batches)]
    for process in set(multiprocessing.active_children()) - before:
        os.kill(process.pid, signal.SIGINT)
    arrived.extend(batches)
    assert len(arrived) == 30


def test_starting_draws_nothing_from_the_global_generator():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    list(training_batches(stream(), batch_size=2, first_step=1, last_step=1, workers=1))
    assert torch.equal(torch.rand(1), expected)


def test_processes_may_be_spawned():
    encode_centers = partial(CenterRepresentation().encode, labels=SHAPES)
    source = SampleStream(InMemoryDataset(Images(3)), RandomFlip(), encode_centers, 5)  # none of them from this file
    options = {"batch_size": 2, "first_step": 1, "last_step": 3}
    forked = take(training_batches(source, **options, workers=0))
    method = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        spawned = take(training_batches(source, **options, workers=1))
    finally:
        multiprocessing.set_start_method(method, force=True)
    assert_same(forked, spawned)


def test_a_batch_that_cannot_be_shared():
    with pytest.raises(InvalidArgumentError) as caught:
        training_batches(stream(), batch_size=8, first_step=1, last_step=1, world_size=3, parts=1, workers=0)
    assert str(caught.value) == "expected a batch_size that 3 processes can share evenly, got 8; use 6 or 9"
    with pytest.raises(InvalidArgumentError, match=r"a batch_size that 2 parts can share evenly, got 3; use 2 or 4$"):
        training_batches(stream(), batch_size=3, first_step=1, last_step=1, parts=2, workers=0)
    with pytest.raises(InvalidArgumentError, match=r"2 processes in 2 parts each can share evenly, got 2; use 4$"):
        training_batches(stream(), batch_size=2, first_step=1, last_step=1, world_size=2, parts=2, workers=0)


@pytest.mark.parametrize(
    "bad", [{"batch_size": 0}, {"first_step": 0}, {"rank": 1}, {"workers": -1}, {"parts": 0}, {"prefetch": 0}]
)
def test_arguments_out_of_range(bad):
    options = {"batch_size": 2, "first_step": 1, "last_step": 1, "workers": 0} | bad
    name, value = next(iter(bad.items()))
    with pytest.raises(InvalidArgumentError, match=f"{name}={value}"):
        training_batches(stream(), **options)
