"""The rows of a benchmark, as JSON and as Markdown tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from panscape.benchmark.machine import Machine
from panscape.metrics.tables import format_count
from panscape.serialization import to_plain

_TITLES = {"postprocess": "post-process"}
# Columns of what distinguishes rows: attribute, title, what a caption says of the value that all rows share.
_CONDITIONS = (
    ("size", "size", "{}"),
    ("batch_size", "batch", "batch size {}"),
    ("threads", "threads", "threads {}"),
    ("device", "device", "{}"),
    ("runtime", "runtime", "{}"),
    ("precision", "precision", "{}"),
    ("memory_format", "memory format", "{}"),
)


@dataclass(frozen=True, slots=True)
class StageTime:
    """Time of a stage per image.

    Attributes:
        p50_ms: median of the elapsed milliseconds.
        p99_ms: their 99th percentile, by nearest rank: the maximum of fewer than 100 samples.
        cpu_ms: milliseconds of all processors; of warm rows the mean over batches of the minimum over rounds.
    """

    p50_ms: float
    p99_ms: float
    cpu_ms: float


def stage_time(elapsed: Sequence[float], cpu: Sequence[float], count: int = 1) -> StageTime:
    """Return the time per image.

    Args:
        elapsed: seconds of each sample.
        cpu: seconds of all processors; the median counts.
        count: number of images in a sample.
    """
    last = sorted(elapsed)[math.ceil(0.99 * len(elapsed)) - 1]
    p50, p99, used = (1000 * s / count for s in (statistics.median(elapsed), last, statistics.median(cpu)))
    return StageTime(p50, p99, used)


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """A measurement; what was not measured is None.

    Attributes:
        phase: "warm" for each stage after a first round; "folder" for "panscape predict" on all images; "cold" for the
            first batch of a new process.
        model: the model or peer, as it was given.
        size: of the images, such as "512x1024"; "3 sizes" if they differ.
        batch_size: number of images in one forward pass.
        threads: CPU threads.
        device: device that it ran on.
        runtime: what ran the network: "torch", or another runtime with version and precision.
        precision: numeric precision of the network.
        memory_format: memory format of weights and images.
        scope: where the time starts and ends.
        images: number of images.
        samples: number of measured batches, or of passes over the folder.
        total: time of all stages.
        stages: time of each stage by its name; empty for folders.
        predict: preprocessing, network and post-processing together, from an image in memory to its segments.
        images_per_second: by the median of ``predict``, for folders by that of ``total``.
        ratio: ``predict`` of the first row of the group divided by that of this row, elapsed; the median over pairs
            that were measured one after the other.
        cpu_ratio: likewise, of CPU time.
        share_of_network_rate: images per second of the folder divided by those of the network stage alone.
        peak_rss_mb: largest resident memory of the new process, MiB.
        peak_gpu_mb: largest memory of its tensors on the GPU, MiB.
    """

    phase: str
    model: str
    size: str
    batch_size: int
    threads: int
    device: str
    runtime: str
    precision: str
    memory_format: str
    scope: str
    images: int
    samples: int
    total: StageTime
    stages: Mapping[str, StageTime] = field(default_factory=dict)
    predict: StageTime | None = None
    images_per_second: float | None = None
    ratio: float | None = None
    cpu_ratio: float | None = None
    share_of_network_rate: float | None = None
    peak_rss_mb: float | None = None
    peak_gpu_mb: float | None = None


@dataclass(frozen=True, slots=True)
class BenchmarkReport:
    """The result of a benchmark; ``str()`` returns Markdown.

    Attributes:
        machine: where it ran, and versions.
        origins: what the images are, for each size.
        rounds: passes over the images.
        rows: the measurements.
    """

    machine: Machine
    origins: Sequence[str]
    rounds: int
    rows: Sequence[BenchmarkRow]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, see ``docs/schemas/benchmark.json``."""
        return {
            "machine": to_plain(self.machine),
            "images": list(dict.fromkeys(self.origins)),
            "rounds": self.rounds,
            "rows": [_rounded(to_plain(row)) for row in self.rows],
        }

    def __str__(self) -> str:
        busy = "" if self.machine.load is None else f"; load {self.machine.load} at the start"
        parts = [f"{self.machine}{busy}.", self._warm(), self._folder(), self._cold()]
        return "\n\n".join(part for part in parts if part)

    def _warm(self) -> str:
        rows = [row for row in self.rows if row.phase == "warm"]
        stages = _stages_of(rows)
        header = [*stages, "predict, p50", "p99", "CPU", "images/s", "ratio", "CPU ratio"]
        cells = []
        for row in rows:
            predict = row.predict or row.total
            times = [row.stages[s].p50_ms if s in row.stages else None for s in stages]
            times += [predict.p50_ms, predict.p99_ms, predict.cpu_ms]
            cells.append([*map(_ms, times), *(_two(v) for v in (row.images_per_second, row.ratio, row.cpu_ratio))])
        of = ", ".join([*dict.fromkeys(self.origins), format_count(self.rounds, "round")])
        caption = (
            f"Warm, {of}: milliseconds per image, medians; predict is preprocess, network and post-process; ratios "
            "are to the first row of the same images, batch size and threads"
        )
        return _table(caption, rows, header, cells)

    def _folder(self) -> str:
        rows = [row for row in self.rows if row.phase == "folder"]
        cells = [
            [_ms(r.total.p50_ms), _ms(r.total.cpu_ms), _two(r.images_per_second), _percent(r.share_of_network_rate)]
            for r in rows
        ]
        header = ["elapsed", "CPU", "images/s", "share of the network's rate"]
        return _table("Folder: milliseconds per image with reading and writing in threads", rows, header, cells)

    def _cold(self) -> str:
        rows = [row for row in self.rows if row.phase == "cold"]
        stages = _stages_of(rows)
        cells = []
        for row in rows:
            times = [row.stages[s].p50_ms if s in row.stages else None for s in stages]
            cells.append([*map(_ms, [*times, row.total.p50_ms, row.total.cpu_ms, row.peak_rss_mb, row.peak_gpu_mb])])
        header = [*stages, "total", "CPU", "peak RSS, MiB", "peak GPU, MiB"]
        return _table("Cold, the first batch of a new process: milliseconds", rows, header, cells)


def _stages_of(rows: Iterable[BenchmarkRow]) -> list[str]:
    return list(dict.fromkeys(stage for row in rows for stage in row.stages))


def _table(caption: str, rows: Sequence[BenchmarkRow], header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table below its caption; conditions that all rows share are in the caption."""
    if not rows:
        return ""
    varying, shared = [], []
    for name, title, text in _CONDITIONS:
        values = [str(getattr(row, name)) for row in rows]
        if len(set(values)) > 1:
            varying.append((title, values))
        else:
            shared.append(text.format(values[0]))
    columns = [("model", [row.model for row in rows]), *varying]
    titles = [*(title for title, _ in columns), *(_TITLES.get(name, name) for name in header), "scope"]
    lines = [[*(values[i] for _, values in columns), *cells[i], row.scope] for i, row in enumerate(rows)]
    widths = [max(map(len, column)) for column in zip(titles, *lines, strict=True)]
    texts = {0, *range(1, len(columns)), len(titles) - 1}

    def line(values: Sequence[str]) -> str:
        padded = (v.ljust(w) if i in texts else v.rjust(w) for i, (v, w) in enumerate(zip(values, widths, strict=True)))
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (w + 2) if i in texts else f"{'-' * (w + 1)}:" for i, w in enumerate(widths))
    return "\n".join([f"{caption} ({', '.join(shared)}).", "", line(titles), f"|{rule}|", *map(line, lines)])


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _rounded(value: Any) -> Any:
    """Return JSON values with three decimals."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return round(value, 3) if isinstance(value, float) else value
