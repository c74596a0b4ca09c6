"""Time the post-processing of centres on CUDA, and compare its maps with those of the CPU pixel by pixel.

1024x2048 pixels, 19 categories, stride-4 outputs, for several numbers of centres; median of rounds.
"""

from __future__ import annotations

import statistics
import time

import queue_options
import torch
from center_scenes import THINGS, outputs_of, street_map
from reporting import machine, table

from panscape import PanopticMap
from panscape.geometry import ImageGeometry
from panscape.representations.centers.decode import CenterDecoding, group_centers, group_centers_batched

SIZE = (1024, 2048)


def main() -> None:
    args = queue_options.parser(__doc__).parse_args()
    rows = []
    for num_centers in (0, 20) if args.quick else (0, 20, 50, 200):
        outputs = outputs_of(street_map(num_things=num_centers))
        on_device = [part.to(args.device)[None] for part in outputs]
        decoding = CenterDecoding()

        def batched(batch: list[torch.Tensor] = on_device, decoding: CenterDecoding = decoding) -> PanopticMap:
            return group_centers_batched(*batch, [ImageGeometry.of(SIZE)], THINGS, decoding)[0]

        expected, found = group_centers(*outputs, ImageGeometry.of(SIZE), THINGS, decoding), batched().to("cpu")
        different = int((found.ids != expected.ids).sum())
        times = []
        for _ in range(2 if args.quick else 30):
            started = time.perf_counter()
            batched()
            if args.device == "cuda":
                torch.cuda.synchronize()
            times.append((time.perf_counter() - started) * 1000)
        rows.append([str(num_centers), f"{statistics.median(times):.2f}", str(different)])
    header = ["centres", "ms", "pixels that differ from the CPU"]
    queue_options.write(args.out, "postprocessing", f"{machine()}\n\n{table(header, rows)}", rows)


if __name__ == "__main__":
    main()
