"""A new process for one row: start-up, the first batch, peak memory. Its only output is one line of JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panscape.errors import PanscapeError

if TYPE_CHECKING:
    from panscape.benchmark.runners import Setting

IMPORT, LOAD = "import", "load"


@dataclass(frozen=True, slots=True)
class FirstBatch:
    """What a new process measured.

    Attributes:
        elapsed: seconds by stage; the first are :data:`IMPORT` and :data:`LOAD`.
        cpu: seconds of all processors by stage; those of the import have the start of Python, too.
        scope: of the row.
        peak_rss_mb: largest resident memory of the process in MiB; None on Windows.
        peak_gpu_mb: largest memory of tensors on the GPU in MiB; None without one.
    """

    elapsed: dict[str, float]
    cpu: dict[str, float]
    scope: str
    peak_rss_mb: float | None
    peak_gpu_mb: float | None


def in_new_process(
    setting: Setting,
    paths: Sequence[Path],
    threads: int,
    out: Path,
    run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run,
) -> FirstBatch:
    """Measure one batch in a new process.

    Args:
        setting: the model and how it runs.
        paths: image files of one size.
        threads: CPU threads.
        out: folder for the results.
        run: starts the process.

    Raises:
        PanscapeError: the process has failed.
    """
    from panscape.serialization import to_plain

    task = {"setting": to_plain(setting), "paths": list(map(str, paths)), "threads": threads, "out": str(out)}
    command = [sys.executable, "-m", "panscape.benchmark.cold", json.dumps(task)]
    done = run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise PanscapeError(f"the new process for {setting.name} failed ({lines[-1]}); omit such rows with --no-cold")
    return FirstBatch(**json.loads(done.stdout.splitlines()[-1]))


def measure(task: dict[str, Any], started: float, cpu_started: float = 0.0) -> FirstBatch:
    """Import, load and process the batch of a task of :func:`in_new_process`.

    Args:
        task: as there.
        started: time of the start by ``time.perf_counter``.
        cpu_started: likewise by ``time.process_time``.
    """
    import torch

    from panscape.benchmark.runners import Setting, create_runner
    from panscape.stopwatch import Stopwatch

    imported = time.perf_counter() - started, time.process_time() - cpu_started
    torch.set_num_threads(task["threads"])
    watch = Stopwatch(torch.device("cpu"))
    runner = create_runner(Setting(**task["setting"]), Path(task["out"]))
    watch.lap(LOAD)
    batch = Stopwatch(runner.device)
    runner.run([Path(path) for path in task["paths"]], batch)
    gpu = torch.cuda.max_memory_allocated(runner.device) / 2**20 if runner.device.type == "cuda" else None
    return FirstBatch(
        {IMPORT: imported[0], **watch.elapsed, **batch.elapsed},
        {IMPORT: imported[1], **watch.cpu, **batch.cpu},
        f"new process to {runner.scope.partition(' to ')[2]}",
        _peak_rss_mb(),
        gpu,
    )


def _peak_rss_mb() -> float | None:
    status = Path("/proc/self/status")
    if status.is_file():  # in Linux, what getrusage returns is at least the peak of the process that started this one
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))
        return None if found is None else int(found[1]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _main(started: float) -> int:
    from panscape.serialization import to_plain

    try:
        found = measure(json.loads(sys.argv[1]), started)
    except PanscapeError as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return 2
    sys.stdout.write(json.dumps(to_plain(found)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main(time.perf_counter()))
