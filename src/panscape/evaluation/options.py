"""Evaluation options, shared by the command line, models and files.

This module imports nothing heavy, as the command line imports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    _Protocol = Any  # a name, or Protocol of panscape.metrics, which is in a layer above this module
else:
    _Protocol = Literal["coco", "deeplab2", "torchmetrics", "seamseg"]


@dataclass(frozen=True)
class EvaluationOptions:
    """The metrics and the protocol of an evaluation, for models and for files."""

    protocol: _Protocol = "coco"
    """Evaluation protocol of PQ, PQ-dagger, boundary PQ and the error breakdown."""

    boundary: bool = False
    """Also measure boundary PQ; takes longer."""

    ap: bool = False
    """Also measure average precision of objects, with the protocol of Cityscapes for its data, else that of COCO."""

    ap_sizes: bool = False
    """Like --ap, and also between percentiles of the areas of ground-truth objects. Not for Cityscapes, whose protocol
    has no sizes."""

    iiou: bool = False
    """Also measure instance-weighted IoU of things (iIoU), with the average sizes of the benchmark for Cityscapes, else
    with those of the ground truth."""

    @property
    def measures_ap(self) -> bool:
        """Whether average precision is measured, with or without percentiles of sizes."""
        return self.ap or self.ap_sizes


DEFAULT_OPTIONS = EvaluationOptions()
"""The default options."""
