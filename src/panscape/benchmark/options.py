"""Options of a benchmark, shared by the command line and :func:`panscape.benchmark.run.run_benchmark`.

This module imports nothing heavy, as the command line imports it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from panscape.errors import InvalidArgumentError
from panscape.runtime_options import PrecisionOption, RuntimeOption

MemoryFormat = Literal["contiguous", "channels-last"]


@dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured: each value of each option that takes several is combined with all others."""

    peer: Annotated[tuple[str, ...], arg(metavar="transformers:ID ...", help_behavior_hint="")] = ()
    """Also measure a network of transformers with the image processor that belongs to it, without panscape: id on the
    hub, or folder."""

    images: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of images, at their own size unless --size is given. By default synthetic scenes, as JPEG."""

    limit: int = 8
    """Number of images; of a folder, evenly spread."""

    size: Annotated[tuple[str, ...], arg(metavar="HxW ...", help_behavior_hint="(default: 512x1024)")] = ()
    """Height and width of the images in pixels; those of --images are resized and written as JPEG."""

    batch_size: Annotated[tuple[int, ...], arg(metavar="N ...")] = (1,)
    """Number of images in one forward pass."""

    threads: Annotated[tuple[int, ...], arg(metavar="N ...", help_behavior_hint="(default: as torch)")] = ()
    """CPU threads."""

    runtime: Annotated[tuple[RuntimeOption, ...], arg(metavar="{auto,torch,openvino,onnx} ...")] = ("auto",)
    """What runs the network on a CPU, as in "panscape predict"; not for peers."""

    precision: Annotated[tuple[PrecisionOption, ...], arg(metavar="{auto,fp32,bf16,fp16} ...")] = ("auto",)
    """Numeric precision, as in "panscape predict"; peers take auto as fp32."""

    memory_format: Annotated[tuple[MemoryFormat, ...], arg(metavar="{contiguous,channels-last} ...")] = ("contiguous",)
    """Memory format in torch; channels-last is the option --channels-last of "panscape predict". Other runtimes choose
    theirs, in one row."""

    max_size: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="")] = None
    """Resize images so that their longer side has this many pixels, as in "panscape predict"; not for peers."""

    device: str = "auto"
    """Device to run on, as in "panscape predict"."""

    rounds: int = 5
    """Passes over the images. In each, rows that differ in model, runtime, precision or memory format alternate batch
    by batch, so that a change in the speed of the machine affects all of them."""

    no_cold: bool = False
    """Omit the rows of new processes: start-up, first image and peak memory."""

    no_folder: bool = False
    """Omit the rows of "panscape predict" on the whole folder, where reading and writing run in threads."""

    def require_valid(self) -> None:
        """Check the values.

        Raises:
            InvalidArgumentError: a value is out of range or of another form.
        """
        for option in fields(BenchmarkOptions):
            value, name = getattr(self, option.name), f"--{option.name.replace('_', '-')}"
            if value == () and option.default:
                raise InvalidArgumentError(f"expected a value after {name}, got none")
            numbers = value if isinstance(value, tuple) else (value,)
            for number in numbers:
                if isinstance(number, int) and not isinstance(number, bool) and number < 1:
                    raise InvalidArgumentError(f"expected {name} of at least 1, got {number}")
        for peer in self.peer:
            if not re.fullmatch(r"transformers:.+", peer):
                raise InvalidArgumentError(
                    f"expected --peer as transformers:ID, an id on the Hugging Face hub or a folder, got {peer}"
                )
        for text in self.size:
            _size(text)

    @property
    def sizes(self) -> Sequence[tuple[int, int] | None]:
        """Height and width of the images; None for the own size of images and the default of scenes."""
        return [_size(text) for text in self.size] or [None]


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text.lower())
    if found is None or min(int(found[1]), int(found[2])) < 32:
        raise InvalidArgumentError(
            f"expected --size as HEIGHTxWIDTH, each at least 32 pixels, such as 512x1024, got {text}"
        )
    return int(found[1]), int(found[2])
