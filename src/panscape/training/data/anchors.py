"""Anchors of a recipe, estimated from its training images."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from panscape.datasets.base import PanopticDataset
from panscape.datasets.load import OnError
from panscape.datasets.segment_index import load_segment_index
from panscape.errors import InvalidArgumentError
from panscape.representations.masked_boxes import MaskedBoxRepresentation, estimate_anchors
from panscape.representations.masked_boxes.anchors import sides_iou
from panscape.training.config import Augmentation, Recipe
from panscape.training.run_folder import RunFolder

_logger = logging.getLogger(__name__)

Anchors = tuple[tuple[tuple[float, float], ...], ...]
"""Width and height of the anchors in pixels, by stride."""

_MAX_OBJECTS = 100_000  # for the time and memory of clustering; of more, evenly spaced ones are taken


def has_anchors_from_data(recipe: Recipe) -> bool:
    """Return whether the anchors of a recipe's network are to be estimated."""
    representation = getattr(recipe.model, "representation", None)
    return isinstance(representation, MaskedBoxRepresentation) and representation.anchors_from_data


def with_anchors(recipe: Recipe, anchors: Anchors) -> Recipe:
    """Return a recipe with other anchors."""
    model: Any = recipe.model
    return replace(recipe, model=replace(model, representation=replace(model.representation, anchors=anchors)))


def anchors_for(recipe: Recipe, dataset: PanopticDataset, *, on_error: OnError = "raise") -> Anchors:
    """Estimate as many anchors as a recipe's network has from the things of its training images.

    Objects have the size at which they enter the network: that in the image, times the median factor of
    ``augmentation.scale``, cut to the crop, times the median factor of ``augmentation.multi_scale``. Crowds are left
    out. The segments are those of :func:`panscape.datasets.segment_index.load_segment_index`.

    Args:
        recipe: its network has a :class:`~panscape.representations.masked_boxes.MaskedBoxRepresentation`.
        dataset: the training images.
        on_error: handling of images that cannot be read.

    Raises:
        InvalidArgumentError: the factors depend on the image or the object; or there are no things, or too few of
            different sizes.
        BadSampleError: a map cannot be read, unless ``on_error`` is "skip".
    """
    if recipe.sampling.kind == "scales" or recipe.sampling.shortest_side or recipe.augmentation.shortest_sides:
        raise InvalidArgumentError(
            "expected one distribution of scales for all images with anchors_from_data, got sampling.kind "
            f'"{recipe.sampling.kind}", sampling.shortest_side {recipe.sampling.shortest_side} and '
            f"augmentation.shortest_sides {recipe.augmentation.shortest_sides}; use augmentation.scale, or give the "
            "anchors"
        )
    labels, segments = dataset.labels, load_segment_index(dataset, on_error=on_error)
    things = segments[np.isin(segments["category"], labels.thing_ids) & ~segments["crowd"]]
    if not len(things):
        raise InvalidArgumentError(
            f"expected objects to estimate anchors from, got none of a thing category of {labels.name} in "
            f"{len(dataset)} training images; add images with objects, or set anchors_from_data to False"
        )
    things = things[:: -(-len(things) // _MAX_OBJECTS)]
    sides = _at_input(torch.from_numpy(np.stack([things["width"], things["height"]], 1)), recipe.augmentation)
    model: Any = recipe.model
    shape = model.representation.anchors
    anchors = estimate_anchors(sides, len(shape), len(shape[0]))
    flat = [side for stride in anchors for side in stride]
    _logger.info(
        "anchors from %d objects, with a mean IoU of %.2f: %s",
        len(sides),
        float(sides_iou(sides, torch.tensor(flat, dtype=sides.dtype)).amax(dim=1).mean()),
        ", ".join(f"{width:.3g}x{height:.3g}" for width, height in flat),
    )
    return anchors


def _at_input(sides: Tensor, augmentation: Augmentation) -> Tensor:
    """Return widths and heights, in pixels of images, at the size at which they enter the network, float64 [N, 2]."""
    low, high = augmentation.scale
    factor = math.sqrt(low * high) if augmentation.scale_distribution == "log_uniform" else (low + high) / 2
    height, width = augmentation.crop
    cut = torch.minimum(sides.double() * factor, torch.tensor([width, height]))
    return cut * (median(augmentation.multi_scale) / min(height, width) if augmentation.multi_scale else 1.0)


def recorded_anchors(run: RunFolder) -> Anchors | None:
    """Return the anchors in the recipe of a run; None if there is no run, or one of another family.

    Raises:
        UnreadableFileError: the recipe of the run cannot be read.
    """
    recipe = run.recorded_recipe()
    try:
        strides = recipe["model"]["representation"]["anchors"] if recipe else ()
        return tuple(tuple((float(width), float(height)) for width, height in stride) for stride in strides) or None
    except (KeyError, TypeError, ValueError):
        return None
