"""What an evaluation measures: the options that the command line, models and files have in common.

This module imports nothing heavy, as the command line reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    _Rules = Any  # a name, or Rules of panscape.metrics, which lies above this module
else:
    _Rules = Literal["coco", "deeplab2", "torchmetrics", "seamseg"]


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured, and by whose rules; of a model as of files."""

    protocol: _Rules = "coco"
    """By whose rules PQ, PQ-dagger and boundary quality are judged, and errors told apart."""

    boundary: bool = False
    """Also measure boundary quality (boundary PQ), which takes longer."""

    ap: bool = False
    """Also measure the average precision of objects: by the rules of Cityscapes for its data, else by those of COCO."""

    ap_sizes: bool = False
    """Like --ap, and also between percentiles of the areas of the truth's objects. Not for Cityscapes, whose rules know
    no sizes."""

    iiou: bool = False
    """Also measure instance-weighted IoU of things (iIoU): with the average sizes that the benchmark gives for
    Cityscapes, else with those of the truth of these images."""

    @property
    def measures_ap(self) -> bool:
        """Whether average precision is measured, with or without percentiles of sizes."""
        return self.ap or self.ap_sizes


DEFAULT_OPTIONS = EvaluationOptions()
"""What is measured where nobody asks for more."""
