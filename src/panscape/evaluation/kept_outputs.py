"""A network's outputs for many images, computed once and kept as they are, to be decoded again and again.

They go into a temporary folder, one file an image, in the precision in which the network gave them: half of it would
move centres by a pixel or two. Memory holds one image at a time; the system keeps as many files in its cache as fit.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch

from panscape.errors import InvalidArgumentError
from panscape.geometry import Size
from panscape.panoptic import PanopticMap

_SPARE = 0.9  # of the free disk, and no more, is used


class KeptImage(NamedTuple):
    """What is kept of an image.

    Attributes:
        outputs: of the network, a batch of one, on the device asked for.
        inference_size: height and width at which the network saw the image.
        truth: ground truth at the image's own size, on the CPU.
    """

    outputs: Any
    inference_size: Size
    truth: PanopticMap


class KeptOutputs:
    """Outputs in a temporary folder (of TMPDIR), which goes when the block ends; a context manager.

    Args:
        num_images: how many there will be at most; if the first shows that so many do not fit, it is refused at once.
        device: to which outputs come back.
    """

    def __init__(self, num_images: int, device: torch.device) -> None:
        self._num_images = num_images
        self._device = device
        self._kind: Any = None
        self._paths: list[Path] = []

    def __enter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory(prefix="panscape_tune_")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._temporary.cleanup()

    def __len__(self) -> int:
        """Return how many images are kept."""
        return len(self._paths)

    def keep(self, image: KeptImage) -> None:
        """Keep an image; outputs are a NamedTuple of tensors, or None, of the same class for all.

        Raises:
            InvalidArgumentError: the disk has no room for as many images as there will be.
        """
        path = Path(self._temporary.name) / f"{len(self)}.pt"
        self._kind = type(image.outputs)
        truth = image.truth
        parts = {
            "outputs": [None if part is None else part.detach().cpu() for part in image.outputs],
            "working_size": list(image.inference_size),
            "truth": [truth.ids, truth.category, truth.score, truth.crowd],
        }
        torch.save(parts, path)
        self._paths.append(path)
        if len(self) == 1:
            self._require_room(path.stat().st_size * (self._num_images - 1))

    def __iter__(self) -> Iterator[KeptImage]:
        """Give the images in the order in which they were kept."""
        for path in self._paths:
            parts = torch.load(path, weights_only=True)
            outputs = [None if part is None else part.to(self._device) for part in parts["outputs"]]
            yield KeptImage(self._kind(*outputs), Size(*parts["working_size"]), PanopticMap(*parts["truth"]))

    def _require_room(self, needed: int) -> None:
        free = int(_SPARE * shutil.disk_usage(self._temporary.name).free)
        if needed > free:
            raise InvalidArgumentError(
                f"the network's outputs for {self._num_images} images take {needed / 1e9:.1f} GB, but "
                f"{Path(self._temporary.name).parent} has room for {free / 1e9:.1f} GB; use fewer images with --limit, "
                "or set TMPDIR to a folder with more room"
            )
