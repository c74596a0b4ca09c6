"""What all metrics need of a predicted and a true map: who overlaps whom, and by how much."""

from __future__ import annotations

from panscape.errors import InvalidArgumentError
from panscape.kernels.joint_histogram import JointHistogram, joint_histogram
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap


def overlaps(prediction: PanopticMap, truth: PanopticMap) -> JointHistogram:
    """Count the pixels of every pair of truth and predicted segment; metrics of one picture can share the result.

    Args:
        prediction: of the same size as ``truth``, on any device.
        truth: on any device; the counting is done there.

    Returns:
        The pairs of ids (0 is void) that occur, ascending by truth, then by prediction, on the CPU.

    Raises:
        InvalidArgumentError: the maps differ in size.
    """
    predicted_ids = prediction.ids.to(truth.ids.device)
    histogram = joint_histogram(truth.ids, predicted_ids, truth.num_segments, prediction.num_segments)
    return JointHistogram(*(part.cpu() for part in histogram))


def require_categories(labels: LabelSpace, prediction: PanopticMap, truth: PanopticMap) -> None:
    """Check that both maps keep to a label space.

    Raises:
        InvalidArgumentError: a map has a category that ``labels`` does not have.
    """
    for name, category in (("prediction", prediction.category), ("truth", truth.category)):
        largest = int(category.max()) if category.numel() else -1
        if largest >= len(labels):
            raise InvalidArgumentError(
                f"expected category ids in 0..{len(labels) - 1} (label space {labels.name!r}), got {largest} in the "
                f"{name}; evaluate with the label space that the maps were made with"
            )


def require_same_labels(mine: LabelSpace, others: LabelSpace) -> None:
    """Check that two accumulators can be merged.

    Raises:
        InvalidArgumentError: they count different categories.
    """
    if mine != others:
        raise InvalidArgumentError(
            f"expected a metric over the label space {mine.name!r} ({len(mine)} categories), got one over "
            f"{others.name!r} ({len(others)} categories); merge metrics of one label space only"
        )
