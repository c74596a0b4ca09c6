"""`panscape predict --recipe NAME --split SPLIT`: lists the images of a split, or writes a benchmark submission."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from torch import Tensor

from panscape.cli.printing import print_json, say
from panscape.datasets.splits import ImageFile
from panscape.errors import InvalidArgumentError
from panscape.image_depth import require_bit_depth
from panscape.images import find_bit_depth, load_image
from panscape.inference.predictor import Predictor
from panscape.inference.prefetch import prefetch
from panscape.inference.submission import SUBMISSIONS
from panscape.progress import ProgressBar
from panscape.recipes import get_recipe, resolve_recipe_name
from panscape.training.config import DataOptions

_logger = logging.getLogger(__name__)


def images_of_split(recipe: str, data: Path | None, split: str) -> list[str]:
    """Return the paths of the images of a split, with or without ground truth.

    Args:
        recipe: name of the recipe that defines the dataset.
        data: folder of the dataset.
        split: name of the split.

    Raises:
        PanscapeError: there is no such recipe or split, or its images are missing.
    """
    return [str(image.path) for image in get_recipe(recipe).data.images(data, split)]


def run_submission(
    predictor: Predictor,
    recipe: str,
    *,
    data: Path | None,
    split: str,
    out: Path,
    bit_depth: int | None = None,
    as_json: bool = False,
) -> int:
    """Predict a split in the submission format of its benchmark server, and print the files to upload.

    Args:
        predictor: predictor with the model.
        recipe: name of the recipe that defines the dataset; it becomes part of COCO's file names.
        data: folder of the dataset.
        split: name of the split.
        out: folder for the submission; it must be empty.
        bit_depth: of images of 16 bits; by default found from a few of them.
        as_json: print one JSON object instead of text.

    Returns:
        0.

    Raises:
        InvalidArgumentError: the dataset has no benchmark with a supported format, the folder is not empty, the model's
            categories are not the benchmark's, or ``bit_depth`` is out of range.
        UnreadableFileError: an image cannot be read; no files are left behind.
        PanscapeError: as :func:`images_of_split`.
    """
    require_bit_depth(bit_depth)
    recipe = resolve_recipe_name(recipe)
    options = get_recipe(recipe).data
    kind = SUBMISSIONS.get(_benchmark(options, data))
    if kind is None:
        raise InvalidArgumentError(
            f"expected a recipe for {' or '.join(SUBMISSIONS)}, whose servers accept submissions, got {recipe!r}; "
            "omit --submission to write maps in COCO panoptic format, or use panscape evaluate if the split has "
            "ground truth"
        )
    images = options.images(data, split)
    method = re.sub(r"[^A-Za-z0-9-]+", "-", Path(recipe).stem)  # underscores separate the fields of the name
    split = options.splits(data).require(split)
    submission = kind(out, split, predictor.model.labels, method)
    warnings = submission.warnings(len(images))
    for warning in warnings:
        _logger.warning(warning)
    may_clip = bit_depth is not None
    if bit_depth is None:
        bit_depth = find_bit_depth([image.path for image in images])
    predictor.warm_up()
    with submission, ProgressBar("images") as bar, closing(prefetch(_read(images, bit_depth, may_clip))) as read:
        for done, (image, pixels) in enumerate(read, start=1):
            submission.write(image, predictor.predict(pixels, scored=kind.needs_scores).map)
            bar.update(done, len(images))
    archives = [str(path) for path in submission.archives]
    if as_json:
        counts = {"images": len(images), "archives": archives, "warnings": warnings}
        print_json({"recipe": recipe, "split": split, **counts})
    else:
        say(f"{len(images)} images of {kind.benchmark} {split} predicted; upload {' and '.join(archives)}")
    return 0


def _benchmark(options: DataOptions, data: Path | None) -> str:
    splits = options.splits(data)
    return splits.data if splits.has_benchmark else ""


def _read(images: Iterable[ImageFile], bit_depth: int | None, may_clip: bool) -> Iterator[tuple[ImageFile, Tensor]]:
    for image in images:
        yield image, load_image(image.path, bit_depth=bit_depth, may_clip=may_clip)
