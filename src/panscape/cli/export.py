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

_ENDINGS = {"onnx": ".onnx", "openvino": ".xml"}


@dataclass(frozen=True)
class Export:
    """Export a model to ONNX or OpenVINO, and compare it with the original; every command takes the file as MODEL."""

    model: Annotated[Positional[str | None], arg(metavar="MODEL", help_behavior_hint="")] = None
    """Model to export, as in "panscape predict"."""

    to: Literal["onnx", "openvino"] = "onnx"
    """Format: onnx (FILE.onnx) or openvino (FILE.xml, with its weights in FILE.bin)."""

    out: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """File to write; the comparison is written to FILE.parity.json."""

    size: Annotated[str | None, arg(metavar="HxW", help_behavior_hint="")] = None
    """Height and width of the images, such as 512x1024; smaller ones are padded, larger ones refused."""

    dynamic: bool = False
    """Export for images of any size instead of --size; networks that detect regions cannot."""

    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Numeric precision; bf16 needs --to openvino, where fp16 is the precision of the stored weights only."""

    postprocess: Literal["native"] = "native"
    """Where post-processing runs: native is panscape, not the graph."""

    images: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of images for the comparison; by default 8 synthetic scenes."""

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
        if self.limit < 1:
            raise InvalidArgumentError(f"expected --limit of at least 1, got {self.limit}")
        from panscape.zoo.graphs import require_runtime

        require_runtime(self.to)
        images = self._images()
        import panscape
        from panscape.export import export_model

        model = panscape.load(self.model)
        decode_arguments.apply_arguments(model, self.decode, "panscape export")
        result = export_model(model, self.out, size=size, precision=self.precision, images=images)
        if self.json:
            print_json({"model": self.model, **result.to_dict()})
        else:
            say(f"{result.parity}\nexported: {result.path}; comparison: {result.report}")
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

    def _images(self) -> list[Path] | None:
        """Return paths of images for the comparison; None for synthetic scenes."""
        if self.images is None:
            return None
        from panscape.inference.sources import find_sources
        from panscape.spread import evenly_spread

        found = [source for source in find_sources([self.images]) if not source.is_video]
        for source in found:
            if source.fault is not None:
                raise source.fault
        if not found:
            raise InvalidArgumentError(
                f"expected images in {self.images}, got none; omit --images for synthetic scenes"
            )
        return [found[i].path for i in evenly_spread(len(found), self.limit)]
