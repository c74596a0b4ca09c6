"""`Recipe`: everything that decides what a training gives, as one frozen value.

A recipe names no folder, device or number of processes: those belong to a run of it. Every part is a frozen dataclass
whose fields the command line offers as options (``--optimizer.learning-rate 1e-4``) with the help written here.
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
    """What a recipe says about its network: a frozen dataclass for each family.

    A field ``pretrained``, if a family has one, says whether the backbone begins with ImageNet weights. A training
    builds the network without them, and loads them where nothing else fills the backbone.
    """

    @abstractmethod
    def create(self, labels: LabelSpace) -> PanopticModel:
        """Build the network, on the CPU, with random or pretrained weights."""


class DataOptions(ABC):
    """What a recipe says about its data: a frozen dataclass for each kind."""

    def splits(self, root: Path | None) -> Splits:
        """Return which splits there are; by default those to train and to evaluate on.

        Args:
            root: as for :meth:`load`.

        Raises:
            InvalidArgumentError: a folder is needed and was not given.
        """
        return Splits(type(self).__name__, ("train", "val"))

    @abstractmethod
    def load(self, root: Path | None, split: str) -> PanopticDataset:
        """Open a split: "train" to learn from, "val" to evaluate on, or another one of :meth:`splits`.

        Args:
            root: the folder given as ``--data``; None if none was given.
            split: which part.

        Raises:
            InvalidArgumentError: a folder is needed and was not given; or there is no such split, or it has no ground
                truth.
            PanscapeError: what the dataset raises for a folder that does not hold it.
        """

    def images(self, root: Path | None, split: str) -> list[ImageFile]:
        """Return the images of a split, which needs no ground truth.

        Args:
            root: as for :meth:`load`.
            split: one of :meth:`splits`.

        Raises:
            InvalidArgumentError: there is no such split, a folder is needed and was not given, or the images lie in no
                files.
            PanscapeError: what the dataset raises for a folder that does not hold it.
        """
        raise InvalidArgumentError(
            f"expected a recipe whose images lie in files, got one with {type(self).__name__}; give the images instead "
            "of a recipe"
        )


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied: resize, cut out, rotate, flip, paste objects, recolour, in this order."""

    crop: tuple[int, int] = (512, 512)
    """Height and width of the crops that enter the network, pixels."""

    scale: tuple[float, float] = (0.5, 2.0)
    """Smallest and largest factor of a uniform random resize; not used where shortest_sides are given."""

    shortest_sides: tuple[int, ...] = ()
    """Lengths of the shorter side in pixels, one of which is drawn."""

    longest_side: int = 4096
    """With shortest_sides: the longer side never gets longer than this."""

    rotation: RotationPolicy = "none"
    """"none", "right_angles" (of square crops) or "any" (Panoptic SwiftNet, Table 2)."""

    flip: float = 0.5
    """Chance of exchanging left and right."""

    color_jitter: float = 0.0
    """Chance of changing brightness, contrast, saturation and hue."""

    color_jitter_strength: float = 0.4
    """Brightness, contrast and saturation change by a factor in 1 - spread ... 1 + spread."""

    color_jitter_hue: float = 0.05
    """The hue turns by up to this share of a full turn."""

    copy_paste: float = 0.0
    """Chance of pasting objects of another training image into a crop."""

    rare_crop: float = 0.0
    """Chance of a crop that must meet a segment of a rare category (Mapillary Vistas: 0.5); see sampling."""

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
                raise InvalidArgumentError(f"expected {name} as a chance in 0..1, got {getattr(self, name)}")
        if not 0 <= self.color_jitter_strength < inf or not 0 <= self.color_jitter_hue <= 0.5:
            raise InvalidArgumentError(
                "expected color_jitter_strength of 0 or more and color_jitter_hue in 0..0.5, "
                f"got {self.color_jitter_strength} and {self.color_jitter_hue}"
            )


@dataclass(frozen=True)
class Sampling:
    """Which images are drawn how often."""

    repeat_threshold: float = 0.0
    """Categories in a smaller share of the images are rare: an image is repeated sqrt(threshold / share) times for
    its rarest category. 0 draws every image once an epoch."""

    def __post_init__(self) -> None:
        if not 0 <= self.repeat_threshold <= 1:
            raise InvalidArgumentError(
                f"expected repeat_threshold as a share of the images in 0..1, got {self.repeat_threshold}"
            )


@dataclass(frozen=True)
class Optimizer:
    """How weights follow gradients."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """"adam" and "sgd" add the weight decay to the gradient, "adamw" shrinks weights apart from it."""

    learning_rate: float = 1e-4
    """The highest; see schedule."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Of "adam" and "adamw": decay of the running means of the gradient and of its square."""

    eps: float = 1e-8
    """Of "adam" and "adamw": added to the root of the mean square."""

    momentum: float = 0.9
    """Of "sgd": the share of a step's direction that goes into the next."""

    weight_decay: float = 0.0
    """Of the weights of convolutions and linear layers."""

    norm_weight_decay: float = 0.0
    """Of biases and of the weights of normalisation layers."""

    backbone_lr_mult: float = 1.0
    """The backbone's learning rate is this times the others'."""

    bias_lr_mult: float = 1.0
    """The learning rate of biases is this times that of the weights beside them; 2 in FCOS."""

    grad_clip_norm: float = 0.0
    """Gradients are scaled down to this norm; 0 leaves them as they are."""

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
    """How the learning rate goes: up along a line, then down."""

    kind: Literal["poly", "cosine", "steps", "constant"] = "poly"
    """"poly" falls as (1 - done) ** power, "cosine" along half a cosine, "steps" at once at each milestone."""

    power: float = 0.9
    """Of "poly"."""

    min_lr: float = 0.0
    """Learning rate at which "poly" and "cosine" arrive when the last step is done."""

    milestones: tuple[int, ...] = ()
    """Of "steps": numbers of steps after which the rate falls, ascending."""

    gamma: float = 0.1
    """Of "steps": what the rate is multiplied by at each milestone."""

    warmup_steps: int = 0
    """Steps until the highest rate is reached."""

    warmup_factor: float = 1e-3
    """The first step's rate as a share of the highest, if there is a warm-up."""

    def __post_init__(self) -> None:
        _require_choice(self, "kind")
        if not 0 < self.power < inf:
            raise InvalidArgumentError(f"expected a positive power, got {self.power}")
        if not 0 <= self.min_lr < inf:
            raise InvalidArgumentError(f"expected a learning rate of 0 or more at the end, got {self.min_lr}")
        if list(self.milestones) != sorted(set(self.milestones)) or min(self.milestones, default=1) < 1:
            raise InvalidArgumentError(f"expected ascending milestones of at least one step, got {self.milestones}")
        if self.kind == "steps" and not self.milestones:
            raise InvalidArgumentError('expected milestones, the steps after which the rate falls, with kind "steps"')
        if not 0 < self.gamma <= 1:
            raise InvalidArgumentError(f"expected a gamma in (0, 1], got {self.gamma}")
        if self.warmup_steps < 0:
            raise InvalidArgumentError(f"expected warmup_steps of 0 or more, got {self.warmup_steps}")
        if not 0 < self.warmup_factor <= 1:
            raise InvalidArgumentError(f"expected warmup_factor in (0, 1], got {self.warmup_factor}")


@dataclass(frozen=True)
class Recipe:
    """A whole training.

    Raises:
        InvalidArgumentError: a number is out of its range.
    """

    name: str
    """Of the recipe; runs and models are labelled with it."""

    model: ModelOptions
    """The network."""

    data: DataOptions
    """What it learns from."""

    augmentation: Augmentation = field(default_factory=Augmentation)
    """How training images are varied."""

    sampling: Sampling = field(default_factory=Sampling)
    """Which training images are drawn how often."""

    optimizer: Optimizer = field(default_factory=Optimizer)
    """How weights follow gradients."""

    schedule: Schedule = field(default_factory=Schedule)
    """How the learning rate goes."""

    steps: int = 90_000
    """Optimiser steps."""

    batch_size: int = 8
    """Crops a step, over all processes: each takes its share, so that a recipe means the same on one device or many."""

    grad_accum_steps: int = 1
    """Parts in which each process computes its share of a batch, one after the other, to need less memory."""

    ema_decay: float = 0.0
    """Of the running average of weights that is evaluated and saved (0.999 follows about 1000 steps); 0 for none."""

    sync_batch_norm: bool = True
    """With several processes: normalise over the whole batch, not each process over its share."""

    eval_every: int = 5000
    """Steps between evaluations on the val images; 0 for one at the end."""

    eval_limit: int = 0
    """Evaluate during training on no more than this many val images; 0 for all. At the end all are used."""

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
                "expected sampling.repeat_threshold above 0, which says what is rare, with augmentation.rare_crop "
                f"{self.augmentation.rare_crop}; give both or neither"
            )
        if self.schedule.min_lr > self.optimizer.learning_rate:
            raise InvalidArgumentError(
                f"expected the learning rate to end at {self.optimizer.learning_rate} or below, where it is highest, "
                f"got schedule.min_lr={self.schedule.min_lr}"
            )


def _require_choice(options: Any, name: str) -> None:
    choices = get_args(get_type_hints(type(options))[name])
    if getattr(options, name) not in choices:
        raise InvalidArgumentError(f"expected {name} as one of {', '.join(choices)}, got {getattr(options, name)!r}")
