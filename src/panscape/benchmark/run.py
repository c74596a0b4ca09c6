"""Measure models side by side: all of them alternate on the same images in one process."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch

from panscape.benchmark.cold import FirstBatch, in_new_process
from panscape.benchmark.images import ImageSet, image_set
from panscape.benchmark.machine import describe_machine
from panscape.benchmark.options import BenchmarkOptions
from panscape.benchmark.report import BenchmarkReport, BenchmarkRow, StageTime, stage_time
from panscape.benchmark.runners import PREDICT, ModelRunner, Runner, Setting, create_runner
from panscape.errors import InvalidArgumentError, PanscapeError
from panscape.inference.output_folder import OutputFolder
from panscape.inference.pipeline import PredictionRun
from panscape.inference.results import FileError, FileResult
from panscape.inference.sources import SourceFile
from panscape.models.prediction import NETWORK
from panscape.runtime_options import RuntimeOption
from panscape.stopwatch import Stopwatch

_logger = logging.getLogger(__name__)

Step = Callable[[], None]

_WITH_MEMORY_FORMATS = ("auto", "torch")

# Of a folder row: of few files, those that are read first and written last would take most of the time.
_FOLDER_FILES = 60


def run_benchmark(
    models: Sequence[str],
    options: BenchmarkOptions | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    first_batch: Callable[..., FirstBatch] | None = None,
) -> BenchmarkReport:
    """Measure models and peers.

    Args:
        models: names or paths as for :func:`panscape.load`; names of :func:`panscape.list_models` for networks with
            random weights.
        options: what is measured.
        progress: receives the number of steps done and of all steps.
        first_batch: measures a batch in a new process; by default :func:`panscape.benchmark.cold.in_new_process`.

    Raises:
        InvalidArgumentError: there is no model, or an option has an invalid value.
        PanscapeError: a model or an image cannot be loaded.
    """
    options = options or BenchmarkOptions()
    if not models:
        raise InvalidArgumentError("expected at least one MODEL to measure, got none")
    options.require_valid()
    settings = _settings(models, options)
    machine = describe_machine()
    rows: list[BenchmarkRow] = []
    with TemporaryDirectory(prefix="panscape_benchmark_") as root, _restored_threads() as usual:
        sets = [
            image_set(options.images, options.limit, size, Path(root) / f"images{number}")
            for number, size in enumerate(options.sizes)
        ]
        step = _Steps(progress, _count(settings, sets, options)).step
        for threads in options.threads or (usual,):
            torch.set_num_threads(threads)
            runners = _create(settings, Path(root) / "results")
            for images, batch_size in product(sets, options.batch_size):
                group = _Group(runners, images, batch_size, threads, Path(root), step)
                warm = group.warm(options.rounds)
                rows += warm
                if _has_folder(options, batch_size):
                    rows += group.folder(options.rounds, warm)
                if not options.no_cold:
                    rows += group.cold(first_batch or in_new_process)
        return BenchmarkReport(machine, tuple(images.origin for images in sets), options.rounds, tuple(rows))


def _settings(models: Sequence[str], options: BenchmarkOptions) -> list[Setting]:
    of_models = product(models, options.runtime, options.precision, options.memory_format)
    of_peers = product(options.peer, ("torch",), options.precision, options.memory_format)
    settings = (
        Setting(
            name,
            cast(RuntimeOption, runtime),
            precision,
            memory_format if runtime in _WITH_MEMORY_FORMATS else "contiguous",
            options.device,
            options.max_size,
        )
        for name, runtime, precision, memory_format in [*of_models, *of_peers]
    )
    return list(dict.fromkeys(settings))


def _create(settings: Sequence[Setting], out: Path) -> dict[Setting, Runner]:
    """Load all models; of several, those that cannot run in a runtime or precision are left out with a warning."""
    runners: dict[Setting, Runner] = {}
    for setting in settings:
        try:
            runners[setting] = create_runner(setting, out)
        except InvalidArgumentError as error:
            is_last = setting == settings[-1] and not runners
            if len(settings) == 1 or is_last:
                raise
            _warn_of_omission(setting, error)
    return runners


def _warn_of_omission(setting: Setting, error: InvalidArgumentError) -> None:
    _logger.warning("%s, runtime %s, %s is omitted: %s", setting.name, setting.runtime, setting.precision, error)


def _has_folder(options: BenchmarkOptions, batch_size: int) -> bool:
    return batch_size == 1 and not options.no_folder  # "panscape predict" has no larger batches


def _count(settings: Sequence[Setting], sets: Sequence[ImageSet], options: BenchmarkOptions) -> int:
    """Return the number of steps for the progress; a peer may have fewer."""
    count = 0
    for images, batch_size in product(sets, options.batch_size):
        count += (options.rounds + 1) * len(images.batches(batch_size))
        count += options.rounds * _has_folder(options, batch_size) + (not options.no_cold)
    return count * len(settings) * max(1, len(options.threads))


class _Steps:
    """Counts steps for the progress."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def step(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)


@dataclass(frozen=True)
class _Group:
    """Rows with the same images, batch size and threads, which alternate."""

    runners: dict[Setting, Runner]
    images: ImageSet
    batch_size: int
    threads: int
    root: Path
    step: Step

    def warm(self, rounds: int) -> list[BenchmarkRow]:
        """Measure each batch once in each round; a round before the first one does not count.

        Models that cannot run are left out: networks of one size are converted at their first image only.
        """
        batches = self.images.batches(self.batch_size)
        laps: dict[Setting, list[list[Stopwatch]]] = {setting: [[] for _ in batches] for setting in self.runners}
        for number in range(rounds + 1):
            for position, paths in enumerate(batches):
                for setting, runner in list(self.runners.items()):
                    watch = Stopwatch(runner.device)
                    try:
                        runner.run(paths, watch)
                    except InvalidArgumentError as error:
                        if number or len(self.runners) == 1:
                            raise
                        _warn_of_omission(setting, error)
                        del self.runners[setting], laps[setting]
                    if number:
                        laps[setting][position].append(watch)
                    self.step()
        rows: list[BenchmarkRow] = []
        first: tuple[list[float], float] | None = None
        for setting, found in laps.items():
            stages = {stage: self._stage(found, (stage,)) for stage in found[0][0].elapsed}
            predict, times = self._stage(found, PREDICT), [_sum(w.elapsed, PREDICT) for ws in found for w in ws]
            first = first or (times, predict.cpu_ms)
            rows.append(
                self._row(
                    setting,
                    "warm",
                    self.runners[setting].scope,
                    samples=len(times),
                    stages=stages,
                    total=self._stage(found, tuple(stages)),
                    predict=predict,
                    images_per_second=1000 / predict.p50_ms,
                    ratio=statistics.median(a / b for a, b in zip(first[0], times, strict=True)),
                    cpu_ratio=first[1] / predict.cpu_ms if predict.cpu_ms else None,
                )
            )
        return rows

    def folder(self, rounds: int, warm: Sequence[BenchmarkRow]) -> list[BenchmarkRow]:
        """Measure ``panscape predict`` on all images, which are repeated if they are few."""
        models = {s: r for s, r in self.runners.items() if isinstance(r, ModelRunner)}
        times: dict[Setting, list[tuple[float, float]]] = {setting: [] for setting in models}
        paths = islice(cycle(self.images.paths), max(_FOLDER_FILES, len(self.images.paths)))
        sources = [SourceFile(path, f"{number}_{path.stem}") for number, path in enumerate(paths)]
        for _ in range(rounds):
            for setting, runner in models.items():
                started, cpu_started = time.perf_counter(), time.process_time()
                with OutputFolder(self.root / "folder", runner.predictor.model.labels, legend=True) as outputs:
                    PredictionRun(runner.predictor, outputs, overwrite=True).predict_files(sources, _RaiseErrors())
                times[setting].append((time.perf_counter() - started, time.process_time() - cpu_started))
                self.step()
        rows = []
        network_times = {s: row.stages[NETWORK] for s, row in zip(self.runners, warm, strict=True)}
        for setting, spent in times.items():
            total = stage_time([elapsed for elapsed, _ in spent], [cpu for _, cpu in spent], count=len(sources))
            rows.append(
                self._row(
                    setting,
                    "folder",
                    f"folder of {len(sources)} images to overlays and maps on disk{_random(models[setting])}",
                    samples=rounds,
                    total=total,
                    images_per_second=1000 / total.p50_ms,
                    share_of_network_rate=network_times[setting].p50_ms / total.p50_ms,
                )
            )
        return rows

    def cold(self, first_batch: Callable[..., FirstBatch]) -> list[BenchmarkRow]:
        """Measure the first batch of a new process for each setting."""
        rows = []
        paths = self.images.batches(self.batch_size)[0]
        for setting in self.runners:
            found = first_batch(setting, paths, self.threads, self.root / "cold")
            self.step()
            once = {stage: stage_time([found.elapsed[stage]], [found.cpu[stage]]) for stage in found.elapsed}
            rows.append(
                self._row(
                    setting,
                    "cold",
                    found.scope,
                    images=len(paths),
                    samples=1,
                    stages=once,
                    total=stage_time([sum(found.elapsed.values())], [sum(found.cpu.values())]),
                    peak_rss_mb=found.peak_rss_mb,
                    peak_gpu_mb=found.peak_gpu_mb,
                )
            )
        return rows

    def _stage(self, found: Sequence[Sequence[Stopwatch]], stages: Sequence[str]) -> StageTime:
        """Return the times of stages together; CPU time is the mean over batches of the minimum over rounds."""
        elapsed = [_sum(watch.elapsed, stages) for watches in found for watch in watches]
        cpu = [min(_sum(watch.cpu, stages) for watch in watches) for watches in found]
        return stage_time(elapsed, [statistics.fmean(cpu)], count=self.batch_size)

    def _row(self, setting: Setting, phase: str, scope: str, *, samples: int, **measured: object) -> BenchmarkRow:
        conditions = {
            "model": setting.name,
            "size": self.images.size,
            "batch_size": self.batch_size,
            "threads": self.threads,
            "device": str(self.runners[setting].device),
            "runtime": self.runners[setting].runtime,
            "precision": self.runners[setting].precision,
            "memory_format": setting.memory_format,
            "images": len(self.images.paths),
        }
        return BenchmarkRow(**{**conditions, "phase": phase, "scope": scope, "samples": samples, **measured})  # type: ignore[arg-type]


def _sum(seconds: Mapping[str, float], stages: Sequence[str]) -> float:
    return sum(seconds[stage] for stage in stages)


def _random(runner: Runner) -> str:
    return runner.scope.removeprefix(runner.scope.partition(",")[0])


class _RaiseErrors:
    """Progress of a prediction run in which no image may fail."""

    def on_result(self, outcome: FileResult | FileError) -> None:
        if isinstance(outcome, FileError):
            raise PanscapeError(f"{outcome.source}: {outcome.error}")

    def on_frame(self, source: SourceFile, index: int, num_frames: int | None) -> None:
        raise AssertionError("a benchmark has no videos")


@contextmanager
def _restored_threads() -> Iterator[int]:
    """Yield torch's number of threads, and restore it afterwards."""
    usual = torch.get_num_threads()
    try:
        yield usual
    finally:
        torch.set_num_threads(usual)
