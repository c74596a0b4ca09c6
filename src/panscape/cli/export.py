"""`panscape export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from panscape.cli import decode_arguments
from panscape.cli.decode_arguments import Decode
from panscape.cli.printing import print_json, say
from panscape.errors import InvalidArgumentError

if TYPE_CHECKING:
    from panscape.geometry import Size

_ENDINGS = {"onnx": ".onnx", "openvino": ".xml", "tensorrt": ".engine", "torch": ".pt2"}


@dataclass(frozen=True)
class Export:
    """Export a model for other runtimes, and compare it with the original; every command takes the file as MODEL."""

    model: Annotated[Positional[str | None], arg(metavar="MODEL", help_behavior_hint="")] = None
    """Model to export, as in "panscape predict"."""

    to: Literal["onnx", "openvino", "tensorrt", "torch"] = "onnx"
    """Format: onnx (FILE.onnx), openvino (FILE.xml, with its weights in FILE.bin), tensorrt (FILE.engine, built for the
    CUDA device of this machine) or torch (torch.export, FILE.pt2)."""

    out: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """File to write; the comparison is written to FILE.parity.json."""

    size: Annotated[str | None, arg(metavar="HxW", help_behavior_hint="")] = None
    """Height and width of the images, such as 512x1024; smaller ones are padded, larger ones refused."""

    dynamic: bool = False
    """Export for images of any size instead of --size; networks that detect regions cannot."""

    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"
    """Numeric precision: fp16 for onnx and tensorrt, bf16 for openvino and torch, int8 for openvino, where fp16 is that
    of the stored weights only."""

    calibrate: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of images like those that the model was trained for, to calibrate int8; without --images, every fifth is
    held out for the comparison, at most 16."""

    calibrate_limit: int = 100
    """Maximum number of images of --calibrate, evenly spread."""

    postprocess: Literal["native", "graph"] = "native"
    """Where post-processing runs: native is panscape, which on CPUs is much faster; graph returns maps without
    panscape, from networks with centres and for one size."""

    images: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of images for the comparison; by default those held out of --calibrate, or 8 synthetic scenes."""

    limit: int = 8
    """Maximum number of images of --images, evenly spread."""

    decode: Decode = ()
    """Set a post-processing option of the exported model, such as --decode.stuff-area 500."""

    json: bool = False
    """Print one JSON object instead of text."""

    def run(self) -> int:
        """Export."""
        if self.model is None or self.out is None:
            raise InvalidArgumentError(
                "expected a MODEL and the file to write: panscape export MODEL --to onnx --dynamic --out FILE.onnx"
            )
        if self.out.suffix != _ENDINGS[self.to]:
            raise InvalidArgumentError(
                f"expected --out to end in {_ENDINGS[self.to]} with --to {self.to}, got {self.out}"
            )
        size = self._size()
        for option, limit in (("--limit", self.limit), ("--calibrate-limit", self.calibrate_limit)):
            if limit < 1:
                raise InvalidArgumentError(f"expected {option} of at least 1, got {limit}")
        from panscape.zoo.graphs import require_runtime

        require_runtime(self.to)
        import panscape
        from panscape.export import export_model
        from panscape.inference.sources import images_in

        images = None if self.images is None else images_in(self.images, self.limit)
        calibration = None if self.calibrate is None else images_in(self.calibrate, self.calibrate_limit)

        model = panscape.load(self.model)
        decode_arguments.apply_arguments(model, self.decode, "panscape export")
        result = export_model(
            model,
            self.out,
            size=size,
            precision=self.precision,
            postprocess=self.postprocess,
            images=images,
            calibration=calibration,
        )
        if self.json:
            print_json({"model": self.model, **result.to_dict()})
        else:
            quantization = "" if result.quantization is None else f"\n{result.quantization}"
            say(f"{result.parity}{quantization}\nexported: {result.path}; comparison: {result.report}")
        return 0

    def _size(self) -> Size | None:
        """Return the size of the images; None for any."""
        from panscape.geometry import Size

        if (self.size is None) != self.dynamic:
            raise InvalidArgumentError(
                "expected either --size HxW, for images of one size, or --dynamic, for images of any size, got "
                + ("both" if self.dynamic else "neither")
            )
        if self.size is None:
            return None
        height, _, width = self.size.lower().partition("x")
        if not (height.isdecimal() and width.isdecimal()):
            raise InvalidArgumentError(f"expected --size as HEIGHTxWIDTH in pixels, such as 512x1024, got {self.size}")
        return Size(int(height), int(width))
