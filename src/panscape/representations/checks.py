"""Checks of ground truth and options against a label space, shared by all representations."""

from __future__ import annotations

from math import inf

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap


def check_categories(truth: PanopticMap, labels: LabelSpace) -> None:
    """Check that all categories of a ground truth are in the label space.

    Raises:
        InvalidArgumentError: the ground truth has categories that the label space lacks.
    """
    if truth.num_segments and int(truth.category.max()) >= len(labels):
        raise InvalidArgumentError(
            f"expected category ids below {len(labels)} ({labels.name}), got {int(truth.category.max())}; "
            "the ground truth was read with another label space"
        )


def check_category_weights(weights: tuple[float, ...], labels: LabelSpace | None = None) -> None:
    """Check that the loss weights of categories are positive and that there is one for each category.

    Args:
        weights: one for each category; if empty, all are 1.
        labels: the label space; None if it is not known yet, so that the number of weights is not checked.

    Raises:
        InvalidArgumentError: a weight or the number of weights is invalid.
    """
    if not all(0 < weight < inf for weight in weights):
        raise InvalidArgumentError(f"expected positive category_weights, got {weights}")
    if labels is not None and weights and len(weights) != len(labels):
        raise InvalidArgumentError(
            f"expected {len(labels)} category_weights, one for each category of {labels.name}, got {len(weights)}"
        )


def require_things(labels: LabelSpace, means: str) -> None:
    """Check that a label space has things.

    Args:
        labels: the label space.
        means: what represents things, in plural: "regions".

    Raises:
        InvalidArgumentError: it has stuff only.
    """
    if not labels.thing_ids:
        raise InvalidArgumentError(
            f"expected a label space with things, which {means} represent, but {labels.name} has stuff only; use a "
            "model that does without things, such as swiftnet or panoptic_deeplab"
        )
