"""Tiny trainings on the CPU for tests: recipes, and separate processes to run, stop and kill them."""

from __future__ import annotations

import os
import signal
import socket
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from maps import SHAPES, generated_map
from processes import Process
from torch import Tensor, nn
from torch.utils.data import get_worker_info

import panscape.cli.overrides
import panscape.training.run
from panscape import LabelSpace, create_model
from panscape.cli import main
from panscape.datasets.base import Sample
from panscape.errors import UnreadableFileError
from panscape.models import PanopticModel
from panscape.nn.pisr import PISR
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.representations.dense_boxes import DenseBoxDecoding, DenseBoxRepresentation
from panscape.representations.fusion import FusionConfig
from panscape.representations.regions import Anchors, DetectionSelection, ProposalSelection, RegionRepresentation
from panscape.training.config import Augmentation, DataOptions, ModelOptions, Optimizer, Recipe
from panscape.training.early_stopping import EarlyStopping
from panscape.zoo.checkpoints import Checkpoints, saved_steps

assert panscape.cli.overrides  # imported for the processes that are forked
assert panscape.training.run

# Every divisor of these losses is the number of pixels, so that they do not depend on how a batch is shared out.
EVEN = CenterRepresentation(
    sigma=3,
    small_area=1,
    small_weight=1,
    boundary_alphas=(),
    hard_pixel_fraction=1.0,
    compat="paper",
    center_loss_weight=100,
    offset_loss_weight=0.02,
    decoding=CenterDecoding(stuff_area=16),
)
# Every location is a candidate, so that masks are compared from the first step on.
BOXES = DenseBoxRepresentation(
    level_ends=(16.0, 32.0, 64.0),
    finest_stride=4,
    max_mask_queries=8,
    decoding=DenseBoxDecoding(score_threshold=0.0, fusion=FusionConfig(min_score=0.0, stuff_area=16)),
)
REGIONS = RegionRepresentation(
    anchors=Anchors(strides=(4, 8, 16, 32), scale=2),
    proposals=ProposalSelection(100, 100, 20, 30),
    detections=DetectionSelection(max_detections=5),
    box_loss="crop_aware",
)
PUBLISHED = CenterRepresentation(sigma=3, hard_pixel_fraction=0.2, decoding=CenterDecoding(stuff_area=16))


class FixedNorm(nn.BatchNorm2d):
    """Always normalises by its running statistics, so that samples are independent."""

    def train(self, mode: bool = True) -> FixedNorm:
        return super().train(False)


@dataclass(frozen=True)
class Net(ModelOptions):
    """The smallest SwiftNet; its loss may become nan at a given call."""

    width: int = 8
    levels: int = 1
    representation: CenterRepresentation = EVEN
    relations: PISR | None = None
    nan_at: int = 0
    fixed_norm: bool = False
    is_double: bool = False

    def create(self, labels: LabelSpace) -> PanopticModel:
        model = create_model(
            "swiftnet",
            labels,
            backbone="residual_xs",
            width=self.width,
            levels=self.levels,
            representation=self.representation,
            relations=self.relations,
        )
        if self.nan_at:
            count = iter(range(1, 10**9))
            loss = model.loss

            def broken(*args: Any) -> dict[str, Tensor]:
                factor = float("nan") if next(count) == self.nan_at else 1.0
                return {name: value * factor for name, value in loss(*args).items()}

            model.loss = broken  # type: ignore[method-assign]
        if self.is_double:
            in_double(model)
        if self.fixed_norm:
            for module in model.modules():
                if type(module) is nn.BatchNorm2d:
                    module.__class__ = FixedNorm
        return model


@dataclass(frozen=True)
class BoxNet(ModelOptions):
    """The smallest network of dense detections."""

    representation: DenseBoxRepresentation = BOXES
    is_double: bool = False

    def create(self, labels: LabelSpace) -> PanopticModel:
        widths = {"box_width": 8, "semantic_width": 8, "fpn_width": 8, "tower_depth": 1}
        model = create_model(
            "dense_detections",
            labels,
            backbone="residual_xs",
            initial_distance=16.0,
            representation=self.representation,
            **widths,
        )
        if self.is_double:
            in_double(model)
        return model


@dataclass(frozen=True)
class RegionNet(ModelOptions):
    """The smallest network of two stages."""

    representation: RegionRepresentation = REGIONS

    def create(self, labels: LabelSpace) -> PanopticModel:
        return create_model("seamless", labels, backbone="residual_xs", width=8, representation=self.representation)


def in_double(model: PanopticModel) -> None:
    """Run a network in double precision."""
    forward = model.double().forward
    model.forward = lambda images, *targets: forward(images.double(), *targets)  # type: ignore[method-assign]


class Images:
    """Images of maps in the colors of their categories, slightly different for each object."""

    labels = SHAPES

    def __init__(
        self, seeds: tuple[int, ...], size: tuple[int, int], bad: tuple[int, ...] = (), trap: str = ""
    ) -> None:
        self.seeds, self.size, self.bad, self.trap = seeds, size, bad, trap

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> Sample:
        if index in self.bad:
            raise UnreadableFileError(f"/data/{index}.png", "expected a whole image")
        if self.trap and get_worker_info() and Path(self.trap).exists() and Path(Path(self.trap).read_text()).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        truth = generated_map(self.seeds[index], size=self.size, void=False, objects=3, smallest=20)
        colors = torch.tensor([c.color for c in SHAPES])[truth.category] + torch.arange(truth.num_segments)[:, None] * 5
        image = colors[truth.ids.long() - 1].clamp(0, 255).to(torch.uint8).permute(2, 0, 1)
        return Sample(image, truth, f"image{index}")


@dataclass(frozen=True)
class Drawn(DataOptions):
    """Images generated on access; some cannot be read.

    Where ``trap`` is a file, the loader process that draws one is killed as soon as the file named in it exists.
    """

    train: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    val: tuple[int, ...] = (100, 101, 102)
    size: tuple[int, int] = (64, 64)
    bad: tuple[int, ...] = ()
    bad_val: tuple[int, ...] = ()
    trap: str = ""

    def load(self, root: Path | None, split: str) -> Images:
        if split == "train":
            return Images(self.train, self.size, self.bad, self.trap)
        return Images(self.val, self.size, self.bad_val)


TINY = Recipe(
    "tiny",
    Net(),
    Drawn(),
    Augmentation(crop=(64, 64), scale=(0.8, 1.25), color_jitter=0.5, copy_paste=0.3),
    optimizer=Optimizer("adamw", 2e-3, weight_decay=0.01, grad_clip_norm=5.0),
    steps=24,
    batch_size=4,
    ema_decay=0.9,
    eval_every=10,
    eval_limit=2,
)
# Crops are whole images: padding would be void, over which the loss of centres is not averaged.
WHOLE = replace(TINY, augmentation=Augmentation(crop=(64, 64), scale=(1.0, 1.0)), ema_decay=0.0, steps=6)
STOPPING = EarlyStopping(3, ("things-pq", "loss"))


# Processes


def run_command(arguments: list[str]) -> int:
    """Run ``panscape ARGUMENTS`` as the program does."""
    sys.argv = ["panscape", *arguments]
    return main(arguments)


class Command(Process):
    """Run ``panscape ARGUMENTS`` in a separate process."""

    def __init__(self, log: Path, *arguments: object, environment: dict[str, str] | None = None) -> None:
        super().__init__(log, run_command, [str(a) for a in arguments], environment=environment)


def recipe_file(path: Path, recipe: str) -> Path:
    """Write a recipe file: an expression with the names of this module."""
    lines = ["from dataclasses import replace", "from training_runs import *", "", "", "def recipe():"]
    path.write_text("\n".join([*lines, f"    return {recipe}", ""]))
    return path


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def torchrun(log: Path, count: int, *arguments: object, environment: dict[str, str] | None = None) -> list[Command]:
    """Start processes as torchrun does."""
    shared = (environment or {}) | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
    shared |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    return [
        Command(
            log.with_suffix(f".{rank}"), *arguments, environment=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        )
        for rank in range(count)
    ]


# What a run has left


def last_checkpoint(out: Path) -> tuple[int, dict[str, Any]]:
    found = Checkpoints(out / "checkpoints").load()
    assert found is not None
    return found


def steps_saved(out: Path) -> list[int]:
    return saved_steps(out / "checkpoints")


def assert_equal(some: Any, other: Any, name: str = "state") -> None:
    """Compare the content of checkpoints, tensors bit for bit."""
    assert type(some) is type(other), name
    if isinstance(some, dict):
        assert list(some) == list(other), name
        for key in some:
            assert_equal(some[key], other[key], f"{name}.{key}")
    elif isinstance(some, (list, tuple)):
        assert len(some) == len(other), name
        for i, (a, b) in enumerate(zip(some, other, strict=True)):
            assert_equal(a, b, f"{name}.{i}")
    elif isinstance(some, Tensor):
        assert some.dtype == other.dtype, name
        assert torch.equal(some, other), name
    else:
        assert some == other, name
