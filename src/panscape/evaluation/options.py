"""Evaluation options, shared by the command line, models and files.

This module imports nothing heavy, as the command line imports it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    _Protocol = Any  # a name, or Protocol of panscape.metrics, which is in a layer above this module
else:
    _Protocol = Literal["coco", "deeplab2", "torchmetrics", "seamseg", "yolo_panoptic"]

_RARE = {"is_rare": True}  # only --help-all lists the option, see panscape.cli.parser


@dataclass(frozen=True)
class EvaluationOptions:
    """The metrics and the protocol of an evaluation, for models and for files."""

    protocol: _Protocol = "coco"
    """Evaluation protocol of PQ, PQ-dagger, boundary PQ and the error breakdown; with another one than coco, standard
    PQ stands beside."""

    boundary: bool = False
    """Also measure boundary PQ; takes longer."""

    ap: bool = False
    """Also measure average precision of objects, by the protocol of Cityscapes for its data, else of COCO, and print
    one row of all scores, as in papers."""

    ap_sizes: bool = False
    """Like --ap, and also between percentiles of the areas of true objects, by the protocol of COCO."""

    iiou: bool = False
    """Also measure instance-weighted IoU of things (iIoU), with the average sizes of the benchmark for Cityscapes, else
    with those of the ground truth."""

    @property
    def measures_ap(self) -> bool:
        """Whether average precision is measured, with or without percentiles of sizes."""
        return self.ap or self.ap_sizes


@dataclass(frozen=True)
class InferenceOptions:
    """How a model predicts the images of a dataset."""

    limit: int = 0
    """Maximum number of images, spread evenly over the split; 0 for all."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Numeric precision of the forward pass; fp16 needs a CUDA device."""

    on_error: Literal["raise", "skip"] = field(default="raise", metadata=_RARE)
    """On an image that cannot be used: raise an error, or skip the image, count it and list it."""


@dataclass(frozen=True)
class ReadingOptions:
    """How files of predictions and ground truth are read."""

    labels: str | None = field(default=None, metadata=_RARE)
    """Label space: a bundled one, or a JSON file. By default the categories of the ground truth."""

    pred_dir: Path | None = field(default=None, metadata=_RARE)
    """Folder of the PNGs of the predictions' JSON, if they are not beside it."""

    gt_dir: Path | None = field(default=None, metadata=_RARE)
    """Folder of the PNGs of the ground truth's JSON, if they are not beside it."""

    label_ids: str | None = field(default=None, metadata=_RARE)
    """Category ids in the predictions: "dataset" (those of the ground truth), "index" or "index1" (positions from 0 or
    1), "names" (their own, by the names they list), or a label space, by its names. By default index for arrays."""

    void: int | None = field(default=None, metadata=_RARE)
    """Id of pixels without category in semantic masks, -1 for none; by default 255, unless that is a category."""

    min_area: int = field(default=50, metadata=_RARE)
    """Minimum area of objects in semantic masks, pixels; smaller ones become void."""

    threads: int = field(default=0, metadata=_RARE)
    """Threads that read images; 0 for one per processor."""

    strict: bool = field(default=False, metadata=_RARE)
    """Raise an error at the first invalid file. By default unreadable predictions count as missed."""


DEFAULT_OPTIONS = EvaluationOptions()
"""The default options."""

DEFAULT_INFERENCE = InferenceOptions()
"""Single precision, all images, an error for an image that cannot be used."""

DEFAULT_READING = ReadingOptions()
"""The categories of the ground truth, one thread per processor, PNGs beside their JSON."""
