"""Whatever is in the files: a line for each issue, or an error for users, never a traceback."""

from __future__ import annotations

import json
import random
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from maps import SHAPES
from PIL import Image
from scored_files import array_segments, coco_content, several_maps, worse, write_array, write_coco
from spoilt import cut, double, flip, spoil_json

from panscape.errors import PanscapeError
from panscape.evaluation.evaluate_files import FileEvaluation, evaluate_files
from panscape.evaluation.options import ReadingOptions

ONE_THREAD = ReadingOptions(threads=1)


def another_image(chance: random.Random, path: Path) -> None:
    """Write an image of another mode, size or format."""
    mode = chance.choice(["L", "1", "P", "RGBA", "I;16", "LA", "I", "RGB", "CMYK", "F"])
    size = chance.choice([(16, 12), (1, 1), (12, 16), (300, 2)])
    kind = chance.choice(["PNG", "JPEG", "GIF", "BMP"]) if mode == "RGB" else "PNG"
    if mode in ("CMYK", "F", "I"):
        kind = "TIFF"
    Image.new(mode, size, 1 if mode in ("L", "1", "I;16", "I", "F", "P") else None).save(path, kind)


def spoil_png(chance: random.Random, path: Path) -> None:
    action = chance.randrange(6)
    if action == 0:
        another_image(chance, path)
    elif action == 1:
        path.unlink()
    elif action == 2:
        numbers = np.random.default_rng(chance.randrange(2**32)).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(numbers).save(path)
    else:
        path.write_bytes([flip, cut, double][action - 3](chance, path.read_bytes()))


def in_lines(run: Callable[[], FileEvaluation]) -> str:
    """Return how scoring ended; anything but scores and errors for users is raised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of damaged images
            scores = run()
    except PanscapeError as error:
        str(error).encode("utf-8", "surrogateescape")
        return type(error).__name__
    for issue in scores.issues:
        assert "\n" not in str(issue)
        str(issue).encode("utf-8", "surrogateescape")
        assert len(str(issue)) < 2000
    json.dumps(scores.to_dict())
    assert len(scores.records) <= scores.num_images
    return "issues" if scores.issues else "clean"


def test_hundreds_of_pairs_of_png_and_json(tmp_path: Path) -> None:
    chance = random.Random(0)
    truths = several_maps(2, (12, 16))
    predictions = worse(truths)
    contents = {"truth": coco_content(truths, SHAPES), "predictions": coco_content(predictions, SHAPES)}
    paths = {
        side: write_coco(tmp_path / f"{side}.json", maps, content=contents[side])
        for side, maps in (("truth", truths), ("predictions", predictions))
    }
    assert in_lines(lambda: evaluate_files(paths["predictions"], paths["truth"], reading=ONE_THREAD)) == "clean"
    texts = {side: path.read_bytes() for side, path in paths.items()}
    pngs = {path: path.read_bytes() for path in tmp_path.glob("*/*.png")}
    ends: Counter[str] = Counter()
    for _ in range(300):
        side = chance.choice(["truth", "predictions", "predictions"])
        what = chance.choice(["png", "json", "json bytes", "both"])
        if what in ("json", "both"):
            paths[side].write_text(spoil_json(chance, contents[side]), encoding="utf-8")
        if what == "json bytes":
            paths[side].write_bytes(chance.choice([flip, cut, double])(chance, texts[side]))
        if what in ("png", "both"):
            spoil_png(chance, tmp_path / side / f"{chance.choice('12')}.png")
        ends[in_lines(lambda: evaluate_files(paths["predictions"], paths["truth"], reading=ONE_THREAD))] += 1
        for path, data in pngs.items():
            path.write_bytes(data)
        paths[side].write_bytes(texts[side])
    assert sum(ends.values()) == 300
    assert ends["issues"] > 75  # most of it is of one image, and the other goes on
    assert ends["InvalidAnnotationError"] > 5
    assert ends["UnreadableFileError"] > 5


def test_arrays(tmp_path: Path) -> None:
    chance = random.Random(1)
    truths = several_maps(2, (12, 16))
    truth = write_coco(tmp_path / "truth.json", truths)
    ends: Counter[str] = Counter()
    for turn in range(200):
        ending = ".npz" if turn % 2 else ".npy"
        for path in (tmp_path / "arrays").glob("*"):
            path.unlink()
        for name, panoptic in truths.items():
            numbers = panoptic.ids.numpy()
            if chance.randrange(3) == 0:
                numbers = chance.choice(
                    [numbers - 0.5, numbers[None], numbers.astype("U4"), numbers - 2, numbers * 2.0**40]
                )
            segments = json.loads(spoil_json(chance, array_segments(panoptic)))
            path = write_array(tmp_path / "arrays" / f"{name}{ending}", numbers, segments)
        if chance.randrange(2):
            spoilt = chance.choice(sorted((tmp_path / "arrays").iterdir()))
            spoilt.write_bytes(chance.choice([flip, cut, double])(chance, spoilt.read_bytes()))
        ends[in_lines(lambda: evaluate_files(tmp_path / "arrays", truth, reading=ONE_THREAD))] += 1
    assert path.is_file()
    assert ends["issues"] > 100
