"""Run what needs a GPU, most valuable first, on a machine that is available for minutes at a time.

::

    python3 benchmarks/gpu/run_queue.py --minutes 8 --out OUT
    python3 benchmarks/gpu/run_queue.py --minutes 8 --out OUT --carried FOLDER   # what the last call wrote into OUT

Each entry has a folder in ``--out`` with its log and results, and a time limit: one that overruns is killed with its
children, and the next one runs. ``queue.json`` says what is done, so that a repeated call continues; on another
machine, ``--carried`` is a copy of the last ``--out``. Trainings save a checkpoint at the end of their time. An entry
that does not fit into the rest of the time waits, unless it is the first. ``merge_results.py`` writes the results into
docs/performance.md. ``--device cpu --quick`` tries the queue without a GPU, in less than a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from queue_options import UNFINISHED

ROOT = Path(__file__).parents[2]
STATE = "queue.json"
_GRACE_SECONDS = 5.0  # between asking a process to end and killing it
_POLL_SECONDS = 0.02
_RESERVE_MINUTES = 1.0  # for the evaluation and the files of a training after its last step
_SHORTEST_SLOT = 2.5  # minutes; a training that starts with less would reach nothing
# Images of a quick call are so small that threads cost more than they bring.
_QUICK_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
_QUICK_SHARE = 3 / 8  # of the time of a quick call, for one entry
_ENDED = ("done", "failed", "over its limit")  # not repeated by later calls


@dataclass(frozen=True)
class Entry:
    """A command of the queue.

    Attributes:
        name: of its folder, and of its block in docs/performance.md.
        title: heading of its results.
        command: arguments of Python; a word in braces is ``{out}``, ``{device}`` or a name of ``--data``.
        minutes: time limit; None for a training, which takes what is left, and continues in the next call.
        adds: options that are added: those of ``queue_options.parser``, of ``slot_parser``, or none.
        quick: command for ``--quick``, if it has no such option.
    """

    name: str
    title: str
    command: tuple[str, ...]
    minutes: float | None
    adds: Literal["script", "slot", "nothing"] = "script"
    quick: tuple[str, ...] = ()


@dataclass
class Outcome:
    """What became of an entry.

    Attributes:
        status: "done", "failed", "over its limit", "unfinished" (repeat the queue), "absent" (no such script), "no
            data" (no folder in ``--data``) or "waiting".
        title: of the entry.
        command: as it was run, without folders.
        device: that it ran on; "quick" with ``--quick``, whose results are none.
        minutes: time that it took, of all calls.
    """

    status: str
    title: str
    command: str
    device: str
    minutes: float = 0.0


def _gpu(script: str) -> str:
    return f"benchmarks/gpu/{script}.py"


def _evidence(table: str, title: str, *options: str) -> Entry:
    command = (_gpu("evidence_long"), "--table", table, *options)
    return Entry(f"evidence_{table}", title, command, None, "slot")


def _training(recipe: str, *options: str) -> Entry:
    name = recipe + ("_full" if "--full" in options else "")
    return Entry(f"train_{name}", f"Training of {name}", (_gpu("train"), recipe, *options), None, "slot")


_VERB = ("-m", "panscape", "benchmark", "--device", "{device}", "--out", "{out}/benchmark.md", "street")
_DEEPLAB = ("swiftnet_r18", "panoptic_deeplab_r52", "panoptic_deeplab_mobilenetv2")
ENTRIES = (
    Entry(
        "tests",
        "CUDA implementations against their references",
        ("-m", "pytest", "tests/gpu", "-n", "0", "-p", "no:cacheprovider"),
        3,
        "nothing",
    ),
    Entry("postprocessing", "Post-processing of centres", (_gpu("postprocessing"),), 2),
    Entry(
        "speed",
        "Figure 6 of Panoptic SwiftNet: speed by size",
        (_gpu("speed"), "--kinds", "eager", "channels-last", "graph"),
        4,
    ),
    Entry(
        "benchmark",
        "Bundled models by stage",
        (*_VERB, "street_boxes", "town", "--precision", "fp32", "bf16", "fp16"),
        3,
        "nothing",
        (*_VERB, "--size", "64x128", "--limit", "1", "--rounds", "1", "--no-cold"),
    ),
    Entry("precision", "Half precision", (_gpu("precision"),), 3),
    Entry("tensorrt", "TensorRT", (_gpu("tensorrt_engines"),), 6),
    Entry(
        "speed_deeplab",
        "Panoptic SwiftNet against Panoptic-DeepLab",
        (_gpu("speed"), "--models", *_DEEPLAB, "--kinds", "channels-last", "graph", "--sizes", "1024x2048"),
        3,
    ),
    Entry(
        "speed_compiled",
        "Gain of torch.compile",
        (_gpu("speed"), "--kinds", "channels-last", "compiled", "--sizes", "512x512", "1024x2048", "2048x4096"),
        8,
    ),
    _evidence("centers", "Tables 6 and 8 of Panoptic SwiftNet on synthetic scenes"),
    _evidence("boxes", "Table 3 of dense detections on synthetic scenes"),
    _evidence("relations", "Table 5 and Figure 9 of PISR on synthetic scenes"),
    # 256 are the hidden channels of transformers, others in proportion
    _evidence("hosts", "Tables 2 and 3 of PISR on synthetic scenes", "--width", "256", "--init-from", "town"),
    _evidence("scales", "Table 1 and Figure 5 of all scales on synthetic scenes"),
    _evidence("yolo", "Tables 3.2 to 3.8 of YOLO-based panoptic segmentation on synthetic scenes"),
    _training("town"),
    _training("street", "--data", "{camvid}"),
    _training("street_boxes", "--data", "{camvid}"),
    _training("aerial", "--data", "{dubai}"),
    _training("town", "--full", "--batch-size", "32", "--steps", "8000"),
    Entry(
        "loader",
        "Data loader beside a GPU",
        ("benchmarks/loader.py", "--device", "{device}", "--threads", "4", "--workers", "12", "--data", "{camvid}"),
        3,
        "nothing",
    ),
)


@dataclass
class Queue:
    """One call of the queue.

    Attributes:
        out: folder for the results.
        minutes: time of the call.
        carried: folder with the results of the last call; None if ``out`` has them.
        work: folder of the run directories.
        device: device to measure.
        is_quick: use small sizes.
        data: folders of datasets by name.
        clock: returns seconds.
    """

    out: Path
    minutes: float
    carried: Path | None = None
    work: Path = Path("/tmp/panscape_queue")
    device: str = "cuda"
    is_quick: bool = False
    data: Mapping[str, str] | None = None
    clock: Callable[[], float] = time.monotonic

    def run(self, entries: Sequence[Entry]) -> dict[str, Outcome]:
        """Run entries in their order until the time is over."""
        deadline = self.clock() + 60 * self.minutes
        self._take_over()
        outcomes = self._read()
        for entry in entries:
            spent = outcomes[entry.name].minutes if entry.name in outcomes else 0.0
            if entry.name not in outcomes or outcomes[entry.name].status not in _ENDED:
                shown = " ".join(entry.command)
                status, device = self._obstacle(entry) or "waiting", "quick" if self.is_quick else self.device
                outcomes[entry.name] = Outcome(status, entry.title, shown, device, spent)
        has_started = False
        for entry in entries:
            outcome, left = outcomes[entry.name], (deadline - self.clock()) / 60
            if outcome.status != "waiting" or (has_started and left < self._least(entry)) or left <= 0:
                continue
            has_started = True
            self._run(entry, outcome, left)
            self._write(outcomes)
            lines = (self.out / entry.name / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
            last = f": {lines[-1]}" if lines and outcome.status == "failed" else ""
            print(f"{entry.name}: {outcome.status}, {outcome.minutes:.1f} min{last}", flush=True)
        self._write(outcomes)
        return outcomes

    def forget(self, names: Sequence[str]) -> None:
        """Let entries run again."""
        self._take_over()
        self._write({name: outcome for name, outcome in self._read().items() if name not in names})

    def _take_over(self) -> None:
        """Copy the results of the last call, so that ``out`` is complete."""
        self.out.mkdir(parents=True, exist_ok=True)
        if self.carried is not None and not (self.out / STATE).exists():
            if not (self.carried / STATE).is_file():
                raise SystemExit(f"expected {STATE} in {self.carried}; give a copy of the --out of the last call")
            shutil.copytree(self.carried, self.out, dirs_exist_ok=True)

    def _read(self) -> dict[str, Outcome]:
        path = self.out / STATE
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return {name: Outcome(**fields) for name, fields in content.items()}

    def _write(self, outcomes: Mapping[str, Outcome]) -> None:
        content = {name: asdict(outcome) for name, outcome in outcomes.items()}
        temporary = self.out / f"{STATE}.part"
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.out / STATE)

    def _obstacle(self, entry: Entry) -> str | None:
        """Return why an entry cannot run; None if it can."""
        if entry.command[0] != "-m" and not (ROOT / entry.command[0]).is_file():
            return "absent"
        known = {"out", "device", *(self.data or {})}
        words = [word[1:-1] for word in entry.command if word.startswith("{") and word.endswith("}")]
        return None if known.issuperset(words) else "no data"

    def _limit(self, entry: Entry) -> float | None:
        return _QUICK_SHARE * self.minutes if self.is_quick else entry.minutes

    def _least(self, entry: Entry) -> float:
        """Return the minutes that must be left to start an entry after another one."""
        limit = self._limit(entry)
        return _SHORTEST_SLOT if limit is None else limit

    def _run(self, entry: Entry, outcome: Outcome, left: float) -> None:
        limit = self._limit(entry)
        minutes = left if limit is None else min(limit, left)
        folder = self.out / entry.name
        folder.mkdir(exist_ok=True)
        started = self.clock()
        with (folder / "log.txt").open("w", encoding="utf-8") as log:
            extra = _QUICK_ENVIRONMENT if self.is_quick else {}
            code = run_limited(self._command(entry, folder, minutes), log.fileno(), 60 * minutes, extra)
        outcome.minutes = round(outcome.minutes + (self.clock() - started) / 60, 2)
        if code is None:
            is_cut = limit is None or minutes < limit  # by the end of the call, not by its own limit
            outcome.status = "unfinished" if is_cut else "over its limit"
        else:
            outcome.status = {0: "done", UNFINISHED: "unfinished"}.get(code, "failed")

    def _command(self, entry: Entry, folder: Path, minutes: float) -> list[str]:
        values = {"out": str(folder), "device": self.device, **(self.data or {})}
        command = entry.quick if self.is_quick and entry.quick else entry.command
        words = [word.format(**values) if "{" in word else word for word in command]
        if entry.adds == "nothing":
            return [sys.executable, *words]
        words += ["--out", str(folder), "--device", self.device, *(["--quick"] if self.is_quick else [])]
        if entry.adds == "slot":
            steps = 0.0 if self.is_quick else max(minutes - _RESERVE_MINUTES, 0.1)
            words += ["--work", str(self.work / entry.name), "--minutes", f"{steps:.2f}"]
            if (folder / "work.tar.0").is_file():
                words += ["--carried", str(folder)]
        return [sys.executable, *words]


def run_limited(command: Sequence[str], log: int, seconds: float, extra: Mapping[str, str]) -> int | None:
    """Run a command; return its exit code, or None if it was killed at its limit, with all its children.

    Args:
        command: the program and its arguments, run in the root of the repository.
        log: file descriptor for its output.
        seconds: time limit.
        extra: environment variables.
    """
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, **extra, "PYTHONPATH": path}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        has_ended = _ends_within(process, seconds)
    finally:  # also if the queue itself is interrupted, and for children that outlive their parent
        code = _end_group(process)
    return code if has_ended else None


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Return whether a process ends in time. It is not reaped, so that its number stays that of its group."""
    deadline = time.monotonic() + seconds
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _end_group(process: subprocess.Popen[bytes]) -> int:
    """End a process and its children, and return its exit code.

    The process is reaped last: before that, no other group of processes can get its number and the signals.
    """
    for sent in (signal.SIGTERM, signal.SIGKILL):
        os.killpg(process.pid, sent)
        _ends_within(process, _GRACE_SECONDS)
    return process.wait()


def main() -> None:
    """Run the queue and print what became of its entries."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the running entry is ended, too
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--minutes", type=float, help="time of this call (8; 0.8 with --quick)")
    parser.add_argument("--carried", type=Path, help="copy of the --out of the last call, on another machine")
    parser.add_argument("--work", type=Path, default=Path("/tmp/panscape_queue"), help="folder of the run directories")
    parser.add_argument("--device", default="cuda", help="device to measure")
    parser.add_argument("--quick", action="store_true", help="use small sizes, to try the queue")
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME=DIR", help="folders: camvid=DIR, dubai=DIR")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="run only these entries, also if they are done")
    args = parser.parse_args()
    names = [entry.name for entry in ENTRIES]
    if unknown := set(args.only or []) - set(names):
        parser.error(f"expected entries of {', '.join(names)}, got {', '.join(sorted(unknown))}")
    pairs = [given.partition("=") for given in args.data]
    if any(not folder or not Path(folder).is_dir() for _, _, folder in pairs):
        parser.error(f"expected --data as NAME=DIR with existing folders, got {' '.join(args.data)}")
    minutes = args.minutes if args.minutes is not None else 0.8 if args.quick else 8.0
    data = {name: str(Path(folder).resolve()) for name, _, folder in pairs}
    queue = Queue(args.out.resolve(), minutes, args.carried, args.work.resolve(), args.device, args.quick, data)
    entries = ENTRIES if args.only is None else [entry for entry in ENTRIES if entry.name in args.only]
    if args.only is not None:
        queue.forget(args.only)
    outcomes = queue.run(entries)
    width = max(map(len, outcomes))
    print("\n".join(f"{name:<{width}}  {o.status:<14}  {o.minutes:5.1f} min" for name, o in outcomes.items()))


if __name__ == "__main__":
    main()
