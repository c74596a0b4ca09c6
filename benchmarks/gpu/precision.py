"""How many pixels of a map change when the network computes in half precision?

The bundled ``town`` model on scenes of 512x1024; maps are compared with those of fp32 on the same device: pixels of
another category, pixels of another or no matching segment (IoU above one half), and PQ with the fp32 map as truth.
"""

from __future__ import annotations

from typing import Any

import queue_options
import torch
from reporting import machine, table

import panscape
from panscape import PanopticMap
from panscape.datasets.town import town
from panscape.metrics import PanopticQuality, match_segments

PRECISIONS = {"fp32 again": None, "fp16": torch.float16, "bf16": torch.bfloat16}


def category_map(segments: PanopticMap) -> torch.Tensor:
    """Return category ids, int64 [H, W]; -1 is void."""
    return torch.cat([torch.tensor([-1]), segments.category])[segments.ids.long()]


def pixels_of_another_segment(found: PanopticMap, expected: PanopticMap) -> int:
    """Count pixels that lie in a segment on either side, but not in both segments of a matched pair."""
    matches = match_segments(found, expected)
    partner = torch.full((found.num_segments + 1,), -1)
    partner[0] = 0
    partner[matches.prediction + 1] = matches.truth + 1
    return int((partner[found.ids.long()] != expected.ids).sum())


def predicted(model: Any, image: torch.Tensor, dtype: torch.dtype | None) -> PanopticMap:
    """Predict with the network in this precision."""
    kind = model.mean.device.type
    with torch.inference_mode(), torch.autocast(kind, dtype or torch.bfloat16, enabled=dtype is not None):
        found: PanopticMap = model.predict(image).to("cpu")
    return found


def main() -> None:
    """Compare on some scenes."""
    args = queue_options.parser(__doc__).parse_args()
    scenes = town("val", 2 if args.quick else 100, (128, 256) if args.quick else (512, 1024), "both")
    model = panscape.load("town").to(args.device)
    # A CPU takes minutes for fp16.
    precisions = {name: dtype for name, dtype in PRECISIONS.items() if args.device != "cpu" or name != "fp16"}
    counts = {name: [0, 0] for name in precisions}
    qualities = {name: PanopticQuality(model.labels) for name in precisions}
    num_pixels = 0
    for i in range(len(scenes)):
        image = scenes[i].image
        expected = predicted(model, image, None)
        num_pixels += expected.ids.numel()
        for name, dtype in precisions.items():
            found = predicted(model, image, dtype)
            counts[name][0] += int((category_map(found) != category_map(expected)).sum())
            counts[name][1] += pixels_of_another_segment(found, expected)
            qualities[name].update(found, expected)
    rows = []
    for name, both in counts.items():
        shares = [f"{100 * count / num_pixels:.3f} %" for count in both]
        rows.append([name, *shares, f"{100 * qualities[name].compute().all.pq:.2f}"])
    header = ["precision", "pixels of another category", "pixels of another segment", "PQ against fp32"]
    queue_options.write(args.out, "precision", f"{machine()}\n\n{table(header, rows)}", rows)


if __name__ == "__main__":
    main()
