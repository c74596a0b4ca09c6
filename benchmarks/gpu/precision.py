"""Measure the effect of half precision: changed pixels of the map, and the speedup.

Bundled models predict synthetic scenes of 512x1024 with ``Predictor``, as ``panscape predict --precision`` does. The
maps are compared with those of fp32 on the same device: equal maps, pixels with another category, pixels without the
same matched segment (IoU above one half), and PQ with the fp32 map as ground truth. Times are medians over the images,
for network and post-processing separately.
"""

from __future__ import annotations

import statistics

import queue_options
import torch
from reporting import machine, table

import panscape
from panscape import PanopticMap
from panscape.datasets.town import town
from panscape.inference.predictor import Prediction, Predictor
from panscape.metrics import PanopticQuality, match_segments
from panscape.precision import Precision

MODELS = ("town", "street", "street_boxes")  # models trained on photos also detect objects in the scenes
PRECISIONS: dict[str, Precision] = {"fp32 again": "fp32", "fp16": "fp16", "bf16": "bf16"}


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


def measured(name: str, images: list[torch.Tensor], device: str) -> list[list[str]]:
    """Return one row per precision for a model."""
    # fp16 is not supported on the CPU.
    precisions = {row: kind for row, kind in PRECISIONS.items() if device != "cpu" or kind != "fp16"}
    rows: list[list[str]] = []
    expected = predicted(name, images, "fp32", device)
    num_pixels = sum(p.map.ids.numel() for p in expected)
    for row, precision in precisions.items():
        found = predicted(name, images, precision, device)
        quality, equal, others = PanopticQuality(panscape.load(name).labels), 0, [0, 0]
        for mine, theirs in zip(found, expected, strict=True):
            others[0] += int((category_map(mine.map) != category_map(theirs.map)).sum())
            others[1] += pixels_of_another_segment(mine.map, theirs.map)
            equal += mine.map.equals(theirs.map)
            quality.update(mine.map, theirs.map)
        shares = [f"{100 * count / num_pixels:.3f} %" for count in others]
        times = [statistics.median(p.network_ms for p in found), statistics.median(p.postprocess_ms for p in found)]
        pq = f"{100 * quality.compute().all.pq:.2f}"
        rows.append([name, row, f"{equal} of {len(found)}", *shares, pq, *(f"{time:.2f}" for time in times)])
    return rows


def predicted(name: str, images: list[torch.Tensor], precision: Precision, device: str) -> list[Prediction]:
    """Predict all images in a precision."""
    predictor = Predictor(panscape.load(name), device=device, precision=precision, channels_last=True)
    for image in images[:3]:  # warm up: libraries select and compile their kernels
        predictor.predict(image)
    return [predictor.predict(image) for image in images]


def main() -> None:
    """Compare the precisions and write the table."""
    parser = queue_options.parser(__doc__)
    parser.add_argument("--models", nargs="*", default=list(MODELS), metavar="MODEL", help="names of bundled models")
    args = parser.parse_args()
    scenes = town("val", 2 if args.quick else 60, (128, 256) if args.quick else (512, 1024), "both")
    images = [scenes[i].image for i in range(len(scenes))]
    rows: list[list[str]] = []
    for name in args.models:
        rows += measured(name, images, args.device)
        header = ["model", "precision", "equal maps", "pixels with another category", "pixels with another segment"]
        header += ["PQ against fp32", "network ms", "post-processing ms"]
        queue_options.write(args.out, "precision", f"{machine()}\n\n{table(header, rows)}", rows)


if __name__ == "__main__":
    main()
