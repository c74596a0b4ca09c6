"""Compare implementations of the post-processing of objects in time and memory, at several numbers of objects."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import numba
import torch
from reporting import cpu_milliseconds, machine, peak_megabytes, table
from torch import Tensor

from panscape import LabelSpace, PanopticMap
from panscape.ops.cropped_masks import CroppedMasks
from panscape.representations.fusion import FusionConfig, fuse_instances

LABELS = LabelSpace.load("cityscapes")

OutputsT = TypeVar("OutputsT")
Paste = Callable[[Tensor, Tensor, tuple[int, int], float], CroppedMasks]


def compare(
    description: str | None,
    script: str,
    *,
    outputs_for: Callable[[int], OutputsT],
    ways: Callable[[OutputsT], dict[str, Callable[[], object]]],
    check: Callable[[OutputsT], tuple[int, str]],
    columns: Mapping[str, str],
    slow: Collection[str],
    speedup: tuple[str, str] | None = None,
    objects: Sequence[int] = (10, 40, 100),
) -> None:
    """Print a Markdown table of times, or with ``--memory`` of peak memory.

    Args:
        description: of the benchmark.
        script: its path.
        outputs_for: returns a network's outputs for a scene with a number of objects.
        ways: returns the compared implementations by name.
        check: compares the results for outputs; returns the number of objects and of differing pixels.
        columns: title of the column of each implementation, by name.
        slow: implementations that are measured in two rounds only.
        speedup: a slow implementation, and the one whose speedup over it is a column.
        objects: default numbers of objects.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", nargs="+", type=int, default=list(objects), help="objects in the scenes")
    parser.add_argument("--repeats", type=int, default=15, help="rounds")
    parser.add_argument("--markdown", action="store_true", help="print only the table")
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time (Linux)")
    parser.add_argument("--peak-of", choices=tuple(columns), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.peak_of is not None:
        run = ways(outputs_for(args.objects[0]))[args.peak_of]
        print(f"{peak_megabytes(run, warm_up=ways(outputs_for(5))[args.peak_of]):.0f}")
        return
    rows = []
    for num_objects in args.objects:
        if args.memory:
            command = [sys.executable, script, "--objects", str(num_objects), "--peak-of"]
            peaks = (subprocess.check_output([*command, name], text=True).strip() for name in columns)
            titles = (f"{title}, MB" for title in columns.values())
            rows.append({"objects in the scene": str(num_objects), **dict(zip(titles, peaks, strict=True))})
            continue
        outputs = outputs_for(num_objects)
        num_found, differing = check(outputs)
        compared = ways(outputs)
        quick = {name: way for name, way in compared.items() if name not in slow}
        best = cpu_milliseconds(quick, args.repeats) | cpu_milliseconds({name: compared[name] for name in slow}, 2)
        row = {"objects": str(num_found)}
        for name, title in columns.items():
            row[f"{title}, ms"] = f"{best[name]:.1f}"
            if speedup is not None and name == speedup[1]:
                row["speedup"] = f"{best[speedup[0]] / best[name]:.0f}"
        rows.append({**row, "differing pixels": differing})
    if not (args.markdown or args.memory):
        print(f"{machine()}, numba {numba.__version__}\n")
    print(table(list(rows[0]), [list(row.values()) for row in rows]))


def paste_and_fuse(
    paste: Paste,
    probs: Tensor,
    boxes: Tensor,
    thing: Tensor,
    score: Tensor,
    semantic: Tensor,
    fusion: FusionConfig,
    priority: Tensor | None = None,
) -> PanopticMap:
    """Paste masks at the default threshold with one of our implementations, and fuse them with the stuff."""
    masks = paste(probs, boxes, (semantic.shape[0], semantic.shape[1]), 0.5)
    return fuse_instances(masks, torch.tensor(LABELS.thing_ids)[thing], score, semantic, LABELS, fusion, priority)
