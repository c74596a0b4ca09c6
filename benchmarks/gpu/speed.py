"""Panoptic SwiftNet (ResNet-18, three levels) by resolution, precision and compilation: the paper's Figure 6.

The clock starts with a picture in GPU memory and stops when the map is there; weights are random, so recovery sees few
centres: see ``recovery.py`` for its own time on crowded scenes. Batch 1, median of rounds.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import queue_options
import torch
from reporting import machine, table

from panscape import create_model

SIZES = [(512, 512), (512, 1024), (1024, 1024), (1024, 2048), (2048, 2048), (2048, 4096)]
PRECISIONS = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}


def milliseconds(work: Callable[[], object], device: str, rounds: int) -> float:
    times = []
    for _ in range(rounds + 3):
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[3:])


def run(network: Callable[..., object], images: torch.Tensor, dtype: torch.dtype | None) -> object:
    with torch.autocast(images.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        return network(images)


def main() -> None:
    parser = queue_options.parser(__doc__)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    sizes, rounds = (SIZES[:1], 2) if args.quick else (SIZES, 30)
    torch.backends.cudnn.benchmark = True
    model = create_model("swiftnet_r18", "cityscapes").eval().to(args.device, memory_format=torch.channels_last)
    kinds = {"eager": model} | ({"compiled": torch.compile(model, dynamic=False)} if args.compile else {})
    rows, deadline = [], time.monotonic() + 8 * 60
    for height, width in sizes:
        images = torch.rand(1, 3, height, width, device=args.device).contiguous(memory_format=torch.channels_last)
        for precision, dtype in PRECISIONS.items():
            for kind, network in kinds.items():
                if time.monotonic() > deadline:
                    continue

                forward = functools.partial(run, network, images, dtype)
                with torch.inference_mode():
                    alone = milliseconds(forward, args.device, rounds)
                    whole = milliseconds(
                        lambda f=forward, s=images.shape[-2:]: model.decode(f(), [s]), args.device, rounds
                    )
                rows.append(
                    [f"{height}x{width}", precision, kind, f"{alone:.2f}", f"{whole:.2f}", f"{1000 / whole:.1f}"]
                )
                queue_options.write(
                    args.out,
                    "speed",
                    f"{machine()}\n\n"
                    + table(["size", "precision", "network", "network ms", "with recovery ms", "pictures/s"], rows),
                    rows,
                )


if __name__ == "__main__":
    main()
