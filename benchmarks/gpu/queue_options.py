"""The options that all scripts of the queue share, and the folder of runs that goes from slot to slot."""

from __future__ import annotations

import argparse
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[1]
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS.parent / "src")]

PART = 15 * 2**20  # bytes; what comes back from a lent machine is small
_MOST_PARTS = 4
_LEFT_BEHIND = {"tensorboard", "images"}


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with ``--out``, ``--device`` and ``--quick``."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, required=True, help="folder for the results")
    options.add_argument("--device", default="cuda")
    options.add_argument("--quick", action="store_true", help="small sizes and few rounds, to try the script")
    return options


def slot_parser(description: str | None) -> argparse.ArgumentParser:
    """Return such a parser for trainings that take more than one slot."""
    options = parser(description)
    options.add_argument("--work", type=Path, default=Path("/tmp/panscape_queue"), help="folder of the runs")
    options.add_argument("--carried", type=Path, help="folder of work.tar.* that the slot before left in its --out")
    options.add_argument("--minutes", type=float, default=7.5, help="stop then, with a checkpoint; 0 never")
    options.add_argument("--workers", type=int, default=12)
    return options


def write(out: Path, name: str, markdown: str, values: Any) -> None:
    """Print the results and write them as ``name.md`` and ``name.json``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(markdown + "\n", encoding="utf-8")
    (out / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    print(markdown, flush=True)


def unpack(carried: Path | None, work: Path) -> None:
    """Put the runs of the slot before into an empty or missing folder; one that holds runs stays as it is."""
    work.mkdir(parents=True, exist_ok=True)
    if carried is None or any(work.iterdir()):
        return
    parts = sorted(carried.glob("work.tar.*"))
    if not parts:
        raise SystemExit(f"expected work.tar.* in {carried}; give the --out of the slot before")
    content = b"".join(part.read_bytes() for part in parts)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(work, filter="data")


def pack(work: Path, out: Path) -> None:
    """Write what the next slot needs as ``work.tar.0``, ``work.tar.1``, ...: of a run that is not done, one checkpoint.

    Where that is more than may come back, nothing is written, and a line says so.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(work.rglob("*")):
            place = path.relative_to(work)
            if path.is_file() and not _LEFT_BEHIND & set(place.parts) and _is_needed(path):
                archive.add(path, str(place))
    content = buffer.getvalue()
    starts = range(0, len(content), PART)
    out.mkdir(parents=True, exist_ok=True)
    if len(starts) > _MOST_PARTS:
        print(f"the runs take {len(content) >> 20} MB, too much to carry: go on while this machine is held", flush=True)
        return
    for number, start in enumerate(starts):
        (out / f"work.tar.{number}").write_bytes(content[start : start + PART])


def _is_needed(path: Path) -> bool:
    folder = path.parents[1] if path.suffix == ".ckpt" else path.parent
    if folder.with_name(f"{folder.name}.json").is_file():  # what came of this run is known
        return False
    return path.suffix != ".ckpt" or path == max(path.parent.glob("step_*.ckpt"))
