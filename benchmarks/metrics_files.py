"""Time the evaluation of COCO panoptic files: panscape, and the loop of the COCO panopticapi.

The ground truth of the scenes of ``metrics.py``, and as prediction the same shifted, as PNGs with Pillow's default
compression and their JSON. panopticapi's loop is written
here from its definition: it opens both PNGs with Pillow, turns colors into ids, and counts them with ``np.unique``. Its
JSON is read before; panscape reads it as well, and computes all metrics and records of ``panscape evaluate``.

Times are CPU time of the process with one thread, the minimum over rounds in which the ways alternate.

Run ``python benchmarks/metrics_files.py`` (or ``python benchmarks/metrics.py --files``); it prints a Markdown table.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from metrics import LABELS, a_scene, published_counts
from PIL import Image
from reporting import cpu_milliseconds, machine, table

from panscape import PanopticMap
from panscape.evaluation.evaluate_files import evaluate_files
from panscape.evaluation.options import ReadingOptions
from panscape.formats import coco_ids, encode_coco, id_png, load_coco_png, load_label_image
from panscape.formats.id_png import encode_id_png

QUICK = (1, 1, (128, 256))
SHIFT = 9  # pixels from ground truth to prediction; below PQ 0.5 files are read again, to find wrong categories


class Measured(NamedTuple):
    """CPU milliseconds of each way: of a pair of files, and of one map."""

    pair: dict[str, float]
    single: dict[str, float]
    sizes: dict[str, float]


def write_set(folder: Path, name: str, maps: list[PanopticMap]) -> list[dict[str, Any]]:
    """Write maps as another tool does, with Pillow; return the annotations."""
    (folder / name).mkdir()
    annotations = []
    for number, panoptic in enumerate(maps):
        rgb, segments = encode_coco(panoptic, LABELS)
        Image.fromarray(rgb.numpy()).save(folder / name / f"{number}.png")
        annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": segments})
    categories = [{"id": c.source_id, "name": c.name, "isthing": int(c.is_thing)} for c in LABELS]
    (folder / f"{name}.json").write_text(json.dumps({"annotations": annotations, "categories": categories}))
    return annotations


def ids_of_png(path: Path) -> np.ndarray:
    """Return the ids of a PNG, uint32 [H, W], as panopticapi computes them."""
    with Image.open(path) as image:
        color = np.array(image, dtype=np.uint32)
    return color[:, :, 0] + 256 * color[:, :, 1] + 256 * 256 * color[:, :, 2]


def with_published_loop(folder: Path, truth: list[dict[str, Any]], predictions: list[dict[str, Any]]) -> np.ndarray:
    """Return the sums of :func:`metrics.published_counts` over pairs of files."""
    total = np.zeros((len(LABELS), 4))
    for one, other in zip(truth, predictions, strict=True):
        true = {s["id"]: (s["category_id"], s["area"], bool(s["iscrowd"])) for s in one["segments_info"]}
        predicted = {s["id"]: s["category_id"] for s in other["segments_info"]}
        ids = (ids_of_png(folder / name / one["file_name"]) for name in ("truth", "predictions"))
        total += published_counts(*ids, true, predicted)
    return total


def with_panscape(folder: Path) -> np.ndarray:
    """Return the same from files."""
    reading = ReadingOptions(threads=1)
    report = evaluate_files(folder / "predictions.json", folder / "truth.json", reading=reading).report.panoptic
    each = report.per_category.values()
    return np.array([[c.tp, c.fp, c.fn, c.iou_sum] for c in each])


def by_zlib(way: Callable[[], Any]) -> Callable[[], Any]:
    """Return a way that runs without zlib-ng."""

    def run() -> Any:
        with mock.patch.object(id_png, "_compression", return_value=zlib):
            return way()

    return run


def pillow_png(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels).save(path, compress_level=1)


def measure(num_pairs: int = 8, repeats: int = 6, size: tuple[int, int] = (1024, 2048)) -> Measured:
    """Compare the results of both ways, and time them, and the parts for one map."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenes = [a_scene(seed, 60, *size) for seed in range(num_pairs)]
        truth = write_set(folder, "truth", [scene.truth for scene in scenes])
        shifted = [PanopticMap(torch.roll(s.truth.ids, SHIFT, 1), s.truth.category) for s in scenes]
        predictions = write_set(folder, "predictions", shifted)
        published = lambda: with_published_loop(folder, truth, predictions)  # noqa: E731
        ours = lambda: with_panscape(folder)  # noqa: E731
        if not np.allclose(published(), ours(), rtol=1e-12):
            raise SystemExit("panscape and panopticapi's loop disagree")
        ways = {
            "panopticapi's loop": published,
            "`evaluate_files`, without zlib-ng": by_zlib(ours),
            "`evaluate_files`": ours,
        }
        pair = {way: ms / num_pairs for way, ms in cpu_milliseconds(ways, repeats).items()}
        rgb, grey = folder / "truth" / "0.png", folder / "grey.png"
        colors = np.array(Image.open(rgb))
        values = coco_ids(colors).astype(np.uint16)
        Image.fromarray(values).save(grey)
        out = folder / "out.png"
        write = lambda pixels: out.write_bytes(encode_id_png(pixels))  # noqa: E731
        single = {
            "read RGB, Pillow": lambda: np.array(Image.open(rgb)),
            "read RGB, without zlib-ng": by_zlib(lambda: load_coco_png(rgb)),
            "read RGB": lambda: load_coco_png(rgb),
            "read 16 bits, Pillow": lambda: np.array(Image.open(grey)),
            "read 16 bits, without zlib-ng": by_zlib(lambda: load_label_image(grey)),
            "read 16 bits": lambda: load_label_image(grey),
            "write RGB, Pillow": lambda: pillow_png(colors, out),
            "write RGB, without zlib-ng": by_zlib(lambda: write(colors)),
            "write RGB": lambda: write(colors),
            "write 16 bits, Pillow": lambda: pillow_png(values, out),
            "write 16 bits, without zlib-ng": by_zlib(lambda: write(values)),
            "write 16 bits": lambda: write(values),
        }
        times = cpu_milliseconds(single, repeats)
        sizes = {}
        for way, run in single.items():
            if way.startswith("write"):
                run()
                sizes[way] = out.stat().st_size / 1024
    return Measured(pair, times, sizes)


def files_table(measured: Measured) -> str:
    published = measured.pair["panopticapi's loop"]
    rows = [[way, f"{ms:.1f}", f"{published / ms:.1f}"] for way, ms in measured.pair.items()]
    pairs = table(["evaluation of a pair of files", "CPU ms", "speedup"], rows)
    each = [
        [way, f"{ms:.1f}", f"{measured.sizes[way]:.0f}" if way in measured.sizes else ""]
        for way, ms in measured.single.items()
    ]
    return f"{machine()}\n\n{pairs}\n\n" + table(["one map", "CPU ms", "KiB"], each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8, help="number of pairs of maps")
    parser.add_argument("--repeats", type=int, default=6, help="rounds")
    parser.add_argument("--quick", action="store_true", help="check that everything runs; the times are meaningless")
    arguments = parser.parse_args()
    print(files_table(measure(*QUICK) if arguments.quick else measure(arguments.pairs, arguments.repeats)))


if __name__ == "__main__":
    main()
