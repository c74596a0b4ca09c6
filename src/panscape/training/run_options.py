"""`RunOptions`: where and how a recipe is run; none of these options changes the meaning of the recipe.

This module has no heavy imports: the command line reads the fields for its help.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from panscape.constraints import NonNegativeInt, PositiveInt, check_fields


def run_folder_of(model: str | Path | None) -> Path | None:
    """Return the run directory of a model, given as that directory or as the model in it; None if it has none."""
    if not model:
        return None
    path = Path(model)
    folder = path.parent if path.name == "model.safetensors" else path
    return folder if (folder / "run.json").is_file() else None


@dataclass(frozen=True)
class RunOptions:
    """The options of one run of a recipe.

    Raises:
        InvalidArgumentError: a number is out of its range.
    """

    out: Path
    """Run directory: recipe, metrics, images, checkpoints and, at the end, the model."""

    data: Path | None = None
    """Folder of the dataset; synthetic datasets need none."""

    resume: bool = False
    """Resume the run in OUT from its newest checkpoint."""

    init_from: str | None = None
    """Initialise from the weights of this model: the name of a bundled or published one, a .safetensors file, a
    published checkpoint (.pth, .pkl, .tar, .weights), or a run directory, whose newest checkpoint is used if it has no
    model yet."""

    backbone_weights: Path | None = None
    """Initialise the backbone from this file instead of downloading its ImageNet weights: of timm or torchvision
    (.safetensors, .pth), detectron2's R-52.pkl and R-103.pkl, or Darknet's darknet53.conv.74."""

    seed: NonNegativeInt = 0
    """Random seed of initial weights, image order and augmentation."""

    device: str = "auto"
    """Device: "cpu", "cuda", or "auto" for CUDA if available, else the CPU."""

    devices: PositiveInt = 1
    """Number of processes on this machine, each with its own device. To use several machines, start the command with
    torchrun or srun; their number of processes then replaces this option."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Numeric precision of the forward and backward pass."""

    workers: NonNegativeInt = 2
    """Data-loader processes per device; 0 loads images in the training process. The number does not affect results."""

    threads: NonNegativeInt = 0
    """CPU threads of each process; 0 uses torch's default."""

    on_error: Literal["raise", "skip"] = "raise"
    """Handling of invalid images: "raise" stops, "skip" replaces them by other images and lists them."""

    profile: bool = False
    """Profile the steps: print where time goes."""

    checkpoint_every: PositiveInt = 500
    """Steps between checkpoints."""

    log_every: PositiveInt = 50
    """Steps between log lines."""

    image_every: NonNegativeInt = 1000
    """Steps between images of predictions beside the ground truth; 0 disables them."""

    def __post_init__(self) -> None:
        check_fields(self)
