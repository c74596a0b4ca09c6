"""Training batches: samples of the stream, stacked by loader processes in their order.

Samples are numbered from 0 over the whole training: step s (from 1 on) takes the numbers (s - 1) * batch_size to
s * batch_size - 1. Neither the number of loader processes nor how training processes share a batch changes what is
learnt from.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from panscape.errors import InvalidArgumentError, PanscapeError, WorkerDiedError
from panscape.panoptic import PanopticMap
from panscape.training.samples import SampleStream, SkippedSample, StreamItem

_DEATH = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) "
    r"(exited unexpectedly(?: with exit code -?\d+)?|is killed by signal: [^.]*)"
)


class Batch(NamedTuple):
    """Samples of one size, stacked.

    Attributes:
        images: uint8 [B, 3, h, w].
        targets: a NamedTuple of tensors with a first axis of length B.
        names: of the B pictures.
        skipped: pictures that could not be used.
        truths: of the B crops; None for those that were not asked for.
    """

    images: Tensor
    targets: tuple[Tensor, ...]
    names: list[str]
    skipped: list[SkippedSample]
    truths: list[PanopticMap | None]


def collate(items: Sequence[StreamItem]) -> Batch:
    """Stack samples; in a loader process straight into shared memory.

    Raises:
        InvalidArgumentError: the crops, or a field of their targets, are not of one size.
    """
    kind: Any = type(items[0].targets)
    images = _stacked([item.image for item in items], "crops", items)
    targets = [_stacked([item.targets[i] for item in items], name, items) for i, name in enumerate(kind._fields)]
    return Batch(
        images,
        kind(*targets),
        [item.name for item in items],
        [skipped for item in items for skipped in item.skipped],
        [item.truth for item in items],
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
    """Start loader processes and return this process's batches, in order; close the iterator to end them.

    Args:
        stream: of samples.
        batch_size: samples a step, over all processes and parts.
        first_step: from 1 on.
        last_step: inclusive.
        rank: of this process; it takes the rank-th contiguous share of each step's samples.
        world_size: number of training processes.
        parts: number of batches that a process's share comes in.
        workers: loader processes; 0 prepares samples when they are asked for. Has no influence on what comes.
        prefetch: batches that each of them prepares ahead; they wait in shared memory.
        pin_memory: for a faster copy to a CUDA device.

    Raises:
        InvalidArgumentError: an argument is out of range, or the batch cannot be shared out.
        BadSampleError: on access; see :class:`SampleStream`.
        WorkerDiedError: on access; a loader process was killed (see :func:`loader_death_explained`).
    """
    if min(batch_size, first_step, world_size, parts, prefetch) < 1 or workers < 0 or not 0 <= rank < world_size:
        raise InvalidArgumentError(
            "expected batch_size, first_step, world_size, parts and prefetch of at least 1, workers of at least 0 and "
            f"rank in 0..world_size - 1, got batch_size={batch_size}, first_step={first_step}, "
            f"world_size={world_size}, parts={parts}, prefetch={prefetch}, workers={workers}, rank={rank}"
        )
    divisor = world_size * parts
    if batch_size % divisor:
        lower, upper = batch_size // divisor * divisor, -(-batch_size // divisor) * divisor
        raise InvalidArgumentError(
            f"expected a batch_size that {world_size} processes in {parts} parts each can share evenly, got "
            f"{batch_size}; take {f'{lower} or ' if lower else ''}{upper}"
        )
    part = batch_size // divisor
    starts = [
        (step - 1) * batch_size + (rank * parts + i) * part
        for step in range(first_step, last_step + 1)
        for i in range(parts)
    ]
    loader: DataLoader[Any] = DataLoader(
        _Batches(stream, part),
        batch_size=None,
        sampler=starts,
        collate_fn=_as_it_is,  # with batch_size=None it gets what the dataset gives
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        generator=Generator(),  # its own, or starting would draw a number from the one that training goes on with
    )
    return _checked(iter(loader))


@contextmanager
def loader_death_explained() -> Iterator[None]:
    """Turn torch's error about the death of a loader process into :class:`~panscape.errors.WorkerDiedError`.

    A signal tells of the death, so that the error arises wherever the training is at that moment: its whole loop
    belongs in here.
    """
    try:
        yield
    except RuntimeError as error:
        death = _DEATH.search(str(error))
        if isinstance(error, PanscapeError) or death is None:
            raise
        raise WorkerDiedError(f"process {death[1]} {death[2]}") from error


class _Batches(Dataset[Batch | PanscapeError]):
    """Whole batches by their first sample number. Errors for users are returned: torch would lengthen their text."""

    def __init__(self, stream: SampleStream, size: int) -> None:
        self.stream, self.size = stream, size

    def __getitem__(self, start: int) -> Batch | PanscapeError:
        try:
            return collate([self.stream[number] for number in range(start, start + self.size)])
        except PanscapeError as error:
            return error


def _checked(batches: Iterator[Batch | PanscapeError]) -> Iterator[Batch]:
    try:
        while True:
            with loader_death_explained():
                batch = next(batches, None)
            if batch is None:
                return
            if isinstance(batch, PanscapeError):
                raise batch
            yield batch
    finally:
        del batches  # ends the processes even while a traceback keeps this frame


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; what it means is decided in the first
    torch.set_num_threads(1)


def _as_it_is(batch: Any) -> Any:
    return batch


def _stacked(tensors: list[Tensor], name: str, items: Sequence[StreamItem]) -> Tensor:
    for tensor, item in zip(tensors, items, strict=True):
        if tensor.shape != tensors[0].shape:
            raise InvalidArgumentError(
                f"expected {name} of one size in a batch, got {list(tensors[0].shape)} of {items[0].name} and "
                f"{list(tensor.shape)} of {item.name}; augment must give crops of one size, end it with RandomCrop"
            )
    stacked: Tensor = default_collate(tensors)
    return stacked
