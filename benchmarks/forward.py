"""Time the forward pass on the CPU: eager, channels-last, bfloat16, compiled.

::

    python benchmarks/forward.py
    python benchmarks/forward.py --models swiftnet_r18 dense_detections_r50 dense_detections_light
    python benchmarks/forward.py --models swiftnet_r18 panoptic_deeplab_{r52,r50,mobilenetv2} --sizes 512x1024

It prints a Markdown table, and for center-based networks a second one: the fastest mode, the post-processing of
synthetic outputs of a street with the given number of objects, and the sum of both. Times are CPU time of the process
with one thread, the minimum over several rounds in which the modes alternate, with speedups over the eager pass of the
same network. Weights are random, categories are those of Cityscapes.
"""

from __future__ import annotations

import argparse
import copy
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable

import torch
from center_scenes import outputs_of, street_map
from reporting import cpu_milliseconds, machine, table
from torch.nn import functional as F

from panscape import create_model
from panscape.geometry import ImageGeometry
from panscape.models import list_models
from panscape.models.base import PanopticModel
from panscape.models.center_model import CenterModel
from panscape.representations.centers import CenterOutputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["swiftnet_r18"], choices=list_models(), metavar="NAME")
    parser.add_argument("--sizes", nargs="*", default=["512x1024", "1024x2048"], help="HEIGHTxWIDTH in pixels")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--objects", type=int, default=50, help="number of objects in the post-processed scene")
    parser.add_argument("--compile", action="store_true", help="also time torch.compile (compiling takes minutes)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows, whole = [], []
    for name in args.models:
        model = create_model(name, "cityscapes").eval()
        for text in args.sizes:
            height, width = (int(side) for side in text.split("x"))
            size = (height, width)
            with torch.inference_mode():
                times = network_times(model, size, args.repeats, args.compile)
                rows += [[name, text, way, f"{ms:.0f}", f"{times['eager'] / ms:.2f}"] for way, ms in times.items()]
                if isinstance(model, CenterModel):
                    way, fastest = min(times.items(), key=lambda item: item[1])
                    decoding = postprocess_time(model, size, args.objects, args.repeats)
                    ms = f"{fastest:.0f}", f"{decoding:.1f}", f"{fastest + decoding:.0f}"
                    whole.append([name, text, way, *ms, f"{1000 / (fastest + decoding):.2f}"])
    print(machine(), "\n")
    print(table(["network", "size", "mode", "CPU ms", "speedup"], rows))
    if whole:
        decoding = f"post-processing of {args.objects} objects, ms"
        print(f"\n{table(['network', 'size', 'mode', 'network, ms', decoding, 'total, ms', 'images/s'], whole)}")


def network_times(model: PanopticModel, size: tuple[int, int], repeats: int, is_compiled: bool) -> dict[str, float]:
    """Return the milliseconds of a network in each mode."""
    images = torch.rand(1, 3, *size)
    last, images_last = (x.to(memory_format=torch.channels_last) for x in (copy.deepcopy(model), images))

    def bf16(network: Callable[..., object], x: torch.Tensor) -> Callable[[], object]:
        def run() -> object:
            with torch.autocast("cpu", torch.bfloat16):
                return network(x)

        return run

    ways: dict[str, Callable[[], object]] = {
        "eager": lambda: model(images),
        "channels-last": lambda: last(images_last),
        "bfloat16": bf16(model, images),
        "bfloat16, channels-last": bf16(last, images_last),
    }
    if is_compiled:
        compiled = torch.compile(last)
        ways["compiled, channels-last"] = lambda: compiled(images_last)
        ways["compiled, bfloat16, channels-last"] = bf16(compiled, images_last)
    for way in ways.values():
        way()  # warm up and compile
    return cpu_milliseconds(ways, repeats)


def postprocess_time(model: CenterModel, size: tuple[int, int], num_objects: int, repeats: int) -> float:
    """Return the milliseconds of post-processing synthetic outputs of a street, with the options of the model."""
    grid = model(torch.rand(1, 3, *size)).semantic.shape[-2:]
    scene = outputs_of(street_map(num_things=num_objects, size=size))
    semantic, center, offset = (
        F.interpolate(part[None], grid, mode="bilinear", align_corners=False)
        for part in (scene.semantic_logits, scene.center[None], scene.offset)
    )
    outputs = CenterOutputs(semantic, center, offset)
    ways = {"post-processing": lambda: model.postprocess(outputs, [ImageGeometry.of(size)])}
    ways["post-processing"]()
    return cpu_milliseconds(ways, 5 * repeats)["post-processing"]


if __name__ == "__main__":
    main()
