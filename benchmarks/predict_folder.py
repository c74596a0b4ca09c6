"""Time `panscape predict` on a folder: writing in series with the network, and in background threads.

::

    python benchmarks/predict_folder.py --photo photo.jpg
    python benchmarks/predict_folder.py --photo photo.jpg --image-format png --model town

The photo is resized to ``--width`` and copied ``--images`` times. It prints a Markdown table: the medians of the stages
of one image in series, then for each number of writers the elapsed time of the folder per image, its ratio to that of
network and post-processing in series, and to that of all stages in series. Rounds alternate; the medians are printed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from reporting import machine, table

import panscape
from panscape.images import load_image, resize_images, save_png
from panscape.inference.output_folder import OutputFolder
from panscape.inference.pipeline import PredictionRun
from panscape.inference.predictor import Predictor
from panscape.inference.results import FileError, FileResult
from panscape.inference.sources import SourceFile, find_sources


class Collected:
    """The results of a run."""

    def __init__(self) -> None:
        self.results: list[FileResult] = []

    def on_result(self, outcome: FileResult | FileError) -> None:
        assert isinstance(outcome, FileResult)
        self.results.append(outcome)

    def on_frame(self, source: SourceFile, index: int, num_frames: int | None) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="street")
    parser.add_argument("--image-format", choices=["jpeg", "png"], default="jpeg")
    parser.add_argument("--writers", type=int, nargs="*", default=[1, 2], help="numbers of writing threads")
    args = parser.parse_args()
    predictor = Predictor(panscape.load(args.model), device="auto")
    with tempfile.TemporaryDirectory() as root:
        folder, out = Path(root) / "photos", Path(root) / "out"
        folder.mkdir()
        photo = load_image(args.photo)
        size = (round(photo.shape[1] * args.width / photo.shape[2]), args.width)
        photo = (resize_images(photo[None].float() / 255, size)[0] * 255).to(photo.dtype)
        for number in range(args.images):
            save_png(folder / f"{number}.png", photo)
        sources = find_sources([str(folder)])

        def run(writers: int) -> float:
            with OutputFolder(out, predictor.model.labels, legend=True, image_format=args.image_format) as outputs:
                started = time.perf_counter()
                PredictionRun(predictor, outputs, overwrite=True, writers=writers).predict_files(sources, Collected())
                return 1000 * (time.perf_counter() - started) / len(sources)

        def in_series() -> list[float]:
            """Return the milliseconds of reading, network, post-processing and writing per image."""
            stages = []
            with OutputFolder(out, predictor.model.labels, legend=True, image_format=args.image_format) as outputs:
                for source in sources:
                    started = time.perf_counter()
                    image = load_image(source.path)
                    read = time.perf_counter()
                    prediction = predictor.predict(image)
                    predicted = time.perf_counter()
                    outputs.write_overlay(source.name, image, prediction.map)
                    outputs.write_map(source.name, prediction.map)
                    read_ms, write_ms = 1000 * (read - started), 1000 * (time.perf_counter() - predicted)
                    stages.append((read_ms, prediction.network_ms, prediction.postprocess_ms, write_ms))
            return [statistics.median(times) for times in zip(*stages, strict=True)]

        run(1)  # warms up
        series, elapsed = [], {writers: [] for writers in args.writers}
        for _ in range(args.rounds):
            series.append(in_series())
            for writers in args.writers:
                elapsed[writers].append(run(writers))
    read, network, postprocess, write = (statistics.median(times) for times in zip(*series, strict=True))
    compute, whole = network + postprocess, read + network + postprocess + write
    print(machine(), f", {args.model}, {args.image_format}, {size[0]}x{size[1]}\n", sep="")
    rows = [
        ["in series", *(f"{ms:.0f}" for ms in (read, network, postprocess, write, whole)), f"{whole / compute:.2f}"]
    ]
    for writers, times in elapsed.items():
        ms = statistics.median(times)
        rows.append(
            [f"{writers} writers" if writers > 1 else "1 writer", *[""] * 4, f"{ms:.0f}", f"{ms / compute:.2f}"]
        )
    print(table(["", "read", "network", "post-process", "write", "ms per image", "of network and post-process"], rows))


if __name__ == "__main__":
    main()
