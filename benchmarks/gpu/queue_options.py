"""Shared options of the scripts in this folder, and the transfer of run directories between slots."""

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

UNFINISHED = 75  # exit code of a training that is to be continued
PART = 15 * 2**20  # bytes; largest size of a returned file
_MOST_PARTS = 4
_LEFT_BEHIND = {"tensorboard", "images"}


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with ``--out``, ``--device`` and ``--quick``."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, required=True, help="folder for the results")
    options.add_argument("--device", default="cuda", help="device to measure")
    options.add_argument("--quick", action="store_true", help="use small sizes and few rounds, to test the script")
    return options


def slot_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that also has the options of trainings over several slots."""
    options = parser(description)
    options.add_argument("--work", type=Path, default=Path("/tmp/panscape_queue"), help="folder of the run directories")
    options.add_argument("--carried", type=Path, help="folder with work.tar.* from the --out of the previous slot")
    options.add_argument("--minutes", type=float, default=7.5, help="time limit, then a checkpoint is saved; 0: none")
    options.add_argument("--workers", type=int, default=12, help="worker processes of the data loader")
    return options


def write(out: Path, name: str, markdown: str, values: Any) -> None:
    """Print the results and write them as ``name.md`` and ``name.json``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(markdown + "\n", encoding="utf-8")
    (out / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    print(markdown, flush=True)


def unpack(carried: Path | None, work: Path) -> None:
    """Unpack the run directories of the previous slot into an empty or missing folder; others stay unchanged."""
    work.mkdir(parents=True, exist_ok=True)
    if carried is None or any(work.iterdir()):
        return
    parts = sorted(carried.glob("work.tar.*"))
    if not parts:
        raise SystemExit(f"expected work.tar.* in {carried}; use the --out of the previous slot")
    content = b"".join(part.read_bytes() for part in parts)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(work, filter="data")


def pack(work: Path, out: Path) -> None:
    """Write ``work.tar.0``, ``work.tar.1``, ... for the next slot, with the newest checkpoint of unfinished runs.

    If the archive is too large to return, nothing is written and a message is printed.
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
        print(f"the runs take {len(content) >> 20} MB, too much to transfer: resume on this machine", flush=True)
        return
    for number, start in enumerate(starts):
        (out / f"work.tar.{number}").write_bytes(content[start : start + PART])


def _is_needed(path: Path) -> bool:
    folder = path.parents[1] if path.suffix == ".ckpt" else path.parent
    if folder.with_name(f"{folder.name}.json").is_file():  # the result of this run is saved
        return False
    return path.suffix != ".ckpt" or path == max(path.parent.glob("step_*.ckpt"))
