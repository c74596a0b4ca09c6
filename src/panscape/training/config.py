"""`Recipe`: every setting that affects the result of a training, as one frozen value.

A recipe contains no folder, device or number of processes: those belong to a run. Every part is a frozen dataclass. Its
fields are options of the command line (``--optimizer.learning-rate 1e-4``), and their docstrings are the help texts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from panscape.datasets.base import PanopticDataset
from panscape.datasets.splits import ImageFile, Splits
from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.models import PanopticModel
from panscape.transforms import RotationPolicy


class ModelOptions(ABC):
    """The network of a recipe: a frozen dataclass for each family.

    A field ``pretrained``, if a family has one, selects ImageNet weights for the backbone. A training builds the
    network without them, and loads them if no other weights fill the backbone.
    """

    @abstractmethod
    def create(self, labels: LabelSpace) -> PanopticModel:
        """Build the network, on the CPU, with random or pretrained weights."""


class DataOptions(ABC):
    """The data of a recipe: a frozen dataclass for each dataset."""

    def splits(self, root: Path | None) -> Splits:
        """Return the splits of the dataset; by default "train" and "val".

        Args:
            root: as for :meth:`load`.

        Raises:
            InvalidArgumentError: a folder is required and was not given.
        """
        return Splits(type(self).__name__, ("train", "val"))

    @abstractmethod
    def load(self, root: Path | None, split: str) -> PanopticDataset:
        """Open a split: "train" for training, "val" for evaluation, or another one of :meth:`splits`.

        Args:
            root: the folder given as ``--data``; None if none was given.
            split: its name.

        Raises:
            InvalidArgumentError: a folder is required and was not given, the split does not exist, or it has no ground
                truth.
            PanscapeError: the folder does not contain the dataset; see the dataset for the error.
        """

    def images(self, root: Path | None, split: str) -> list[ImageFile]:
        """Return the images of a split, with or without ground truth.

        Args:
            root: as for :meth:`load`.
            split: one of :meth:`splits`.

        Raises:
            InvalidArgumentError: the split does not exist, a folder is required and was not given, or the images are
                not stored in files.
            PanscapeError: the folder does not contain the dataset; see the dataset for the error.
        """
        raise InvalidArgumentError(
            f"expected a recipe whose images are files, got one with {type(self).__name__}; give the images instead "
            "of a recipe"
        )


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images: resize, crop, rotate, flip, copy-paste, color jitter, in this order."""

    crop: tuple[int, int] = (512, 512)
    """Height and width of training crops, in pixels."""

    scale: tuple[float, float] = (0.5, 2.0)
    """Smallest and largest factor of the uniform scale jitter; ignored if shortest_sides are given."""

    shortest_sides: tuple[int, ...] = ()
    """Resize the shorter side to one of these lengths in pixels, chosen at random."""

    longest_side: int = 4096
    """Maximum length of the longer side in pixels, with shortest_sides."""

    rotation: RotationPolicy = "none"
    """Random rotation: "none", "right_angles" (square crops only) or "any" (Panoptic SwiftNet, Table 2)."""

    flip: float = 0.5
    """Probability of a horizontal flip."""

    color_jitter: float = 0.0
    """Probability of changing brightness, contrast, saturation and hue."""

    color_jitter_strength: float = 0.4
    """Strength s of color jitter: brightness, contrast and saturation change by a factor in 1 - s ... 1 + s."""

    color_jitter_hue: float = 0.05
    """Maximum hue rotation of color jitter, as a fraction of a full turn (0 to 0.5)."""

    copy_paste: float = 0.0
    """Probability of pasting objects of another training image into a crop."""

    rare_crop: float = 0.0
    """Probability of a crop around a segment of a rare category (Mapillary Vistas: 0.5); see sampling."""

    def __post_init__(self) -> None:
        if len(self.crop) != 2 or min(self.crop) < 1:
            raise InvalidArgumentError(f"expected a crop as height and width of at least one pixel, got {self.crop}")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] < inf:
            raise InvalidArgumentError(f"expected a scale as smallest and largest factor above 0, got {self.scale}")
        if min((*self.shortest_sides, self.longest_side)) < 1:
            raise InvalidArgumentError(
                "expected shortest_sides and longest_side of at least one pixel, "
                f"got {self.shortest_sides} and {self.longest_side}"
            )
        _require_choice(self, "rotation")
        if self.rotation == "right_angles" and self.crop[0] != self.crop[1]:
            raise InvalidArgumentError(f"expected a square crop to rotate by right angles, got {self.crop}")
        for name in ("flip", "color_jitter", "copy_paste", "rare_crop"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidArgumentError(f"expected {name} as a probability in 0..1, got {getattr(self, name)}")
        if not 0 <= self.color_jitter_strength < inf or not 0 <= self.color_jitter_hue <= 0.5:
            raise InvalidArgumentError(
                "expected color_jitter_strength of 0 or more and color_jitter_hue in 0..0.5, "
                f"got {self.color_jitter_strength} and {self.color_jitter_hue}"
            )


@dataclass(frozen=True)
class Sampling:
    """How often each training image is sampled."""

    repeat_threshold: float = 0.0
    """Threshold of repeat factor sampling: categories in a smaller fraction of the images are rare, and an image is
    repeated sqrt(threshold / fraction) times for its rarest category. 0 samples every image once per epoch."""

    def __post_init__(self) -> None:
        if not 0 <= self.repeat_threshold <= 1:
            raise InvalidArgumentError(
                f"expected repeat_threshold as a fraction of the images in 0..1, got {self.repeat_threshold}"
            )


@dataclass(frozen=True)
class Optimizer:
    """The optimizer and its hyperparameters."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimizer; "adam" and "sgd" add weight decay to the gradient, "adamw" decouples it."""

    learning_rate: float = 1e-4
    """Peak learning rate; see schedule."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square, for "adam" and "adamw"."""

    eps: float = 1e-8
    """Added to the denominator, for "adam" and "adamw"."""

    momentum: float = 0.9
    """Momentum, for "sgd"."""

    weight_decay: float = 0.0
    """Weight decay of the weights of convolutions and linear layers."""

    norm_weight_decay: float = 0.0
    """Weight decay of biases and of the weights of normalisation layers."""

    backbone_lr_mult: float = 1.0
    """Learning-rate multiplier of the backbone."""

    bias_lr_mult: float = 1.0
    """Learning-rate multiplier of biases, relative to the weights of the same module; 2 in FCOS."""

    grad_clip_norm: float = 0.0
    """Clip gradients to this norm; 0 disables clipping."""

    def __post_init__(self) -> None:
        _require_choice(self, "name")
        for name in ("learning_rate", "eps"):
            if not 0 < getattr(self, name) < inf:
                raise InvalidArgumentError(f"expected a positive {name}, got {getattr(self, name)}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InvalidArgumentError(f"expected two betas in [0, 1), got {self.betas}")
        if not 0 <= self.momentum < 1:
            raise InvalidArgumentError(f"expected a momentum in [0, 1), got {self.momentum}")
        for name in ("weight_decay", "norm_weight_decay", "backbone_lr_mult", "bias_lr_mult", "grad_clip_norm"):
            if not 0 <= getattr(self, name) < inf:
                raise InvalidArgumentError(f"expected {name} of 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class Schedule:
    """Learning-rate schedule: linear warm-up, then decay."""

    kind: Literal["poly", "cosine", "steps", "constant"] = "poly"
    """Kind of decay: "poly" is (1 - progress) ** power, "cosine" half a cosine, "steps" drops at each milestone."""

    power: float = 0.9
    """Exponent, for "poly"."""

    min_lr: float = 0.0
    """Learning rate after the last step, for "poly" and "cosine"."""

    milestones: tuple[int, ...] = ()
    """Steps after which the learning rate drops, ascending, for "steps"."""

    gamma: float = 0.1
    """Factor applied to the learning rate at each milestone, for "steps"."""

    warmup_steps: int = 0
    """Number of warm-up steps; 0 disables warm-up."""

    warmup_factor: float = 1e-3
    """Learning rate of the first warm-up step, as a fraction of the peak."""

    def __post_init__(self) -> None:
        _require_choice(self, "kind")
        if not 0 < self.power < inf:
            raise InvalidArgumentError(f"expected a positive power, got {self.power}")
        if not 0 <= self.min_lr < inf:
            raise InvalidArgumentError(f"expected min_lr of 0 or more, got {self.min_lr}")
        if list(self.milestones) != sorted(set(self.milestones)) or min(self.milestones, default=1) < 1:
            raise InvalidArgumentError(f"expected ascending milestones of at least one step, got {self.milestones}")
        if self.kind == "steps" and not self.milestones:
            raise InvalidArgumentError(
                'expected milestones (steps after which the learning rate drops) with kind "steps"'
            )
        if not 0 < self.gamma <= 1:
            raise InvalidArgumentError(f"expected a gamma in (0, 1], got {self.gamma}")
        if self.warmup_steps < 0:
            raise InvalidArgumentError(f"expected warmup_steps of 0 or more, got {self.warmup_steps}")
        if not 0 < self.warmup_factor <= 1:
            raise InvalidArgumentError(f"expected warmup_factor in (0, 1], got {self.warmup_factor}")


@dataclass(frozen=True)
class Recipe:
    """The complete configuration of a training.

    Raises:
        InvalidArgumentError: a number is out of its range.
    """

    name: str
    """Name of the recipe, recorded in runs and models."""

    model: ModelOptions
    """The network."""

    data: DataOptions
    """The dataset."""

    augmentation: Augmentation = field(default_factory=Augmentation)
    """Augmentation of training images."""

    sampling: Sampling = field(default_factory=Sampling)
    """How often each training image is sampled."""

    optimizer: Optimizer = field(default_factory=Optimizer)
    """The optimizer and its hyperparameters."""

    schedule: Schedule = field(default_factory=Schedule)
    """Learning-rate schedule."""

    steps: int = 90_000
    """Number of optimizer steps."""

    batch_size: int = 8
    """Crops per step, summed over all processes, so that a recipe gives the same training on one device or many."""

    grad_accum_steps: int = 1
    """Gradient accumulation: number of parts in which each process computes its share of a batch, to save memory."""

    ema_decay: float = 0.0
    """Decay of the EMA of weights that is evaluated and saved (0.999 averages about 1000 steps); 0 disables it."""

    sync_batch_norm: bool = True
    """Synchronise batch norm over all processes, so that it normalises over the whole batch."""

    eval_every: int = 5000
    """Steps between evaluations on the val images; 0 evaluates only at the end."""

    eval_limit: int = 0
    """Maximum number of val images for evaluations during training; 0 for all. The final one always uses all."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "grad_accum_steps"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"expected {name} of at least 1, got {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise InvalidArgumentError(f"expected ema_decay in [0, 1), got {self.ema_decay}")
        for name in ("eval_every", "eval_limit"):
            if getattr(self, name) < 0:
                raise InvalidArgumentError(f"expected {name} of 0 or more, got {getattr(self, name)}")
        if self.augmentation.rare_crop and not self.sampling.repeat_threshold:
            raise InvalidArgumentError(
                "expected sampling.repeat_threshold above 0, to define rare categories, with augmentation.rare_crop "
                f"{self.augmentation.rare_crop}; give both or neither"
            )
        if self.schedule.min_lr > self.optimizer.learning_rate:
            raise InvalidArgumentError(
                f"expected schedule.min_lr of at most the peak learning rate {self.optimizer.learning_rate}, "
                f"got {self.schedule.min_lr}"
            )


def _require_choice(options: Any, name: str) -> None:
    choices = get_args(get_type_hints(type(options))[name])
    if getattr(options, name) not in choices:
        raise InvalidArgumentError(f"expected {name} as one of {', '.join(choices)}, got {getattr(options, name)!r}")
