"""Training batches: samples of the stream, stacked in order by loader processes.

Samples are numbered from 0 over the whole training: step s (from 1 on) uses the numbers (s - 1) * batch_size to
s * batch_size - 1. Neither the number of loader processes nor the number of training processes changes the samples of a
step.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from panscape.datasets.load import SkippedSample
from panscape.datasets.workers import explain_worker_death
from panscape.errors import InvalidArgumentError, PanscapeError
from panscape.training.data.shared_memory import Shapes, SharedMemoryPool
from panscape.training.data.stream import SampleStream, StreamItem
from panscape.training.profiler import SampleTimes


class Batch(NamedTuple):
    """Samples of one size, stacked.

    Attributes:
        images: uint8 [B, 3, h, w].
        targets: a NamedTuple of tensors with a first axis of length B.
        names: names of the B images.
        skipped: images that could not be used.
        times: preparation times of the B samples.
        is_clamped: of the B samples, see :class:`~panscape.datasets.segment_sampling.Scale`.
    """

    images: Tensor
    targets: tuple[Tensor, ...]
    names: list[str]
    skipped: list[SkippedSample]
    times: Sequence[SampleTimes] = ()
    is_clamped: Sequence[bool | None] = ()


def collate(items: Sequence[StreamItem], memory: Callable[[Shapes], Sequence[Tensor] | None] | None = None) -> Batch:
    """Stack samples into a batch; a loader process stacks them directly into shared memory.

    Args:
        items: samples of the same size.
        memory: returns output tensors for images and targets; new ones are allocated if it is absent or returns None.

    Raises:
        InvalidArgumentError: the crops, or a field of their targets, differ in size.
    """
    kind: Any = type(items[0].targets)
    fields = [("crops", [item.image for item in items])]
    fields += [(name, [item.targets[i] for item in items]) for i, name in enumerate(kind._fields)]
    for name, tensors in fields:
        _require_one_size(name, tensors, items)
    out = None if memory is None else memory([_shape(tensors) for _, tensors in fields])
    if out is None:
        stacked = [default_collate(tensors) for _, tensors in fields]
    else:
        stacked = [torch.stack(tensors, out=place) for (_, tensors), place in zip(fields, out, strict=True)]
    return Batch(
        stacked[0],
        kind(*stacked[1:]),
        [item.name for item in items],
        [skipped for item in items for skipped in item.skipped],
        [item.times for item in items],
        [item.is_clamped for item in items],
    )


def training_batches(
    stream: SampleStream,
    *,
    batch_size: int,
    first_step: int,
    last_step: int,
    rank: int = 0,
    world_size: int = 1,
    parts: int = 1,
    workers: int,
    prefetch: int = 4,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Start loader processes and return this process's batches, in order; close the iterator to stop the processes.

    Args:
        stream: the samples.
        batch_size: samples per step, over all processes and parts.
        first_step: counted from 1.
        last_step: inclusive.
        rank: rank of this process; it uses the rank-th contiguous share of each step's samples.
        world_size: number of training processes.
        parts: number of batches into which a process's share is divided.
        workers: number of loader processes; 0 prepares samples on demand. It does not affect the batches.
        prefetch: number of batches that each loader process prepares ahead; they are kept in shared memory.
        pin_memory: pin memory for a faster copy to a CUDA device.

    Raises:
        InvalidArgumentError: an argument is out of range, or the batch cannot be divided evenly.
        BadSampleError: on access; see :class:`SampleStream`.
        WorkerDiedError: on access; a loader process was killed (see :func:`explain_worker_death`).
    """
    if min(batch_size, first_step, world_size, parts, prefetch) < 1 or workers < 0 or not 0 <= rank < world_size:
        raise InvalidArgumentError(
            "expected batch_size, first_step, world_size, parts and prefetch of at least 1, workers of at least 0 and "
            f"rank in 0..world_size - 1, got batch_size={batch_size}, first_step={first_step}, "
            f"world_size={world_size}, parts={parts}, prefetch={prefetch}, workers={workers}, rank={rank}"
        )
    part = per_process_batch(batch_size, world_size, parts)
    starts = [
        (step - 1) * batch_size + (rank * parts + i) * part
        for step in range(first_step, last_step + 1)
        for i in range(parts)
    ]
    slots = SharedMemoryPool([], 0)
    if workers and starts and not pin_memory and multiprocessing.get_start_method() == "fork":
        slots = _slots_for(stream, starts[0], part, workers * prefetch + 2)
    loader: DataLoader[Any] = DataLoader(
        _Batches(stream, part, slots),
        batch_size=None,
        sampler=_Tasks(starts, slots),
        collate_fn=_identity,  # with batch_size=None it receives the dataset's items
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        generator=Generator(),  # its own, since starting a loader draws a number from the global generator
    )
    return _receive(iter(loader), slots)


def per_process_batch(batch_size: int, world_size: int, parts: int = 1) -> int:
    """Return the samples in one part of one process's share of a batch.

    Raises:
        InvalidArgumentError: the batch cannot be divided evenly.
    """
    divisor = world_size * parts
    if batch_size % divisor:
        lower, upper = batch_size // divisor * divisor, -(-batch_size // divisor) * divisor
        sharers = f"{world_size} processes" if world_size > 1 else f"{parts} parts"
        if world_size > 1 and parts > 1:
            sharers += f" in {parts} parts each"
        raise InvalidArgumentError(
            f"expected a batch_size that {sharers} can share evenly, got {batch_size}; use "
            f"{f'{lower} or ' if lower else ''}{upper}"
        )
    return batch_size // divisor


class _Task(NamedTuple):
    start: int  # the first sample number
    slot: int | None  # the slot for the batch


class _BatchInSlot(NamedTuple):
    slot: int
    shapes: Shapes  # of images and targets
    kind: Any  # the class of the targets
    names: list[str]
    skipped: list[SkippedSample]
    times: Sequence[SampleTimes]
    is_clamped: Sequence[bool | None]


class _Answer(NamedTuple):
    unused: int | None  # the slot of the task, if it does not hold the content
    content: Batch | _BatchInSlot | PanscapeError


class _Tasks:
    """The tasks of the loader processes; a task acquires its slot when it is issued."""

    def __init__(self, starts: Sequence[int], slots: SharedMemoryPool) -> None:
        self.starts, self.slots = starts, slots

    def __iter__(self) -> Iterator[_Task]:
        for start in self.starts:
            yield _Task(start, self.slots.acquire())


class _Batches(Dataset[_Answer]):
    """Whole batches by task. User errors are returned as values: torch would extend their message."""

    def __init__(self, stream: SampleStream, size: int, slots: SharedMemoryPool) -> None:
        self.stream, self.size, self.slots = stream, size, slots

    def __getitem__(self, task: _Task) -> _Answer:
        slot = task.slot
        memory = None if slot is None else partial(self.slots.tensors, slot)
        try:
            batch = collate([self.stream[number] for number in range(task.start, task.start + self.size)], memory)
        except PanscapeError as error:
            return _Answer(slot, error)
        shapes = [(t.dtype, tuple(t.shape)) for t in (batch.images, *batch.targets)]
        if slot is None or self.slots.tensors(slot, shapes) is None:
            return _Answer(slot, batch)
        return _Answer(None, _BatchInSlot(slot, shapes, type(batch.targets), *batch[2:]))


def _slots_for(stream: SampleStream, number: int, size: int, count: int) -> SharedMemoryPool:
    """Return slots for batches of the largest crops; an empty pool if a sample or the memory is not available."""
    try:
        one = collate([stream[stream.number_of_largest(number)]])  # its error is reported with its batch
        return SharedMemoryPool([(t.dtype, (size, *t.shape[1:])) for t in (one.images, *one.targets)], count)
    except (PanscapeError, OSError):
        return SharedMemoryPool([], 0)


def _receive(answers: Iterator[_Answer], slots: SharedMemoryPool) -> Iterator[Batch]:
    try:
        while True:
            with explain_worker_death():
                answer = next(answers, None)
            if answer is None:
                return
            yield _unpack(answer, slots)
    finally:
        del answers  # stops the processes even while a traceback holds this frame


def _unpack(answer: _Answer, slots: SharedMemoryPool) -> Batch:
    content = answer.content
    if isinstance(content, PanscapeError):
        raise content
    if isinstance(content, _BatchInSlot):
        # They fit into the slot, as when they were written.
        images, *targets = cast(list[Tensor], slots.tensors(content.slot, content.shapes, auto_release=True))
        return Batch(images, content.kind(*targets), *content[3:])
    if answer.unused is not None:
        slots.release(answer.unused)
    return content


def _start_worker(_: int) -> None:
    # Ctrl-C and job managers signal all processes; the main process handles the signal and stops the others.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)


def _identity(answer: Any) -> Any:
    return answer


def _shape(tensors: list[Tensor]) -> tuple[torch.dtype, tuple[int, ...]]:
    return tensors[0].dtype, (len(tensors), *tensors[0].shape)


def _require_one_size(name: str, tensors: list[Tensor], items: Sequence[StreamItem]) -> None:
    for tensor, item in zip(tensors, items, strict=True):
        if tensor.shape != tensors[0].shape:
            raise InvalidArgumentError(
                f"expected {name} of one size in a batch, got {list(tensors[0].shape)} of {items[0].name} and "
                f"{list(tensor.shape)} of {item.name}; augment must return crops of one size, end it with RandomCrop"
            )
