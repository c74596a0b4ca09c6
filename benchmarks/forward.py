"""How long a forward pass takes on the processor: eager, channels-last, bfloat16, compiled.

::

    python benchmarks/forward.py
    python benchmarks/forward.py --models swiftnet_r18 dense_detections_r50 dense_detections_light
    python benchmarks/forward.py --models swiftnet_r18 panoptic_deeplab_{r52,r50,mobilenetv2} --sizes 512x1024

It prints a Markdown table. One thread, CPU time of the process, least of a few rounds in which the ways take turns,
with ratios to the plain eager pass of the same network. Weights are random, categories are those of Cityscapes.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable

import torch
from reporting import cpu_milliseconds, machine, table

from panscape import create_model
from panscape.models import list_models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["swiftnet_r18"], choices=list_models(), metavar="MODEL")
    parser.add_argument("--sizes", nargs="*", default=["512x1024", "1024x2048"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="also torch.compile (minutes of compilation)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [row for name in args.models for row in rows_of(name, args.sizes, args.repeats, args.compile)]
    print(machine(), "\n")
    print(table(["network", "size", "way", "CPU ms", "times faster"], rows))


def rows_of(name: str, sizes: list[str], repeats: int, is_compiled: bool) -> list[list[str]]:
    """Time one network in all ways at all sizes."""
    rows = []
    plain = create_model(name, "cityscapes").eval()
    last = create_model(name, "cityscapes").eval().to(memory_format=torch.channels_last)
    for size in sizes:
        height, width = (int(s) for s in size.split("x"))
        images = torch.rand(1, 3, height, width)
        images_last = images.contiguous(memory_format=torch.channels_last)

        def bf16(model: Callable[..., object], x: torch.Tensor) -> Callable[[], object]:
            def run() -> object:
                with torch.autocast("cpu", torch.bfloat16):
                    return model(x)

            return run

        ways: dict[str, Callable[[], object]] = {
            "eager": lambda x=images: plain(x),
            "channels-last": lambda x=images_last: last(x),
            "bfloat16": bf16(plain, images),
            "bfloat16, channels-last": bf16(last, images_last),
        }
        if is_compiled:
            compiled = torch.compile(last)
            ways["compiled, channels-last"] = lambda x=images_last, model=compiled: model(x)
            ways["compiled, bfloat16, channels-last"] = bf16(compiled, images_last)
        with torch.inference_mode():
            for way in ways.values():
                way()  # warm up and compile
            best = cpu_milliseconds(ways, repeats)
        rows += [[name, size, way, f"{ms:.0f}", f"{best['eager'] / ms:.2f}"] for way, ms in best.items()]
    return rows


if __name__ == "__main__":
    main()
