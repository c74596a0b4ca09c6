"""`RunOptions`: where and how a recipe is run, none of which changes what it means.

Nothing heavy is imported here: the command line reads the fields for its help.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from panscape.errors import InvalidArgumentError


@dataclass(frozen=True)
class RunOptions:
    """A run of a recipe.

    Raises:
        InvalidArgumentError: a number is out of its range.
    """

    out: Path
    """Folder of the run: recipe, numbers, images, checkpoints and at the end the model."""

    data: Path | None = None
    """Folder of the data set; drawn data need none."""

    resume: bool = False
    """Go on with the run in OUT from its newest checkpoint."""

    init_from: str | None = None
    """Start from the weights of this model: a bundled one's name, a .safetensors file, a checkpoint of a paper's
    authors (.pth, .pkl), or the folder of a run, of which the newest checkpoint is taken if it has no model yet."""

    backbone_weights: Path | None = None
    """Start the backbone from this file in place of downloading its ImageNet weights: of timm or torchvision
    (.safetensors, .pth), or detectron2's R-52.pkl and R-103.pkl."""

    seed: int = 0
    """Decides random weights, the order of images and their variations."""

    device: str = "auto"
    """"auto" is CUDA where there is a device, else the CPU; or "cpu" or "cuda"."""

    devices: int = 1
    """Processes on this machine, each with a device of its own. Several machines need torchrun or srun to start the
    command; whatever these have started is taken."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the numbers inside the network while training."""

    workers: int = 2
    """Processes that prepare images, for each device; 0 does it in between. Their number changes no result."""

    threads: int = 0
    """Threads of each process on the CPU; 0 leaves it to torch."""

    on_error: Literal["raise", "skip"] = "raise"
    """What to do at an image that cannot be used: stop, or take another one in its place, count it and list it."""

    profile: bool = False
    """Show where the time of a step goes."""

    checkpoint_every: int = 500
    """Steps between checkpoints: a run that is killed loses no more."""

    log_every: int = 50
    """Steps between lines of numbers."""

    image_every: int = 1000
    """Steps between images of what the network says beside the truth; 0 for none."""

    def __post_init__(self) -> None:
        for name in ("devices", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"expected {name} of at least 1, got {getattr(self, name)}")
        for name in ("seed", "workers", "threads", "image_every"):
            if getattr(self, name) < 0:
                raise InvalidArgumentError(f"expected {name} of 0 or more, got {getattr(self, name)}")
