"""`Recipe`: every setting that affects the result of a training, as one frozen value.

A recipe contains no folder, device or number of processes: those belong to a run. Every part is a frozen dataclass. Its
fields are options of the command line (``--optimizer.learning-rate 1e-4``), and their docstrings are the help texts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from panscape.constraints import (
    Angle,
    BelowOne,
    Hue,
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    UnitInterval,
    check_fields,
)
from panscape.datasets.base import PanopticDataset
from panscape.datasets.load import OnError
from panscape.datasets.splits import ImageFile, Splits
from panscape.errors import InvalidArgumentError
from panscape.geometry import Size
from panscape.labels import LabelSpace
from panscape.models import PanopticModel
from panscape.training.early_stopping import EarlyStopping
from panscape.training.schedule import Schedule
from panscape.transforms import RotationPolicy, ScaleDistribution
from panscape.transforms.resize import scaled


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

    def inspect(self, train: PanopticDataset, val: PanopticDataset, on_error: OnError) -> tuple[str, ...]:
        """Return a line for each finding that probably is a mistake in the data, for the user; by default none.

        Args:
            train: the training split.
            val: the validation split.
            on_error: handling of samples that cannot be used: "raise" raises the error of the first, "skip" returns
                a line.

        Raises:
            BadSampleError: a sample cannot be used.
            InvalidAnnotationError: nothing can be learnt from these images.
        """
        return ()

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
    """Augmentation of training images.

    The order is: crop of random size, resize, crop, rotate, flip, copy-paste, color jitter, blur. Multi-scale training
    resizes the result of copy-paste.
    """

    crop: tuple[PositiveInt, PositiveInt] = (512, 512)
    """Height and width of training crops, in pixels."""

    multi_scale: tuple[PositiveInt, ...] = ()
    """Multi-scale training: resize the crops of a step so that their shorter side has one of these lengths in pixels,
    chosen at random (YOLOv3: 320 352 384 ... 608); none keeps the size of crop."""

    multi_scale_every: PositiveInt = 10
    """Steps until the next choice from multi_scale."""

    scale: tuple[Positive, Positive] = (0.5, 2.0)
    """Smallest and largest factor of the scale jitter; ignored if shortest_sides are given."""

    scale_distribution: ScaleDistribution = "uniform"
    """Distribution of the factor in scale: "uniform", or "log_uniform", which draws each octave equally often."""

    shortest_sides: tuple[PositiveInt, ...] = ()
    """Resize the shorter side to one of these lengths in pixels, chosen at random."""

    longest_side: PositiveInt = 4096
    """Maximum length of the longer side in pixels, with shortest_sides."""

    random_size_crop: UnitInterval = 0.0
    """Probability of a crop of 384 to 600 pixels before the resize, of the image with a shorter side of 400, 500 or 600
    pixels (DETR: 0.5)."""

    rotation: RotationPolicy = "none"
    """Random rotation: "none", "right_angles" (square crops only) or "any" (Panoptic SwiftNet, Table 2)."""

    max_angle: Angle = 180.0
    """Largest angle of rotation "any" in either direction, in degrees."""

    flip: UnitInterval = 0.5
    """Probability of a horizontal flip."""

    color_jitter: UnitInterval = 0.0
    """Probability of changing brightness, contrast, saturation and hue."""

    color_jitter_strength: NonNegative = 0.4
    """Strength s of color jitter: brightness, contrast and saturation change by a factor in 1 - s ... 1 + s."""

    color_jitter_hue: Hue = 0.05
    """Maximum hue rotation of color jitter, as a fraction of a full turn (0 to 0.5)."""

    blur: UnitInterval = 0.0
    """Probability of a Gaussian blur with a kernel of 5x5 pixels."""

    blur_sigma: tuple[Positive, Positive] = (0.1, 2.0)
    """Smallest and largest standard deviation of the blur, in pixels."""

    copy_paste: UnitInterval = 0.0
    """Probability of pasting objects of another training image into a crop."""

    rare_crop: UnitInterval = 0.0
    """Probability of a crop around a segment of a rare category (Mapillary Vistas: 0.5); see sampling."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.scale[0] > self.scale[1]:
            raise InvalidArgumentError(f"expected a scale as smallest and largest factor, got {self.scale}")
        if self.blur_sigma[0] > self.blur_sigma[1]:
            raise InvalidArgumentError(f"expected a blur_sigma as smallest and largest value, got {self.blur_sigma}")
        if self.rotation != "any" and self.max_angle != 180:
            raise InvalidArgumentError(
                f'expected max_angle 180 with rotation "{self.rotation}", got {self.max_angle:g}; use rotation "any"'
            )
        if self.rotation == "right_angles" and self.crop[0] != self.crop[1]:
            raise InvalidArgumentError(f"expected a square crop to rotate by right angles, got {self.crop}")

    @property
    def crop_sizes(self) -> tuple[Size, ...]:
        """Heights and widths of the crops that the network receives."""
        return tuple(scaled(Size(*self.crop), side / min(self.crop)) for side in self.multi_scale) or (
            Size(*self.crop),
        )


@dataclass(frozen=True)
class Sampling:
    """Which images, and which parts of them, are sampled for training."""

    kind: Literal["images", "categories", "scales"] = "images"
    """What is sampled uniformly: "images"; "categories" and then images that show them (CUS); or also the "scales" of
    things, so that each level of an FPN gets as many objects of each category (ISUS)."""

    repeat_threshold: UnitInterval = 0.0
    """Threshold of repeat factor sampling of "images": categories in a smaller fraction of the images are rare, and an
    image is repeated sqrt(threshold / fraction) times for its rarest category. 0 samples every image once per epoch."""

    shortest_side: NonNegativeInt = 0
    """With "categories" and "scales": resize the shorter side to this length in pixels before augmentation.scale; 0
    keeps the size of the image."""

    thing_scale: tuple[Positive, Positive] = (0.25, 4.0)
    """With "scales": smallest and largest factor for a thing; augmentation.scale is used for stuff only."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.thing_scale[0] > self.thing_scale[1]:
            raise InvalidArgumentError(f"expected a thing_scale as smallest and largest factor, got {self.thing_scale}")
        if self.kind == "images" and self.shortest_side:
            raise InvalidArgumentError(
                f'expected shortest_side 0 with kind "images", got {self.shortest_side}; use '
                "augmentation.shortest_sides"
            )
        if self.kind != "images" and self.repeat_threshold:
            raise InvalidArgumentError(
                f'expected repeat_threshold 0 with kind "{self.kind}", which samples rare categories as often as '
                f'others, got {self.repeat_threshold}; use kind "images" or no threshold'
            )


@dataclass(frozen=True)
class Optimizer:
    """The optimizer and its hyperparameters."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimizer; "adam" and "sgd" add weight decay to the gradient, "adamw" decouples it."""

    learning_rate: Positive = 1e-4
    """Peak learning rate; see schedule."""

    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square, for "adam" and "adamw"."""

    eps: Positive = 1e-8
    """Added to the denominator, for "adam" and "adamw"."""

    momentum: BelowOne = 0.9
    """Momentum, for "sgd"."""

    nesterov: bool = False
    """Nesterov momentum, for "sgd"."""

    weight_decay: NonNegative = 0.0
    """Weight decay of the weights of convolutions and linear layers."""

    norm_weight_decay: NonNegative = 0.0
    """Weight decay of biases, normalisation layers and embeddings."""

    decay_biases: bool = False
    """Apply weight_decay to the biases of convolutions and linear layers, too (MaskFormer)."""

    backbone_lr_mult: NonNegative = 1.0
    """Learning-rate multiplier of the backbone; 0 freezes it with the statistics of its norms, which is faster."""

    bias_lr_mult: NonNegative = 1.0
    """Learning-rate multiplier of biases, relative to the weights of the same module; 2 in FCOS."""

    grad_clip_norm: NonNegative = 0.0
    """Clip gradients to this norm; 0 disables clipping."""

    def __post_init__(self) -> None:
        check_fields(self)


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
    """Which images, and which parts of them, are sampled for training."""

    optimizer: Optimizer = field(default_factory=Optimizer)
    """The optimizer and its hyperparameters."""

    schedule: Schedule = field(default_factory=Schedule)
    """Learning-rate schedule."""

    steps: PositiveInt = 90_000
    """Number of optimizer steps."""

    batch_size: PositiveInt = 8
    """Crops per step, summed over all processes, so that a recipe gives the same training on one device or many."""

    grad_accum_steps: PositiveInt = 1
    """Gradient accumulation: number of parts in which each process computes its share of a batch, to save memory."""

    ema_decay: BelowOne = 0.0
    """Decay of the EMA of weights that is evaluated and saved (0.999 averages about 1000 steps); 0 disables it."""

    sync_batch_norm: bool = True
    """Synchronise batch norm over all processes, so that it normalises over the whole batch."""

    eval_every: NonNegativeInt = 5000
    """Steps between evaluations on the val images; 0 evaluates only at the end."""

    eval_limit: NonNegativeInt = 0
    """Maximum number of val images for evaluations during training; 0 for all. The final one always uses all."""

    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    """Early stopping of a training whose evaluations no longer improve."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.sampling.kind != "images":
            self._check_segment_crops()
        if self.augmentation.rare_crop and not self.sampling.repeat_threshold:
            raise InvalidArgumentError(
                "expected sampling.repeat_threshold above 0, to define rare categories, with augmentation.rare_crop "
                f"{self.augmentation.rare_crop}; give both or neither"
            )
        if self.early_stopping.patience and not self.eval_every:
            raise InvalidArgumentError(
                f"expected eval_every above 0, got 0, with early_stopping.patience {self.early_stopping.patience}, "
                "which counts evaluations; give the steps between two of them"
            )
        if self.schedule.min_lr > self.optimizer.learning_rate:
            raise InvalidArgumentError(
                f"expected schedule.min_lr of at most the peak learning rate {self.optimizer.learning_rate}, "
                f"got {self.schedule.min_lr}"
            )

    def _check_segment_crops(self) -> None:
        with_kind, augmentation = f'with sampling.kind "{self.sampling.kind}"', self.augmentation
        if augmentation.shortest_sides:
            raise InvalidArgumentError(
                f"expected no augmentation.shortest_sides {with_kind}, got {augmentation.shortest_sides}; use "
                "sampling.shortest_side and augmentation.scale"
            )
        if augmentation.rare_crop:
            raise InvalidArgumentError(
                f"expected augmentation.rare_crop 0 {with_kind}, which crops at sampled segments, got "
                f"{augmentation.rare_crop}; set it to 0"
            )
        if augmentation.random_size_crop:
            raise InvalidArgumentError(
                f"expected augmentation.random_size_crop 0 {with_kind}, which crops at sampled segments, got "
                f"{augmentation.random_size_crop}; set it to 0"
            )
        if augmentation.rotation == "any":
            raise InvalidArgumentError(
                f'expected augmentation.rotation "none" or "right_angles" {with_kind}, since others may remove the '
                'sampled segment from the crop, got "any"'
            )
