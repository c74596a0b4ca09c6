"""All metrics of an evaluator on the device of the maps, without synchronization between images.

Reading a value from the GPU blocks the CPU, and the GPU then idles until it receives new work. Here nothing is read
before the end: ids are counted in a dense table, whose size follows from shapes, segments are matched by operations on
the whole table, and sums stay on the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.metrics.base import SummedMetric
from panscape.metrics.evaluator import EvaluationReport, Evaluator
from panscape.metrics.protocol import Protocol, get_protocol


class GpuEvaluator(SummedMetric[EvaluationReport]):
    """Accumulates the metrics of an :class:`~panscape.metrics.evaluator.Evaluator` from tensors, on their device.

    Counts are equal to those of an evaluator; sums of IoU are equal up to rounding. The memory for an image grows with
    the number of true segments times the number of predicted ones. Values out of range are reported by :meth:`compute`.

    Attributes:
        labels: the label space of predictions and truth, or the name of a bundled one.
        protocol: the evaluation protocol.
        state: float64 [K, K + 12] on the device: the columns of PQ (4), PQ-dagger (2), parsing covering (4) and IoU of
            categories (K + 1), as in the states of their accumulators; the first row of the last column counts
            values out of range. The states of all processes can be summed.
    """

    options = ("protocol",)

    def __init__(self, labels: LabelSpace | str, device: torch.device | str, protocol: str | Protocol = "coco") -> None:
        """Start with no images.

        Args:
            labels: the label space of predictions and truth, or the name of a bundled one.
            device: of the maps.
            protocol: of PQ and PQ-dagger: a name in :data:`~panscape.metrics.protocol.PROTOCOLS`, or a custom protocol.

        Raises:
            UnknownNameError: no protocol has this name.
        """
        self.labels = labels = LabelSpace.of(labels)
        self.protocol = get_protocol(protocol)
        self.state = torch.zeros(len(labels), len(labels) + 12, dtype=torch.float64, device=device)
        self._is_stuff = torch.tensor([not category.is_thing for category in labels], device=device)
        self._ids = torch.arange(len(labels), device=device)

    @torch.no_grad()
    def update(
        self,
        predicted_ids: Tensor,
        predicted_category: Tensor,
        true_ids: Tensor,
        true_category: Tensor,
        true_crowd: Tensor | None = None,
    ) -> None:
        """Add one image from the tensors of two maps; no :class:`PanopticMap` is required.

        Args:
            predicted_ids: integers [H, W], values in 0..P; 0 is void.
            predicted_category: int64 [P].
            true_ids: integers [H, W], values in 0..T; 0 is void.
            true_category: int64 [T].
            true_crowd: bool [T]; None if there are no crowds.

        Raises:
            InvalidArgumentError: the maps differ in size, a tensor is on another device than the evaluator, or
                ``true_crowd`` is not bool [T].
        """
        self._check(predicted_ids, predicted_category, true_ids, true_category, true_crowd)
        table, num_invalid = _count(true_ids, predicted_ids, len(true_category) + 1, len(predicted_category) + 1)
        for category in (true_category, predicted_category):
            num_invalid = num_invalid + ((category < 0) | (category >= len(self.labels))).sum()
        # Position 0 is void; its category equals no other, not even that of the other void.
        of_truth, of_prediction = _with_void(true_category, -1), _with_void(predicted_category, -2)
        is_crowd = torch.zeros_like(of_truth, dtype=torch.bool) if true_crowd is None else _with_void(true_crowd, 0)
        quality = self._quality(table, of_truth, of_prediction, is_crowd)
        parts = (
            quality,
            self._dagger(quality, table, of_truth, of_prediction, is_crowd),
            self._covering(table, of_truth, of_prediction, is_crowd, true_ids.numel()),
            self._confusion(table, of_truth, of_prediction),
            (self._ids[:, None] == 0) * num_invalid,
        )
        self.state += torch.cat(parts, dim=1)

    def _check(
        self,
        predicted_ids: Tensor,
        predicted_category: Tensor,
        true_ids: Tensor,
        true_category: Tensor,
        true_crowd: Tensor | None,
    ) -> None:
        """Check what is known without waiting for the device."""
        if predicted_ids.shape != true_ids.shape:
            raise InvalidArgumentError(
                f"expected maps of the same size, got a truth of {list(true_ids.shape)} and a prediction of "
                f"{list(predicted_ids.shape)}; decode or resize the prediction to the size of its image"
            )
        if true_crowd is not None and (true_crowd.dtype != torch.bool or true_crowd.shape != true_category.shape):
            raise InvalidArgumentError(
                f"expected true_crowd as bool [{len(true_category)}], one for each segment of the truth, got "
                f"{true_crowd.dtype} {list(true_crowd.shape)}"
            )
        parts = (predicted_ids, predicted_category, true_ids, true_category, true_crowd)
        others = sorted({str(part.device) for part in parts if part is not None} - {str(self.state.device)})
        if others:
            raise InvalidArgumentError(
                f"expected all tensors on {self.state.device}, the device of this evaluator, got {', '.join(others)}; "
                "move them, or create the GpuEvaluator on their device"
            )

    def _sums(self, category: Tensor, values: Tensor) -> Tensor:
        """Sum values by category, [S] and [S, N] to [K, N]; void and unknown categories are left out."""
        return (self._ids[:, None] == category[None]).to(values.dtype) @ values

    def _quality(self, table: Tensor, of_truth: Tensor, of_prediction: Tensor, is_crowd: Tensor) -> Tensor:
        """Match segments as :func:`~panscape.metrics.matching.match_segments` does; float64 [K, 4]."""
        is_void = is_crowd & (self.protocol.crowd == "void")
        is_crowd = is_crowd & (self.protocol.crowd == "excuse")
        if self.protocol.is_stuff_whole or self.protocol.crowd == "void":
            table = torch.zeros_like(table).index_add_(0, self._merged_ids(of_truth, is_void), table)
            table = torch.zeros_like(table).index_add_(1, self._merged_ids(of_prediction, of_prediction < -2), table)
        truth_area, predicted_area, on_void, under_void = table.sum(1), table.sum(0), table[0], table[:, 0]
        is_same = of_truth[:, None] == of_prediction[None]
        union = truth_area[:, None] + predicted_area[None] - table - on_void[None]
        if self.protocol.predicted_void_leaves_union:
            union = union - under_void[:, None]
        iou = table / union.clamp(min=1)
        has_no_threshold = self._is_stuff_of(of_truth) & self.protocol.any_overlap_matches_stuff
        threshold = torch.where(has_no_threshold, 0, 0.5)[:, None]
        is_match = is_same & ~is_crowd[:, None] & (iou > threshold)
        is_false_negative = (truth_area > 0) & ~is_crowd & ~is_match.any(1)
        if self.protocol.predicted_void_excuses_misses:
            is_false_negative &= under_void / truth_area.clamp(min=1) <= 0.5
        # Only the last of several crowds of a category excuses predictions.
        there = is_crowd & (truth_area > 0)
        row = torch.arange(len(of_truth), device=table.device)
        is_replaced = ((of_truth[:, None] == of_truth[None]) & (row[:, None] < row[None]) & there[None]).any(1)
        excused = on_void + (table * (is_same & (there & ~is_replaced)[:, None])).sum(0)
        is_false_positive = (predicted_area > 0) & (excused / predicted_area.clamp(min=1) <= 0.5) & ~is_match.any(0)
        of_rows = torch.stack([is_match.any(1).double(), is_false_negative.double(), (iou * is_match).sum(1)], dim=1)
        matched, false_negatives, iou_sum = self._sums(of_truth, of_rows).unbind(1)
        false_positives = self._sums(of_prediction, is_false_positive.double()[:, None])[:, 0]
        return torch.stack([matched, false_positives, false_negatives, iou_sum], dim=1)

    def _merged_ids(self, category: Tensor, is_void: Tensor) -> Tensor:
        """Return the id of each segment under the protocol: 0 for void, the first of its category for whole stuff."""
        ids = torch.arange(len(category), device=category.device)
        if self.protocol.is_stuff_whole:
            is_equal = (category[:, None] == category[None]) & ~is_void[None]
            first = torch.where(is_equal, ids[None], len(category)).amin(1).clamp(max=len(category) - 1)
            ids = torch.where(self._is_stuff_of(category), first, ids)
        return torch.where(is_void, 0, ids)

    def _is_stuff_of(self, category: Tensor) -> Tensor:
        """Return whether each segment is stuff; void is not."""
        return self._is_stuff[category.clamp(0, len(self.labels) - 1)] & (category >= 0)

    def _dagger(
        self, quality: Tensor, table: Tensor, of_truth: Tensor, of_prediction: Tensor, is_crowd: Tensor
    ) -> Tensor:
        """Compare stuff as :func:`~panscape.metrics.panoptic_quality_dagger.stuff_iou` does; float64 [K, 2]."""
        is_counted = of_truth >= 0
        if self.protocol.crowd == "void":
            is_counted = is_counted & ~is_crowd
        if self.protocol.crowd != "segment":
            of_truth = torch.where(is_crowd, -1, of_truth)
        is_same = of_truth[:, None] == of_prediction[None]
        of_rows = torch.stack([table.sum(1), (table * is_same).sum(1), table[:, 0]], dim=1)
        truth_area, shared, under_void = self._sums(of_truth, of_rows).unbind(1)
        predicted_area = self._sums(of_prediction, (table * is_counted[:, None]).sum(0)[:, None])[:, 0]
        union = truth_area + predicted_area - shared
        if self.protocol.predicted_void_leaves_union:
            union = union - under_void
        stuff = torch.stack([(truth_area > 0).double(), shared / union.clamp(min=1)], dim=1)
        matched, false_positives, false_negatives, iou_sum = quality.unbind(1)
        things = torch.stack([matched + (false_positives + false_negatives) / 2, iou_sum], dim=1)
        return torch.where(self._is_stuff[:, None], stuff, things)

    def _covering(
        self, table: Tensor, of_truth: Tensor, of_prediction: Tensor, is_crowd: Tensor, num_pixels: int
    ) -> Tensor:
        """Compute coverings as :func:`~panscape.metrics.parsing_covering.cover_segments` does; float64 [K, 4]."""
        table = table * ((of_truth >= 0) & ~is_crowd)[:, None]
        area = table.sum(1)
        iou = table / (area[:, None] + table.sum(0)[None] - table).clamp(min=1)
        best = (iou * (of_truth[:, None] == of_prediction[None])).amax(1)
        sums = self._sums(of_truth, torch.stack([area * best, area], dim=1))
        return torch.cat([sums, sums / max(num_pixels, 1)], dim=1)

    def _confusion(self, table: Tensor, of_truth: Tensor, of_prediction: Tensor) -> Tensor:
        """Count pixels by pairs of categories, the last column for void in the prediction; float64 [K, K + 1]."""
        rows = self._sums(of_truth, table)
        return torch.cat([self._sums(of_prediction, rows.T).T, rows[:, :1]], dim=1)

    def to(self, device: torch.device | str) -> GpuEvaluator:
        """Move this evaluator and its state to another device, on which later maps must be.

        Returns:
            This evaluator itself, as for modules.
        """
        self.state, self._is_stuff, self._ids = (part.to(device) for part in (self.state, self._is_stuff, self._ids))
        return self

    def to_evaluator(self) -> Evaluator:
        """Synchronize with the device and return an evaluator on the CPU with the same images.

        Raises:
            InvalidArgumentError: ids or categories of an image were out of range.
        """
        *columns, invalid = torch.split(self.state.cpu(), [4, 2, 4, len(self.labels) + 1, 1], dim=1)
        if invalid.any():
            raise InvalidArgumentError(
                f"expected ids from 0 to the number of segments of their map and categories in "
                f"0..{len(self.labels) - 1} (label space {self.labels.name!r}), got {int(invalid.sum())} pixels and "
                "segments out of range; check the maps, for example by creating a PanopticMap of each"
            )
        evaluator = Evaluator(self.labels, self.protocol)
        for name, part in zip(("panoptic", "dagger", "covering", "semantic"), columns, strict=True):
            evaluator.states[name].copy_(part)
        return evaluator

    def compute(self) -> EvaluationReport:
        """Report on all images so far; synchronizes with the device.

        Raises:
            InvalidArgumentError: ids or categories of an image were out of range.
        """
        return self.to_evaluator().compute()


def _with_void(part: Tensor, value: int) -> Tensor:
    return torch.cat([part.new_full((1,), value), part])


def _count(true_ids: Tensor, predicted_ids: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Return the pixels of every pair of ids, float64 [rows, columns], and the number of pixels out of range."""
    truth, prediction = true_ids.flatten().long(), predicted_ids.flatten().long()
    is_valid = (truth >= 0) & (truth < rows) & (prediction >= 0) & (prediction < columns)
    cell = torch.where(is_valid, truth * columns + prediction, rows * columns)
    counts = torch.zeros(rows * columns + 1, dtype=torch.int64, device=cell.device)
    counts.scatter_add_(0, cell, torch.ones_like(cell))
    return counts[:-1].view(rows, columns).double(), counts[-1]
