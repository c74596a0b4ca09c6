"""Selection and drawing of the images of a report: truth, prediction, and errors coloured by type."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from panscape.errors import UnreadableFileError
from panscape.evaluation.apply_protocol import apply_protocol
from panscape.evaluation.records import ImageRecord
from panscape.evaluation.report.html import Figure, figure
from panscape.geometry import size_with_longest_side
from panscape.images import IMAGE_SUFFIXES, load_image
from panscape.labels import LabelSpace
from panscape.metrics.error_types import NO_ERROR, ErrorType, SegmentErrors, find_errors
from panscape.metrics.matching import SegmentMatches, match_segments
from panscape.metrics.overlaps import overlaps
from panscape.metrics.protocol import Protocol
from panscape.panoptic import PanopticMap
from panscape.visualize import draw_segments

LONGEST_SIDE = 560
"""Maximum side of the images in a report, in pixels."""

TYPE_COLORS = {
    # Distinguishable with most colour vision deficiencies: Okabe and Ito, "Color Universal Design", 2008.
    ErrorType.CLASSIFICATION: (230, 159, 0),
    ErrorType.UNDERSEGMENTATION: (86, 180, 233),
    ErrorType.OVERSEGMENTATION: (0, 158, 115),
    ErrorType.MISSED: (213, 74, 20),
    ErrorType.BACKGROUND: (204, 121, 167),
    ErrorType.LOCALIZATION: (240, 228, 66),
    ErrorType.VOID: (120, 94, 190),
}


class WorstCase(NamedTuple):
    """An image to show.

    Attributes:
        record: of the image.
        reason: why it is shown.
    """

    record: ImageRecord
    reason: str


def choose(records: Sequence[ImageRecord], most: int) -> list[WorstCase]:
    """Choose the images with the lowest PQ, then for each error type the image with the most errors.

    Perfect images are not chosen.

    Args:
        records: of all images.
        most: number of images with the lowest PQ.
    """
    known = sorted((r for r in records if not math.isnan(r.pq)), key=lambda r: (r.pq, r.name))
    chosen = [
        WorstCase(record, "lowest PQ of all" if i == 1 else f"number {i} by lowest PQ")
        for i, record in enumerate([r for r in known if r.pq < 1][:most], start=1)
    ]
    shown = {c.record.name for c in chosen}
    if not most:
        return []
    for error_type in ErrorType:
        numbers = {r.name: count_of_type(r, error_type) for r in known}
        best = max(known, key=lambda r: (numbers[r.name], -r.pq), default=None)
        if best is not None and numbers[best.name] and best.name not in shown:
            chosen.append(WorstCase(best, f"most errors of type “{error_type.title}”: {numbers[best.name]}"))
            shown.add(best.name)
    return chosen


def count_of_type(record: ImageRecord, error_type: ErrorType) -> int:
    """Return the number of false negatives and false positives of one type."""
    return sum(fn + fp for _, row, _, fn, fp, _ in record.errors if row == error_type)


def find_images(folder: Path) -> dict[str, Path]:
    """Return the images in a folder by relative path without suffix, and by name if it is unique.

    Raises:
        UnreadableFileError: the folder does not exist.
    """
    if not folder.is_dir():
        raise UnreadableFileError(folder, "expected a folder of images, found none; use the folder of the images")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    times = Counter(path.stem for path in paths)
    found = {path.stem: path for path in paths if times[path.stem] == 1}
    found.update({path.relative_to(folder).with_suffix("").as_posix(): path for path in paths})
    return found


def image_of(name: str, images: dict[str, Path]) -> Path | None:
    """Return the image of a record, whose name may have a suffix, folders, or a Cityscapes suffix."""
    plain = name.rsplit("/", 1)[-1]
    stems = [name, Path(name).with_suffix("").as_posix(), plain, Path(plain).stem]
    stems += [f"{plain}_leftImg8bit", f"{Path(plain).stem}_leftImg8bit"]
    return next((images[stem] for stem in stems if stem in images), None)


def draw_case(
    prediction: PanopticMap, truth: PanopticMap, labels: LabelSpace, protocol: Protocol, image: Tensor | None
) -> list[Figure]:
    """Draw one image: truth and prediction as in the files, errors under the protocol.

    Args:
        prediction: of the same size as ``truth``.
        truth: with its crowds, if any.
        labels: of both.
        protocol: of the evaluation.
        image: the image itself, uint8 [3, H, W] of any size with about the same aspect ratio; None if missing.
    """
    histogram = overlaps(prediction, truth)
    matches = match_segments(prediction, truth, histogram, protocol, labels.stuff_ids)
    errors = find_errors(prediction, truth, histogram, matches, protocol, labels.stuff_ids)
    converted = apply_protocol(prediction, truth, labels, protocol)
    size: tuple[int, int] = truth.size
    if max(size) > LONGEST_SIDE:
        size = size_with_longest_side(size, LONGEST_SIDE)
    prediction, truth = prediction.resize(*size), truth.resize(*size)
    seen, true = (panoptic.resize(*size) for panoptic in converted)
    photo = None if image is None else _shrunk(image, size)
    ground = photo if photo is not None else draw_segments(truth, labels, outlines=False)
    return [
        *([] if photo is None else [figure("image", photo, is_photo=True)]),
        figure("ground truth", draw_segments(truth, labels), is_photo=False),
        figure("prediction", draw_segments(prediction, labels), is_photo=False),
        figure("errors", draw_errors(ground, seen, true, errors, matches), is_photo=photo is not None),
    ]


def draw_errors(
    ground: Tensor, prediction: PanopticMap, truth: PanopticMap, errors: SegmentErrors, matches: SegmentMatches
) -> Tensor:
    """Draw every error in the colour of its type over a grey copy of an image.

    False positives are drawn first, then false negatives. Pixels in which a matched pair differs have the colour of
    localization. Void in the ground truth is dark.

    Args:
        ground: uint8 [3, H, W].
        prediction: of this size.
        truth: likewise.
        errors: of both maps, computed at any size.
        matches: the matches of ``errors``.

    Returns:
        uint8 [3, H, W].
    """
    ids, predicted = truth.ids.cpu().long(), prediction.ids.cpu().long()
    error_type = torch.full(ids.shape, NO_ERROR)
    partner, owner = (torch.full((m.num_segments + 1,), -1) for m in (truth, prediction))  # ids of the matched segments
    partner[matches.truth + 1] = matches.prediction + 1
    owner[matches.prediction + 1] = matches.truth + 1
    leaves = (partner[ids] > 0) & (partner[ids] != predicted)
    spills = (owner[predicted] > 0) & (owner[predicted] != ids) & (ids > 0)
    error_type[leaves | spills] = int(ErrorType.LOCALIZATION)
    for table, each in ((errors.prediction_type, predicted), (errors.truth_type, ids)):
        of_segment = torch.from_numpy(np.concatenate([[NO_ERROR], table]))[each]
        error_type = torch.where(of_segment == NO_ERROR, error_type, of_segment)
    colors = torch.tensor([*(TYPE_COLORS[k] for k in ErrorType), (0, 0, 0)], dtype=torch.float32)  # -1 is the last
    grey = (ground.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0) * 0.6 + 70
    grey = torch.where((ids == 0) & (error_type == NO_ERROR), grey * 0.35, grey).expand(3, -1, -1)
    painted = grey * 0.25 + colors[error_type].permute(2, 0, 1) * 0.75
    return torch.where(error_type == NO_ERROR, grey, painted).round().to(torch.uint8)


def load_photo(path: Path | None) -> Tensor | None:
    """Return an image, uint8 [3, H, W]; None if it is missing or unreadable."""
    try:
        return None if path is None else load_image(path)
    except UnreadableFileError:  # the report is still useful without this image
        return None


def _shrunk(image: Tensor, size: tuple[int, int]) -> Tensor:
    pixels = Image.fromarray(image.cpu().permute(1, 2, 0).contiguous().numpy())
    small = pixels.resize((size[1], size[0]), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)
