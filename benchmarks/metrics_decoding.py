"""Time the decoding of PNGs by threads and by processes. The evaluation of files decodes two PNGs per image.

PNGs in COCO panoptic format are generated at 1024 x 2048 with about 60 segments, as RGB with the default compression,
and are read from the page cache of the system. Each method decodes all of them to ids, as the evaluation does, and sums
the ids; the sums are compared. "ids sent back" is the cost of processes if the main process needs the maps.

Times are wall-clock time, the minimum over rounds in which the methods alternate, with pools that are warm. The
start-up time of the processes is printed below the table. The results are meaningful only on an idle machine.

Run ``python benchmarks/metrics_decoding.py --workers 1 2 4`` (or ``python benchmarks/metrics.py --decoding``, for one
worker and for one per processor); it prints a Markdown table. ``--quick`` takes seconds.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from reporting import machine, table

from panscape import PanopticMap
from panscape.formats import coco_ids, encode_coco, load_coco_png

SIZE = (1024, 2048)
NUM_SEGMENTS = 60


class Way(NamedTuple):
    """One method of reading all PNGs.

    Attributes:
        name: name in the table.
        pool: executor that does the work.
        work: function of the path of one PNG.
        total: sum of the ids from the result of ``work``.
    """

    name: str
    pool: Executor
    work: Callable[[str], Any]
    total: Callable[[Any], int]


def ids_of(path: str) -> np.ndarray:
    """Return the ids of a PNG, int32 [H, W]."""
    return coco_ids(load_coco_png(path))


def total_of(path: str) -> int:
    """Return the sum of the ids of a PNG."""
    return total(ids_of(path))


def total(ids: np.ndarray) -> int:
    return int(ids.sum(dtype=np.int64))


def write_pngs(folder: Path, count: int, height: int, width: int) -> list[str]:
    """Write generated maps: ellipses on bands with rough edges, like those of photos."""
    paths = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        rough = y + 40 * np.sin(x / 150 + seed) + random.normal(0, 2, (height, width)).cumsum(axis=1) / 30
        ids = 1 + np.clip(rough * 8 // height, 0, 7).astype(np.int32)
        for segment in range(9, NUM_SEGMENTS + 1):
            cy, cx, radii = random.uniform(0, height), random.uniform(0, width), random.uniform(0.015, 0.15, 2) * height
            ids[((rough - cy) / radii[0]) ** 2 + ((x - cx) / radii[1]) ** 2 <= 1] = segment
        rgb, _ = encode_coco(PanopticMap(torch.from_numpy(ids), torch.zeros(NUM_SEGMENTS, dtype=torch.int64)))
        paths.append(str(folder / f"{seed}.png"))
        Image.fromarray(rgb.numpy()).save(paths[-1])
    return paths


def started(ways: Sequence[Way], paths: Sequence[str], num_workers: int) -> float:
    """Warm up every worker of each method; return the seconds that the first method with processes takes for it."""
    seconds = 0.0
    for way in ways:
        began = time.perf_counter()
        list(way.pool.map(way.work, [paths[0]] * num_workers))
        seconds = seconds or (time.perf_counter() - began) * isinstance(way.pool, ProcessPoolExecutor)
    return seconds


def measure(ways: Sequence[Way], paths: Sequence[str], expected: int, repeats: int) -> dict[str, float]:
    """Return the minimum wall-clock milliseconds per PNG of each method; the methods alternate."""
    best = dict.fromkeys((way.name for way in ways), float("inf"))
    for _ in range(repeats):
        for way in ways:
            began = time.perf_counter()
            results = list(way.pool.map(way.work, paths))
            best[way.name] = min(best[way.name], (time.perf_counter() - began) * 1000 / len(paths))
            if sum(map(way.total, results)) != expected:
                raise SystemExit(f"{way.name} read different ids")
    return best


def print_decoding(workers: Sequence[int], num_pngs: int, repeats: int, size: tuple[int, int] = SIZE) -> None:
    """Measure all methods with each number of workers and print a table."""
    torch.set_num_threads(1)
    rows, starts = [], []
    alone = 0.0
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pngs(Path(folder), num_pngs, *size)
        num_bytes = sum(Path(path).stat().st_size for path in paths) / num_pngs
        expected = sum(map(total_of, paths))
        for num_workers in workers:
            with ExitStack() as stack:
                threads = stack.enter_context(ThreadPoolExecutor(num_workers))
                spawn = multiprocessing.get_context("spawn")
                processes = stack.enter_context(ProcessPoolExecutor(num_workers, mp_context=spawn))
                ways = [
                    Way("threads", threads, total_of, int),
                    Way("processes", processes, total_of, int),
                    Way("processes, ids sent back", processes, ids_of, total),
                ]
                starts.append(f"{num_workers} in {started(ways, paths, num_workers):.1f} s")
                times = measure(ways, paths, expected, repeats)
            alone = alone or times["threads"]
            rows += [[str(num_workers), name, f"{ms:.2f}", f"{alone / ms:.2f}"] for name, ms in times.items()]
    print(f"{machine()}, {os.cpu_count()} processors\n")
    print(f"{num_pngs} PNGs of {size[0]} x {size[1]}, {num_bytes / 1000:.0f} kB each; all methods read the same ids.\n")
    print(table(["workers", "method", "ms per PNG", f"speedup over threads, {workers[0]}"], rows))
    print(f"\nStart-up of processes: {', '.join(starts)}.")


def print_quickly() -> None:
    """Check in a few seconds that everything runs; the times are meaningless."""
    print_decoding([1], num_pngs=2, repeats=1, size=(128, 256))


def default_workers() -> list[int]:
    return sorted({1, os.cpu_count() or 1})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=default_workers(), help="numbers of workers")
    parser.add_argument("--pngs", type=int, default=64, help="number of PNGs")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--quick", action="store_true", help="check that everything runs; the times are meaningless")
    arguments = parser.parse_args()
    if arguments.quick:
        print_quickly()
    else:
        print_decoding(arguments.workers, arguments.pngs, arguments.repeats)


if __name__ == "__main__":
    main()
