"""Refusing truths and options that do not go with a label space, for every representation alike."""

from __future__ import annotations

from math import inf

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap


def check_categories(truth: PanopticMap, labels: LabelSpace) -> None:
    """Refuse a truth with categories that the label space lacks.

    Raises:
        InvalidArgumentError: it has some.
    """
    if truth.num_segments and int(truth.category.max()) >= len(labels):
        raise InvalidArgumentError(
            f"expected category ids below {len(labels)} ({labels.name}), got {int(truth.category.max())}; "
            "the truth was read with another label space"
        )


def check_category_weights(weights: tuple[float, ...], labels: LabelSpace | None = None) -> None:
    """Refuse weights of categories in a loss that are not above 0, or not one for each category.

    Args:
        weights: none at all mean 1 for each.
        labels: None as long as they are not known.

    Raises:
        InvalidArgumentError: a weight or their number is wrong.
    """
    if not all(0 < weight < inf for weight in weights):
        raise InvalidArgumentError(f"expected positive category_weights, got {weights}")
    if labels is not None and weights and len(weights) != len(labels):
        raise InvalidArgumentError(
            f"expected {len(labels)} category_weights, one for each category of {labels.name}, got {len(weights)}"
        )
