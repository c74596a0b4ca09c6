"""Network outputs of many images, computed once and stored, to decode them repeatedly.

They are stored in a temporary folder, one file per image, in the precision of the network: half precision would move
centres by a pixel or two. Memory holds one image at a time; the operating system caches as many files as fit.
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
from panscape.panoptic import PanopticMap

_SPARE = 0.9  # maximum fraction of the free disk space to use


class CachedImage(NamedTuple):
    """The stored data of an image.

    Attributes:
        outputs: of the network, a batch of one, on the requested device.
        truth: ground truth at the image's own size, on the CPU.
    """

    outputs: Any
    truth: PanopticMap


class OutputCache:
    """Outputs in a temporary folder (in TMPDIR), which is deleted at the end of the block; a context manager.

    Args:
        num_images: maximum number of images; if the first one shows that they do not fit, an error is raised.
        device: of the loaded outputs.
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
        """Return the number of stored images."""
        return len(self._paths)

    def keep(self, image: CachedImage) -> None:
        """Store an image; outputs are a NamedTuple of tensors or None, of the same class for all images.

        Raises:
            InvalidArgumentError: the disk has no room for ``num_images`` images.
        """
        path = Path(self._temporary.name) / f"{len(self)}.pt"
        self._kind = type(image.outputs)
        truth = image.truth
        parts = {
            "outputs": [None if part is None else part.detach().cpu() for part in image.outputs],
            "truth": [truth.ids, truth.category, truth.score, truth.crowd],
        }
        torch.save(parts, path)
        self._paths.append(path)
        if len(self) == 1:
            self._require_room(path.stat().st_size * (self._num_images - 1))

    def __iter__(self) -> Iterator[CachedImage]:
        """Iterate over the images in the order in which they were stored."""
        for path in self._paths:
            parts = torch.load(path, weights_only=True)
            outputs = [None if part is None else part.to(self._device) for part in parts["outputs"]]
            yield CachedImage(self._kind(*outputs), PanopticMap(*parts["truth"]))

    def _require_room(self, needed: int) -> None:
        free = int(_SPARE * shutil.disk_usage(self._temporary.name).free)
        if needed > free:
            raise InvalidArgumentError(
                f"the network's outputs for {self._num_images} images take {needed / 1e9:.1f} GB, but "
                f"{Path(self._temporary.name).parent} has room for {free / 1e9:.1f} GB; use fewer images with --limit, "
                "or set TMPDIR to a folder with more room"
            )
