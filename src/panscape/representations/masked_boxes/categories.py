"""The things that a detector with categories of its own finds, such as one of COCO in a network for Cityscapes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError, listed
from panscape.labels import LabelSpace

_logger = logging.getLogger(__name__)

# Names of Pascal VOC, which Darknet's coco.names has, too, by those of COCO.
_VOC_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


def match_categories(names: Sequence[str], labels: LabelSpace) -> tuple[int, ...]:
    """Return the detector's category with the name of each thing, -1 for none.

    A thing without a category is never detected, which is logged, and categories that are no thing are ignored: with
    COCO's 80 categories, Cityscapes has all things but riders, which COCO labels as persons.

    Args:
        names: of the detector's categories, in their order; those of COCO are the things of "coco_panoptic", or the
            lines of Darknet's ``coco.names``.
        labels: label space, which defines the things.

    Raises:
        InvalidArgumentError: names are not distinct, or no thing has one of them.
    """
    if len(set(names)) != len(names):
        raise InvalidArgumentError(f"expected distinct names of the detector's categories, got {list(names)}")
    place = {_VOC_NAMES.get(name, name): i for i, name in enumerate(names)}
    place |= {name: i for i, name in enumerate(names)}
    found = tuple(place.get(labels[thing].name, -1) for thing in labels.thing_ids)
    if all(i < 0 for i in found):
        raise InvalidArgumentError(
            f"expected a detector of things of {labels.name} ({', '.join(labels[i].name for i in labels.thing_ids)}), "
            f"got one of {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}; use a detector with other "
            "categories or train one"
        )
    if missing := [labels[thing].name for thing, i in zip(labels.thing_ids, found, strict=True) if i < 0]:
        _note_missing(labels.name, listed(missing))
    return found


@functools.cache
def _note_missing(space: str, things: str) -> None:  # once, as a run builds its network several times
    _logger.warning("the detector has no category for things of %s and never detects them: %s", space, things)


def thing_prob(category_prob: Tensor, category: Sequence[int]) -> Tensor:
    """Return the probability of each thing from those of the detector's categories, float [..., T].

    Args:
        category_prob: float [..., C].
        category: of each thing, see :func:`match_categories`; the probability of -1 is 0.
    """
    columns = torch.tensor(category, dtype=torch.int64, device=category_prob.device)
    return torch.where(columns >= 0, category_prob[..., columns.clamp(min=0)], 0.0)
