"""`panscape predict --recipe NAME --split SPLIT`: the images of a split, as files to predict or as a submission."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from torch import Tensor

from panscape.cli.console import progress_bar
from panscape.datasets.splits import ImageFile
from panscape.errors import InvalidArgumentError
from panscape.images import load_image
from panscape.inference.predictor import Predictor
from panscape.inference.prefetch import prefetch
from panscape.inference.submission import SUBMISSIONS
from panscape.recipes import get_recipe
from panscape.training.config import DataOptions


def images_of_split(recipe: str, data: Path | None, split: str) -> list[str]:
    """Return the paths of the images of a split, with or without ground truth.

    Args:
        recipe: whose data to take.
        data: their folder.
        split: which of their splits.

    Raises:
        PanscapeError: there is no such recipe or split, or its images are not there.
    """
    return [str(image.path) for image in get_recipe(recipe).data.images(data, split)]


def run_submission(
    predictor: Predictor, recipe: str, *, data: Path | None, split: str, out: Path, as_json: bool = False
) -> int:
    """Predict a split into the form that its benchmark's server takes, and print what is to be uploaded.

    Args:
        predictor: has the model.
        recipe: whose data to take; its name is part of the names of COCO's files.
        data: their folder.
        split: which of their splits.
        out: folder for the submission, which must not hold anything.
        as_json: print one JSON object in place of text.

    Returns:
        0.

    Raises:
        InvalidArgumentError: the data have no benchmark whose form can be written, the folder holds something, or the
            model's categories are not the benchmark's.
        UnreadableFileError: an image cannot be read; nothing is left behind.
        PanscapeError: as :func:`images_of_split`.
    """
    options = get_recipe(recipe).data
    kind = SUBMISSIONS.get(_benchmark(options, data))
    if kind is None:
        raise InvalidArgumentError(
            f"expected a recipe for the data of {' or '.join(SUBMISSIONS)}, whose servers take submissions, got "
            f"{recipe!r}; leave out --submission to write maps in COCO panoptic form, or use panscape evaluate where "
            "the split has ground truth"
        )
    images = options.images(data, split)
    method = re.sub(r"[^A-Za-z0-9-]+", "-", Path(recipe).stem)  # an underscore parts the fields of the name
    split = options.splits(data).require(split)
    submission = kind(out, split, predictor.model.labels, method)
    warnings = submission.warnings(len(images))
    for warning in warnings:
        print(f"panscape: warning: {warning}", file=sys.stderr)
    predictor.warm_up()
    with submission, progress_bar("images") as progress, closing(prefetch(_read(images))) as read:
        for done, (image, pixels) in enumerate(read, start=1):
            submission.write(image, predictor.predict(pixels, scored=kind.needs_scores).map)
            progress(done, len(images))
    archives = [str(path) for path in submission.archives]
    if as_json:
        print(json.dumps({"images": len(images), "split": split, "archives": archives, "warnings": warnings}))
    else:
        print(f"{len(images)} images of {kind.benchmark} {split} predicted; upload {' and '.join(archives)}")
    return 0


def _benchmark(options: DataOptions, data: Path | None) -> str:
    splits = options.splits(data)
    return splits.data if splits.has_benchmark else ""


def _read(images: Iterable[ImageFile]) -> Iterator[tuple[ImageFile, Tensor]]:
    for image in images:
        yield image, load_image(image.path)
