"""Time networks by resolution, precision and execution mode; SwiftNet with ResNet-18 is the paper's Figure 6.

The time is from the image in GPU memory to the finished map. Weights are random, so that there are few centres: see
``postprocessing.py`` for the time of post-processing on crowded scenes. Batch 1, median of rounds. Measurements that do
not fit into eight minutes are skipped; networks, sizes and modes can be selected. Several networks alternate at each
size and precision, so that changes in the speed of the machine affect all of them.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import time
from collections.abc import Callable

import queue_options
import torch
from reporting import machine, table

from panscape import create_model
from panscape.models import PanopticModel, list_models

SIZES = ("512x512", "512x1024", "1024x1024", "1024x2048", "2048x2048", "2048x4096")
PRECISIONS = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
KINDS = ("eager", "channels-last", "graph", "compiled")
Network = Callable[[], object]


def milliseconds(work: Callable[[], object], device: str, rounds: int) -> float:
    """Return the median milliseconds of a call."""
    times = []
    for _ in range(rounds + 3):
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[3:])


def forward(network: Callable[..., object], images: torch.Tensor, dtype: torch.dtype | None) -> object:
    """Run the network in a precision."""
    with torch.autocast(images.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        return network(images)


def graphed(network: Callable[..., object], images: torch.Tensor, dtype: torch.dtype | None) -> Network:
    """Record the network as a CUDA graph, which computes on ``images`` without launching kernels one by one."""
    half = dtype or torch.bfloat16

    def run() -> object:
        # Cached casts of weights would be outside the graph, so the cache is off.
        with torch.autocast("cuda", half, enabled=dtype is not None, cache_enabled=False):
            return network(images)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = run()

    def replay() -> object:
        graph.replay()
        return outputs

    return replay


def network_of(kind: str, model: PanopticModel, images: torch.Tensor, dtype: torch.dtype | None) -> Network:
    """Return a function that runs the network on the images."""
    layout = torch.contiguous_format if kind == "eager" else torch.channels_last
    model.to(memory_format=layout)
    images = images.contiguous(memory_format=layout)
    if kind == "graph":
        return graphed(model, images, dtype)
    network = torch.compile(model, dynamic=False) if kind == "compiled" else model
    return functools.partial(forward, network, images, dtype)


def main() -> None:
    """Measure the selected cases until the time limit."""
    parser = queue_options.parser(__doc__)
    parser.add_argument("--models", nargs="*", choices=list_models(), default=["swiftnet_r18"], metavar="NAME")
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=SIZES)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    args = parser.parse_args()
    sizes = ["64x64"] if args.quick else args.sizes
    kinds = [kind for kind in args.kinds if args.device == "cuda" or kind != "graph"]
    if args.quick:
        kinds = [kind for kind in kinds if kind != "compiled"]
    torch.backends.cudnn.benchmark = True
    models = {name: create_model(name, "cityscapes").eval().to(args.device) for name in args.models}
    rows: list[list[str]] = []
    deadline = time.monotonic() + 8 * 60
    for kind in kinds:  # the slowest to start is last, so that the time limit skips few cases
        for size, precision, name in itertools.product(sizes, PRECISIONS, models):
            height, width = (int(side) for side in size.split("x"))
            images = torch.rand(1, 3, height, width, device=args.device)
            if time.monotonic() > deadline or (args.device == "cpu" and precision == "fp16"):  # takes minutes
                continue
            with torch.inference_mode():
                run = network_of(kind, models[name], images, PRECISIONS[precision])
                alone, whole = _times(models[name], run, (height, width), args)
            rows.append([name, size, precision, kind, f"{alone:.2f}", f"{whole:.2f}", f"{1000 / whole:.1f}"])
            _write(args, rows)


def _times(model: PanopticModel, run: Network, size: tuple[int, int], args: argparse.Namespace) -> tuple[float, float]:
    rounds = 2 if args.quick else 30
    alone = milliseconds(run, args.device, rounds)
    return alone, milliseconds(lambda: model.decode(run(), [size]), args.device, rounds)


def _write(args: argparse.Namespace, rows: list[list[str]]) -> None:
    header = ["model", "size", "precision", "network", "network ms", "with post-processing ms", "images/s"]
    queue_options.write(args.out, "speed", f"{machine()}\n\n{table(header, rows)}", rows)


if __name__ == "__main__":
    main()
