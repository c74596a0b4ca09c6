"""Build engines of TensorRT, compare each with its network, and time both: SwiftNet at the sizes of its Figure 6.

Networks have random weights, which does not change their speed; the comparison is that of ``panscape export``, on
synthetic scenes, and an engine below its floor is a row with the reason. Times are of the network alone with the image
in GPU memory, batch 1, the median of rounds; the eager network runs in fp16 by autocast, channels-last.
Without TensorRT, or with ``--device cpu``, the script says so and ends.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import queue_options
import torch
from reporting import machine, table

from panscape import create_model
from panscape.errors import PanscapeError
from panscape.export import export_model
from panscape.zoo.tensorrt_graph import TensorRtGraph

MODELS = ("swiftnet_r18", "dense_detections_r50")
SIZES = ("512x512", "512x1024", "1024x1024", "1024x2048", "2048x2048", "2048x4096")


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """Return the median milliseconds of a call on the GPU."""
    times = []
    for _ in range(rounds + 3):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[3:])


def measured(name: str, text: str, rounds: int, folder: Path) -> list[str]:
    """Return the row of a model and a size."""
    height, width = map(int, text.split("x"))
    model: Any = create_model(name, "cityscapes").eval()
    path = folder / f"{name}_{text}.engine"
    started = time.perf_counter()
    try:
        result = export_model(model, path, size=(height, width), precision="fp16")
    except PanscapeError as error:
        return [name, text, "-", "-", "-", "-", str(error)]
    built = time.perf_counter() - started
    graph = TensorRtGraph(path)
    image = torch.rand(1, 3, height, width, device="cuda")
    model = model.cuda().to(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cuda", torch.float16):
        eager = milliseconds(lambda: model(image), rounds)
    engine = milliseconds(lambda: graph.run_on_device(image), rounds)
    equal = f"{100 * result.parity.equal_pixels:.2f} %"
    return [name, text, f"{eager:.2f}", f"{engine:.2f}", equal, f"{built:.0f}", ""]


def main() -> None:
    """Measure all models and sizes, and write the table after each."""
    parser = queue_options.parser(__doc__)
    parser.add_argument("--models", nargs="*", default=list(MODELS), metavar="MODEL", help="names of networks")
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), metavar="HxW", help="sizes of the images")
    args = parser.parse_args()
    if args.device == "cpu" or find_spec("tensorrt") is None:
        print("skipped: engines of TensorRT need a CUDA device and the package tensorrt")
        return
    header = ["model", "size", "eager fp16 ms", "TensorRT fp16 ms", "equal pixels", "export seconds", "failure"]
    rows: list[list[str]] = []
    sizes = args.sizes[:1] if args.quick else args.sizes
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            for size in sizes:
                rows.append(measured(name, size, 5 if args.quick else 30, Path(folder)))
                queue_options.write(args.out, "tensorrt", f"{machine()}\n\n{table(header, rows)}", rows)


if __name__ == "__main__":
    main()
