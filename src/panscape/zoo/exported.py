"""Load an exported model: the described model, whose forward pass is the graph of the file.

All that surrounds the forward pass is the code of the model's class, so that an exported model predicts, evaluates,
tunes and draws as the original does. It has no weights, and runs on the CPU.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._C._nn import _parse_to  # what Module.to itself uses
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.geometry import ImageGeometry, Size
from panscape.input_files import parse_json, to_path
from panscape.models.base import PanopticModel
from panscape.models.prediction import require_network_input
from panscape.notes import note_once
from panscape.ops.cropped_masks import Detections
from panscape.panoptic import PanopticMap
from panscape.zoo.description import build_without_weights
from panscape.zoo.graph_model import SideRange
from panscape.zoo.graphs import GRAPHS, METADATA_KEY, Graph, file_digest, open_graph


class MapOutputs(NamedTuple):
    """Outputs of a graph that contains post-processing, for a batch of B images.

    Segments are those of N candidates that are present, in their order; segment i of an image has the id i + 1.

    Attributes:
        ids: int32 [B, H, W], the segment of each pixel; 0 is void.
        category: int64 [B, N].
        score: float32 [B, N], as in maps.
        present: bool [B, N].
        semantic: int32 [B, H, W], the category of each pixel by the semantic head alone.
    """

    ids: Tensor
    category: Tensor
    score: Tensor
    present: Tensor
    semantic: Tensor


class _Exported(NamedTuple):
    """The graph of an exported model; ``size`` is that of fixed graphs, ``height`` and ``width`` bound the others."""

    path: Path
    graph: Graph
    precision: str
    size: Size | None
    height: SideRange
    width: SideRange

    def __deepcopy__(self, memo: object) -> _Exported:
        return self  # it never changes, and sessions cannot be copied


def is_exported(path: object) -> bool:
    """Return whether a name or path has an ending of exported models."""
    return to_path(path, "a model's name or path").suffix in GRAPHS


def read_description(path: Path) -> dict[str, Any]:
    """Return the description inside an exported model.

    Raises:
        MissingExtraError: the runtime of the file is not installed.
        UnreadableFileError: the file is missing or damaged, or was not exported by panscape.
    """
    return _description(path, open_graph(path))


def load_exported(path: Path) -> PanopticModel:
    """Load an exported model, in eval mode.

    Raises:
        MissingExtraError: the runtime of the file is not installed.
        UnreadableFileError: the file is missing or damaged, or was not exported by panscape.
    """
    graph = open_graph(path)
    description = _description(path, graph)
    model = build_without_weights(description, path)
    try:
        facts = description["export"]
        size = None if facts["size"] is None else Size(*facts["size"])
        height, width = (SideRange(int(a), None if b is None else int(b)) for a, b in facts["sides"])
        exported = _Exported(path, graph, facts["precision"], size, height, width)
        graph.compile(exported.precision)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableFileError(path, f"its description of the graph is invalid ({error!r}); export again") from error
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            tensors.update(dict.fromkeys(tensors))
    model.mean, model.std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    model.set_input_normalization(model.normalization)
    # Maps of an earlier run are kept if the model is the same, which its digest decides.
    model.file_digest = file_digest(path)
    has_maps = facts.get("postprocess") == "graph"
    model.__class__ = _exported_class(type(model), _ReturnsMaps if has_maps else _RunsGraph)
    model.__dict__["_exported"] = exported
    model.exported_file = path
    model.runtime = f"{graph.runtime}, {exported.precision}"
    if model.output_names != graph.outputs:
        raise UnreadableFileError(path, f"expected the outputs {model.output_names}, got {graph.outputs}; export again")
    return model.eval()


def replace_graph(model: PanopticModel, graph: Graph) -> None:
    """Let another graph with the same inputs and outputs be the forward pass of an exported model."""
    model.__dict__["_exported"] = model.__dict__["_exported"]._replace(graph=graph)


def _description(path: Path, graph: Graph) -> dict[str, Any]:
    if METADATA_KEY not in graph.metadata:
        raise UnreadableFileError(path, "it was not exported by panscape; export a model with panscape export")
    description = parse_json(path, graph.metadata[METADATA_KEY].encode())
    if not isinstance(description, dict):
        raise UnreadableFileError(path, "its description of the model is not a JSON object; export the model again")
    return description


@functools.cache
def _exported_class(kind: type[PanopticModel], runs: type[_RunsGraph]) -> type[PanopticModel]:
    """Return the subclass of a model's class whose forward pass is a graph."""
    return type(f"Exported{kind.__name__}", (runs, kind), {"__module__": __name__})


class _RunsGraph(PanopticModel):
    """The methods of an exported model that need weights in its original."""

    _exported: _Exported

    def forward(self, images: Tensor, targets: object = None) -> Any:
        """See :meth:`PanopticModel.forward`; images of a batch enter the graph one after the other.

        Raises:
            InvalidArgumentError: images are not on the CPU or of a size that the graph does not take, or autocast is
                on.
        """
        require_network_input(images)
        if images.device.type != "cpu":
            raise self._refusal(f"images on the CPU, got them on {images.device}", "move them with .cpu()")
        if torch.is_autocast_enabled("cpu"):
            raise self._refusal("precision fp32", f"its precision {self._exported.precision} is that of the file")
        batch = torch.from_numpy(self.graph_input(images))
        return run_graph(self._exported.graph, batch, outputs_type(type(self)))

    def graph_input(self, images: Tensor) -> NDArray[np.float32]:
        """Return images of the size of the graph, padded with the mean colour like those of other networks.

        Args:
            images: float [B, 3, H, W] in 0..1, on the CPU.

        Raises:
            InvalidArgumentError: the graph does not take images of this size.
        """
        images = images.detach().float()
        exported, (rows, columns) = self._exported, images.shape[-2:]
        for side, length, taken in (("high", rows, exported.height), ("wide", columns, exported.width)):
            if not taken.has(length):
                raise self._refusal(
                    f"images {taken.text} pixels {side}, got {rows}x{columns}",
                    "give another maximum size (--max-size of panscape predict), or export with another --size",
                )
        if exported.size is None or (rows, columns) == exported.size:
            return images.contiguous().numpy()
        size = "x".join(map(str, exported.size))
        note_once(exported.path, f"images smaller than {size} are padded, so that maps differ from the original's")
        padded = self.mean.expand(len(images), 3, *exported.size).clone()
        padded[..., :rows, :columns] = images
        return padded.numpy()

    @property
    def warm_up_size(self) -> Size:
        """See :attr:`PanopticModel.warm_up_size`."""
        least = Size(max(64, self._exported.height.least), max(64, self._exported.width.least))
        return self._exported.size or least

    def _refusal(self, expected: str, remedy: str) -> InvalidArgumentError:
        return InvalidArgumentError(f"the exported model {self._exported.path} takes {expected}; {remedy}")

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode.

        Raises:
            InvalidArgumentError: training mode is asked for.
        """
        if mode:
            raise self._refusal("no training, as it has no weights", "train the model that it was exported from")
        return super().train(False)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Return the model, which is on the CPU in its own precision.

        Raises:
            InvalidArgumentError: another device or precision is asked for.
        """
        device, dtype, *_ = _parse_to(*args, **kwargs)
        if device is not None and device.type != "cpu":
            raise self._refusal(f"the device cpu, got {device}", "load the model that it was exported from for others")
        if dtype not in (None, torch.float32):
            raise self._refusal(f"no other precision, got {dtype}", "export again with --precision")
        return self

    def cuda(self, device: Any = None) -> Self:
        """Raise as :meth:`to`."""
        return self.to("cuda")

    def half(self) -> Self:
        """Raise as :meth:`to`."""
        return self.to(torch.float16)

    def bfloat16(self) -> Self:
        """Raise as :meth:`to`."""
        return self.to(torch.bfloat16)

    def double(self) -> Self:
        """Raise as :meth:`to`."""
        return self.to(torch.float64)

    def visualize_features(self, *_: object, **__: object) -> dict[str, Tensor]:
        """Return nothing: a graph has no intermediate features."""
        return {}

    def visualize_training(self, *_: object, **__: object) -> dict[str, Tensor]:
        """Return nothing: a graph cannot be trained."""
        return {}

    @property
    def output_names(self) -> tuple[str, ...]:
        """Those fields of the outputs that the graph has, in their order."""
        known = set(self._exported.graph.outputs)
        return tuple(name for name in outputs_type(type(self))._fields if name in known)  # type: ignore[attr-defined]


class _ReturnsMaps(_RunsGraph):
    """The methods of an exported model whose graph contains post-processing."""

    def decode(self, outputs: MapOutputs, sizes: Sequence[tuple[int, int]]) -> list[PanopticMap]:
        """See :meth:`PanopticModel.decode`."""
        maps = []
        for i, (height, width) in enumerate(sizes):
            found = outputs.present[i]
            whole = PanopticMap(outputs.ids[i], outputs.category[i][found], outputs.score[i][found], labels=self.labels)
            is_padded = whole.size != (height, width)
            maps.append(whole.crop(0, 0, height, width).compact() if is_padded else whole)
        return maps

    def postprocess(
        self, outputs: MapOutputs, geometries: Sequence[ImageGeometry], *, scored: bool = False
    ) -> list[PanopticMap]:
        """See :meth:`PanopticModel.postprocess`; maps are resized whatever the option ``resize`` of the original."""
        return PanopticModel.postprocess(self, outputs, geometries, scored=scored)

    def decode_semantic(self, outputs: MapOutputs, geometries: Sequence[ImageGeometry]) -> list[Tensor]:
        """See :meth:`PanopticModel.decode_semantic`; categories are resized by nearest neighbour."""
        found = []
        for semantic, geometry in zip(outputs.semantic, geometries, strict=True):
            height, width = geometry.inference_size
            seen = semantic[:height, :width]
            found.append(F.interpolate(seen[None, None].float(), geometry.size, mode="nearest-exact")[0, 0].int())
        return found

    def score_instances(self, outputs: MapOutputs, maps: Sequence[PanopticMap]) -> list[PanopticMap]:
        """Raise: these scores need the outputs of the network."""
        raise self._refusal("no scores for average precision, as it returns maps", "export with --postprocess native")

    def detect(self, outputs: MapOutputs, geometries: Sequence[ImageGeometry]) -> list[Detections]:
        """Raise as :meth:`score_instances`."""
        raise self._refusal("no request for objects before fusion", "export with --postprocess native")

    def replace_decoding(self, decoding: Any) -> None:
        """Raise: the options are a part of the graph."""
        raise self._refusal("no other post-processing options", "export again with --decode.NAME, or native")

    @property
    def oracles(self) -> tuple[str, ...]:
        """None: the graph returns no outputs whose parts could be replaced."""
        return ()

    def decode_with_truth(self, outputs: MapOutputs, truth: PanopticMap, parts: Collection[str]) -> PanopticMap:
        """See :meth:`PanopticModel.decode_with_truth`."""
        return PanopticModel.decode_with_truth(self, outputs, truth, parts)

    def visualize(self, outputs: MapOutputs, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return nothing: the graph returns no outputs of the network."""
        return {}


def run_graph(graph: Graph, batch: Tensor, kind: type[tuple[Any, ...]]) -> Any:
    """Run a graph on a batch, one image after the other.

    Args:
        graph: compiled.
        batch: float32 [B, 3, H, W] in 0..1 on the CPU, contiguous.
        kind: type of the outputs, a NamedTuple; fields that the graph has not are None.
    """
    runs = [[torch.from_numpy(x) for x in graph.run(batch[i : i + 1].numpy())] for i in range(len(batch))]
    outputs = (parts[0] if len(runs) == 1 else torch.cat(parts) for parts in zip(*runs, strict=True))
    found = dict(zip(graph.outputs, outputs, strict=True))
    return kind(**{name: found.get(name) for name in kind._fields})  # type: ignore[attr-defined]


def outputs_type(kind: type[nn.Module]) -> type[tuple[Any, ...]]:
    """Return the type of the outputs of a model's class, a NamedTuple."""
    if issubclass(kind, _ReturnsMaps):
        return MapOutputs
    base: Any = next(c for c in kind.__mro__ if "forward" in vars(c) and c is not _RunsGraph)
    found: type[tuple[Any, ...]] = get_type_hints(base.forward)["return"]
    return found
